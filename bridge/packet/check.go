package packet

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"
)

// VersionError is a CONNECT of a protocol that the hub does not speak.
type VersionError struct {
	Name  string
	Level byte
}

func (e *VersionError) Error() string { return "unsupported protocol " + e.Name }

// decodeConnect checks and decodes a CONNECT.
func decodeConnect(pk *Packet, body []byte) error {
	c := cursor{b: body}
	name, level := string(c.field()), c.byte()
	if c.bad {
		return malformed("no protocol name and level")
	}
	if name != "MQTT" && name != "MQIsdp" {
		return violation("protocol name") // MQTT 5 §3.1.2.1
	}
	if level == V311|fromBridge {
		level = V311
	}
	if name == "MQIsdp" || level != V311 && level != V5 {
		return &VersionError{name, level}
	}
	pk.ProtocolVersion = level
	if err := checkConnect(&c, level == V5); err != nil {
		return err
	}
	if err := pk.ConnectDecode(body); err != nil {
		return err
	}
	pk.ProtocolVersion = level // as the codec reads it, a bridge's is another
	return nil
}

// fromBridge is a bit of the protocol level that bridges between brokers set.
const fromBridge = 0x80

// FromBridge reports whether the body of a CONNECT that was decoded is that of a
// bridge between brokers, which wants to hear nothing of what it sends and to know
// what was retained. No specification has it: Mosquitto and others say so with the
// top bit of the level of MQTT 3.1.1 ("try_private").
func FromBridge(connect []byte) bool {
	const level = 2 + len("MQTT")
	return len(connect) > level && connect[level] == V311|fromBridge
}

func checkConnect(c *cursor, v5 bool) error {
	flags := c.byte()
	c.skip(2) // keep alive
	var (
		will       = flags&0x04 != 0
		willQoS    = flags >> 3 & 3
		willRetain = flags&0x20 != 0
		password   = flags&0x40 != 0
		username   = flags&0x80 != 0
	)
	switch {
	case c.bad:
		return malformed("CONNECT ends early")
	case flags&1 != 0:
		return malformed("reserved connect flag") // [MQTT-3.1.2-3]
	case willQoS == 3 || !will && (willQoS != 0 || willRetain):
		return malformed("will flags") // [MQTT-3.1.2-11] to [MQTT-3.1.2-14]
	case !v5 && password && !username:
		return malformed("password without user name") // MQTT 3.1.1 [MQTT-3.1.2-22]
	}
	if v5 {
		if err := c.properties(Connect); err != nil {
			return err
		}
	}
	c.text()
	if will {
		if v5 {
			if err := c.properties(inWill); err != nil {
				return err
			}
		}
		if topic := c.text(); topic == "" || strings.ContainsAny(topic, "+#") {
			return malformed("will topic")
		}
		c.field()
	}
	if username {
		c.text()
	}
	if password {
		c.field()
	}
	return c.end("CONNECT")
}

// check holds a packet other than CONNECT to the rules that the codec does not
// ask about.
func check(head byte, body []byte, v5 bool) error {
	c := cursor{b: body}
	switch t := Type(head); t {
	case Publish:
		if strings.ContainsAny(c.text(), "+#") {
			return malformed("wildcard in a topic name") // [MQTT-3.3.2-2]
		}
		if head>>1&3 != 0 && c.uint16() == 0 && !c.bad {
			return violation("packet identifier 0") // [MQTT-2.2.1-3]
		}
		if v5 {
			if err := c.properties(Publish); err != nil {
				return err
			}
		}
		if c.bad {
			return malformed("PUBLISH ends early")
		}
		return nil
	case Puback, Pubrec, Pubrel, Pubcomp:
		if c.uint16() == 0 && !c.bad {
			return violation("packet identifier 0")
		}
		return c.codeAndProperties(t, v5)
	case Disconnect:
		return c.codeAndProperties(t, v5)
	case Auth:
		if !v5 {
			return violation("AUTH is of MQTT 5")
		}
		return c.codeAndProperties(t, v5)
	case Subscribe, Unsubscribe:
		return checkSubscribe(&c, t, v5)
	case Pingreq:
		return c.end("PINGREQ")
	}
	return nil
}

