package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"devicehub/bridge/packet"
	"devicehub/devices"
	"devicehub/devices/quota"
)

const maxAliases = 16

// device is one connection of one device, the far end of a Link.
//
// A device hears its commands and what the hub has to say to it, and nothing
// else; what it publishes goes to its Session and to no subscriber.
type device struct {
	*conn
	id      devices.ID
	sess    Session
	aliases [maxAliases + 1]string // the reader's
	errors  *quota.Limiter         // told on sys/down
	asks    *quota.Limiter         // SUBSCRIBE, UNSUBSCRIBE and PINGREQ

	// Guarded by in.mu.
	deciding map[uint16]struct{} // QoS 2 publishes that wait for their decision
	refusals int                 // in a row

	mu         sync.Mutex
	open       bool // the CONNACK is out
	attends    bool // the device was told on sys/down what it is owed
	configured bool // and its settings
	subscribed bool // to sys/down, over this connection
	state      *memory
	downlink
}

// memory is what the hub remembers of a device between its connections: the
// subscriptions, and which QoS 2 publishes it has taken. Messages to the device
// are not among it: a resumed session redelivers nothing, the hub's command log
// does.
type memory struct {
	cmd, down subscription
	received  map[uint16]struct{} // QoS 2 publishes decided and not yet released
	config    []byte              // the settings that the device has acknowledged last, as it was told them
	keep      time.Duration
	until     time.Time // when it is forgotten; zero while connected
	owner     *device
}

type subscription struct {
	on  bool
	qos byte
	id  int // subscription identifier of MQTT 5
}

// enterDevice lets a device in.
func (c *conn) enterDevice(ctx context.Context, id devices.ID, password string, pk *packet.Packet) (peer, error) {
	d := &device{conn: c, id: id, errors: quota.NewLimiter(quota.Rate{PerSecond: 10, Burst: 10}), asks: quota.NewLimiter(quota.Rate{PerSecond: 100, Burst: 100}), deciding: map[uint16]struct{}{}}
	d.limit = c.srv.cfg.Window
	if c.version == packet.V5 {
		if rm := int(pk.Properties.ReceiveMaximum); rm > 0 {
			d.limit = min(d.limit, rm)
		}
	}
	patient := c.keepAlive(pk)
	sess, err := c.srv.door.Enter(ctx, Arrival{
		Device: id, Password: password, Addr: c.addr(), Client: strings.Clone(pk.Connect.ClientIdentifier), OfflineAfter: patient, InFlight: c.srv.cfg.InFlight,
		May: func() error { return c.srv.judgeWill(id, pk) },
	}, d)
	if err != nil {
		return nil, err
	}
	d.sess = sess
	c.onAnswer = sess.Answered
	present, keep := d.remember(pk)
	c.patience(patient)
	welcome := c.welcome(pk, present, func(p *packet.Properties) {
		p.RetainAvailableFlag = true // and RetainAvailable 0: a device retains nothing
		if pk.Connect.ClientIdentifier == "" {
			p.AssignedClientID = string(id) // MQTT 5 [MQTT-3.2.2-16]
		}
		if asked := sessionExpiry(pk); asked > keep {
			p.SessionExpiryInterval, p.SessionExpiryIntervalFlag = uint32(keep/time.Second), true
		}
	})
	if !welcome {
		d.gone()
		return nil, errEndedEarly
	}
	d.mu.Lock()
	d.open = true
	listens, hears := d.state.cmd.on, d.state.down.on
	d.mu.Unlock()
	c.srv.stats.devices.Add(1)
	if hears {
		d.attend()
	}
	if listens {
		sess.Listen()
	}
	return d, nil
}

// errEndedEarly is a connection that was ended, and answered, before it was welcomed.
var errEndedEarly = errors.New("ended before it was welcomed")

