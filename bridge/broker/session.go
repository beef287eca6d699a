package broker

import (
	"slices"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"devicehub/bridge/packet"
)

// Link is a session's connection. Its methods do not block and call nothing of
// the broker.
type Link interface {
	Write(pk *packet.Packet) bool // queue one packet; false when the connection is gone
	Backlog() int                 // bytes queued and not yet written
	// WhenDrained asks for one call of the session's Pump once the backlog is written.
	WhenDrained()
	End(code byte, reason string) // close, with the reason code of MQTT 5
}

// Client is who connects and how.
type Client struct {
	Owner, ID  string
	Version    byte
	Clean      bool
	Expiry     time.Duration // of the session after the connection
	ReceiveMax int           // 0: no bound of the client's
	MaxPacket  uint32        // 0: no bound
	AliasMax   uint16
	May        func(topic string) bool // what it may receive and, as a will, publish
	MaySee     func(filter string) bool
	Will       *Message
	WillDelay  time.Duration
	Link       Link
}

// Session is what the broker keeps of a client, also without a connection.
type Session struct {
	b   *Broker
	key key

	// Everything below is guarded by the broker's mutex.
	Client
	link     Link
	resumed  bool                     // the CONNACK is out
	subs     map[string]*subscription // by the filter as it was sent
	queue    []*delivery
	queued   int // bytes
	inflight []*delivery
	lastID   uint16
	received map[uint16]*receipt // QoS 2 publishes not yet released
	will     *Message
	willAt   time.Time
	until    time.Time
	aliases  map[string]uint16
}

// delivery is one message on its way to one session.
type delivery struct {
	m        *Message
	qos      byte
	retain   bool
	ids      []int
	packetID uint16
	sent     bool // on this connection
	dup      bool // on an earlier one
	released bool // PUBREC came: PUBREL instead
}

// Connect attaches a client to its session, an old or a new one. An older
// connection of the same session is ended. ok is false when there is no room.
// Nothing is written to the link before Resume.
func (b *Broker) Connect(c Client) (s *Session, present, ok bool) {
	k := key{c.Owner, c.ID}
	b.mu.Lock()
	old := b.sessions[k]
	var wills []*Message
	if old != nil {
		if old.link != nil {
			old.link.End(packet.SessionTakenOver, "another connection with this client id")
			old.link = nil
			b.stats.Connected--
			if old.will != nil && (old.WillDelay == 0 || c.Clean || old.Expiry == 0) {
				wills = append(wills, old.will)
			}
		} else if old.will != nil && c.Clean { // the old session ends now
			wills = append(wills, old.will)
		}
		old.will = nil
		if c.Clean || old.Expiry == 0 { // such a session ends with its connection [MQTT-3.1.2-6]
			b.drop(old)
			old = nil
		}
	}
	switch {
	case old == nil && len(b.sessions) >= b.opts.MaxSessions:
		ok = false
	case old == nil:
		s, ok = &Session{b: b, key: k, subs: map[string]*subscription{}, received: map[uint16]*receipt{}}, true
		b.sessions[k] = s
	default:
		s, present, ok = old, true, true
	}
	if ok {
		b.stats.Connected++
		s.Client, s.link, s.resumed, s.will = c, c.Link, false, c.Will
		s.Expiry = min(c.Expiry, b.opts.MaxExpiry)
		s.aliases, s.until = nil, time.Time{}
		for _, d := range s.inflight {
			d.sent, d.dup = false, d.dup || d.sent || d.packetID != 0
		}
		for name, sub := range s.subs { // the account may see less than it did
			if c.MaySee != nil && !c.MaySee(sub.filter) {
				b.leave(s, name)
			}
		}
	}
	b.mu.Unlock()
	for _, w := range wills {
		b.publish(nil, w, nobody{})
	}
	return s, present, ok
}

// Resume sends what waits for the client, after its CONNACK.
func (s *Session) Resume() {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.resumed = true
	s.pump()
}

// Detach says that the connection is gone. clean means that the client said so
// itself and its will is void; expiry, if not nil, is its last word on how long
// the session is kept. Publishes that belong to another connection by now are
// none of its business.
func (s *Session) Detach(link Link, clean bool, expiry *time.Duration) {
	b := s.b
	b.mu.Lock()
	if s.link != link {
		b.mu.Unlock()
		return
	}
	now := time.Now()
	s.link = nil
	b.stats.Connected--
	if expiry != nil {
		s.Expiry = min(*expiry, b.opts.MaxExpiry)
	}
	s.until = now.Add(s.Expiry)
	var will *Message
	if clean {
		s.will = nil
	}
	if s.will != nil {
		delay := min(s.WillDelay, s.Expiry) // MQTT 5 §3.1.3.2.2
		if s.willAt = now.Add(delay); delay == 0 {
			will, s.will = s.will, nil
		} else {
			b.at(s.willAt)
		}
	}
	b.at(s.until)
	if s.Expiry == 0 {
		b.drop(s)
	} else { // QoS 0 is not kept for an absent client
		s.queue = slices.DeleteFunc(s.queue, func(d *delivery) bool {
			if d.qos == 0 {
				s.queued -= len(d.m.Payload)
			}
			return d.qos == 0
		})
	}
	b.mu.Unlock()
	if will != nil {
		b.publish(nil, will, nobody{})
	}
}

