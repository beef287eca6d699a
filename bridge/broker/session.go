package broker

import (
	"cmp"
	"slices"
	"time"

	"devicehub/bridge/packet"
)

// Link is a session's connection. Its methods do not block and call nothing of
// the broker.
type Link interface {
	Write(pk *packet.Packet) bool // queue one packet; false when the connection is gone
	Backlog() int                 // bytes queued and not yet written
	// WhenDrained asks for one call of the session's Pump once the backlog is written.
	WhenDrained()
	End(code byte, reason string) // close, with the reason code of MQTT 5
	// Address is the transport and the peer's address, for people to read.
	Address() (transport, addr string)
}

// Client is who connects and how.
type Client struct {
	Owner      Owner
	ID         string
	Version    byte
	Clean      bool
	Expiry     time.Duration // of the session after the connection
	ReceiveMax int           // 0: no bound of the client's
	MaxPacket  uint32        // 0: no bound
	AliasMax   uint16
	Will       *Message
	WillDelay  time.Duration
	Link       Link
	// Kept, if set, is told how many bytes what the client sent leaves to be written.
	// It is called with the broker's lock held, and must not call the broker.
	Kept func(bytes int)
}

// Session is what the broker keeps of a client, also without a connection.
type Session struct {
	b   *Broker
	key key

	// Everything below is guarded by the broker's mutex.
	Client
	account  *account
	number   uint64 // of its record
	stored   bool   // it has one
	link     Link
	resumed  bool                     // the CONNACK is out
	since    time.Time                // it is connected, or absent
	subs     map[string]*subscription // by the filter as it was sent
	subBytes int
	queue    []*delivery
	inflight []*delivery
	held     int    // bytes of both
	turn     uint64 // numbers deliveries
	lastID   uint16
	received map[uint16]*receipt // QoS 2 publishes not yet released
	will     *Message
	willAt   time.Time
	until    time.Time
	aliases  aliases
	gone     bool // dropped
}

// lasting reports whether the session outlives its connection, and so the
// process.
func (s *Session) lasting() bool { return s.Expiry > 0 && s.b.journal.store != nil && !s.gone }

// over reports whether the session's client has been away for too long.
func (s *Session) over(now time.Time) bool { return s.link == nil && !now.Before(s.until) }

// save writes the session's own record, or deletes it when there is nothing to
// come back to.
func (s *Session) save() {
	if s.gone || s.b.journal.store == nil {
		return
	}
	if s.Expiry == 0 && s.will == nil {
		s.erase()
		return
	}
	if s.number == 0 {
		s.number = s.b.next()
	}
	s.b.journal.put(Key{recSession, s.number, 0}, sessionRecord(s), !s.stored)
	s.stored = true
}

func (s *Session) erase() {
	if s.stored {
		s.b.journal.del(Key{recSession, s.number, 0})
		s.stored = false
	}
}

// keeps says that what the client sent left bytes to be written; s is nil for the hub itself.
func (s *Session) keeps(bytes int) {
	if s != nil && s.Kept != nil && bytes > 0 {
		s.Kept(bytes)
	}
}

// setWill sets or voids the will.
func (s *Session) setWill(w *Message) {
	before := s.ownSize()
	s.will = w
	s.b.charge(s.account, s.ownSize()-before)
}

// Connect attaches a client to its session, an old or a new one. An older
// connection of the same session is ended. When there is no room for another
// session, the one whose client is away for longest gives way, of this account
// if it has as many as it may, else of the one that has most; ok is false when
// there is none, or the account is gone. It waits until the end of an earlier
// session is durable. Nothing is written to the link before Resume.
func (b *Broker) Connect(c Client) (s *Session, present, ok bool) {
	k := key{c.Owner, c.ID}
	b.mu.Lock()
	made := b.journal.made
	old := b.sessions[k]
	var calls []call
	if old != nil {
		ends := c.Clean || old.Expiry == 0 || old.over(time.Now())
		calls = b.takeOver(old, ends)
		if ends { // such a session ends with its connection [MQTT-3.1.2-6]
			b.drop(old)
			old = nil
		}
	}
	ended := b.journal.made != made
	if s = old; s == nil {
		var evicted []call
		s, evicted = b.newSession(k, c.Will)
		calls = append(calls, evicted...)
	} else {
		present = true
	}
	if ok = s != nil; ok {
		s.attach(c)
	}
	var durable chan error
	if ended {
		durable = make(chan error, 1)
		b.journal.wait(func(err error) { durable <- err })
	}
	b.mu.Unlock()
	run(calls)
	if durable != nil && <-durable != nil && ok {
		s.Detach(c.Link, true, nil)
		return nil, false, false
	}
	return s, present, ok
}

// takeOver ends the connection that a session has, and publishes the will that
// ends with it.
func (b *Broker) takeOver(old *Session, ends bool) (calls []call) {
	switch {
	case old.link != nil:
		old.link.End(packet.SessionTakenOver, "another connection with this client id")
		old.detached()
		if old.will != nil && (old.WillDelay == 0 || ends) {
			calls = b.lastWord(old)
		}
	case old.will != nil && ends:
		calls = b.lastWord(old)
	}
	old.setWill(nil)
	return calls
}

// newSession makes a session, for which others may have to give way.
func (b *Broker) newSession(k key, will *Message) (s *Session, calls []call) {
	a := b.account(k.owner)
	if a.rights.Gone() {
		b.charge(a, 0)
		return nil, nil
	}
	if a.sessions >= b.limits.AccountSessions || len(b.sessions) >= b.opts.MaxSessions {
		of := a
		if a.sessions < b.limits.AccountSessions {
			of = nil
		}
		words, ok := b.evict(of)
		if calls = words; !ok {
			b.charge(a, 0)
			return nil, nil
		}
	}
	s = &Session{b: b, key: k, account: a, subs: map[string]*subscription{}}
	n := s.ownSize()
	if will != nil {
		n += will.size()
	}
	for !b.room(a, n) { // the account's own absent sessions give way, too
		words, ok := b.evict(a)
		if calls = append(calls, words...); !ok {
			b.charge(a, 0)
			return nil, calls
		}
	}
	b.add(s)
	return s, calls
}