// judgeWill refuses any will but the device's own lwt, unretained.
func (s *Server) judgeWill(id devices.ID, pk *packet.Packet) error {
	if !pk.Connect.WillFlag {
		return nil
	}
	last, own := s.topics.own(id, pk.Connect.WillTopic)
	switch {
	case !own || last != onWill:
		s.stats.foreign.Add(1)
		return devices.Refuse(devices.CodeForbidden, "the will's topic is not "+s.topics.of(id, onWill))
	case pk.Connect.WillRetain:
		s.stats.retained.Add(1)
		s.audit(id, "mqtt.retained", devices.CodeRetainedCommand)
		return devices.Refuse(devices.CodeRetainedCommand, "a device's will is not retained")
	}
	return nil
}

func sessionExpiry(pk *packet.Packet) time.Duration {
	switch {
	case pk.ProtocolVersion == packet.V5:
		return time.Duration(pk.Properties.SessionExpiryInterval) * time.Second
	case pk.Connect.Clean:
		return 0
	}
	return maxSession
}

const maxSession = 24 * time.Hour // a session without a connection

// remember takes over what is remembered of the device, or begins anew.
func (d *device) remember(pk *packet.Packet) (present bool, keep time.Duration) {
	keep = min(sessionExpiry(pk), maxSession)
	s := d.srv
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.memories[d.id]
	now := time.Now()
	present = m != nil && !pk.Connect.Clean && (m.owner != nil && m.keep > 0 || now.Before(m.until))
	if !present {
		m = &memory{received: map[uint16]struct{}{}}
	} else {
		m = m.copy()
	}
	m.keep, m.owner = keep, d
	s.memories[d.id] = m
	d.state = m
	return present, keep
}

// copy is of a memory with which an older connection may still be at work.
func (m *memory) copy() *memory {
	if m.owner != nil {
		m.owner.mu.Lock()
		defer m.owner.mu.Unlock()
	}
	return &memory{cmd: m.cmd, down: m.down, received: maps.Clone(m.received), config: m.config}
}

// gone closes the device's session.
func (d *device) gone() {
	d.conn.mu.Lock()
	e := d.ending
	if !d.ended {
		e.reason = "connection_lost"
	}
	d.conn.mu.Unlock()
	d.mu.Lock()
	wasOpen := d.open
	d.open = false
	d.queue, d.unacked = nil, nil
	d.mu.Unlock()
	d.sess.Close(e.reason)

	s := d.srv
	s.mu.Lock()
	if s.memories[d.id] == d.state {
		if d.state.keep > 0 {
			d.state.owner, d.state.until = nil, time.Now().Add(d.state.keep)
		} else {
			delete(s.memories, d.id)
		}
	}
	s.mu.Unlock()
	if wasOpen {
		s.stats.devices.Add(-1)
	}
}

// handle takes one packet of the device.
func (d *device) handle(pk *packet.Packet) error {
	switch pk.FixedHeader.Type {
	case packet.Subscribe, packet.Unsubscribe, packet.Pingreq:
		if _, ok := d.asks.Take(d.heard); !ok {
			d.end(ending{reason: "rate_limited", code: packet.RateTooHigh, text: "rate_limited: too many requests"})
			return nil
		}
	}
	switch pk.FixedHeader.Type {
	case packet.Publish:
		return d.publish(pk)
	case packet.Pubrel:
		d.release(pk.PacketID)
	case packet.Puback:
		d.acked(pk.PacketID)
	case packet.Pubrec, packet.Pubcomp: // nothing is sent to a device at QoS 2
		return &packet.Error{Code: packet.ProtocolError, What: "acknowledgement of a QoS 2 message that was not sent"}
	case packet.Subscribe:
		d.subscribe(pk)
	case packet.Unsubscribe:
		d.unsubscribe(pk)
	case packet.Pingreq:
		d.put(packet.AppendPingresp)
	case packet.Disconnect:
		return d.disconnect(pk)
	case packet.Connect: // [MQTT-3.1.0-2]
		return &packet.Error{Code: packet.ProtocolError, What: "second CONNECT"}
	default:
		return &packet.Error{Code: packet.ProtocolError, What: "unexpected packet"}
	}
	return nil
}