// Publish routes what the client publishes, and tells sender what became of it. A
// QoS 2 publish that came before is routed no second time: its fate is told to
// this sender too [MQTT-4.3.3-10].
func (s *Session) Publish(pk *packet.Packet, sender Sender) {
	if pk.FixedHeader.Qos < 2 {
		s.b.publish(s, message(pk, time.Now()), sender)
		return
	}
	s.b.mu.Lock()
	r := s.received[pk.PacketID]
	if r != nil {
		decided := r.decided
		if !decided {
			r.senders = append(r.senders, sender)
		}
		s.b.mu.Unlock()
		if decided {
			sender.Decided(nil)
		}
		return
	}
	r = &receipt{s: s, id: pk.PacketID, senders: []Sender{sender}}
	s.received[pk.PacketID] = r
	s.b.mu.Unlock()
	s.b.publish(s, message(pk, time.Now()), r)
}

// receipt is a QoS 2 publish that the client has not released.
type receipt struct {
	s       *Session
	id      uint16
	decided bool
	senders []Sender // those that wait for it, the latest last
}

func (r *receipt) Again(err error) bool {
	r.s.b.mu.Lock()
	latest := r.senders[len(r.senders)-1]
	r.s.b.mu.Unlock()
	return latest.Again(err)
}

// Decided ends the exchange of a publish that was refused: that is its last word
// (MQTT 5 §4.3.3).
func (r *receipt) Decided(err error) {
	r.s.b.mu.Lock()
	r.decided = true
	if err != nil && r.s.received[r.id] == r {
		delete(r.s.received, r.id)
	}
	senders := r.senders
	r.senders = nil
	r.s.b.mu.Unlock()
	for _, s := range senders {
		s.Decided(err)
	}
}

// Release takes a PUBREL: known reports whether there was such a publish.
func (s *Session) Release(id uint16) (known bool) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	_, known = s.received[id]
	delete(s.received, id)
	return known
}

// Filter is one filter of a SUBSCRIBE.
type Filter struct {
	Name        string // with $share/<group>/ where it is shared
	QoS         byte
	NoLocal     bool
	AsPublished bool
	Handling    byte // of what is retained: 0 send, 1 send to a new subscription, 2 do not
	ID          int  // subscription identifier
}

// Subscribe adds subscriptions and returns their reason codes. What is retained
// follows once the caller has sent the SUBACK and calls Pump.
func (s *Session) Subscribe(filters []Filter) (codes []byte) {
	b := s.b
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for _, f := range filters {
		codes = append(codes, s.subscribe(f, now))
	}
	return codes
}

func (s *Session) subscribe(f Filter, now time.Time) byte {
	b := s.b
	name, filter, shared, ok := ParseShare(f.Name)
	switch {
	case !ok:
		return packet.InvalidFilter
	case s.MaySee != nil && !s.MaySee(filter):
		return packet.NotAuthorized
	case s.subs[f.Name] == nil && len(s.subs) >= b.opts.MaxSubscriptions:
		return packet.QuotaExceeded
	}
	sub := &subscription{group: clone(name), filter: clone(filter), qos: f.QoS, noLocal: f.NoLocal, asPublished: f.AsPublished, id: f.ID}
	fresh := s.subs[f.Name] == nil
	if fresh {
		b.stats.Subscriptions++
	}
	s.subs[clone(f.Name)] = sub
	n := b.node(sub.filter)
	if shared {
		if n.shared == nil {
			n.shared = map[string]*group{}
		}
		g := n.shared[name]
		if g == nil {
			g = &group{opts: map[*Session]*subscription{}}
			n.shared[clone(name)] = g
		}
		if g.opts[s] == nil {
			g.members = append(g.members, s)
		}
		g.opts[s] = sub
		return f.QoS // a shared subscription gets nothing that was retained before
	}
	n.own[s] = sub
	if f.Handling == 0 || f.Handling == 1 && fresh {
		h := new(hit).with(sub)
		b.retained.each(sub.filter, func(m *Message) {
			if !m.expired(now) {
				s.enqueue(m, h, true)
			}
		})
	}
	return f.QoS
}

// Unsubscribe ends subscriptions and returns their reason codes.
func (s *Session) Unsubscribe(names []string) (codes []byte) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	for _, name := range names {
		code := byte(packet.Success)
		if !s.b.leave(s, name) {
			code = packet.NoSubscriptionExisted
		}
		codes = append(codes, code)
	}
	return codes
}

