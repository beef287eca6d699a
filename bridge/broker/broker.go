// Package broker is the small MQTT broker of the service accounts: Home
// Assistant, Zigbee2MQTT, a phone app. It has retained messages, wildcards, QoS
// 0 to 2, shared subscriptions and sessions, of MQTT 3.1.1 and 5.
//
// It works in memory, and what has to outlive the process goes to a [Store] as
// well: what accounts retain, sessions that outlive their connection, with
// their subscriptions, unfinished QoS 2 exchanges and the messages of QoS 1 and
// 2 that wait in them, and wills. A publish that leaves something to keep is
// decided once that is durable; commits are shared. What the hub itself retains
// is not kept: it says it again when it starts.
//
// Everything that is kept belongs to an account, is counted in bytes against
// that account's budget and the broker's, and ends with the account.
//
// It knows sessions, not sockets: a connection hands it decoded packets and
// gives it a Link to write to.
package broker

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Options bound what the broker keeps for one session, and how many there are.
type Options struct {
	MaxSessions      int           // with and without a connection
	MaxSubscriptions int           // per session
	MaxInflight      int           // unacknowledged messages per session
	MaxQueued        int           // messages that wait or are unacknowledged, per session
	MaxQueuedBytes   int           // and what they take
	MaxExpiry        time.Duration // of a session without a connection
	Backlog          int           // bytes on a connection beyond which messages wait in the session
	Limits           Limits
}

// DefaultOptions fit a house: Home Assistant subscribes to every state, and what
// is retained has a word on each of the hub's devices.
func DefaultOptions() Options {
	return Options{
		MaxSessions: 10_000, MaxSubscriptions: 20_000, MaxInflight: 100, MaxQueued: 20_000, MaxQueuedBytes: 32 << 20,
		MaxExpiry: 7 * 24 * time.Hour, Backlog: 128 << 10, Limits: DefaultLimits(),
	}
}

// Option gives a Broker what it works with.
type Option func(*Broker)

// WithStore keeps in s what has to outlive the process. Load reads it.
func WithStore(s Store) Option { return func(b *Broker) { b.journal.store = s } }

// WithRights asks f for the rights of each owner but the hub.
func WithRights(f func(Owner) Rights) Option { return func(b *Broker) { b.rights = f } }

// WithLogger sets where is logged; the default is nowhere.
func WithLogger(l *slog.Logger) Option { return func(b *Broker) { b.log, b.journal.log = l, l } }

// Stats is what the broker holds and has done.
type Stats struct {
	Sessions, Connected, Subscriptions, Retained int64
	Bytes                                        int64 // kept for accounts
	Published                                    int64 // messages that came in
	Delivered                                    int64 // messages that went out
	Dropped                                      int64 // messages that there was no room for
	Evicted                                      int64 // sessions that gave way to others
}

// Broker routes messages. Its methods may be called from any goroutine, and
// none of them blocks but Connect, which may wait for the store.
type Broker struct {
	opts   Options
	rights func(Owner) Rights
	log    *slog.Logger

	mu       sync.Mutex
	limits   Limits
	journal  journal
	accounts map[Owner]*account
	sessions map[key]*Session
	subs     tree[*subscribers]
	retained tree[*letter]
	used     int    // bytes kept for accounts
	number   uint64 // the last given to a record
	stats    Stats
	inline   uint64    // numbers inline subscriptions
	due      time.Time // when something of a session without a connection runs out; zero: nothing
	swept    time.Time // when expired retained messages were last looked for
}

// key names a session: nothing of it passes to another owner.
type key struct {
	owner Owner
	id    string
}

// New returns an empty broker.
func New(o Options, opts ...Option) *Broker {
	b := &Broker{opts: o, limits: o.Limits, log: slog.New(slog.DiscardHandler), accounts: map[Owner]*account{}, sessions: map[key]*Session{}}
	b.journal.mu, b.journal.log = &b.mu, b.log
	for _, opt := range opts {
		opt(b)
	}
	return b
}

// Close writes what is still to be kept, and waits for it. Nobody publishes any
// more.
func (b *Broker) Close() error {
	b.journal.writers.Wait()
	b.mu.Lock()
	changes := b.journal.changes
	b.mu.Unlock()
	if len(changes) == 0 {
		return nil
	}
	_, err := b.journal.commit(changes)
	return err
}

