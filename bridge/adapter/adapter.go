// Package adapter speaks the dialects of devices that people already own, on
// the hub's own broker or on a foreign one: the hub's native topics, Home
// Assistant's discovery, Zigbee2MQTT and Tasmota. A dialect is one file; what it
// has in common with the others is in Behind, the devices behind one broker.
package adapter

import (
	"fmt"
	"time"
)

// Bus is a broker as adapters use it.
type Bus interface {
	// Name is the bridge's, which the records of its devices have as via.
	Name() string
	// Publish sends a message, without blocking. false means that the broker is
	// not connected or cannot keep up: the message is not sent.
	Publish(topic string, payload []byte, qos byte, retain bool) bool
}

// Message is one message of a bus.
type Message struct {
	Topic    string
	Payload  []byte
	Retained bool      // the broker kept it: it is not news
	At       time.Time // when it arrived
	QoS      byte      // 0: nobody would send it again

	job *job
}

// Adapter is one dialect on one bus.
type Adapter interface {
	// Filters are what the adapter wants to hear.
	Filters() []string
	// Handle takes one message. done is called exactly once, when it is decided
	// for good (nil, or a final refusal) or has to be given again later (an error
	// that is retryable). Messages of one lane come one after the other: the next
	// when done was called, or when the readings of this one were handed on.
	Handle(m Message, done func(error))
	// Lane names those whose messages keep their order, such as one device. The
	// empty one is everyone's: nothing that came earlier is handled later than
	// such a message, and nothing that came later earlier.
	Lane(topic string) string
	// Up is called when the bus is connected, again after every interruption.
	Up()
}

// Kinds lists the dialects, for configuration.
func Kinds() []string { return []string{"native", "ha_out", "z2m", "tasmota"} }

// New returns the adapter of a kind. base is the dialect's own topic prefix;
// empty means its usual one.
func New(kind, base string, b *Behind) (Adapter, error) {
	switch kind {
	case "native", "":
		return newNative(b), nil
	case "ha_out":
		return newHomeAssistant(base, b), nil
	case "z2m":
		return newZigbee2MQTT(base, b), nil
	case "tasmota":
		return newTasmota(b), nil
	}
	return nil, fmt.Errorf("no adapter %q; there are %v", kind, Kinds())
}

// Outcome hears what becomes of a message. Its methods may be called from any
// goroutine.
type Outcome interface {
	// Again reports whether the message is to be handled again after err, which
	// may pass.
	Again(err error) bool
	// Decided is called once: nil, or why the message is refused.
	Decided(err error)
}
