// Package adapter speaks the dialects of devices that people already own, on
// the hub's own broker or on a foreign one: the hub's native topics, Home
// Assistant's discovery, Zigbee2MQTT and Tasmota. A dialect is one file; what it
// has in common with the others is in Behind, the devices behind one broker.
package adapter

import (
	"fmt"
	"sync"
	"time"

	"devicehub/devices"
)

// Bus is a broker as adapters use it.
type Bus interface {
	// Name is the bridge's, which the records of its devices have as via.
	Name() string
	// Publish sends a message, without blocking. false means that the broker is
	// not connected or cannot keep up: the message is not sent.
	Publish(topic string, payload []byte, qos byte, retain bool) bool
}

// Message is one message of a bus.
type Message struct {
	Topic    string
	Payload  []byte
	Retained bool      // the broker kept it: it is not news
	At       time.Time // when it arrived
}

// Adapter is one dialect on one bus.
type Adapter interface {
	// Filters are what the adapter wants to hear.
	Filters() []string
	// Handle takes one message. done is called exactly once, when it is decided
	// for good (nil, or a final refusal) or has to be given again later (an error
	// that is retryable). Messages of one lane come one after the other.
	Handle(m Message, done func(error))
	// Lane names those whose messages keep their order, such as one device.
	Lane(topic string) string
	// Up is called when the bus is connected, again after every interruption.
	Up()
}

// Kinds lists the dialects, for configuration.
func Kinds() []string { return []string{"native", "ha_out", "z2m", "tasmota"} }

// New returns the adapter of a kind. base is the dialect's own topic prefix;
// empty means its usual one.
func New(kind, base string, b *Behind) (Adapter, error) {
	switch kind {
	case "native", "":
		return newNative(b), nil
	case "ha_out":
		return newHomeAssistant(base, b), nil
	case "z2m":
		return newZigbee2MQTT(base, b), nil
	case "tasmota":
		return newTasmota(b), nil
	}
	return nil, fmt.Errorf("no adapter %q; there are %v", kind, Kinds())
}

// Lanes brings messages to an adapter: those of one lane in order, one at a
// time, again after a while when they could not be taken.
type Lanes struct {
	max, maxBytes int

	mu    sync.Mutex
	lanes map[string]*lane
	n     int
	bytes int // of payloads
	over  bool
}

type lane struct {
	waiting []job
	timer   *time.Timer
}

type job struct {
	a   Adapter
	m   Message
	out Outcome
}

// Outcome hears what becomes of a message. Its methods may be called from any
// goroutine.
type Outcome interface {
	// Again reports whether the message is to be handled again after err, which
	// may pass.
	Again(err error) bool
	// Decided is called once: nil, or why the message is refused.
	Decided(err error)
}

// NewLanes holds at most max messages, and so many bytes of them.
func NewLanes(max, maxBytes int) *Lanes {
	return &Lanes{max: max, maxBytes: maxBytes, lanes: map[string]*lane{}}
}

// Len is the number of messages that wait or are under way.
func (l *Lanes) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// Put hands m to the adapter in its turn. false means that there is no room: the
// message is not taken, and nothing is told to out.
func (l *Lanes) Put(a Adapter, m Message, out Outcome) bool {
	key := a.Lane(m.Topic)
	l.mu.Lock()
	if l.over || l.n >= l.max || l.n > 0 && l.bytes+len(m.Payload) > l.maxBytes {
		l.mu.Unlock()
		return false
	}
	l.n++
	l.bytes += len(m.Payload)
	ln := l.lanes[key]
	if ln == nil {
		ln = &lane{}
		l.lanes[key] = ln
	}
	ln.waiting = append(ln.waiting, job{a, m, out})
	first := len(ln.waiting) == 1
	l.mu.Unlock()
	if first {
		l.run(key, ln)
	}
	return true
}

// run handles the lane's first message, and the next when it is done.
func (l *Lanes) run(key string, ln *lane) {
	for {
		l.mu.Lock()
		if l.over || len(ln.waiting) == 0 {
			l.mu.Unlock()
			return
		}
		j := ln.waiting[0]
		l.mu.Unlock()

		var once sync.Mutex
		returned, finished := false, false
		j.a.Handle(j.m, func(err error) {
			again := l.finish(key, ln, j, err)
			once.Lock()
			finished = again
			late := returned
			once.Unlock()
			if late && again {
				l.run(key, ln)
			}
		})
		once.Lock()
		returned = true
		next := finished
		once.Unlock()
		if !next {
			return
		}
	}
}

// finish takes the outcome of the lane's first message. It reports whether the
// next is to be handled now.
func (l *Lanes) finish(key string, ln *lane, j job, err error) (next bool) {
	wait, again := retry(err)
	again = again && j.out.Again(err)
	l.mu.Lock()
	if l.over { // too late to tell: it comes again
		l.n--
		l.mu.Unlock()
		return false
	}
	if again {
		ln.timer = time.AfterFunc(wait, func() { l.run(key, ln) })
		l.mu.Unlock()
		return false
	}
	ln.waiting = ln.waiting[1:]
	l.n--
	l.bytes -= len(j.m.Payload)
	next = len(ln.waiting) > 0
	if !next {
		delete(l.lanes, key)
	}
	l.mu.Unlock()
	j.out.Decided(err)
	return next
}

func retry(err error) (time.Duration, bool) {
	if err == nil {
		return 0, false
	}
	var e *devices.Error
	if !asError(err, &e) { // a fault of the hub: it may pass
		return time.Second, true
	}
	return min(max(e.RetryAfter, 100*time.Millisecond), 10*time.Second), e.Retryable()
}

// Close drops what waits. Nothing of it has been acknowledged.
func (l *Lanes) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	for _, ln := range l.lanes {
		if ln.timer != nil {
			ln.timer.Stop()
		}
	}
}
