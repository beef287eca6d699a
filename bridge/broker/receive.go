package broker

import (
	"time"

	"devicehub/bridge/packet"
)

// Publish routes what the client publishes, and tells sender what became of it. A
// QoS 2 publish that came before is routed no second time: its fate is told to
// this sender too [MQTT-4.3.3-10].
func (s *Session) Publish(pk *packet.Packet, sender Sender) {
	if pk.FixedHeader.Qos < 2 {
		s.b.publish(s, message(pk, time.Now()), sender, nil)
		return
	}
	s.b.mu.Lock()
	r := s.received[pk.PacketID]
	switch {
	case r == nil:
		r = &receipt{s: s, id: pk.PacketID}
		if s.received == nil {
			s.received = map[uint16]*receipt{}
		}
		s.received[pk.PacketID] = r
		s.b.charge(s.account, receiptCost)
	case r.decided:
		s.b.mu.Unlock()
		sender.Decided(nil)
		return
	case len(r.senders) > 0:
		r.senders = append(r.senders, sender)
		s.b.mu.Unlock()
		return
	}
	r.senders = append(r.senders, sender)
	s.b.mu.Unlock()
	s.b.publish(s, message(pk, time.Now()), r, r)
}

// receipt is a QoS 2 publish that the client has not released.
type receipt struct {
	s       *Session
	id      uint16
	decided bool
	stored  bool     // it has a record
	settled bool     // which says that it is decided
	routed  bool     // before a restart, and not decided
	senders []Sender // those that wait for it, the latest last
}

// save writes the receipt with what its message leaves to keep. The lock is held.
func (r *receipt) save(settled bool) {
	s := r.s
	if !s.lasting() || s.received[r.id] != r {
		return
	}
	var value byte
	if settled {
		value = 1
	}
	s.b.journal.put(Key{recReceipt, s.number, uint64(r.id)}, []byte{value}, !r.stored)
	r.stored, r.settled = true, settled
}

func (r *receipt) Again(err error) bool {
	r.s.b.mu.Lock()
	latest := r.senders[len(r.senders)-1]
	r.s.b.mu.Unlock()
	return latest.Again(err)
}

// Decided ends the exchange of a publish that was refused: that is its last word
// (MQTT 5 §4.3.3). That it was taken is durable before the client hears it.
func (r *receipt) Decided(err error) {
	b := r.s.b
	b.mu.Lock()
	if err == nil && r.stored && !r.settled && r.s.lasting() {
		r.save(true)
		b.journal.wait(r.tell)
		b.mu.Unlock()
		return
	}
	b.mu.Unlock()
	r.tell(err)
}

func (r *receipt) tell(err error) {
	s := r.s
	s.b.mu.Lock()
	r.decided = true
	if err != nil && s.received[r.id] == r {
		s.forgetReceipt(r.id, r)
	}
	senders := r.senders
	r.senders = nil
	s.b.mu.Unlock()
	for _, x := range senders {
		x.Decided(err)
	}
}

// forgetReceipt ends a QoS 2 publish. The lock is held.
func (s *Session) forgetReceipt(id uint16, r *receipt) {
	delete(s.received, id)
	s.b.charge(s.account, -receiptCost)
	if r.stored {
		s.b.journal.del(Key{recReceipt, s.number, uint64(id)})
		r.stored = false
	}
}

// Release takes a PUBREL. done is called when the identifier is free, also after
// a restart: known reports whether there was such a publish.
func (s *Session) Release(id uint16, done func(known bool)) {
	s.b.mu.Lock()
	r, known := s.received[id]
	if known {
		stored := r.stored
		s.forgetReceipt(id, r)
		if stored {
			s.b.journal.sure(func() { done(true) })
			s.b.mu.Unlock()
			return
		}
	}
	s.b.mu.Unlock()
	done(known)
}
