package hub

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"devicehub/hub/pubsub"
	"devicehub/hub/wire"
)

// Conn is one connection of a client, whichever its transport. Its methods may be called from
// any goroutine and never block.
type Conn struct {
	ep       *Endpoint
	mount    *mount
	tr       transport
	version  wire.Version
	binary   bool // the transport carries binary frames
	deflates bool
	gone     bool // no slot may be added; guarded by mu
	id       string

	ctx    context.Context // as the program made it; guarded by mu
	base   context.Context // what ctx is derived from
	cancel context.CancelCauseFunc
	forget func() // ends the subscription to the id

	out       outbox
	share     *share
	guard     Guard        // set before the first frame
	lastSeen  atomic.Int64 // unix nanoseconds
	pending   atomic.Int32 // references not answered
	stage     atomic.Int32 // connecting, open, or disconnected before it was open
	draining  atomic.Bool  // nothing more is received
	warned    atomic.Bool
	finished  atomic.Bool
	stripe    uint32
	place     int32 // in the registry
	parting   int32 // how many of slots are; guarded by mu
	last      *slot // that got the last frame; of receive alone
	malformed uint8 // frames, up to maxMalformed and one; of receive alone

	onAnswer  atomic.Pointer[func(echoed bool)]
	closeCode atomic.Int32 // of our close frame

	mu    sync.Mutex
	slots []*slot
	index map[string]*slot // when there are many

	ended sync.WaitGroup // until every channel has ended
}

// Stages of a connection.
const (
	connecting   = iota
	opened       // the transport is set
	disconnected // the id was told to, while connecting
)

// Transport returns "websocket", "longpoll" or "memory".
func (c *Conn) Transport() string { return c.tr.name() }

// RemoteAddr returns the client's address as the transport sees it: host and port.
func (c *Conn) RemoteAddr() string { return c.tr.remoteAddr() }

// ID returns what the function of WithID named the connection, or "".
func (c *Conn) ID() string { return c.id }

// Context returns the connection's context. It is cancelled when the connection ends;
// context.Cause tells why.
func (c *Conn) Context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ctx
}

// Done is closed when the connection ends.
func (c *Conn) Done() <-chan struct{} { return c.base.Done() }

// Version returns the version of the protocol that the client speaks, 1 or 2.
func (c *Conn) Version() int { return int(c.version) }

// Topics returns the topics that the client has joined.
func (c *Conn) Topics() []string {
	c.mu.Lock()
	slots := append([]*slot(nil), c.slots...)
	c.mu.Unlock()
	topics := make([]string, 0, len(slots))
	for _, t := range slots {
		if s := t.current(); s != nil && s.joined() {
			topics = append(topics, t.topic)
		}
	}
	return topics
}

// Socket returns the channel that is joined on a topic, or nil.
func (c *Conn) Socket(topic string) *Socket {
	if t := c.find(topic); t != nil {
		if s := t.current(); s != nil && s.joined() {
			return s
		}
	}
	return nil
}

// Push sends an event on a topic that the client has joined. It reports false when it has not
// or the connection has closed, and when the payload cannot be sent.
func (c *Conn) Push(topic, event string, payload any) bool {
	t := c.find(topic)
	if t == nil {
		return false
	}
	s := t.current()
	return s != nil && s.Push(event, payload) == nil
}

// Close ends the connection with a close code and reason, behind what was sent before. The
// cause of the context is a *CloseError. Code 1000 keeps stock clients from coming back.
func (c *Conn) Close(code int, reason string) {
	c.close(code, reason, &CloseError{code, reason})
}

func (c *Conn) close(code int, reason string, cause error) {
	c.warn(cause)
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.closeLocked(code, reason, cause)
}

// warn calls OnClosing, once.
func (c *Conn) warn(cause error) {
	f := c.mount.router.closing
	if f == nil {
		return
	}
	var told error
	for _, err := range [...]error{ErrIdleTimeout, ErrProtocol, ErrTooLarge, ErrDisconnected, ErrDrain} {
		if errors.Is(cause, err) {
			told = err
		}
	}
	if told == nil || c.warned.Swap(true) {
		return
	}
	if _, err := protect(func() (struct{}, error) { f(c, told); return struct{}{}, nil }); err != nil {
		c.logCrash("OnClosing crashed", "", err)
	}
}

// finish ends the channels, in a goroutine of its own. It does nothing the second time.
func (c *Conn) finish(cause error) {
	if c.finished.Swap(true) {
		return
	}
	c.cancel(cause)
	c.ep.tasks.Add(1) // the connection's own task is still counted, so Wait cannot have returned
	go func() {
		defer c.ep.tasks.Done()
		c.teardown(cause)
	}()
}

