package bridge

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"time"

	"devicehub/devices"
)

// What a device is told on sys/down and has not acknowledged is told again over its
// next connection, as a command is: the token that it asked for, and what was
// refused of what it sent. Its settings and the end of its token its session tells
// anew, as they are then. What only is about the connection (ping, time, disconnect)
// ends with it. All of it is in memory: a restart of the hub forgets it.

const (
	maxOwedErrors = 8
	owedFor       = 24 * time.Hour
)

// debt is one event that a device is owed until it has acknowledged it.
type debt struct {
	event  string // of the device, that is answered; "" for an error
	answer any
	body   []byte
	at     time.Time
}

// debts is what devices are owed.
type debts struct {
	mu sync.Mutex
	m  map[devices.ID][]*debt
}

// add remembers a debt. One of an answer takes the place of an earlier one, and of
// errors the oldest are forgotten.
func (l *debts) add(id devices.ID, x *debt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = map[devices.ID][]*debt{}
	}
	errors := 0
	list := slices.DeleteFunc(l.m[id], func(o *debt) bool {
		if o.event == "" {
			errors++
		}
		return x.event != "" && o.event == x.event
	})
	if x.event == "" && errors >= maxOwedErrors {
		i := slices.IndexFunc(list, func(o *debt) bool { return o.event == "" })
		list = slices.Delete(list, i, i+1)
	}
	l.m[id] = append(list, x)
}

// of is what a device is owed.
func (l *debts) of(id devices.ID) []*debt {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.m[id])
}

// paid forgets a debt, if it is one.
func (l *debts) paid(id devices.ID, x *debt) {
	if x != nil {
		l.keep(id, func(o *debt) bool { return o != x })
	}
}

func (l *debts) keep(id devices.ID, keep func(*debt) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := slices.DeleteFunc(l.m[id], func(o *debt) bool { return !keep(o) })
	if len(left) == 0 {
		delete(l.m, id)
		return
	}
	l.m[id] = left
}

// forget forgets what a device is owed.
func (l *debts) forget(id devices.ID) { l.keep(id, func(*debt) bool { return false }) }

// expire forgets what has been owed for too long.
func (l *debts) expire(now time.Time) {
	l.mu.Lock()
	ids := slices.Collect(maps.Keys(l.m))
	l.mu.Unlock()
	for _, id := range ids {
		l.keep(id, func(o *debt) bool { return now.Sub(o.at) < owedFor })
	}
}

// attend is called when the device listens to sys/down: after its first SUBSCRIBE
// of the connection, or when its session was resumed.
func (d *device) attend() {
	d.mu.Lock()
	first, configured := !d.attends, d.configured
	d.attends = true
	d.mu.Unlock()
	if first || !configured {
		d.sess.Attend()
	}
	if !first {
		return
	}
	for _, o := range d.srv.owed.of(d.id) {
		if d.sess.Stale(o.event, o.answer) {
			d.srv.owed.paid(d.id, o)
			continue
		}
		d.enqueue(message{body: o.body, debt: o})
	}
}

// Knows is the Link's: of a resumed session, whether the device has acknowledged
// just this event before. A device that subscribes again may have forgotten all.
func (d *device) Knows(name string, payload any) bool {
	body, err := event(name, payload)
	d.mu.Lock()
	defer d.mu.Unlock()
	return err == nil && !d.subscribed && name == "config" && bytes.Equal(body, d.state.config)
}
