package remote

import (
	"hash/maphash"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"devicehub/bridge/adapter"
)

// inbox is what the broker has sent at QoS 1 and has not been told the fate of.
//
// It acknowledges messages in the order in which they came [MQTT-4.6.0-2], each
// when it is decided. What a broken connection left unacknowledged comes again on
// the next, under the same packet identifier and marked as a duplicate. A message
// that was never acknowledged is known by that, and is not handled a second time:
// its acknowledgement goes out on the new connection.
type inbox struct {
	seed maphash.Seed
	room int // bytes of payloads that may wait for their acknowledgement

	mu    sync.Mutex
	cur   *arrivals            // of the present connection
	open  map[uint16]*delivery // not acknowledged, of earlier connections too
	again int64                // known by their identifier
}

// arrivals are the messages of one connection, in the order in which they came.
type arrivals struct {
	wake chan struct{} // the first is decided
	over chan struct{} // closed when the connection is done with
	end  func(error)   // ends it

	list  []*delivery // guarded by the inbox's lock, like the rest
	bytes int
	shut  bool // nothing more is taken
	busy  bool // acknowledgements are on their way
}

type delivery struct {
	of      *arrivals
	m       mqtt.Message // as it came on that connection
	sum     uint64       // of topic and payload
	decided bool
}

const roomLook = 5 * time.Millisecond

func newInbox() *inbox {
	return &inbox{seed: maphash.MakeSeed(), room: 64 << 20, open: map[uint16]*delivery{}}
}

// begin makes c the present connection. Messages of an earlier one are no longer
// taken: they come again.
func (in *inbox) begin(c *arrivals) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.cur = c
	for _, d := range in.open {
		d.m = nil // its acknowledgement leads nowhere
	}
}

// forget says that the broker has forgotten the session: what was open comes no
// more, and its identifiers are given anew.
func (in *inbox) forget() {
	in.mu.Lock()
	defer in.mu.Unlock()
	clear(in.open)
}

// shut has c take nothing more.
func (in *inbox) shut(c *arrivals) {
	in.mu.Lock()
	defer in.mu.Unlock()
	c.shut = true
}

// idle reports whether everything that c took is acknowledged.
func (in *inbox) idle(c *arrivals) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(c.list) == 0 && !c.busy
}

// redelivered is how many messages came again and were known.
func (in *inbox) redelivered() int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.again
}

func (in *inbox) hash(m mqtt.Message) uint64 {
	var h maphash.Hash
	h.SetSeed(in.seed)
	_, _ = h.WriteString(m.Topic())
	_ = h.WriteByte(0)
	_, _ = h.Write(m.Payload())
	return h.Sum64()
}

// arrived lines a message up. It is nil when there is nothing to handle: the
// message is known, or comes again on another connection. full says that there is
// no room for it now.
func (in *inbox) arrived(c *arrivals, m mqtt.Message) (d *delivery, full bool) {
	sum := in.hash(m)
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.cur != c || c.shut {
		return nil, false
	}
	old := in.open[m.MessageID()]
	known := old != nil && m.Duplicate() && old.sum == sum
	switch {
	case known && old.of == c: // sent twice: one acknowledgement answers both
		return nil, false
	case len(c.list) > 0 && c.bytes+len(m.Payload()) > in.room:
		return nil, true
	case known:
		in.again++
		d = old
	default:
		d = &delivery{sum: sum}
		in.open[m.MessageID()] = d
	}
	d.of, d.m = c, m
	c.list = append(c.list, d)
	c.bytes += len(m.Payload())
	if known {
		if d.decided {
			c.ready()
		}
		return nil, false
	}
	return d, false
}

// abandon takes back the last message to arrive: it comes again.
func (in *inbox) abandon(c *arrivals, d *delivery) {
	in.mu.Lock()
	defer in.mu.Unlock()
	c.shut = true
	if n := len(c.list) - 1; n >= 0 && c.list[n] == d {
		c.list = c.list[:n]
	}
	if in.open[d.m.MessageID()] == d {
		delete(in.open, d.m.MessageID())
	}
}

// decided notes that the fate of a message is known. It may be called by the
// goroutine that commits the readings of the whole hub, and does not block.
func (in *inbox) decided(d *delivery) {
	in.mu.Lock()
	defer in.mu.Unlock()
	d.decided = true
	if c := in.cur; c != nil && len(c.list) > 0 && c.list[0].decided {
		c.ready()
	}
}

func (c *arrivals) ready() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// settled takes the messages that can be acknowledged now, in their order. Who
// has sent their acknowledgements asks again.
func (in *inbox) settled(c *arrivals) (list []mqtt.Message) {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := 0
	for n < len(c.list) && c.list[n].decided {
		m := c.list[n].m
		list = append(list, m)
		c.bytes -= len(m.Payload())
		if in.open[m.MessageID()] == c.list[n] {
			delete(in.open, m.MessageID())
		}
		n++
	}
	c.busy = n > 0
	clear(c.list[:n])
	if c.list = c.list[n:]; len(c.list) == 0 {
		c.list = nil
	}
	return list
}

// acknowledge sends acknowledgements until the connection is done with. The
// library's Ack waits for a broker that hangs, and holds up nobody else here.
func (in *inbox) acknowledge(c *arrivals) {
	for {
		select {
		case <-c.over:
			return
		case <-c.wake:
		}
		for list := in.settled(c); len(list) > 0; list = in.settled(c) {
			for _, m := range list {
				m.Ack()
			}
		}
	}
}

// receipt is the adapters' way to decide a message.
type receipt struct {
	in *inbox
	d  *delivery
}

func (receipt) Again(error) bool { return true }

func (r receipt) Decided(error) { r.in.decided(r.d) }

// nobody waits for the fate of a message at QoS 0.
type nobody struct{}

func (nobody) Again(error) bool { return true }
func (nobody) Decided(error)    {}

// receive hands a message on, from the library's goroutine. While there is no
// room for it nothing more is read from the broker. If that lasts, the connection
// ends, and is made again when there is.
func (b *Bridge) receive(c *arrivals, m mqtt.Message) {
	b.received.Add(1)
	msg := adapter.Message{Topic: m.Topic(), Payload: m.Payload(), Retained: m.Retained(), QoS: m.Qos()}
	if m.Qos() == 0 {
		if !b.set.Take(msg, nobody{}) {
			b.dropped.Add(1)
		}
		return
	}
	began := time.Now()
	wait := func() bool {
		select {
		case <-c.over:
		case <-time.After(roomLook):
			if time.Since(began) < b.roomWait {
				return true
			}
			c.end(errNoRoom)
		}
		return false
	}
	d, full := b.in.arrived(c, m)
	for ; full; d, full = b.in.arrived(c, m) {
		if !wait() {
			b.in.shut(c)
			return
		}
	}
	for d != nil && !b.set.Take(msg, receipt{b.in, d}) {
		if !wait() {
			b.in.abandon(c, d)
			return
		}
	}
}