// lost is called by the transport, once, when nothing more can be received. It returns when
// all channels have ended.
func (c *Conn) lost(cause error) {
	c.out.mu.Lock()
	c.out.dead = true
	c.out.queue = nil
	c.waits(-c.out.bytes)
	c.out.mu.Unlock()
	if !c.finished.Swap(true) {
		c.cancel(cause)
		c.teardown(cause)
	} else {
		c.ended.Wait()
	}
	c.ep.remove(c)
}

func (c *Conn) teardown(cause error) {
	defer c.ended.Done()
	c.mu.Lock()
	c.gone = true
	slots := append([]*slot(nil), c.slots...)
	c.mu.Unlock()
	c.forget()
	var wait []*slot
	for _, t := range slots {
		if !t.hangUp(cause) {
			wait = append(wait, t)
		}
	}
	c.await(wait)
}

// receive handles one frame of the client. The transport calls it for one frame at a time;
// it blocks while the inbox that the frame belongs to is full. The frame may be reused after it
// returns.
func (c *Conn) receive(data []byte, binary bool) {
	if c.draining.Load() {
		<-c.base.Done()
		return
	}
	now := time.Now()
	c.lastSeen.Store(now.UnixNano())
	c.ep.counters.messagesIn.add(c.stripe, 1)
	c.ep.counters.bytesIn.add(c.stripe, int64(len(data)))
	if !c.share.enter(int64(len(data)), int64(c.mount.opts.sharedIn), c.base.Done()) {
		return
	}
	it := newItem()
	it.kind, it.share = fromClient, c.share
	it.data = append(make([]byte, 0, len(data)), data...)
	if err := c.decode(&it.msg, it.data, binary); err != nil {
		if c.unguarded(now, nil) {
			c.refuseFrame(&it.msg, err)
		}
		it.free()
		return
	}
	if c.refuses(now, &it.msg) || !c.route(it) {
		it.free()
	}
}

// maxMalformed is how many malformed frames of a connection are answered.
const maxMalformed = 64

// refuseFrame answers a malformed frame, or closes the connection: where nobody would hear the
// answer, and when there were too many.
func (c *Conn) refuseFrame(m *wire.Message, err error) {
	c.ep.counters.protocolErrors.Add(1)
	if c.malformed++; !answerable(m) || c.malformed > maxMalformed {
		c.close(CloseInternal, "", fmt.Errorf("%w: %w", ErrProtocol, err))
		return
	}
	c.reply(m.JoinRef, m.Ref, m.Topic, "error", invalid(err.Error()))
}

// answerable reports whether the sender of a malformed frame can be answered on its topic.
func answerable(m *wire.Message) bool {
	return m.Topic.Kind == wire.String && len(m.Topic.Text) > 0 && !m.Ref.IsNull()
}

// invalid is the payload of a refusal of what a client sent.
func invalid(reason string) string { return refusal(reason, "invalid") }

func refusal(reason, code string) string {
	return `{"reason":` + string(wire.AppendString(nil, []byte(reason))) + `,"code":"` + code + `"}`
}

var errUTF8 = fmt.Errorf("%w: not UTF-8", wire.ErrFrame)

// decode decodes a frame of the client. Version 1 is JSON in binary frames too, and those the
// transport has not checked.
func (c *Conn) decode(m *wire.Message, data []byte, binary bool) error {
	switch {
	case !binary:
		return c.version.DecodeText(m, data)
	case c.version != wire.V1:
		return wire.DecodePush(m, data)
	case !utf8.Valid(data):
		return errUTF8
	}
	return c.version.DecodeText(m, data)
}

// yield lets the topic that got the last frame handle it before the next, if it is quick about
// it, so that frames sent in one go are on the whole answered in their order. The transport
// calls it between frames that arrived together. One that can wait says for how long.
func (c *Conn) yield(wait time.Duration) {
	t := c.last
	c.last = nil
	if t == nil {
		return
	}
	for range 20 {
		if !t.busy() {
			return
		}
		runtime.Gosched()
	}
	if wait == 0 {
		return
	}
	for deadline := time.Now().Add(wait); t.busy() && time.Now().Before(deadline); {
		time.Sleep(wait / 20)
	}
}

const (
	unmatched    = `{"reason":"unmatched topic"}`
	joinCrashed  = `{"reason":"join crashed"}`
	emptyPayload = `{}`
)

// route hands a message to its topic, or answers it. It reports whether the item was taken.
func (c *Conn) route(it *item) bool {
	m := &it.msg
	if m.Topic.Is(wire.TopicPhoenix) && m.Event.Is(wire.EventHeartbeat) {
		c.reply(wire.Value{}, m.Ref, m.Topic, "ok", emptyPayload)
		return false
	}
	for {
		t := c.findBytes(m.Topic)
		if t == nil {
			if !m.Event.Is(wire.EventJoin) {
				c.answerUnjoined(m)
				return false
			}
			if t = c.addSlot(m); t == nil {
				return false
			}
		}
		ok, dead := t.put(it)
		if !dead {
			c.last = t
			return ok
		}
	}
}