func (d *device) disconnect(pk *packet.Packet) error {
	if pk.ProtocolVersion == packet.V5 && pk.Properties.SessionExpiryIntervalFlag {
		keep := min(time.Duration(pk.Properties.SessionExpiryInterval)*time.Second, maxSession)
		d.srv.mu.Lock()
		was := d.state.keep
		if was > 0 || keep == 0 {
			d.state.keep = keep
		}
		d.srv.mu.Unlock()
		if was == 0 && keep > 0 { // MQTT 5 §3.14.2.2.2
			return &packet.Error{Code: packet.ProtocolError, What: "session expiry raised from 0"}
		}
	}
	// A will is for the hub alone, which sees the connection end by itself: one
	// that is withdrawn changes no more than that.
	d.end(ending{reason: "client_close", quiet: true, clean: pk.ReasonCode != packet.DisconnectWithWill})
	return nil
}

// subscribe grants the device's own cmd and sys/down, and nothing else.
func (d *device) subscribe(pk *packet.Packet) {
	codes := make([]byte, len(pk.Filters))
	listens, hears := false, false
	d.mu.Lock()
	for i, f := range pk.Filters {
		last, own := d.srv.topics.own(d.id, f.Filter)
		sub := d.state.of(last)
		if !own || sub == nil {
			codes[i] = packet.NotAuthorized
			if d.version != packet.V5 {
				codes[i] = packet.Unspecified // 0x80, Failure
			}
			d.srv.stats.foreign.Add(1)
			continue
		}
		*sub = subscription{on: true, qos: min(f.Qos, 1), id: f.Identifier}
		codes[i] = sub.qos
		listens = listens || sub == &d.state.cmd
		hears = hears || sub == &d.state.down
	}
	d.subscribed = d.subscribed || hears
	d.mu.Unlock()
	d.reply(packet.Suback, pk.PacketID, codes)
	if hears {
		d.attend()
	}
	if listens {
		d.sess.Listen()
	}
}

func (d *device) unsubscribe(pk *packet.Packet) {
	codes := make([]byte, len(pk.Filters))
	d.mu.Lock()
	for i, f := range pk.Filters {
		last, own := d.srv.topics.own(d.id, f.Filter)
		sub := d.state.of(last)
		if !own || sub == nil || !sub.on {
			codes[i] = packet.NoSubscriptionExisted
			continue
		}
		*sub = subscription{}
	}
	d.mu.Unlock()
	d.reply(packet.Unsuback, pk.PacketID, codes)
}

func (m *memory) of(last string) *subscription {
	switch last {
	case onCmd:
		return &m.cmd
	case onDown:
		return &m.down
	}
	return nil
}

// reply sends a SUBACK or UNSUBACK.
func (c *conn) reply(typ byte, id uint16, codes []byte) {
	pk := packet.Packet{ProtocolVersion: c.version, PacketID: id, ReasonCodes: codes}
	pk.FixedHeader.Type = typ
	c.put(func(b []byte) []byte { return c.encode(b, &pk) })
}

// End is the Link's: the device is told on sys/down, if it listens there, and by
// the DISCONNECT of MQTT 5.
func (d *device) End(code devices.Code, reason string, byEpoch int64) {
	say := map[string]any{"code": code, "reason": reason}
	if byEpoch != 0 {
		say["by_epoch"] = byEpoch
	}
	e := ending{reason: "kicked", code: disconnectCode(code), text: string(code) + ": " + reason}
	if body, err := event("disconnect", say); err == nil {
		d.mu.Lock()
		if d.open && d.state.down.on {
			// QoS 0: the connection will not be there for the acknowledgement.
			last := packet.AppendPublish(nil, d.srv.topics.of(d.id, onDown), body, 0, false, false, 0, d.version)
			if d.maxPacket == 0 || len(last) <= int(d.maxPacket) { // [MQTT-3.1.2-24]
				e.last = last
			}
		}
		d.mu.Unlock()
	}
	d.end(e)
}

// event is a message on sys/down: the payload's fields beside "e".
func event(name string, payload any) ([]byte, error) {
	b, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	head := []byte(`{"e":"` + name + `"`)
	if len(b) < 2 || b[0] != '{' || string(b) == "{}" { // null and {} have no fields
		return append(head, '}'), nil
	}
	return append(append(head, ','), b[1:]...), nil
}
