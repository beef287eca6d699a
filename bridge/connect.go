package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"devicehub/bridge/packet"
	"devicehub/devices"
	"devicehub/devices/connects"
)

const servicePrefix = "service:"

// connect reads the first packet and lets its sender in, or answers why not and
// returns nil.
func (c *conn) connect(ctx context.Context) peer {
	if err := c.handshake(ctx); err != nil {
		c.endFor(err)
		return nil
	}
	head, body, err := c.next()
	if errors.Is(err, packet.ErrTooLarge) {
		c.tooLarge()
		return nil
	}
	if err != nil {
		c.endFor(err)
		return nil
	}
	if packet.Type(head) != packet.Connect { // MQTT 5 §3.1: closed without a word
		c.srv.stats.malformed.Add(1)
		c.end(ending{reason: "protocol_error", quiet: true})
		return nil
	}
	pk := new(packet.Packet)
	if err := packet.Decode(pk, head, body, 0); err != nil {
		c.unreadable(pk, err)
		return nil
	}
	c.version, c.bridge = pk.ProtocolVersion, isBridge(pk, body)
	c.user = strings.Clone(connects.Name(string(pk.Connect.Username)))
	c.clientID = strings.Clone(pk.Connect.ClientIdentifier[:min(len(pk.Connect.ClientIdentifier), clientIDMax)])
	if c.version == packet.V5 {
		c.maxPacket = pk.Properties.MaximumPacketSize
		c.terse = pk.Properties.RequestProblemInfoFlag && pk.Properties.RequestProblemInfo == 0
	}
	if code, text := c.acceptable(pk); code != packet.Success {
		c.refuse(code, text)
		return nil
	}
	p, err := c.peer(ctx, pk)
	if err != nil {
		if !errors.Is(err, errEndedEarly) {
			c.refused(err)
		}
		return nil
	}
	return p
}

func (c *conn) handshake(ctx context.Context) error {
	t, ok := c.nc.(interface{ HandshakeContext(context.Context) error })
	if !ok {
		return nil
	}
	if err := t.HandshakeContext(ctx); err != nil {
		return &packet.Error{Code: packet.Unspecified, What: "TLS handshake"}
	}
	return nil
}

// tooLarge answers a CONNECT over the limit, as far as its version can be seen.
func (c *conn) tooLarge() {
	c.srv.stats.malformed.Add(1)
	b := c.rd.Peek()
	for i := 1; i < len(b) && i < 5; i++ {
		if b[i]&0x80 == 0 {
			if rest := b[i+1:]; len(rest) > 6 && string(rest[:6]) == "\x00\x04MQTT" && rest[6] == packet.V5 {
				c.version = packet.V5
				c.refuse(packet.TooLarge, "CONNECT too large")
				return
			}
			break
		}
	}
	c.end(ending{reason: "protocol_error", quiet: true})
}

// unreadable ends a connection whose CONNECT breaks the specification. MQTT
// 3.1.1 has no return code for most of it and wants it closed.
func (c *conn) unreadable(pk *packet.Packet, err error) {
	c.srv.stats.malformed.Add(1)
	var v *packet.VersionError
	switch {
	case errors.As(err, &v): // [MQTT-3.1.2-2]; a client of another version can read nothing else
		c.version = packet.V311
		c.refuse(packet.UnsupportedVersion, fmt.Sprintf("%s, level %d: this server speaks MQTT 3.1.1 and 5", v.Name, v.Level))
	case pk.ProtocolVersion == packet.V5:
		c.version = packet.V5
		c.refuse(packet.CodeOf(err), err.Error())
	default:
		c.srv.refusals.Refused("mqtt", c.addr(), "", hex(packet.CodeOf(err)), err.Error())
		c.end(ending{reason: "protocol_error", quiet: true})
	}
}

// acceptable is what the specification has to say of a CONNECT that can be read.
func (c *conn) acceptable(pk *packet.Packet) (code byte, text string) {
	switch {
	case c.version == packet.V5 && pk.Properties.AuthenticationMethod != "":
		return packet.BadAuthMethod, "no extended authentication here"
	case c.version == packet.V311 && pk.Connect.ClientIdentifier == "" && !pk.Connect.Clean:
		return packet.InvalidClientID, "an empty client id with a session to keep" // MQTT 3.1.1 [MQTT-3.1.3-8]
	}
	return packet.Success, ""
}

// peer finds out who connects, lets them in and answers with CONNACK.
func (c *conn) peer(ctx context.Context, pk *packet.Packet) (peer, error) {
	user, password := string(pk.Connect.Username), string(pk.Connect.Password)
	name, service := strings.CutPrefix(user, servicePrefix)
	switch {
	case service && c.srv.accounts != nil:
		return c.enterService(pk, name, password)
	case c.srv.door == nil && c.srv.accounts != nil:
		return c.enterService(pk, user, password)
	case !service && c.srv.door != nil:
		id, err := devices.ParseID(user)
		if err != nil {
			return nil, devices.Refuse(devices.CodeUnauthorized, "the user name is no device's id")
		}
		return c.enterDevice(ctx, id, password, pk)
	}
	return nil, devices.Refuse(devices.CodeUnauthorized, "no such account")
}

