package hub

// Policy says what happens to broadcasts of a topic when a client does not keep up.
type Policy uint8

const (
	// Disconnect, the default: nothing is dropped; when the queue is full the client is
	// disconnected with 1013, and joins again.
	Disconnect Policy = iota
	// DropOldest: when the queue is full, messages with a key are dropped, the oldest first.
	// Those without a key are not; a queue full of them disconnects.
	DropOldest
	// Latest: of the waiting messages with the same key only the newest is kept, and
	// carries "skipped", the number of those it replaced.
	Latest
)

func (p Policy) String() string {
	switch p {
	case DropOldest:
		return "drop-oldest"
	case Latest:
		return "latest"
	}
	return "disconnect"
}
