package hub

import (
	"errors"

	"devicehub/hub/pubsub"
)

// Batch gathers broadcasts that are to be written together.
type Batch struct {
	ep       *Endpoint
	messages []*pubsub.Message
	corked   []*Conn
}

// Batch calls f and then sends what it broadcast on the Batch, in order. Each client on this
// node gets all of it that is for it in one write, which for many small messages costs not
// much more than one of them. It returns the errors of Broadcast, joined.
func (ep *Endpoint) Batch(f func(b *Batch)) error {
	b := &Batch{ep: ep}
	f(b)
	var errs []error
	for _, m := range b.messages {
		m.Memo(memoBatch, func(*pubsub.Message) any { return b })
		if err := ep.publish(nil, m); err != nil {
			errs = append(errs, err)
		}
	}
	for _, c := range b.corked {
		c.uncork()
	}
	return errors.Join(errs...)
}

// Broadcast adds what Endpoint.Broadcast would send.
func (b *Batch) Broadcast(topic, event string, payload any) {
	b.messages = append(b.messages, &pubsub.Message{Topic: topic, Event: event, Payload: payload})
}

// BroadcastKeyed adds what Endpoint.BroadcastKeyed would send.
func (b *Batch) BroadcastKeyed(topic, event, key string, payload any) {
	b.messages = append(b.messages, &pubsub.Message{Topic: topic, Event: event, Payload: payload, Key: key})
}

// cork holds back what is sent to c until the end of the batch. The caller holds c.out.mu, and
// calls from the goroutine of the batch: a PubSub delivers on this node before it returns.
func (b *Batch) cork(c *Conn) {
	if c.out.cork() {
		b.corked = append(b.corked, c)
	}
}
