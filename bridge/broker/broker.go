// Package broker is the small MQTT broker of the service accounts: Home
// Assistant, Zigbee2MQTT, a phone app. It has retained messages, wildcards, QoS
// 0 to 2, shared subscriptions and sessions, of MQTT 3.1.1 and 5, in memory:
// what is retained has to be said again after a restart, as those programs do.
//
// It knows sessions, not sockets: a connection hands it decoded packets and
// gives it a Link to write to.
package broker

import (
	"errors"
	"sync"
	"time"

	"devicehub/bridge/packet"
)

// Options bound what the broker keeps.
type Options struct {
	MaxSessions      int           // with and without a connection
	MaxSubscriptions int           // per session
	MaxInflight      int           // unacknowledged messages per session
	MaxQueued        int           // messages that wait, per session
	MaxQueuedBytes   int           // and their payloads
	MaxRetained      int           // messages
	MaxRetainedBytes int           // payloads
	MaxExpiry        time.Duration // of a session without a connection
	Backlog          int           // bytes on a connection beyond which messages wait in the session
}

// DefaultOptions fit a house: Home Assistant subscribes to every state, and what
// is retained has a word on each of the hub's devices.
func DefaultOptions() Options {
	return Options{
		MaxSessions: 10_000, MaxSubscriptions: 20_000, MaxInflight: 100, MaxQueued: 20_000, MaxQueuedBytes: 16 << 20,
		MaxRetained: 500_000, MaxRetainedBytes: 64 << 20, MaxExpiry: 7 * 24 * time.Hour, Backlog: 128 << 10,
	}
}

// Message is one application message. It is shared by all who receive it and
// never changed.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	Props   Props
	Expires time.Time // zero: never
	Stored  bool      // in an inline subscriber's hands: kept from before it subscribed

	lasts time.Duration // a will's expiry, which begins when it is published
}

// Props are the properties of MQTT 5 that go with a message to its receivers.
type Props struct {
	PayloadFormat     byte
	PayloadFormatFlag bool
	ContentType       string
	ResponseTopic     string
	CorrelationData   []byte
	User              []UserProperty
}

// UserProperty is one of any number of pairs.
type UserProperty struct{ Key, Value string }

// Stats is what the broker holds and has done.
type Stats struct {
	Sessions, Connected, Subscriptions, Retained int64
	Published                                    int64 // messages that came in
	Delivered                                    int64 // messages that went out
	Dropped                                      int64 // messages that a full queue had no room for
}

// Broker routes messages. Its methods may be called from any goroutine, and
// none of them blocks.
type Broker struct {
	opts Options

	mu       sync.Mutex
	sessions map[key]*Session
	subs     tree[*subscribers]
	retained tree[*Message]
	kept     int // bytes retained
	stats    Stats
	inline   uint64    // numbers inline subscriptions
	due      time.Time // when something of a session without a connection runs out; zero: nothing
	swept    time.Time // when expired retained messages were last looked for
}

// key names a session: nothing of it passes to another owner.
type key struct{ owner, id string }

// subscribers are those of one filter.
type subscribers struct {
	own    map[*Session]*subscription
	shared map[string]*group
	inline map[uint64]Handler
}

func (s *subscribers) empty() bool { return len(s.own)+len(s.shared)+len(s.inline) == 0 }

// group shares one filter's messages among its members (MQTT 5 §4.8.2).
type group struct {
	members []*Session
	opts    map[*Session]*subscription
	turn    int
}

// subscription is one session's on one filter.
type subscription struct {
	group, filter string
	qos           byte
	noLocal       bool
	asPublished   bool
	id            int
}

// New returns an empty broker.
func New(o Options) *Broker {
	return &Broker{opts: o, sessions: map[key]*Session{}}
}

// Stats returns the counts.
func (b *Broker) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.Sessions = int64(len(b.sessions))
	return s
}

// Handler takes the messages of an inline subscription. It must not block, and is
// called without any lock, by the publisher's goroutine. What becomes of the
// message it tells from.
type Handler func(m Message, from Sender)

// Sender is who published a message, and waits until its fate is decided. Its
// methods may be called from any goroutine.
type Sender interface {
	// Again reports whether the message is to be tried again after err, which
	// may pass. A subscriber that is told no decides with err.
	Again(err error) bool
	// Decided is called once by each subscriber: nil, or why it refuses.
	Decided(err error)
}

// ErrFull is the fate of a message that there was no room to retain.
var ErrFull = errors.New("no room for another retained message")

// nobody waits for nothing: what may be taken later is.
type nobody struct{}

func (nobody) Again(error) bool { return true }
func (nobody) Decided(error)    {}

// Publish routes a message of the hub itself.
func (b *Broker) Publish(m Message) { b.publish(nil, &m, nobody{}) }

