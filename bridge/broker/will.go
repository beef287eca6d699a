package broker

import "time"

// call is a message for one of the hub's own subscribers, which are called
// without the lock.
type call struct {
	h Handler
	m Message
}

func run(calls []call) {
	for _, c := range calls {
		c.h(c.m, nobody{})
	}
}

// lastWord publishes a session's will, if it has one that its account may still
// publish: that is asked when it happens. The will leaves the store with what
// its publication leaves to keep. The lock is held.
func (b *Broker) lastWord(s *Session) (calls []call) {
	if s.will == nil {
		return nil
	}
	m := &letter{Message: *s.will, by: s.account}
	s.setWill(nil)
	if !s.account.rights.MayPublish(m.Topic) {
		return nil
	}
	if m.lasts > 0 {
		m.Expires = time.Now().Add(m.lasts)
	}
	b.stats.Published++
	if m.Retain {
		b.retain(m)
	}
	for _, h := range b.route(nil, m) {
		calls = append(calls, call{h, m.Message})
	}
	return calls
}
