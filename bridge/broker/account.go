package broker

import "strings"

// Owner is whose a session or a retained message is: a service account by its
// name, and by what tells it from an earlier account of that name. The zero
// value is the hub itself.
type Owner struct{ Name, Identity string }

// Rights say what an account may do at the moment of the call. Its methods are
// called with the broker's lock held, and must not call the broker.
type Rights interface {
	// Gone reports that there is no such account any more: nothing is kept for it.
	Gone() bool
	MayReceive(topic string) bool
	// MaySubscribe is of all that a filter selects.
	MaySubscribe(filter string) bool
	// MayPublish is asked when a will is published.
	MayPublish(topic string) bool
}

// everything is the rights of a broker that was told of none.
type everything struct{}

func (everything) Gone() bool               { return false }
func (everything) MayReceive(string) bool   { return true }
func (everything) MaySubscribe(string) bool { return true }
func (everything) MayPublish(string) bool   { return true }

// account is what the broker keeps for one owner. The broker's mutex guards it.
type account struct {
	Owner
	// hub is the hub's own, whose messages are as many as it has devices: no
	// account's greed may keep them out.
	hub      bool
	rights   Rights
	sessions int
	retained int
	bytes    int

	connected map[*Session]struct{}
	sending   int  // bytes handed to connections and not known to be written
	held      bool // a session waits for its fellows' connections to get on
}

// accountSending is how much may wait on all the connections of an account
// together; what goes beyond waits in the sessions.
const accountSending = 16 << 20

// maySend reports whether n more bytes may be handed to the account's
// connections, and counts them.
func (a *account) maySend(n int) bool {
	if a.sending+n > accountSending {
		a.sending = 0
		for s := range a.connected {
			a.sending += s.link.Backlog()
		}
	}
	if a.held = a.sending > 0 && a.sending+n > accountSending; a.held {
		return false
	}
	a.sending += n
	return true
}

// attached and detached count an account's connections.
func (s *Session) attached() {
	if s.account.connected == nil {
		s.account.connected = map[*Session]struct{}{}
	}
	s.account.connected[s] = struct{}{}
	s.b.stats.Connected++
}

func (s *Session) detached() {
	delete(s.account.connected, s)
	s.link = nil
	s.b.stats.Connected--
}

// Limits bound what is kept for service accounts. They may change while the
// broker works; what is there already stays.
type Limits struct {
	Bytes           int // everything kept, for all accounts together
	AccountBytes    int // and for one
	AccountSessions int
	AccountRetained int // messages
}

// DefaultLimits leave room for every program of a house many times over.
func DefaultLimits() Limits {
	return Limits{Bytes: 256 << 20, AccountBytes: 48 << 20, AccountSessions: 100, AccountRetained: 50_000}
}

// SetLimits changes the limits.
func (b *Broker) SetLimits(l Limits) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limits = l
}

// What things take in memory beside their text, maps and the store's index
// included; rounded up, so that a bound in bytes is one.
const (
	messageCost      = 512
	levelCost        = 352 // of a topic or filter in a tree
	propertyCost     = 64
	deliveryCost     = 256
	sessionCost      = 2048
	subscriptionCost = 896
	receiptCost      = 256
)

// allocated is what n bytes of text take, rounded as the allocator rounds.
func allocated(n int) int { return n + n/8 }

// size is what a message takes by itself.
func (m *Message) size() int {
	n := len(m.Topic) + len(m.Payload) + len(m.Props.ContentType) + len(m.Props.ResponseTopic) + len(m.Props.CorrelationData)
	for _, u := range m.Props.User {
		n += len(u.Key) + len(u.Value) + propertyCost
	}
	return messageCost + allocated(n)
}

// place is what a topic or filter takes in a tree.
func place(topic string) int {
	return allocated(len(topic)) + (strings.Count(topic, "/")+1)*levelCost
}

func (m *letter) retainedSize() int { return m.cost() + place(m.Topic) }

func (d *delivery) size() int { return d.m.cost() + deliveryCost + 16*len(d.ids) }

func subscriptionSize(name string) int { return subscriptionCost + allocated(len(name)) + place(name) }

func (s *Session) ownSize() int {
	n := sessionCost + 2*allocated(len(s.key.id))
	if s.will != nil {
		n += s.will.size()
	}
	return n
}

// account is an owner's, made if it is not there. The lock is held.
func (b *Broker) account(o Owner) *account {
	a := b.accounts[o]
	if a == nil {
		a = &account{Owner: o, hub: o == Owner{}, rights: everything{}}
		if b.rights != nil && !a.hub {
			a.rights = b.rights(o)
		}
		b.accounts[o] = a
	}
	return a
}

// room reports whether n more bytes may be kept for the account.
func (b *Broker) room(a *account, n int) bool {
	return a.hub || a.bytes+n <= b.limits.AccountBytes && b.used+n <= b.limits.Bytes
}

// charge counts n more bytes, or fewer, and forgets an account for which
// nothing is kept.
func (b *Broker) charge(a *account, n int) {
	a.bytes += n
	if a.hub {
		return
	}
	b.used += n
	if a.bytes == 0 && a.sessions == 0 && a.retained == 0 {
		delete(b.accounts, a.Owner)
	}
}
