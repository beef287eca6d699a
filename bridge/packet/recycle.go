package packet

import (
	"sync"

	"devicehub/hub/poison"
)

var recycled = sync.Pool{New: func() any { return new(Packet) }}

// Get returns a packet to decode into.
func Get() *Packet { return recycled.Get().(*Packet) }

// Put takes a packet back that nobody uses any more. It pointed into memory
// that is used again.
func Put(pk *Packet) {
	*pk = Packet{}
	if poison.On {
		*pk = poisoned()
	}
	recycled.Put(pk)
}

// poisoned is a packet as who keeps one finds it.
func poisoned() Packet {
	bytes := func() []byte { return []byte(poison.Text) }
	props := Properties{
		CorrelationData: bytes(), AuthenticationData: bytes(), ContentType: poison.Text, ResponseTopic: poison.Text,
		AuthenticationMethod: poison.Text, AssignedClientID: poison.Text, ReasonString: poison.Text,
	}
	pk := Packet{TopicName: poison.Text, Payload: bytes(), ReasonCodes: bytes(), Origin: poison.Text, PacketID: 0xFBFB, Properties: props}
	pk.Connect.ClientIdentifier, pk.Connect.WillTopic, pk.Connect.WillProperties = poison.Text, poison.Text, props
	pk.Connect.Username, pk.Connect.Password, pk.Connect.WillPayload = bytes(), bytes(), bytes()
	return pk
}
