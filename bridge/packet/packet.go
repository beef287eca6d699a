// Package packet reads and writes MQTT 3.1.1 and 5 control packets for a
// server that faces strangers.
//
// Fields are decoded and encoded by the packet codec of mochi-mqtt/server.
// That codec trusts its caller with what this package adds: a bound on a
// packet's size before memory is taken for it, a remaining length of four
// bytes at most, the rules of the specifications that it lets pass (repeated
// or surplus properties, trailing bytes, reserved bits), and the containment
// of its panics (it indexes past a SUBSCRIBE whose last filter has no options).
package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"

	"devicehub/hub/poison"
)

// Packet is one control packet. Strings and byte slices of a decoded packet
// share the memory that it was decoded from: copy what outlives it.
type Packet = packets.Packet

// Properties are the properties of an MQTT 5 packet.
type Properties = packets.Properties

// Control packet types (MQTT 5 §2.1.2).
const (
	Connect     = packets.Connect
	Connack     = packets.Connack
	Publish     = packets.Publish
	Puback      = packets.Puback
	Pubrec      = packets.Pubrec
	Pubrel      = packets.Pubrel
	Pubcomp     = packets.Pubcomp
	Subscribe   = packets.Subscribe
	Suback      = packets.Suback
	Unsubscribe = packets.Unsubscribe
	Unsuback    = packets.Unsuback
	Pingreq     = packets.Pingreq
	Pingresp    = packets.Pingresp
	Disconnect  = packets.Disconnect
	Auth        = packets.Auth
)

// Protocol levels.
const (
	V311 = 4
	V5   = 5
)

// Reason codes of MQTT 5 (§2.4) that the hub sends or reads.
const (
	Success               = 0x00
	DisconnectWithWill    = 0x04
	NoMatchingSubscribers = 0x10
	NoSubscriptionExisted = 0x11
	Unspecified           = 0x80
	Malformed             = 0x81
	ProtocolError         = 0x82
	ImplementationError   = 0x83
	UnsupportedVersion    = 0x84
	InvalidClientID       = 0x85
	BadCredentials        = 0x86
	NotAuthorized         = 0x87
	ServerUnavailable     = 0x88
	ServerBusy            = 0x89
	Banned                = 0x8A
	ShuttingDown          = 0x8B
	BadAuthMethod         = 0x8C
	KeepAliveTimeout      = 0x8D
	SessionTakenOver      = 0x8E
	InvalidFilter         = 0x8F
	InvalidTopic          = 0x90
	PacketIDInUse         = 0x91
	PacketIDNotFound      = 0x92
	ReceiveMaxExceeded    = 0x93
	InvalidTopicAlias     = 0x94
	TooLarge              = 0x95
	RateTooHigh           = 0x96
	QuotaExceeded         = 0x97
	AdministrativeAction  = 0x98
	PayloadInvalid        = 0x99
	RetainNotSupported    = 0x9A
)

// Error is a packet that breaks the specification, with the reason code that
// MQTT 5 has for it.
type Error struct {
	Code byte
	What string
}

func (e *Error) Error() string { return fmt.Sprintf("%s (reason code 0x%02X)", e.What, e.Code) }

func malformed(what string) error { return &Error{Malformed, "malformed packet: " + what} }
func violation(what string) error { return &Error{ProtocolError, "protocol error: " + what} }

// CodeOf is the reason code with which to end a connection for err.
func CodeOf(err error) byte {
	var e *Error
	var c packets.Code
	switch {
	case errors.As(err, &e):
		return e.Code
	case errors.As(err, &c):
		return c.Code
	}
	return Unspecified
}

// Type is the control packet type of a fixed header's first byte.
func Type(head byte) byte { return head >> 4 }

