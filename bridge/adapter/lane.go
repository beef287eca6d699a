package adapter

import (
	"errors"
	"time"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// lane is messages whose order is kept, such as those of one device. Guarded by
// the lock of the lanes, like its jobs.
type lane struct {
	key   string
	jobs  []*job // not decided, or behind one that is not, in their order
	sent  int    // jobs[:sent] have nothing left to be handed to the store
	read  int    // jobs[:read] have been read
	loose int    // of those not decided

	busy, kicked, starved bool        // somebody is at it, will be, waits for room under way
	timer                 *time.Timer // it is left alone until

	order  *readings.Order
	flying int           // pushes under way
	span   int           // readings from the first undecided message on that are or were under way
	broken bool          // one was refused for now: when the last has landed, the rest is sent again
	wait   time.Duration // and so long after
}

// job is one message until it is decided.
type job struct {
	lanes   *lanes
	lane    *lane
	adapter Adapter
	m       Message
	out     Outcome
	key     string
	size    int
	loose   bool
	paid    bool // it has had its turn in the rate
	state   jobState
	pushed  bool // it came to a push of readings
	push    push
	order   *readings.Order // that the push is under way with
	counted bool            // the lane's span has its readings
}

type jobState uint8

const (
	waiting jobState = iota
	reading
	unsent // a push that is to be handed to the store
	flying
	decided
)

// push is readings for the store. done hears their fate once.
type push struct {
	readings int
	submit   func(o *readings.Order, landed func(error))
	done     func(error)
}

// next is what is to be done in a lane, nil for nothing now. The lock is held.
func (l *lanes) next(ln *lane) (*job, func(*job)) {
	switch {
	case l.over || ln.timer != nil:
		return nil, nil
	case ln.broken:
		if ln.flying == 0 {
			l.pause(ln, ln.wait)
			ln.broken, ln.wait, ln.sent, ln.order = false, 0, 0, nil
		}
		return nil, nil
	}
	for ; ln.sent < ln.read; ln.sent++ {
		j := ln.jobs[ln.sent]
		if j.state != unsent {
			continue
		}
		if !l.launch(j) {
			return nil, nil
		}
		ln.sent++
		return j, (*job).send
	}
	if ln.read == len(ln.jobs) || ln.read >= l.max.laneAhead {
		return nil, nil
	}
	j := ln.jobs[ln.read]
	if j.state != waiting { // its outcome is yet to come
		return nil, nil
	}
	if d := l.pay(j); d > 0 {
		l.pause(ln, d)
		return nil, nil
	}
	j.state = reading
	return j, (*job).handle
}

// pay takes a message's turn in the rate, and returns how long it is until then.
func (l *lanes) pay(j *job) time.Duration {
	if j.paid {
		return 0
	}
	j.paid = true
	d := l.rate.Reserve(time.Now())
	if d > 0 {
		l.delayed++
	}
	return d
}

// launch counts a push as under way, if there is room for it. The lock is held.
func (l *lanes) launch(j *job) bool {
	ln, n := j.lane, j.push.readings
	if !j.counted && ln.span > 0 && ln.span+n > l.max.laneReadings {
		return false // what lands first has the lane looked at again
	}
	if l.flight.pushes > 0 && (l.flight.pushes >= l.max.pushes || l.flight.readings+n > l.max.readings) {
		if !ln.starved {
			ln.starved = true
			l.starved = append(l.starved, ln)
		}
		return false
	}
	if !j.counted {
		j.counted = true
		ln.span += n
	}
	if ln.order == nil {
		ln.order = new(readings.Order)
	}
	j.state, j.order = flying, ln.order
	ln.flying++
	l.flight.pushes++
	l.flight.readings += n
	return true
}

func (j *job) handle() { j.adapter.Handle(j.m, j.settle) }

func (j *job) send() { j.push.submit(j.order, j.landed) }

// pass says that the message came to a push: it is handed to the store in its
// turn, as often as need be, and the next message of the lane is read.
func (j *job) pass(p push) {
	l := j.lanes
	l.mu.Lock()
	defer l.mu.Unlock()
	j.push, j.pushed, j.state = p, true, unsent
	l.passed(j)
}

// landed takes what the store says of a push.
func (j *job) landed(err error) {
	wait, refused := j.retry(err)
	again := refused && j.out.Again(err)
	l, ln := j.lanes, j.lane
	l.mu.Lock()
	ln.flying--
	l.flight.pushes--
	l.flight.readings -= j.push.readings
	if refused {
		ln.broken, ln.wait = true, max(ln.wait, wait)
	}
	if again {
		j.state = unsent
		l.kick(ln)
	}
	l.feed()
	l.mu.Unlock()
	if !again {
		j.push.done(err)
	}
}

// settle takes the outcome of a message. One that came to no push and may be
// taken later is read again then.
func (j *job) settle(err error) {
	l, ln := j.lanes, j.lane
	if wait, again := j.retry(err); again && !j.pushed && j.out.Again(err) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if j.state = waiting; !l.over {
			l.pause(ln, wait)
		}
		return
	}
	l.mu.Lock()
	l.n--
	l.bytes -= j.size
	if j.loose {
		l.loose--
		ln.loose--
	}
	if l.over { // too late to tell: it comes again
		l.mu.Unlock()
		return
	}
	if !j.pushed {
		l.passed(j)
	}
	j.state, j.m, j.push.submit = decided, Message{}, nil
	ln.trim()
	l.kick(ln)
	l.sweep(ln)
	l.mu.Unlock()
	j.out.Decided(err)
}

// trim forgets the messages at the beginning that are decided.
func (ln *lane) trim() {
	n := 0
	for n < len(ln.jobs) && ln.jobs[n].state == decided {
		if j := ln.jobs[n]; j.counted {
			ln.span -= j.push.readings
		}
		n++
	}
	if n == 0 {
		return
	}
	clear(ln.jobs[:n])
	ln.jobs = ln.jobs[n:]
	ln.read -= n
	ln.sent = max(0, ln.sent-n)
}

func (j *job) retry(err error) (time.Duration, bool) {
	if err != nil && !errors.As(err, new(*devices.Error)) {
		j.lanes.fault(j, err)
	}
	return retry(err)
}

// retry is whether, and after how long, what failed with err may succeed.
func retry(err error) (time.Duration, bool) {
	if err == nil {
		return 0, false
	}
	var e *devices.Error
	if !errors.As(err, &e) { // a fault of the hub: it may pass
		return time.Second, true
	}
	return min(max(e.RetryAfter, 100*time.Millisecond), 10*time.Second), e.Retryable()
}
