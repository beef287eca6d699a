package broker

import (
	"fmt"
	"slices"
	"time"
)

// Load reads what the store has kept, and forgets of it what belongs to accounts
// that are gone or has run out meanwhile. It is called once, before anything
// else. A session that was connected when the process ended has been absent
// since now.
func (b *Broker) Load() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.journal.store == nil {
		return nil
	}
	l := loader{b: b, now: time.Now(), messages: map[uint64]*letter{}, sessions: map[uint64]*loaded{}}
	if err := b.journal.store.Load(l.sort); err != nil {
		return fmt.Errorf("load what the broker keeps: %w", err)
	}
	for _, step := range []func() error{l.readMessages, l.readSessions, l.readRetained, l.readSubscriptions, l.readDeliveries, l.readReceipts} {
		if err := step(); err != nil {
			return fmt.Errorf("load what the broker keeps: %w", err)
		}
	}
	for _, m := range l.messages {
		if m.records == 0 {
			b.journal.del(Key{recMessage, m.id, 0})
		}
	}
	for _, s := range l.sessions {
		l.settle(s)
	}
	for _, a := range b.accounts {
		b.charge(a, 0)
	}
	if !l.format {
		b.journal.put(Key{recFormat, 0, 0}, []byte{recordFormat}, true)
	}
	return nil
}

// record is one as the store has it.
type record struct {
	Key
	value []byte
}

// loader builds a broker from records.
type loader struct {
	b        *Broker
	now      time.Time
	format   bool
	byKind   [256][]record
	messages map[uint64]*letter
	sessions map[uint64]*loaded
}

type loaded struct {
	*Session
	connected bool // when the process ended
}

// sort takes one record.
func (l *loader) sort(k Key, value []byte) error {
	if k.Kind == recFormat {
		if len(value) != 1 || value[0] > recordFormat {
			return errNewRecord
		}
		l.format = true
		return nil
	}
	l.byKind[k.Kind] = append(l.byKind[k.Kind], record{k, value})
	l.b.number = max(l.b.number, k.A)
	if k.Kind == recSubscription {
		l.b.number = max(l.b.number, k.B)
	}
	return nil
}

// take hands over the records of a kind, and forgets those that f does not want.
func (l *loader) take(kind byte, f func(r record) (wanted bool, err error)) error {
	list := l.byKind[kind]
	l.byKind[kind] = nil
	for _, r := range list {
		wanted, err := f(r)
		if err != nil {
			return fmt.Errorf("%w (%c %d %d)", err, r.Kind, r.A, r.B)
		}
		if !wanted {
			l.b.journal.del(r.Key)
		}
	}
	return nil
}

func (l *loader) readMessages() error {
	return l.take(recMessage, func(r record) (bool, error) {
		in := reader{b: r.value}
		by := l.b.account(in.owner())
		m := &letter{Message: in.message(), by: by, id: r.A}
		if in.err() != nil {
			return false, in.err()
		}
		if m.expired(l.now) {
			return false, nil
		}
		l.messages[r.A] = m
		return true, nil
	})
}

func (l *loader) readSessions() error {
	return l.take(recSession, func(r record) (bool, error) {
		s := &Session{b: l.b, subs: map[string]*subscription{}, number: r.A, stored: true}
		connected, err := readSession(r.value, s)
		if err != nil {
			return false, err
		}
		if l.b.account(s.key.owner).rights.Gone() || l.b.sessions[s.key] != nil {
			return false, nil
		}
		l.b.add(s)
		l.sessions[r.A] = &loaded{s, connected}
		return true, nil
	})
}

func (l *loader) readRetained() error {
	return l.take(recRetained, func(r record) (bool, error) {
		m := l.messages[r.A]
		if m == nil || m.by.rights.Gone() || l.b.retained.find(m.Topic).holds() {
			return false, nil
		}
		m.records++
		m.by = l.b.account(m.by.Owner)
		l.b.setRetained(m)
		return true, nil
	})
}

func (l *loader) readSubscriptions() error {
	return l.take(recSubscription, func(r record) (bool, error) {
		s := l.sessions[r.A]
		name, sub, err := readSubscription(r.value)
		if err != nil || s == nil || s.subs[name] != nil {
			return false, err
		}
		sub.record = r.B
		l.b.count(s.Session, name)
		l.b.enter(s.Session, name, sub)
		return true, nil
	})
}

// readDeliveries puts what was sent into the window and the rest in the queue,
// in order.
func (l *loader) readDeliveries() error {
	slices.SortFunc(l.byKind[recDelivery], func(a, b record) int {
		if a.B < b.B {
			return -1
		}
		return 1
	})
	return l.take(recDelivery, func(r record) (bool, error) {
		s, d := l.sessions[r.A], &delivery{turn: r.B, kept: true}
		number, err := readDelivery(r.value, d)
		m := l.messages[number]
		if err != nil || s == nil || m == nil {
			return false, err
		}
		d.m = m
		m.records++
		s.turn = max(s.turn, r.B)
		s.hold(d)
		d.durable = d.packetID != 0
		if d.durable {
			s.inflight = append(s.inflight, d)
			s.lastID = max(s.lastID, d.packetID)
			return true, nil
		}
		if s.connected { // it may have been sent: what was is not written for QoS 1
			d.dup = d.qos == 1
		}
		s.queue = append(s.queue, d)
		return true, nil
	})
}

func (l *loader) readReceipts() error {
	return l.take(recReceipt, func(r record) (bool, error) {
		s := l.sessions[r.A]
		if s == nil || len(r.value) != 1 {
			return false, nil
		}
		settled := r.value[0] == 1
		if s.received == nil {
			s.received = map[uint16]*receipt{}
		}
		id := uint16(r.B)
		s.received[id] = &receipt{s: s.Session, id: id, stored: true, settled: settled, decided: settled, routed: !settled}
		l.b.charge(s.account, receiptCost)
		return true, nil
	})
}

// settle says when a session runs out.
func (l *loader) settle(s *loaded) {
	if s.connected || s.until.IsZero() {
		s.until = l.now.Add(s.Expiry)
		s.willAt = l.now.Add(min(s.WillDelay, s.Expiry)) // MQTT 5 §3.1.2.5 lets it wait for the restart
		s.save()
		for _, d := range s.queue {
			if d.dup {
				s.keep(d)
			}
		}
	}
	s.since = s.until.Add(-s.Expiry)
	s.review()
	l.b.at(s.until)
	if s.will != nil {
		l.b.at(s.willAt)
	}
}