// Decode decodes one packet that a client sent: the first byte of its fixed
// header and everything after the remaining length. version is the
// connection's; for a CONNECT it is taken from the packet. It returns an
// *Error (or a packets.Code) and never panics.
func Decode(pk *Packet, head byte, body []byte, version byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = malformed(fmt.Sprint(r))
		}
	}()
	*pk = Packet{ProtocolVersion: version}
	if Type(head) == Publish && head>>1&3 == 3 {
		return malformed("QoS 3") // [MQTT-3.3.1-4]
	}
	if err := pk.FixedHeader.Decode(head); err != nil {
		return err
	}
	pk.FixedHeader.Remaining = len(body)
	if pk.FixedHeader.Type == Connect {
		return decodeConnect(pk, body)
	}
	if err := check(head, body, version == V5); err != nil {
		return err
	}
	switch pk.FixedHeader.Type {
	case Publish:
		return pk.PublishDecode(body)
	case Puback, Pubrec, Pubrel, Pubcomp:
		return pk.PubackDecode(body)
	case Subscribe:
		return pk.SubscribeDecode(body)
	case Unsubscribe:
		return pk.UnsubscribeDecode(body)
	case Pingreq:
		return nil
	case Disconnect:
		if version == V5 && len(body) == 1 { // which the codec takes for none
			pk.ReasonCode = body[0]
			return nil
		}
		return pk.DisconnectDecode(body)
	case Auth:
		return pk.AuthDecode(body)
	}
	return violation("packet type that only a server sends")
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Append encodes a packet that a server sends and appends it to dst. The
// packet's FixedHeader.Type says what it is; ProtocolVersion how it is written.
func Append(dst []byte, pk *Packet) ([]byte, error) {
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		poison.Bytes(buf.Bytes())
		if buf.Cap() <= 64<<10 {
			buffers.Put(buf)
		}
	}()
	buf.Reset()
	pk.Mods.AllowResponseInfo = true // else the codec leaves out correlation data and response topics
	var err error
	switch pk.FixedHeader.Type {
	case Connack:
		err = pk.ConnackEncode(buf)
	case Publish:
		err = pk.PublishEncode(buf)
	case Puback, Pubrec, Pubrel, Pubcomp:
		if pk.FixedHeader.Type == Pubrel {
			pk.FixedHeader.Qos = 1 // MQTT 5 §3.6.1: the flags are 0010
		}
		err = pk.PubackEncode(buf)
	case Suback:
		err = pk.SubackEncode(buf)
	case Unsuback:
		err = pk.UnsubackEncode(buf)
	case Pingresp:
		err = pk.PingrespEncode(buf)
	case Disconnect:
		err = pk.DisconnectEncode(buf)
	default:
		err = fmt.Errorf("packet type %d is not a server's to send", pk.FixedHeader.Type)
	}
	if err != nil {
		return dst, err
	}
	return append(dst, buf.Bytes()...), nil
}

// AppendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP without properties.
func AppendAck(dst []byte, typ byte, id uint16, version, code byte) []byte {
	head := typ << 4
	if typ == Pubrel {
		head |= 2
	}
	if version != V5 || code == Success {
		return append(dst, head, 2, byte(id>>8), byte(id))
	}
	return append(dst, head, 3, byte(id>>8), byte(id), code)
}

// AppendPingresp appends a PINGRESP.
func AppendPingresp(dst []byte) []byte { return append(dst, Pingresp<<4, 0) }

// AppendPublish appends a PUBLISH without properties.
func AppendPublish(dst []byte, topic string, payload []byte, qos byte, retain, dup bool, id uint16, version byte) []byte {
	head := Publish<<4 | qos<<1
	if retain {
		head |= 1
	}
	if dup {
		head |= 8
	}
	n := 2 + len(topic) + len(payload)
	if qos > 0 {
		n += 2
	}
	if version == V5 {
		n++
	}
	dst = appendLength(append(dst, head), n)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(topic)))
	dst = append(dst, topic...)
	if qos > 0 {
		dst = binary.BigEndian.AppendUint16(dst, id)
	}
	if version == V5 {
		dst = append(dst, 0)
	}
	return append(dst, payload...)
}

func appendLength(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}
