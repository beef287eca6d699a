package broker

import (
	"slices"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"devicehub/bridge/packet"
)

// delivery is one message on its way to one session.
type delivery struct {
	m        *letter
	qos      byte
	retain   bool
	ids      []int
	packetID uint16
	turn     uint64 // numbers its record
	kept     bool   // it has one
	durable  bool   // which is on the disk as it stands, as far as QoS 2 wants to know
	sent     bool   // on this connection
	dup      bool   // on an earlier one
	released bool   // PUBREC came: PUBREL instead
}

// keep writes the delivery's record. The lock is held.
func (s *Session) keep(d *delivery) {
	if !s.lasting() || d.qos == 0 {
		return
	}
	fresh := !d.kept
	if fresh {
		s.turn++
		d.turn, d.kept = s.turn, true
		s.b.refer(d.m)
	}
	s.b.journal.put(Key{recDelivery, s.number, d.turn}, deliveryRecord(d), fresh)
}

// forget deletes the delivery's record.
func (s *Session) forget(d *delivery) {
	if d.kept {
		s.b.journal.del(Key{recDelivery, s.number, d.turn})
		s.b.unrefer(d.m)
		d.kept = false
	}
}

// release ends a delivery that was taken out of the queue or the window.
func (s *Session) release(d *delivery) {
	s.forget(d)
	n := d.size()
	s.held -= n
	s.b.charge(s.account, -n)
}

// hold counts a delivery.
func (s *Session) hold(d *delivery) {
	n := d.size()
	s.held += n
	s.b.charge(s.account, n)
}

// Acked takes a PUBACK, PUBREC or PUBCOMP. It is an error if it acknowledges what
// was sent in another way.
func (s *Session) Acked(typ byte, id uint16, code byte) error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	i := slices.IndexFunc(s.inflight, func(d *delivery) bool { return d.packetID == id })
	if i >= 0 && !s.inflight[i].expects(typ) {
		return errOtherKind
	}
	if typ == packet.Pubrec && code < packet.Unspecified {
		if i >= 0 {
			s.released(s.inflight[i])
			return nil
		}
		rel := packet.Packet{ProtocolVersion: s.Version, PacketID: id, ReasonCode: packet.PacketIDNotFound}
		rel.FixedHeader.Type = packet.Pubrel
		s.write(&rel) // [MQTT-4.3.3-7]: the client waits for it
		return nil
	}
	if i >= 0 {
		s.release(s.inflight[i])
		s.inflight = slices.Delete(s.inflight, i, i+1)
		s.pump()
	}
	return nil
}

// errOtherKind is an acknowledgement that would leave its delivery open for ever
// (MQTT 5 §4.3.2, §4.3.3).
var errOtherKind = &packet.Error{Code: packet.ProtocolError, What: "an acknowledgement of another kind than the message asks for"}

// expects reports whether the client may acknowledge the delivery so.
func (d *delivery) expects(typ byte) bool {
	switch typ {
	case packet.Puback:
		return d.qos == 1
	case packet.Pubcomp:
		return d.qos == 2 && d.released
	}
	return d.qos == 2
}

// released answers a PUBREC: from then on the message is not sent again, which
// has to be durable before the client forgets that it has it.
func (s *Session) released(d *delivery) {
	if again := d.released; !again {
		d.released, d.durable = true, false
		s.keep(d)
	}
	s.whenKept(d, func() {
		rel := packet.Packet{ProtocolVersion: s.Version, PacketID: d.packetID}
		rel.FixedHeader.Type = packet.Pubrel
		s.write(&rel)
	})
}

// whenKept calls f, with the lock, once the delivery's record is durable, if the
// connection is the same by then; at once when it has none. The lock is held.
func (s *Session) whenKept(d *delivery, f func()) {
	if !d.kept || d.durable {
		f()
		return
	}
	link := s.link
	s.b.journal.sure(func() {
		s.b.mu.Lock()
		defer s.b.mu.Unlock()
		d.durable = true
		if s.link == link && link != nil && slices.Contains(s.inflight, d) {
			f()
		}
	})
}

// Pump sends what waits and may go.
func (s *Session) Pump() {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.pump()
}

// deliver gives the session one message. The lock is held.
func (s *Session) deliver(m *letter, h *hit) {
	if !s.account.rights.MayReceive(m.Topic) {
		return
	}
	s.enqueue(m, h, false)
	s.pump()
}

func (s *Session) enqueue(m *letter, h *hit, retained bool) {
	d := &delivery{m: m, qos: min(m.QoS, h.qos), retain: retained || m.Retain && h.asPublished, ids: h.ids}
	if s.link == nil && (d.qos == 0 || s.Expiry == 0) {
		return
	}
	n := d.size()
	if len(s.queue)+len(s.inflight) >= s.b.opts.MaxQueued || s.held+n > s.b.opts.MaxQueuedBytes || !s.b.room(s.account, n) {
		s.b.stats.Dropped++
		return
	}
	s.queue = append(s.queue, d)
	s.hold(d)
	s.keep(d)
}

// window is how many messages may be unacknowledged.
func (s *Session) window() int {
	w := s.b.opts.MaxInflight
	if s.ReceiveMax > 0 {
		w = min(w, s.ReceiveMax)
	}
	return w
}

