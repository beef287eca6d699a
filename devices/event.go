package devices

// Event is something that those who watch a device are told. Payload is
// marshalled once, to JSON.
type Event struct {
	Device  ID
	Kinds   []Kind // on the topics of which kinds
	Name    string // "reading", "backfill", "state", "command_status", "status", "device_changed"
	Payload any
	// Key conflates: to a watcher that cannot keep up, a newer event with the
	// same device and key replaces an older one that still waits. Events of
	// different names have different keys; those without one are never replaced.
	Key string
}

// Feed carries events to whoever may see them. Publish never blocks and may be
// called from any goroutine; events of one device, published one after the
// other, arrive in that order.
type Feed interface {
	Publish(Event)
}

// Feeds is a Feed that hands every event to each of its members in turn.
type Feeds []Feed

// Publish hands e to every member.
func (fs Feeds) Publish(e Event) {
	for _, f := range fs {
		f.Publish(e)
	}
}

// FeedFunc is a function as a Feed.
type FeedFunc func(Event)

// Publish calls f.
func (f FeedFunc) Publish(e Event) { f(e) }
