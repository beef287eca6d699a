package broker

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
	record        uint64 // its number
}

// route queues the message at every session that subscribes, once each, and
// returns the hub's own subscribers, which are called without the lock.
func (b *Broker) route(from *Session, m *letter) (inline []Handler) {
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
			if sess := g.next(m.Topic); sess != nil {
				sess.deliver(m, new(hit).with(g.opts[sess]))
			}
		}
	})
	for sess, h := range hits {
		sess.deliver(m, h)
	}
	return inline
}

// handlers are the hub's own subscribers of a topic.
func (b *Broker) handlers(topic string) (inline []Handler) {
	b.subs.match(topic, func(s *subscribers) {
		for _, h := range s.inline {
			inline = append(inline, h)
		}
	})
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

// next is the member whose turn it is among those that may receive the topic:
// one with a connection if there is any.
func (g *group) next(topic string) (absent *Session) {
	from := g.turn
	for i := range g.members {
		turn := (from + 1 + i) % len(g.members)
		s := g.members[turn]
		if !s.account.rights.MayReceive(topic) {
			continue
		}
		if s.link != nil {
			g.turn = turn
			return s
		}
		if absent == nil {
			absent, g.turn = s, turn
		}
	}
	return absent
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

// enter adds a subscription of a session. The strings of sub are the broker's.
func (b *Broker) enter(s *Session, name string, sub *subscription) {
	s.subs[name] = sub
	n := b.node(sub.filter)
	if sub.group == "" {
		n.own[s] = sub
		return
	}
	if n.shared == nil {
		n.shared = map[string]*group{}
	}
	g := n.shared[sub.group]
	if g == nil {
		g = &group{opts: map[*Session]*subscription{}}
		n.shared[sub.group] = g
	}
	if g.opts[s] == nil {
		g.members = append(g.members, s)
	}
	g.opts[s] = sub
}

// leave ends one subscription of a session. The lock is held.
func (b *Broker) leave(s *Session, name string) bool {
	sub := s.subs[name]
	if sub == nil {
		return false
	}
	delete(s.subs, name)
	b.stats.Subscriptions--
	s.subBytes -= subscriptionSize(name)
	b.charge(s.account, -subscriptionSize(name))
	if sub.record != 0 {
		b.journal.del(Key{recSubscription, s.number, sub.record})
	}
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