// answerUnjoined answers a message on a topic that is not joined.
func (c *Conn) answerUnjoined(m *wire.Message) {
	if m.Event.Is(wire.EventLeave) && m.Topic.Kind == wire.String {
		c.reply(m.JoinRef, m.Ref, m.Topic, "ok", emptyPayload)
		return
	}
	c.reply(wire.Value{}, m.Ref, m.Topic, "error", unmatched)
}

// addSlot makes the slot for a join, or answers why there is none.
func (c *Conn) addSlot(m *wire.Message) *slot {
	var rt *route
	if m.Topic.Kind == wire.String {
		rt = c.mount.router.match(string(m.Topic.Text))
	}
	if rt == nil {
		c.ep.counters.joinsRefused.Add(1)
		c.ep.log.Warn("join of a topic that no pattern matches", "topic", m.Topic.String(),
			"id", c.id, "remote", c.RemoteAddr())
		c.reply(wire.Value{}, m.Ref, m.Topic, "error", unmatched)
		return nil
	}
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return nil
	}
	// Those whose Terminate takes its time are bounded too.
	if n := c.mount.opts.maxChannels; len(c.slots)-int(c.parting) >= n || len(c.slots) >= 2*n {
		c.mu.Unlock()
		c.ep.counters.joinsRefused.Add(1)
		c.ep.log.Warn("too many channels joined", "topic", m.Topic.String(), "max", c.mount.opts.maxChannels,
			"id", c.id, "remote", c.RemoteAddr())
		c.reply(m.JoinRef, m.Ref, m.Topic, "error", c.mount.opts.tooMany)
		return nil
	}
	t := &slot{conn: c, topic: string(m.Topic.Text), route: rt}
	c.slots = append(c.slots, t)
	switch {
	case c.index != nil:
		c.index[t.topic] = t
	case len(c.slots) > 8:
		c.index = make(map[string]*slot)
		for _, t := range c.slots {
			c.index[t.topic] = t
		}
	}
	c.mu.Unlock()
	return t
}

func (c *Conn) findBytes(topic wire.Value) *slot {
	if topic.Kind != wire.String {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.index != nil {
		return c.index[string(topic.Text)]
	}
	for _, t := range c.slots {
		if t.topic == string(topic.Text) {
			return t
		}
	}
	return nil
}

func (c *Conn) find(topic string) *slot {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.index != nil {
		return c.index[topic]
	}
	for _, t := range c.slots {
		if t.topic == topic {
			return t
		}
	}
	return nil
}

// part says whether a topic is as good as left. Then it counts no more against the limit of
// channels, so that a client which hears of the end may join another at once.
func (c *Conn) part(t *slot, parting bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case parting && !t.parting:
		c.parting++
	case !parting && t.parting:
		c.parting--
	}
	t.parting = parting
}

// drop removes a slot whose topic is not joined and whose inbox is empty. It reports false when
// a message has come meanwhile.
func (c *Conn) drop(t *slot) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.items) > 0 || t.cur != nil {
		return false
	}
	t.dead, t.running = true, false
	if t.parting {
		c.parting--
	}
	for i := range c.slots {
		if c.slots[i] == t {
			last := len(c.slots) - 1
			c.slots[i] = c.slots[last]
			c.slots[last] = nil
			c.slots = c.slots[:last]
			break
		}
	}
	if c.index[t.topic] == t {
		delete(c.index, t.topic)
	}
	if t.over != nil {
		close(t.over)
	}
	return true
}

// idSubscriber closes the connection when its id is told to disconnect.
type idSubscriber struct{ c *Conn }

func (s *idSubscriber) Deliver(m *pubsub.Message) {
	if m.Event != "disconnect" {
		return
	}
	s.c.stage.CompareAndSwap(connecting, disconnected)
	if s.c.stage.Load() == opened {
		s.c.close(CloseGoingAway, "", ErrDisconnected)
	}
}

// open finishes the making of a connection, which is in the registry: OnOpen.
func (c *Conn) open() error {
	r := c.mount.router
	if !c.stage.CompareAndSwap(connecting, opened) {
		c.close(CloseGoingAway, "", ErrDisconnected)
		return ErrDisconnected
	}
	if r.onOpen != nil {
		ctx, err := protect(func() (context.Context, error) { return r.onOpen(c.Context(), c) })
		if err != nil {
			var ce *CloseError
			if errors.As(err, &ce) {
				c.close(ce.Code, ce.Reason, ce)
			} else {
				c.ep.log.Error("OnOpen", "err", err, "id", c.id, "remote", c.RemoteAddr())
				c.close(CloseInternal, "", err)
			}
			return err
		}
		if ctx != nil {
			c.mu.Lock()
			c.ctx = ctx
			c.mu.Unlock()
		}
	}
	return nil
}