// publish routes a message. The sender hears its fate once, when the last inline
// subscriber has decided; that may be before publish returns.
func (b *Broker) publish(from *Session, m *Message, sender Sender) {
	if m.lasts > 0 {
		m.Expires = time.Now().Add(m.lasts)
	}
	b.mu.Lock()
	b.stats.Published++
	var err error
	if m.Retain && !b.retain(m) {
		err = ErrFull
	}
	handlers := b.route(from, m)
	b.mu.Unlock()
	switch {
	case len(handlers) == 0:
		sender.Decided(err)
		return
	case len(handlers) > 1 || err != nil:
		sender = &jury{Sender: sender, open: len(handlers), err: err}
	}
	for _, h := range handlers {
		h(*m, sender)
	}
}

// jury is several subscribers with one sender: the first refusal is the fate of
// the message.
type jury struct {
	Sender

	mu   sync.Mutex
	open int
	err  error
}

func (j *jury) Decided(err error) {
	j.mu.Lock()
	if j.err == nil {
		j.err = err
	}
	j.open--
	last, fate := j.open == 0, j.err
	j.mu.Unlock()
	if last {
		j.Sender.Decided(fate)
	}
}

// retain keeps the message for those who subscribe later, or forgets what is
// kept when its payload is empty [MQTT-3.3.1-6].
func (b *Broker) retain(m *Message) bool {
	old := b.retained.find(m.Topic)
	if old != nil && old.used {
		b.kept -= len(old.value.Payload)
		b.stats.Retained--
		if len(m.Payload) == 0 {
			b.retained.remove(m.Topic)
			return true
		}
	} else if len(m.Payload) == 0 {
		return true
	}
	if int(b.stats.Retained) >= b.opts.MaxRetained || b.kept+len(m.Payload) > b.opts.MaxRetainedBytes {
		if old != nil && old.used {
			b.retained.remove(m.Topic) // rather nothing than what is no longer so
		}
		b.stats.Dropped++
		return false
	}
	n := b.retained.at(m.Topic)
	n.value, n.used = m, true
	b.kept += len(m.Payload)
	b.stats.Retained++
	return true
}

// route queues the message at every session that subscribes, once each, and
// returns the hub's own subscribers, which are called without the lock.
func (b *Broker) route(from *Session, m *Message) (inline []Handler) {
	var hits map[*Session]*hit
	b.subs.match(m.Topic, func(s *subscribers) {
		for _, h := range s.inline {
			inline = append(inline, h)
		}
		for sess, sub := range s.own {
			if sub.noLocal && sess == from {
				continue // [MQTT-3.8.3-3]
			}
			if hits == nil {
				hits = map[*Session]*hit{}
			}
			hits[sess] = hits[sess].with(sub)
		}
		for _, g := range s.shared {
			if sess := g.next(); sess != nil {
				sess.deliver(m, new(hit).with(g.opts[sess]), false)
			}
		}
	})
	for sess, h := range hits {
		sess.deliver(m, h, false)
	}
	return inline
}

// hit is what the subscriptions of one session that select one message ask for
// together.
type hit struct {
	qos         byte
	asPublished bool
	ids         []int
}

func (h *hit) with(s *subscription) *hit {
	if h == nil {
		h = new(hit)
	}
	h.qos = max(h.qos, s.qos) // [MQTT-3.3.4-2]
	h.asPublished = h.asPublished || s.asPublished
	if s.id > 0 {
		h.ids = append(h.ids, s.id)
	}
	return h
}

// next is the member whose turn it is: one with a connection if there is any.
func (g *group) next() *Session {
	for range g.members {
		g.turn = (g.turn + 1) % len(g.members)
		if s := g.members[g.turn]; s.link != nil {
			return s
		}
	}
	if len(g.members) == 0 {
		return nil
	}
	g.turn = (g.turn + 1) % len(g.members)
	return g.members[g.turn]
}

// Subscribe calls h with every message that the filter selects, beginning with
// what is retained, until cancel is called.
func (b *Broker) Subscribe(filter string, h Handler) (cancel func()) {
	b.mu.Lock()
	b.inline++
	id := b.inline
	n := b.node(filter)
	if n.inline == nil {
		n.inline = map[uint64]Handler{}
	}
	n.inline[id] = h
	var kept []*Message
	b.retained.each(filter, func(m *Message) { kept = append(kept, m) })
	b.mu.Unlock()
	for _, m := range kept {
		old := *m
		old.Stored = true
		h(old, nobody{})
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(n.inline, id)
		b.prune(filter)
	}
}

func (b *Broker) node(filter string) *subscribers {
	t := b.subs.at(filter)
	if !t.used {
		t.used, t.value = true, &subscribers{own: map[*Session]*subscription{}}
	}
	return t.value
}

