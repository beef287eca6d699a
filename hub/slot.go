package hub

import (
	"encoding/json"
	"errors"
	"runtime/debug"
	"sync"

	"devicehub/hub/poison"
	"devicehub/hub/pubsub"
	"devicehub/hub/wire"
)

// slot is one topic of one connection: its inbox, and the channel that is joined, if any. What
// arrives is handled one at a time, in order, by a goroutine that exists only while
// there is something to handle; so a slow join or handler holds up its own topic alone.
type slot struct {
	conn  *Conn
	topic string
	route *route

	parting bool // guarded by conn.mu

	mu         sync.Mutex
	items      []*item
	first      [1]*item // where items is kept while there is one, as there mostly is
	fromClient int      // of items
	running    bool
	dead       bool          // removed from the connection
	ending     error         // the connection has gone; set once
	cur        *Socket       // written by the runner, with mu
	waits      *waiting      // for the callback that runs
	room       chan struct{} // the reader waits for room in the inbox
	over       chan struct{} // teardown waits for the end of the runner
}

type kind uint8

const (
	fromClient kind = iota
	intercepted
	info
	stop
)

// item is one thing to handle.
type item struct {
	kind  kind
	data  []byte // what msg points into; not reused, so handlers may keep payloads
	share *share // in which data counts
	msg   wire.Message
	sock  *Socket // for intercepted, info and stop: the channel it is meant for
	info  any     // for those; for a join: []*frame, the phx_close that the channel of an abandoned slot is owed
}

var items = sync.Pool{New: func() any { return new(item) }}

func newItem() *item {
	it := items.Get().(*item)
	if poison.On {
		*it = item{}
	}
	return it
}

func (it *item) free() {
	if it.share != nil {
		it.share.left(int64(len(it.data)))
	}
	*it = item{}
	if poison.On {
		gone := wire.Value{Kind: wire.String, Text: []byte(poison.Text)}
		it.data = gone.Text
		it.msg = wire.Message{JoinRef: gone, Ref: gone, Topic: gone, Event: gone, Payload: gone.Text, Status: gone.Text}
	}
	items.Put(it)
}

func (t *slot) current() *Socket {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cur
}

// busy reports whether something is being handled.
func (t *slot) busy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running
}

// put appends a message of the client, and waits while the inbox is full. It reports whether
// the item was taken, and whether the slot was removed and another is needed.
func (t *slot) put(it *item) (taken, dead bool) {
	t.mu.Lock()
	for t.fromClient >= t.conn.mount.opts.inbox && t.ending == nil && !t.dead {
		room := make(chan struct{})
		t.room = room
		t.mu.Unlock()
		t.conn.tr.hold(true)
		select {
		case <-room:
			t.conn.tr.hold(false)
		case <-t.conn.base.Done():
			return false, false
		}
		t.mu.Lock()
	}
	defer t.mu.Unlock()
	if t.dead {
		return false, true
	}
	if t.ending != nil {
		return false, false
	}
	t.fromClient++
	if t.running && t.waits == nil && t.endsChannel(&it.msg) {
		t.expect(it)
	}
	t.start(it)
	return true, false
}

// post appends something from inside the program, without waiting. It reports false when the
// inbox is full or the channel has ended.
func (t *slot) post(it *item) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dead || t.ending != nil || t.cur != it.sock || len(t.items)-t.fromClient >= t.conn.mount.opts.mailbox && it.kind != stop {
		return false
	}
	t.start(it)
	return true
}

// start appends it and sees to it that a runner runs. The connection has not finished, so its
// task is still counted.
func (t *slot) start(it *item) {
	if t.items == nil {
		t.items = t.first[:0]
	}
	t.items = append(t.items, it)
	t.wake()
}

// wake sees to it that a runner runs. The caller holds mu.
func (t *slot) wake() {
	if !t.running {
		t.running = true
		t.conn.ep.tasks.Add(1)
		go t.runTask()
	}
}

// runTask is run as a task of its own.
func (t *slot) runTask() {
	defer t.conn.ep.tasks.Done()
	deepen(false)
	t.run()
}

// runnerStack is what a callback mostly needs: with what stands below, a stack of 8 KB.
const runnerStack = 5 << 10

// deepen grows a fresh goroutine's stack in one step, while there is little on it to move. The
// frame alone does that; what it holds is never made.
//
//go:noinline
func deepen(never bool) {
	if never {
		var room [runnerStack]byte
		touch(&room)
	}
}

//go:noinline
func touch(*[runnerStack]byte) {}

// hangUp ends the topic because the connection has gone. What is in the inbox is handled
// first. It reports false when another goroutine is at it; that one closes over.
func (t *slot) hangUp(cause error) bool {
	t.mu.Lock()
	if t.dead {
		t.mu.Unlock()
		return true
	}
	t.ending = cause
	if t.running {
		t.over = make(chan struct{})
		t.mu.Unlock()
		return false
	}
	t.running = true
	t.mu.Unlock()
	t.run()
	return true
}