func checkSubscribe(c *cursor, t byte, v5 bool) error {
	if c.uint16() == 0 && !c.bad {
		return violation("packet identifier 0")
	}
	if v5 {
		if err := c.properties(t); err != nil {
			return err
		}
	}
	for n := 0; ; n++ {
		if !c.bad && c.at == len(c.b) {
			if n == 0 {
				return violation("no topic filter") // [MQTT-3.8.3-2] [MQTT-3.10.3-2]
			}
			return nil
		}
		filter := c.text()
		if c.bad {
			return malformed("topic filter")
		}
		if t == Unsubscribe {
			continue
		}
		o := c.byte()
		switch {
		case c.bad:
			return malformed("topic filter without options")
		case o&3 == 3, v5 && o&0xC0 != 0, v5 && o>>4&3 == 3, !v5 && o&0xFC != 0: // [MQTT-3.8.3-5]
			return malformed("subscription options")
		case v5 && o&4 != 0 && strings.HasPrefix(filter, "$share/"):
			return violation("no local on a shared subscription") // [MQTT-3.8.3-4]
		}
	}
}

// cursor walks over a packet's body; bad stays set once it ran past the end or
// over a string that is none.
type cursor struct {
	b   []byte
	at  int
	bad bool
}

func (c *cursor) skip(n int) []byte {
	if c.bad || len(c.b)-c.at < n {
		c.bad = true
		return nil
	}
	c.at += n
	return c.b[c.at-n : c.at]
}