// refused answers a sign-in that was turned down.
func (c *conn) refused(err error) {
	e := refusal(err)
	if e.Code == devices.CodeRateLimited {
		c.srv.stats.throttled.Add(1)
	}
	var own *packet.Error
	switch {
	case errors.As(err, &own): // a code that no sign-in has
		c.refuse(own.Code, own.What)
	case c.version == packet.V311 && e.Code == devices.CodeUnauthorized:
		c.refuseFor(e, packet.BadCredentials)
	default:
		c.refuseFor(e, connackCode(e.Code))
	}
	if own == nil && !errors.As(err, new(*devices.Error)) {
		c.srv.log.Error("mqtt sign-in failed", "err", err)
	}
}

// refuse answers with a CONNACK that is no welcome, and closes.
func (c *conn) refuse(code byte, text string) { c.turnAway(code, hex(code), text) }

// refuseFor does so for a refusal of the sign-in.
func (c *conn) refuseFor(e *devices.Error, code byte) {
	c.turnAway(code, string(e.Code), string(e.Code)+": "+e.Reason)
}

func (c *conn) turnAway(code byte, why, text string) {
	c.srv.stats.refused.Add(1)
	c.srv.refusals.Refused("mqtt", c.addr(), c.user, why, text, "connack", hex(code))
	pk := packet.Packet{ProtocolVersion: c.version, ReasonCode: code}
	pk.FixedHeader.Type = packet.Connack
	pk.Properties.ReasonString = text
	if c.version != packet.V5 {
		pk.ReasonCode = connackReturn(code)
	}
	c.put(func(b []byte) []byte { return c.encode(b, &pk) })
	c.end(ending{reason: "protocol_error"})
}

// welcome sends the CONNACK that lets the client in. From then on the
// connection may end with a DISCONNECT. It reports whether the connection still
// stands: it may have been ended in the meantime.
func (c *conn) welcome(pk *packet.Packet, present bool, extra func(*packet.Properties)) bool {
	out := packet.Packet{ProtocolVersion: c.version, SessionPresent: present}
	out.FixedHeader.Type = packet.Connack
	asked := time.Duration(pk.Connect.Keepalive) * time.Second
	granted := asked
	if asked == 0 || asked > c.srv.cfg.MaxKeepAlive {
		granted = c.srv.cfg.MaxKeepAlive
	}
	if c.version == packet.V5 {
		p := &out.Properties
		if granted != asked || c.srv.cfg.AlwaysServerKeepAlive {
			p.ServerKeepAlive, p.ServerKeepAliveFlag = uint16(granted/time.Second), true // MQTT 5 §3.2.2.3.14
		}
		p.MaximumPacketSize = uint32(c.maxIn)
		p.ReceiveMaximum = uint16(c.srv.cfg.InFlight)
		p.TopicAliasMaximum = maxAliases
		extra(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended { // between sign-in and here: the CONNACK says so instead
		out.SessionPresent, out.ReasonCode = false, c.ending.code
		out.Properties = packet.Properties{ReasonString: c.ending.text}
		if c.version != packet.V5 {
			out.ReasonCode = connackReturn(c.ending.code)
		}
		c.out.reopen()
		c.first(&out)
		c.out.shut()
		return false
	}
	if !c.first(&out) {
		c.srv.refusals.Refused("mqtt", c.addr(), c.user, hex(packet.TooLarge), "the client takes no packet that says what it has to know")
		c.out.shut()
		return false
	}
	c.quota = out.Properties.ReceiveMaximum > 0
	c.greet = true
	known(c.nc)
	return true
}

// known tells the listener that the connection is no stranger's any more.
func known(nc net.Conn) {
	for {
		if k, ok := nc.(interface{ Known() }); ok {
			k.Known()
			return
		}
		above, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return
		}
		nc = above.NetConn()
	}
}

// first sends the CONNACK, and reports whether the client can take it. c.mu is held;
// the outbox has room for it.
func (c *conn) first(pk *packet.Packet) (taken bool) {
	b, ok := c.out.begin()
	if !ok {
		return false
	}
	out := c.encode(b, pk)
	if taken = len(out) > len(b); !taken && pk.ReasonCode == packet.Success {
		pk.ReasonCode, pk.SessionPresent, pk.Properties = packet.TooLarge, false, packet.Properties{}
		out = c.encode(b, pk)
	}
	if start, _ := c.out.commit(out); start {
		c.writers.Go(c.flush)
	}
	return taken
}

// keepAlive is one and a half times the keep-alive in force, after which a
// silent client is given up [MQTT-3.1.2-22].
func (c *conn) keepAlive(pk *packet.Packet) time.Duration {
	ka := time.Duration(pk.Connect.Keepalive) * time.Second
	if ka == 0 || ka > c.srv.cfg.MaxKeepAlive {
		ka = c.srv.cfg.MaxKeepAlive
	}
	return ka + ka/2
}

// patience sets how long the client may be silent from now on.
func (c *conn) patience(d time.Duration) {
	c.patient, c.heard = d, time.Now()
	c.deadline(c.heard.Add(d))
}
