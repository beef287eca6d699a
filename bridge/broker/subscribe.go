package broker

import (
	"strings"
	"time"

	"devicehub/bridge/packet"
)

// Filter is one filter of a SUBSCRIBE.
type Filter struct {
	Name        string // with $share/<group>/ where it is shared
	QoS         byte
	NoLocal     bool
	AsPublished bool
	Handling    byte // of what is retained: 0 send, 1 send to a new subscription, 2 do not
	ID          int  // subscription identifier
}

// Subscribe adds subscriptions and returns their reason codes. What is retained
// follows once the caller has sent the SUBACK, when the session is Durable, and
// calls Pump.
func (s *Session) Subscribe(filters []Filter) (codes []byte) {
	b := s.b
	b.mu.Lock()
	defer b.mu.Unlock()
	now, before := time.Now(), s.b.journal.bytes
	for _, f := range filters {
		codes = append(codes, s.subscribe(f, now))
	}
	s.keeps(s.b.journal.bytes - before)
	return codes
}

func (s *Session) subscribe(f Filter, now time.Time) byte {
	b, old := s.b, s.subs[f.Name]
	_, filter, shared, ok := ParseShare(f.Name)
	switch {
	case !ok:
		return packet.InvalidFilter
	case s.gone || !s.account.rights.MaySubscribe(filter):
		return packet.NotAuthorized
	case old == nil && (len(s.subs) >= b.opts.MaxSubscriptions || !b.room(s.account, subscriptionSize(f.Name))):
		return packet.QuotaExceeded
	}
	name := strings.Clone(f.Name)
	sub := &subscription{qos: f.QoS, noLocal: f.NoLocal, asPublished: f.AsPublished, id: f.ID}
	sub.group, sub.filter, _, _ = ParseShare(name)
	if old == nil {
		b.count(s, name)
	} else {
		sub.record = old.record
	}
	if s.lasting() {
		fresh := sub.record == 0
		if fresh {
			sub.record = b.next()
		}
		b.journal.put(Key{recSubscription, s.number, sub.record}, subscriptionRecord(name, sub), fresh)
	}
	b.enter(s, name, sub)
	if shared {
		return f.QoS // a shared subscription gets nothing that was retained before
	}
	if f.Handling == 0 || f.Handling == 1 && old == nil {
		h := new(hit).with(sub)
		b.retained.each(sub.filter, func(m *letter) {
			if !m.expired(now) && s.account.rights.MayReceive(m.Topic) {
				s.enqueue(m, h, true)
			}
		})
	}
	return f.QoS
}

// count charges a subscription.
func (b *Broker) count(s *Session, name string) {
	b.stats.Subscriptions++
	s.subBytes += subscriptionSize(name)
	b.charge(s.account, subscriptionSize(name))
}

// Unsubscribe ends subscriptions and returns their reason codes.
func (s *Session) Unsubscribe(names []string) (codes []byte) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	for _, name := range names {
		code := byte(packet.Success)
		if !s.b.leave(s, name) {
			code = packet.NoSubscriptionExisted
		}
		codes = append(codes, code)
	}
	return codes
}