func (c *cursor) byte() byte {
	if b := c.skip(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.skip(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.skip(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) field() []byte { return c.skip(int(c.uint16())) }

// text is a UTF-8 encoded string: well-formed and without NUL (MQTT 5 §1.5.4).
func (c *cursor) text() string {
	b := c.field()
	if !utf8.Valid(b) {
		c.bad = true
	}
	for _, x := range b {
		if x == 0 {
			c.bad = true
		}
	}
	if c.bad {
		return ""
	}
	return string(b)
}

func (c *cursor) varint() int {
	n := 0
	for i := range 4 {
		b := c.byte()
		n |= int(b&0x7F) << (7 * i)
		if b&0x80 == 0 {
			c.bad = c.bad || i > 0 && b == 0 // not the shortest form [MQTT-1.5.5-1]
			return n
		}
	}
	c.bad = true
	return 0
}

func (c *cursor) end(what string) error {
	if c.bad || c.at != len(c.b) {
		return malformed("length of " + what)
	}
	return nil
}

// codeAndProperties is the tail of acknowledgements, DISCONNECT and AUTH: in
// MQTT 5 a reason code and properties, both optional.
func (c *cursor) codeAndProperties(t byte, v5 bool) error {
	if v5 && c.at < len(c.b) {
		if code := c.byte(); codes[t] != "" && strings.IndexByte(codes[t], code) < 0 {
			return malformed("reason code")
		}
		if c.at < len(c.b) {
			if err := c.properties(t); err != nil {
				return err
			}
		}
	}
	return c.end("packet")
}

// codes are the reason codes that an acknowledgement may have [MQTT-3.4.2-1]
// [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1].
var codes = [16]string{
	Puback: receiptCodes, Pubrec: receiptCodes, Pubrel: releaseCodes, Pubcomp: releaseCodes,
}

const (
	receiptCodes = "\x00\x10\x80\x83\x87\x90\x91\x97\x99"
	releaseCodes = "\x00\x92"
)

// inWill stands for the will properties of a CONNECT among packet types.
const inWill = 16

type property struct {
	form byte   // b(yte), o (0 or 1), 2, 4, v(arint), s(tring), d(ata), p(air)
	in   uint32 // packet types, as bits
	not0 bool
	code byte // what a forbidden zero is answered with
	many uint32
}

func bits(types ...byte) (m uint32) {
	for _, t := range types {
		m |= 1 << t
	}
	return m
}

// properties of MQTT 5 §2.2.2.2 that a client may send.
var properties = map[byte]property{
	packets.PropPayloadFormat:          {form: 'o', in: bits(Publish, inWill)},
	packets.PropMessageExpiryInterval:  {form: '4', in: bits(Publish, inWill)},
	packets.PropContentType:            {form: 's', in: bits(Publish, inWill)},
	packets.PropResponseTopic:          {form: 's', in: bits(Publish, inWill)},
	packets.PropCorrelationData:        {form: 'd', in: bits(Publish, inWill)},
	packets.PropSubscriptionIdentifier: {form: 'v', in: bits(Subscribe), not0: true, code: ProtocolError},
	packets.PropSessionExpiryInterval:  {form: '4', in: bits(Connect, Disconnect)},
	packets.PropAuthenticationMethod:   {form: 's', in: bits(Connect, Auth)},
	packets.PropAuthenticationData:     {form: 'd', in: bits(Connect, Auth)},
	packets.PropRequestProblemInfo:     {form: 'o', in: bits(Connect)},
	packets.PropWillDelayInterval:      {form: '4', in: bits(inWill)},
	packets.PropRequestResponseInfo:    {form: 'o', in: bits(Connect)},
	packets.PropReasonString:           {form: 's', in: bits(Puback, Pubrec, Pubrel, Pubcomp, Disconnect, Auth)},
	packets.PropReceiveMaximum:         {form: '2', in: bits(Connect), not0: true, code: ProtocolError},
	packets.PropTopicAliasMaximum:      {form: '2', in: bits(Connect)},
	packets.PropTopicAlias:             {form: '2', in: bits(Publish), not0: true, code: InvalidTopicAlias},
	packets.PropMaximumPacketSize:      {form: '4', in: bits(Connect), not0: true, code: ProtocolError},
	packets.PropUser: {form: 'p', in: bits(Connect, Publish, Puback, Pubrec, Pubrel, Pubcomp, Subscribe, Unsubscribe, Disconnect, Auth, inWill),
		many: ^uint32(0)},
}

// properties walks over the properties of a packet of type t: known, allowed
// there, at most once, and exactly as long as announced.
func (c *cursor) properties(t byte) error {
	n := c.varint()
	if c.bad || len(c.b)-c.at < n {
		return malformed("property length")
	}
	in := cursor{b: c.b[c.at : c.at+n]}
	c.at += n
	var seen uint64
	for in.at < len(in.b) {
		id := in.byte()
		p, known := properties[id]
		if !known || p.in&(1<<t) == 0 {
			return violation("property that does not belong here")
		}
		if seen&(1<<id) != 0 && p.many&(1<<t) == 0 {
			return violation("property given twice")
		}
		seen |= 1 << id
		zero := false
		switch p.form {
		case 'o':
			if in.byte() > 1 {
				return violation("property neither 0 nor 1")
			}
		case '2':
			zero = in.uint16() == 0
		case '4':
			zero = in.uint32() == 0
		case 'v':
			zero = in.varint() == 0
		case 's':
			switch s := in.text(); {
			case in.bad || id != packets.PropResponseTopic:
			case s == "":
				return violation("empty response topic") // [MQTT-4.7.3-1]
			case strings.ContainsAny(s, "+#"):
				return violation("wildcard in a response topic") // [MQTT-3.3.2-14]
			}
		case 'd':
			in.field()
		case 'p':
			in.text()
			in.text()
		}
		if in.bad {
			return malformed("property")
		}
		if zero && p.not0 {
			return &Error{p.code, "property must not be 0"}
		}
	}
	if seen&(1<<packets.PropAuthenticationData) != 0 && seen&(1<<packets.PropAuthenticationMethod) == 0 {
		return violation("authentication data without a method") // MQTT 5 §3.1.2.11.10
	}
	return nil
}
