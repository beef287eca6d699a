package bridge

import (
	"slices"
	"strings"
	"sync/atomic"

	"devicehub/bridge/broker"
	"devicehub/devices"
)

// grant is what a service account may do at this moment, for all its
// connections and for what the broker keeps of it. CheckAccounts brings it up to
// date when something has changed.
type grant struct {
	topics  topics
	owner   broker.Owner
	account atomic.Pointer[Account] // nil: it is gone
}

// grantOf is an owner's grant, looked up if it is not there.
func (s *Server) grantOf(o broker.Owner) *grant {
	s.grantsMu.Lock()
	defer s.grantsMu.Unlock()
	g := s.grants[o]
	if g == nil {
		g = &grant{topics: s.topics, owner: o}
		s.grants[o] = g
		g.refresh(s.accounts)
	}
	return g
}

// refresh looks the account up again and reports whether its topics differ.
func (g *grant) refresh(from Accounts) (changed bool) {
	old := g.account.Load()
	now, ok := Account{}, false
	if from != nil {
		now, ok = from.Lookup(g.owner.Name, g.owner.Identity)
	}
	if !ok {
		g.account.Store(nil)
		return old != nil
	}
	g.account.Store(&now)
	return old == nil || !slices.Equal(old.Filters, now.Filters) || !slices.Equal(old.Except, now.Except)
}

// Gone is the broker's.
func (g *grant) Gone() bool { return g.account.Load() == nil }

// uses reports whether a topic is among the account's.
func (a *Account) uses(topic string) bool {
	return slices.ContainsFunc(a.Filters, func(f string) bool { return broker.Match(f, topic) })
}

// MayReceive is the broker's. Below the hub's root the account needs, beside the
// topic, the right to read the device.
func (g *grant) MayReceive(topic string) bool {
	a := g.account.Load()
	if a == nil || !a.uses(topic) {
		return false
	}
	rest, below := strings.CutPrefix(topic, g.topics.root+"/")
	if !below || a.MayRead == nil {
		return true
	}
	id, _, _ := strings.Cut(rest, "/")
	return id == hubName || a.MayRead(devices.ID(id))
}

// MaySubscribe is the broker's: everything that a filter selects is to be among
// the account's topics.
func (g *grant) MaySubscribe(filter string) bool {
	a := g.account.Load()
	return a != nil && slices.ContainsFunc(a.Filters, func(f string) bool { return broker.Covers(f, filter) }) &&
		!slices.ContainsFunc(a.Except, func(f string) bool { return broker.Covers(f, filter) })
}

// MayPublish is the broker's, for wills, and the connections'. Below the hub's
// root only commands are an account's to publish.
func (g *grant) MayPublish(topic string) bool {
	a := g.account.Load()
	if a == nil || !broker.ValidTopic(topic) || !a.uses(topic) {
		return false
	}
	if topic != g.topics.root && !strings.HasPrefix(topic, g.topics.root+"/") {
		return true
	}
	id, ok := g.topics.setTopic(topic)
	return ok && (a.MayCommand == nil || a.MayCommand(id))
}

// CheckAccounts looks again at every service account, at once after a change:
// what is kept for those that are gone goes, subscriptions that may no longer
// be are dropped, and connections end whose account may not be connected.
func (s *Server) CheckAccounts() {
	s.grantsMu.Lock()
	changed := false
	for _, g := range s.grants {
		changed = g.refresh(s.accounts) || changed
	}
	s.grantsMu.Unlock()
	if changed {
		s.broker.Forget()
		s.broker.Review()
	}
	s.grantsMu.Lock()
	for o, g := range s.grants {
		if g.Gone() {
			delete(s.grants, o)
		}
	}
	s.grantsMu.Unlock()
	s.mu.Lock()
	all := make([]*service, 0, len(s.services))
	for c := range s.services {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.check()
	}
}

// check ends the connection if its account may not be connected any more.
func (s *service) check() {
	err := error(nil)
	switch a := s.grant.account.Load(); {
	case a == nil:
		err = devices.Refuse(devices.CodeTokenRevoked, "the account is gone")
	case len(a.Filters) == 0:
		err = errNoTopics
	}
	if s.account.Check != nil {
		if is := s.account.Check(); is != nil {
			err = is
		}
	}
	if err != nil {
		e := refusal(err)
		s.end(ending{reason: "kicked", code: disconnectCode(e.Code), text: string(e.Code) + ": " + e.Reason})
	}
}

var errNoTopics = devices.Refuse(devices.CodeForbidden, "the account has no topics")