// pump sends, in order: what an earlier connection left unacknowledged, then
// what is queued, as far as the client's window and the connection's backlog
// allow. The lock is held.
func (s *Session) pump() {
	if s.link == nil || !s.resumed {
		return
	}
	now := time.Now()
	if !s.resend(now) {
		return
	}
	n := 0
	for ; n < len(s.queue); n++ {
		d := s.queue[n]
		if d.m.expired(now) || !s.account.rights.MayReceive(d.m.Topic) {
			s.release(d)
			continue
		}
		if d.qos > 0 && len(s.inflight) >= s.window() || !s.mayGo(d) {
			break
		}
		if d.qos == 0 {
			s.transmit(d, now)
			s.release(d)
			continue
		}
		d.packetID = s.nextID()
		s.inflight = append(s.inflight, d)
		s.first(d, now)
	}
	if n == len(s.queue) {
		s.queue = nil
	} else if n > 0 {
		clear(s.queue[:n])
		s.queue = s.queue[n:]
	}
}

// mayGo reports whether the connection, and the account's together, may be given
// a message now. If not, pump is called when they may.
func (s *Session) mayGo(d *delivery) bool {
	if s.link.Backlog() > s.b.opts.Backlog {
		s.link.WhenDrained()
		return false
	}
	return s.account.maySend(d.size())
}

// first sends a message of QoS 1 or 2 for the first time on this connection.
// One of QoS 2 is sent under the same identifier ever after, so that the client
// can tell it: that is durable first.
func (s *Session) first(d *delivery, now time.Time) {
	if d.qos == 2 && d.kept && !d.durable {
		d.sent = true
		s.keep(d)
		s.whenKept(d, func() { s.transmit(d, time.Now()) })
		return
	}
	s.transmit(d, now)
}

// resend sends what an earlier connection left unacknowledged, and reports
// whether that is all out. What the account may no longer receive is given up,
// unless the client has it already.
func (s *Session) resend(now time.Time) bool {
	if !slices.ContainsFunc(s.inflight, func(d *delivery) bool { return !d.sent }) {
		return true
	}
	open := 0
	for _, d := range slices.Clone(s.inflight) { // transmit may take one out
		if !d.sent {
			if open >= s.window() || !s.mayGo(d) {
				return false
			}
			if !d.released && !s.account.rights.MayReceive(d.m.Topic) {
				s.giveUp(d)
				continue
			}
			s.first(d, now)
		}
		open++
	}
	return true
}

// giveUp takes a message out of the window.
func (s *Session) giveUp(d *delivery) {
	if i := slices.Index(s.inflight, d); i >= 0 {
		s.inflight = slices.Delete(s.inflight, i, i+1)
		s.release(d)
	}
}

// transmit writes a delivery to the connection.
func (s *Session) transmit(d *delivery, now time.Time) {
	d.sent = true
	pk := packet.Packet{ProtocolVersion: s.Version, PacketID: d.packetID}
	if d.released {
		pk.FixedHeader.Type = packet.Pubrel
		s.write(&pk)
		return
	}
	pk.FixedHeader.Type, pk.FixedHeader.Qos = packet.Publish, d.qos
	pk.FixedHeader.Retain, pk.FixedHeader.Dup = d.retain, d.dup
	pk.TopicName, pk.Payload = d.m.Topic, d.m.Payload
	if s.Version == packet.V5 {
		s.properties(&pk, d, now)
	}
	if s.MaxPacket > 0 && size(&pk) > int(s.MaxPacket) { // [MQTT-3.1.2-24]: as if it had been delivered
		s.b.stats.Dropped++
		s.giveUp(d)
		return
	}
	topic := pk.TopicName
	s.aliases.replace(&pk, s.AliasMax)
	if s.MaxPacket > 0 && pk.TopicName != "" && size(&pk) > int(s.MaxPacket) { // an alias is longer before it is shorter
		delete(s.aliases.of, topic)
		pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = 0, false
	}
	s.b.stats.Delivered++
	s.write(&pk)
}

func (s *Session) properties(pk *packet.Packet, d *delivery, now time.Time) {
	p, m := &pk.Properties, d.m
	p.PayloadFormat, p.PayloadFormatFlag = m.Props.PayloadFormat, m.Props.PayloadFormatFlag
	p.ContentType, p.ResponseTopic, p.CorrelationData = m.Props.ContentType, m.Props.ResponseTopic, m.Props.CorrelationData
	p.SubscriptionIdentifier = d.ids
	for _, u := range m.Props.User {
		p.User = append(p.User, packets.UserProperty{Key: u.Key, Val: u.Value})
	}
	if !m.Expires.IsZero() { // what is left of it [MQTT-3.3.2-6]
		p.MessageExpiryInterval = uint32(max(1, m.Expires.Sub(now).Round(time.Second)/time.Second))
	}
}

// aliases are the topic aliases that a client was told. They are few and their
// topics short: they are remembered for as long as the connection is there.
type aliases struct {
	of map[string]uint16
}

const (
	maxAliases    = 64
	maxAliasTopic = 256
)

// replace replaces a topic that the client has been told an alias of.
func (x *aliases) replace(pk *packet.Packet, most uint16) {
	if most == 0 || pk.ProtocolVersion != packet.V5 || len(pk.TopicName) > maxAliasTopic {
		return
	}
	a, known := x.of[pk.TopicName]
	switch {
	case known:
		pk.TopicName = ""
	case len(x.of) < min(int(most), maxAliases):
		if x.of == nil {
			x.of = map[string]uint16{}
		}
		a = uint16(len(x.of) + 1)
		x.of[pk.TopicName] = a
	default:
		return
	}
	pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = a, true
}

func (s *Session) write(pk *packet.Packet) {
	if s.link != nil {
		s.link.Write(pk)
	}
}

func (s *Session) nextID() uint16 {
	for {
		s.lastID++
		if s.lastID != 0 && !slices.ContainsFunc(s.inflight, func(d *delivery) bool { return d.packetID == s.lastID }) {
			return s.lastID
		}
	}
}

func size(pk *packet.Packet) int {
	b, err := packet.Append(nil, pk)
	if err != nil {
		return 1 << 30
	}
	return len(b)
}