// next is a number that no record has.
func (b *Broker) next() uint64 {
	b.number++
	return b.number
}

// Stats returns the counts.
func (b *Broker) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.Sessions, s.Bytes = int64(len(b.sessions)), int64(b.used)
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

// Why a message is not taken.
var (
	ErrFull  = errors.New("no room for another retained message")
	ErrTopic = errors.New("no topic that can be published on")
)

// nobody waits for nothing: what may be taken later is.
type nobody struct{}

func (nobody) Again(error) bool { return true }
func (nobody) Decided(error)    {}

// Publish routes a message of the hub itself. It returns ErrTopic for a topic
// that nobody may publish on, such as one with a wildcard [MQTT-3.3.2-2].
func (b *Broker) Publish(m Message) error {
	if !ValidTopic(m.Topic) {
		return ErrTopic
	}
	b.publish(nil, &letter{Message: m}, nobody{}, nil)
	return nil
}

// publish routes a message. The sender hears its fate once, when the last inline
// subscriber has decided and what is to be kept is durable; that may be before
// publish returns. r is the receipt of a publish of QoS 2.
func (b *Broker) publish(from *Session, m *letter, sender Sender, r *receipt) {
	if m.lasts > 0 {
		m.Expires = time.Now().Add(m.lasts)
	}
	b.mu.Lock()
	made, before := b.journal.made, b.journal.bytes
	var err error
	var handlers []Handler
	if r != nil && r.routed { // before a restart, to all but the hub's own subscribers
		handlers = b.handlers(m.Topic)
	} else {
		b.stats.Published++
		if m.by == nil && from != nil {
			m.by = from.account
		}
		if m.Retain && !b.retain(m) {
			err = ErrFull
		}
		handlers = b.route(from, m)
	}
	if r != nil {
		r.save(len(handlers) == 0)
	}
	from.keeps(b.journal.bytes - before)
	_, unheard := sender.(nobody)
	votes := len(handlers)
	kept := b.journal.made != made && !unheard
	if kept {
		votes++
	}
	if votes > 1 || votes == 1 && err != nil {
		sender = &jury{Sender: sender, open: votes, err: err}
	}
	if kept {
		b.journal.wait(sender.Decided)
	}
	b.mu.Unlock()
	if votes == 0 {
		sender.Decided(err)
	}
	for _, h := range handlers {
		h(m.Message, sender)
	}
}

// jury is several who decide for one sender: the first refusal is the fate of
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
	var kept []Message
	b.retained.each(filter, func(m *letter) { kept = append(kept, m.Message) })
	b.mu.Unlock()
	for _, m := range kept {
		m.Stored = true
		h(m, nobody{})
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(n.inline, id)
		b.prune(filter)
	}
}

// Expire ends what has run out: sessions without a connection, wills that were
// delayed, retained messages. It is to be called several times a second.
func (b *Broker) Expire(now time.Time) {
	b.mu.Lock()
	var calls []call
	if !b.due.IsZero() && !now.Before(b.due) {
		calls = b.expireSessions(now)
	}
	if now.Sub(b.swept) >= time.Minute { // those that have expired are not delivered before that either
		b.swept = now
		b.expireRetained(now)
	}
	b.release()
	b.journal.again()
	b.mu.Unlock()
	run(calls)
}

// release has sessions go on that waited for other connections of their account.
func (b *Broker) release() {
	for _, a := range b.accounts {
		if !a.held {
			continue
		}
		a.held = false
		for s := range a.connected {
			s.pump()
		}
	}
}

func (b *Broker) expireSessions(now time.Time) (calls []call) {
	b.due = time.Time{}
	for _, s := range b.sessions {
		if s.link != nil {
			continue
		}
		over := s.over(now)
		if s.will != nil && (over || !now.Before(s.willAt)) {
			calls = append(calls, b.lastWord(s)...)
			s.save()
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
	return calls
}

// at makes Expire look at the sessions at t, if not earlier. The lock is held.
func (b *Broker) at(t time.Time) {
	if b.due.IsZero() || t.Before(b.due) {
		b.due = t
	}
}