// run handles items until there are none.
func (t *slot) run() {
	for {
		t.mu.Lock()
		if len(t.items) == 0 {
			if t.ending != nil {
				cause, s := t.ending, t.cur
				t.mu.Unlock()
				if s != nil {
					t.endQuietly(s, cause)
				}
				t.conn.drop(t)
				return
			}
			t.items = nil
			if t.cur != nil {
				t.running = false
				t.mu.Unlock()
				return
			}
			t.mu.Unlock()
			if t.conn.drop(t) {
				return
			}
			continue
		}
		it := t.shift()
		t.mu.Unlock()
		t.handle(it)
		it.free()
	}
}

// shift removes the first item. The caller holds mu.
func (t *slot) shift() *item {
	it := t.items[0]
	t.items[0] = nil
	t.items = t.items[1:]
	if it.kind == fromClient {
		t.fromClient--
		t.wakeReader()
	}
	if t.waits != nil && t.waits.item == it {
		t.waits.timer.Stop()
		t.waits = nil
	}
	return it
}

// wakeReader wakes the reader that waits for room in the inbox. The caller holds mu.
func (t *slot) wakeReader() {
	if t.room != nil {
		close(t.room)
		t.room = nil
	}
}

// discard drops what was sent to a channel that is about to end, up to the next join. That is
// before the client is told: what it sends once it knows is answered.
func (t *slot) discard() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.items) > 0 {
		if it := t.items[0]; it.kind == fromClient && it.msg.Event.Is(wire.EventJoin) {
			return
		}
		t.shift().free()
	}
}

func (t *slot) set(s *Socket) {
	t.mu.Lock()
	t.cur = s
	t.mu.Unlock()
}

func (t *slot) handle(it *item) {
	s := t.cur
	switch it.kind {
	case fromClient:
		t.message(s, it)
	case stop:
		if it.sock == s {
			err, _ := it.info.(error)
			t.conclude(s, err)
		}
	case intercepted:
		if it.sock == s {
			t.conclude(s, t.handleOut(s, it.info.(*pubsub.Message)))
		}
	case info:
		if h, ok := s.infoHandler(); ok && it.sock == s {
			_, err := protect(func() (struct{}, error) { return struct{}{}, h.HandleInfo(s.ctx, s, it.info) })
			t.conclude(s, err)
		}
	}
}

func (t *slot) handleOut(s *Socket, m *pubsub.Message) error {
	p, err := rawPayload(m)
	if err != nil {
		return err
	}
	_, err = protect(func() (struct{}, error) {
		return struct{}{}, s.channel.(Interceptor).HandleOut(s.ctx, s, m.Event, p)
	})
	return err
}

// protect calls f and turns a panic into a *PanicError.
func protect[T any](f func() (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{p, debug.Stack()}
		}
	}()
	return f()
}

// message handles what the client sent.
func (t *slot) message(s *Socket, it *item) {
	m := &it.msg
	switch {
	case m.Event.Is(wire.EventJoin):
		owed, _ := it.info.([]*frame)
		t.join(s, m, owed)
	case s == nil:
		t.conn.answerUnjoined(m)
	case !s.accepts(m.JoinRef):
		// Meant for a channel that has ended: dropped without a reply.
	case m.Event.Is(wire.EventLeave):
		t.discard()
		t.conn.part(t, true)
		s.reply(m.Ref, OK(nil))
		s.sendClose()
		t.terminate(s, ErrLeft)
	case m.Event.Kind != wire.String:
		t.conclude(s, unusableEvent(m.Event.String()))
	default:
		t.event(s, m)
	}
}

type unusableEvent string

func (e unusableEvent) Error() string { return "event is not a string: " + string(e) }

func (t *slot) event(s *Socket, m *wire.Message) {
	event := t.conn.ep.events.intern(m.Event.Text)
	s.ref, s.handling = m.Ref, true
	r, err := protect(func() (Reply, error) {
		return s.channel.HandleIn(s.ctx, s, event, Payload{m.Payload, m.Binary})
	})
	s.ref, s.handling = wire.Value{}, false
	if errors.Is(err, errNoBinary) {
		r, err = Error(json.RawMessage(binaryRefused)), nil
	}
	var unknown unhandledError
	if e, ok := err.(unhandledError); ok {
		unknown, err = e, nil
	}
	if unknown != "" && r.IsZero() {
		r = Error(unknownEvent)
	}
	if !r.IsZero() {
		// ErrNotJoined: abandoned, while the callback ran.
		if e := s.reply(m.Ref, r); e != nil && e != ErrNotJoined && err == nil {
			err = e
		}
	}
	t.conclude(s, err)
}

// conclude ends the channel as the error of a callback says; nil lets it live.
func (t *slot) conclude(s *Socket, err error) {
	switch {
	case err == nil:
		return
	case isStop(err):
		t.discard()
		t.conn.part(t, true)
		s.sendClose()
		t.terminate(s, ErrStop)
	default:
		t.conn.ep.counters.crashes.Add(1)
		t.conn.logCrash("channel crashed", t.topic, err)
		s.runTerminate(err)
		t.discard()
		t.conn.part(t, true)
		s.sendError()
		t.terminate(s, err)
	}
}

// terminate calls Terminate, unless that was done, and ends the channel.
func (t *slot) terminate(s *Socket, reason error) {
	s.unsubscribe()
	s.runTerminate(reason)
	s.end()
	t.set(nil)
}

// endQuietly ends a channel without telling the client, which is gone or has replaced it.
func (t *slot) endQuietly(s *Socket, reason error) {
	s.mute()
	t.terminate(s, reason)
}