// Acked takes a PUBACK, PUBREC or PUBCOMP.
func (s *Session) Acked(typ byte, id uint16, code byte) {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	i := slices.IndexFunc(s.inflight, func(d *delivery) bool { return d.packetID == id })
	if typ == packet.Pubrec && code < packet.Unspecified {
		rel := packet.Packet{ProtocolVersion: s.Version, PacketID: id}
		rel.FixedHeader.Type = packet.Pubrel
		switch {
		case i >= 0 && s.inflight[i].qos == 2:
			s.inflight[i].released = true
		default: // [MQTT-4.3.3-7]: the client waits for it
			rel.ReasonCode = packet.PacketIDNotFound
		}
		s.write(&rel)
		return
	}
	if i < 0 || typ == packet.Puback && s.inflight[i].qos != 1 || typ != packet.Puback && s.inflight[i].qos != 2 {
		return
	}
	s.inflight = slices.Delete(s.inflight, i, i+1)
	s.pump()
}

// Pump sends what waits and may go.
func (s *Session) Pump() {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.pump()
}

// deliver gives the session one message. The lock is held.
func (s *Session) deliver(m *Message, h *hit, retained bool) {
	if s.May != nil && !s.May(m.Topic) {
		return
	}
	s.enqueue(m, h, retained)
	s.pump()
}

func (s *Session) enqueue(m *Message, h *hit, retained bool) {
	d := &delivery{m: m, qos: min(m.QoS, h.qos), retain: retained || m.Retain && h.asPublished, ids: h.ids}
	if s.link == nil && (d.qos == 0 || s.Expiry == 0) {
		return
	}
	if len(s.queue) >= s.b.opts.MaxQueued || s.queued+len(m.Payload) > s.b.opts.MaxQueuedBytes {
		s.b.stats.Dropped++
		return
	}
	s.queue = append(s.queue, d)
	s.queued += len(m.Payload)
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
	now, open := time.Now(), 0
	for _, d := range slices.Clone(s.inflight) { // transmit may take one out
		if !d.sent {
			if open >= s.window() {
				return
			}
			s.transmit(d, now)
		}
		open++
	}
	n := 0
	for ; n < len(s.queue); n++ {
		d := s.queue[n]
		if d.m.expired(now) || s.May != nil && !s.May(d.m.Topic) {
			s.queued -= len(d.m.Payload)
			continue
		}
		if s.link.Backlog() > s.b.opts.Backlog {
			s.link.WhenDrained()
			break
		}
		if d.qos > 0 {
			if len(s.inflight) >= s.window() {
				break
			}
			d.packetID = s.nextID()
			s.inflight = append(s.inflight, d)
		}
		s.queued -= len(d.m.Payload)
		s.transmit(d, now)
	}
	if n == len(s.queue) {
		s.queue = nil
	} else if n > 0 {
		clear(s.queue[:n])
		s.queue = s.queue[n:]
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
		s.inflight = slices.DeleteFunc(s.inflight, func(x *delivery) bool { return x == d })
		return
	}
	s.alias(&pk)
	s.b.stats.Delivered++
	s.write(&pk)
}

func (s *Session) properties(pk *packet.Packet, d *delivery, now time.Time) {
	p, m := &pk.Properties, d.m
	p.PayloadFormat, p.PayloadFormatFlag = m.Props.PayloadFormat, m.Props.PayloadFormatFlag
	p.ContentType, p.ResponseTopic, p.CorrelationData = m.Props.ContentType, m.Props.ResponseTopic, m.Props.CorrelationData
	p.SubscriptionIdentifier = d.ids
	for _, u := range m.Props.User {
		p.User = append(p.User, userProperty(u))
	}
	if !m.Expires.IsZero() { // what is left of it [MQTT-3.3.2-6]
		p.MessageExpiryInterval = uint32(max(1, m.Expires.Sub(now).Round(time.Second)/time.Second))
	}
}

// alias replaces a topic that the client has been told an alias of.
func (s *Session) alias(pk *packet.Packet) {
	if s.AliasMax == 0 || s.Version != packet.V5 {
		return
	}
	a, known := s.aliases[pk.TopicName]
	switch {
	case known:
		pk.TopicName = ""
	case len(s.aliases) < int(s.AliasMax):
		if s.aliases == nil {
			s.aliases = map[string]uint16{}
		}
		a = uint16(len(s.aliases) + 1)
		s.aliases[pk.TopicName] = a
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

// Granted is how long the session is kept after its connection.
func (s *Session) Granted() time.Duration {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	return s.Expiry
}

func userProperty(u UserProperty) packets.UserProperty {
	return packets.UserProperty{Key: u.Key, Val: u.Value}
}
