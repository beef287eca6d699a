// Package pubsub carries messages from publishers to the subscribers of a topic.
//
// Delivery is at most once, and never waits for a subscriber. The messages of one publisher
// reach one subscriber in the order in which they were published; nothing is promised about
// the order between publishers.
package pubsub

import "sync/atomic"

// Message is what a publisher sends. It is shared by all its subscribers and must not be
// changed once it is published.
type Message struct {
	Topic string
	Event string

	// Payload is a value that encodes to a JSON object, or bytes that the hub marks as binary.
	Payload any

	// Key, when set, lets a queue that is behind keep only the newest message of the
	// same topic and key. A message without a key is never dropped.
	Key string

	memo [Memos]atomic.Pointer[any]
}

// Memos is how many results of Memo a message can hold.
const Memos = 4

// Memo returns what make returns for this message, and keeps it under slot, 0 to Memos-1, so
// that a message is encoded once however many subscribers need it. Two goroutines that ask at
// the same time may both call make; one result is kept.
func (m *Message) Memo(slot int, make func(*Message) any) any {
	if p := m.memo[slot].Load(); p != nil {
		return *p
	}
	v := make(m)
	m.memo[slot].Store(&v)
	return v
}

// Peek returns what Memo has kept under slot, or nil.
func (m *Message) Peek(slot int) any {
	if p := m.memo[slot].Load(); p != nil {
		return *p
	}
	return nil
}

// Subscriber receives messages. Deliver is called from the publisher's goroutine: it must not
// block. It may be called once more after the subscription is cancelled, by a
// publisher that was under way.
type Subscriber interface {
	Deliver(m *Message)
}

// SubscriberFunc makes a Subscriber of a function. It cannot be the origin of BroadcastFrom,
// as functions cannot be compared.
type SubscriberFunc func(m *Message)

// Deliver calls f.
func (f SubscriberFunc) Deliver(m *Message) { f(m) }

// PubSub connects publishers and subscribers. All methods may be called from any goroutine.
// The hub runs on any implementation; [pubsubtest] holds one to its contract.
type PubSub interface {
	// Subscribe delivers every message of the topic to s until cancel is called. A
	// Subscriber that subscribes twice gets each message twice. Cancel may be called
	// more than once.
	Subscribe(topic string, s Subscriber) (cancel func())

	// Broadcast delivers m to every subscriber of m.Topic, on all nodes. An error
	// means that other nodes could not be told; the subscribers of this node have it.
	Broadcast(m *Message) error

	// BroadcastFrom is Broadcast to all but the subscriptions of from.
	BroadcastFrom(from Subscriber, m *Message) error

	// LocalBroadcast delivers m to the subscribers of this node only.
	LocalBroadcast(m *Message) error
}