func (b *Broker) prune(filter string) {
	if t := b.subs.find(filter); t != nil && t.used && t.value.empty() {
		b.subs.remove(filter)
	}
}

// Expire ends what has run out: sessions without a connection, wills that were
// delayed, retained messages. It is to be called several times a second.
func (b *Broker) Expire(now time.Time) {
	b.mu.Lock()
	var wills []*Message
	if !b.due.IsZero() && !now.Before(b.due) {
		wills = b.expireSessions(now)
	}
	if now.Sub(b.swept) >= time.Minute { // those that have expired are not delivered before that either
		b.swept = now
		b.expireRetained(now)
	}
	b.mu.Unlock()
	for _, w := range wills {
		b.publish(nil, w, nobody{})
	}
}

func (b *Broker) expireSessions(now time.Time) (wills []*Message) {
	b.due = time.Time{}
	for _, s := range b.sessions {
		if s.link != nil {
			continue
		}
		over := !now.Before(s.until)
		if s.will != nil && (over || !now.Before(s.willAt)) {
			wills = append(wills, s.will)
			s.will = nil
		}
		if over {
			b.drop(s)
			continue
		}
		b.at(s.until)
		if s.will != nil {
			b.at(s.willAt)
		}
	}
	return wills
}

// at makes Expire look at the sessions at t, if not earlier. The lock is held.
func (b *Broker) at(t time.Time) {
	if b.due.IsZero() || t.Before(b.due) {
		b.due = t
	}
}

func (b *Broker) expireRetained(now time.Time) {
	var gone []string
	b.retained.each("#", func(m *Message) {
		if m.expired(now) {
			gone = append(gone, m.Topic)
		}
	})
	for _, topic := range gone {
		b.retain(&Message{Topic: topic})
	}
}

func (m *Message) expired(now time.Time) bool { return !m.Expires.IsZero() && !now.Before(m.Expires) }

// drop forgets a session. The lock is held.
func (b *Broker) drop(s *Session) {
	for name := range s.subs {
		b.leave(s, name)
	}
	if b.sessions[s.key] == s {
		delete(b.sessions, s.key)
	}
	s.queue, s.inflight = nil, nil
}

// leave ends one subscription of a session. The lock is held.
func (b *Broker) leave(s *Session, name string) bool {
	sub := s.subs[name]
	if sub == nil {
		return false
	}
	delete(s.subs, name)
	b.stats.Subscriptions--
	t := b.subs.find(sub.filter)
	if t == nil || !t.used {
		return true
	}
	n := t.value
	if sub.group == "" {
		delete(n.own, s)
	} else if g := n.shared[sub.group]; g != nil {
		for i, m := range g.members {
			if m == s {
				g.members = append(g.members[:i], g.members[i+1:]...)
				break
			}
		}
		if delete(g.opts, s); len(g.members) == 0 {
			delete(n.shared, sub.group)
		}
	}
	b.prune(sub.filter)
	return true
}

// message takes a publish out of its packet, whose memory it does not share.
func message(pk *packet.Packet, now time.Time) *Message {
	m := &Message{Topic: clone(pk.TopicName), Payload: append([]byte(nil), pk.Payload...), QoS: pk.FixedHeader.Qos, Retain: pk.FixedHeader.Retain}
	m.Props, m.Expires = props(&pk.Properties, now)
	return m
}

// Will takes the will out of a CONNECT. Its expiry runs from its publication.
func Will(pk *packet.Packet, now time.Time) *Message {
	c := &pk.Connect
	m := &Message{Topic: clone(c.WillTopic), Payload: append([]byte(nil), c.WillPayload...), QoS: c.WillQos, Retain: c.WillRetain}
	m.Props, _ = props(&c.WillProperties, now)
	m.lasts = time.Duration(c.WillProperties.MessageExpiryInterval) * time.Second
	return m
}

func props(p *packet.Properties, now time.Time) (Props, time.Time) {
	out := Props{
		PayloadFormat: p.PayloadFormat, PayloadFormatFlag: p.PayloadFormatFlag,
		ContentType: clone(p.ContentType), ResponseTopic: clone(p.ResponseTopic),
	}
	if len(p.CorrelationData) > 0 {
		out.CorrelationData = append([]byte(nil), p.CorrelationData...)
	}
	for _, u := range p.User {
		out.User = append(out.User, UserProperty{clone(u.Key), clone(u.Val)})
	}
	var expires time.Time
	if p.MessageExpiryInterval > 0 {
		expires = now.Add(time.Duration(p.MessageExpiryInterval) * time.Second)
	}
	return out, expires
}

func clone(s string) string { return string(append([]byte(nil), s...)) }