// add enters a session.
func (b *Broker) add(s *Session) {
	a := b.account(s.key.owner)
	s.account = a
	a.sessions++
	b.charge(a, s.ownSize())
	b.sessions[s.key] = s
}

// evict ends the session whose client is away for longest, of the account or of
// the one with most sessions among those that have an absent one. It reports
// false when every client is there.
func (b *Broker) evict(of *account) (calls []call, ok bool) {
	var gone *Session
	for _, s := range b.sessions {
		if s.link != nil || of != nil && s.account != of {
			continue
		}
		if gone == nil || cmp.Or(cmp.Compare(gone.account.sessions, s.account.sessions), s.since.Compare(gone.since)) < 0 {
			gone = s
		}
	}
	if gone == nil {
		return nil, false
	}
	calls = b.lastWord(gone)
	b.stats.Evicted++
	b.drop(gone)
	return calls, true
}

// attach gives the session a connection.
func (s *Session) attach(c Client) {
	b := s.b
	was := s.lasting()
	s.Client, s.link, s.resumed, s.since = c, c.Link, false, time.Now()
	s.Will = nil
	s.Expiry = min(c.Expiry, b.opts.MaxExpiry)
	s.setWill(c.Will)
	s.aliases, s.until = aliases{}, time.Time{}
	s.attached()
	if was && !s.lasting() {
		s.unkeep()
	}
	s.save()
	for _, d := range s.inflight {
		d.sent, d.dup = false, d.dup || d.sent || d.packetID != 0
	}
	s.review()
}

// unkeep forgets what the store has of a session that ends with its connection
// from now on.
func (s *Session) unkeep() {
	s.erase()
	for _, sub := range s.subs {
		if sub.record != 0 {
			s.b.journal.del(Key{recSubscription, s.number, sub.record})
			sub.record = 0
		}
	}
	for _, list := range [][]*delivery{s.inflight, s.queue} {
		for _, d := range list {
			s.forget(d)
		}
	}
	for id, r := range s.received {
		if r.stored {
			s.b.journal.del(Key{recReceipt, s.number, uint64(id)})
			r.stored = false
		}
	}
}

// review drops subscriptions that no longer are the account's to have, and
// reports whether there were any.
func (s *Session) review() (some bool) {
	for name, sub := range s.subs {
		if !s.account.rights.MaySubscribe(sub.filter) {
			s.b.leave(s, name)
			some = true
		}
	}
	return some
}

// Resume sends what waits for the client, after its CONNACK.
func (s *Session) Resume() {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.resumed = true
	s.pump()
}

// Detach says that the connection is gone. clean means that the client said so
// itself and its will is void; expiry, if not nil, is its last word on how long
// the session is kept. Publishes that belong to another connection by now are
// none of its business.
func (s *Session) Detach(link Link, clean bool, expiry *time.Duration) {
	b := s.b
	b.mu.Lock()
	if s.link != link || s.gone {
		b.mu.Unlock()
		return
	}
	now := time.Now()
	s.detached()
	s.since = now
	if expiry != nil {
		s.Expiry = min(*expiry, b.opts.MaxExpiry)
	}
	s.until = now.Add(s.Expiry)
	var calls []call
	if clean {
		s.setWill(nil)
	}
	if s.will != nil {
		delay := min(s.WillDelay, s.Expiry) // MQTT 5 §3.1.3.2.2
		if s.willAt = now.Add(delay); delay == 0 {
			calls = b.lastWord(s)
		} else {
			b.at(s.willAt)
		}
	}
	b.at(s.until)
	if s.Expiry == 0 {
		b.drop(s)
	} else {
		s.save()
		s.rest()
	}
	b.mu.Unlock()
	run(calls)
}

// rest keeps of the queue what is kept for an absent client, which QoS 0 is
// not, and writes which messages were sent.
func (s *Session) rest() {
	s.queue = slices.DeleteFunc(s.queue, func(d *delivery) bool {
		if d.qos == 0 {
			s.release(d)
		}
		return d.qos == 0
	})
	for _, d := range s.inflight {
		if d.qos == 1 { // those of QoS 2 were written before they were sent
			s.keep(d)
		}
	}
}

// drop forgets a session. The lock is held.
func (b *Broker) drop(s *Session) {
	if s.gone {
		return
	}
	for name := range s.subs {
		b.leave(s, name)
	}
	for _, list := range [][]*delivery{s.inflight, s.queue} {
		for _, d := range list {
			s.release(d)
		}
	}
	for id, r := range s.received {
		s.forgetReceipt(id, r)
	}
	s.erase()
	if s.link != nil {
		s.detached()
	}
	s.setWill(nil)
	s.account.sessions--
	b.charge(s.account, -s.ownSize())
	if b.sessions[s.key] == s {
		delete(b.sessions, s.key)
	}
	s.queue, s.inflight, s.received, s.gone = nil, nil, nil, true
}

// Granted is how long the session is kept after its connection.
func (s *Session) Granted() time.Duration {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	return s.Expiry
}

// Durable calls f once all that the session was told so far is durable: at once
// when nothing of it outlives the connection.
func (s *Session) Durable(f func()) {
	s.b.mu.Lock()
	if s.lasting() {
		s.b.journal.sure(f)
		s.b.mu.Unlock()
		return
	}
	s.b.mu.Unlock()
	f()
}
