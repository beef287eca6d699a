package bridge

import (
	"time"

	"devicehub/bridge/packet"
)

const (
	queueMax   = 64               // messages that wait for a device
	unackedMax = 30 * time.Second // a device that acknowledges nothing for so long, while more waits, is cut off
)

// downlink is what is on its way to one device: a queue, and what was sent at
// QoS 1 and is not acknowledged. The device's mu guards it.
//
// At most one command is unacknowledged, and no more messages than the client's
// Receive Maximum. Nothing in it outlives the connection.
type downlink struct {
	limit   int // messages unacknowledged at once
	queue   []message
	unacked []sentMessage
	lastID  uint16
}

// message is one publish to the device.
type message struct {
	body    []byte   // on sys/down
	debt    *debt    // what it pays, if anything
	config  bool     // it tells the settings
	command *Command // or on cmd
}

type sentMessage struct {
	id      uint16
	command bool
	at      time.Time
	config  []byte // the settings that it tells
	debt    *debt
}

// Command is the Link's.
func (d *device) Command(c Command) bool {
	return d.enqueue(message{command: &c})
}

// Tell is the Link's.
func (d *device) Tell(name string, payload any) bool {
	body, ok := d.body(name, payload)
	return ok && d.enqueue(message{body: body, config: name == "config"})
}

// Answer tells the device what an event of it is answered with, and again over its
// next connection until it has acknowledged it.
func (d *device) Answer(of, name string, answer any) {
	body, ok := d.body(name, answer)
	if !ok {
		return
	}
	x := &debt{event: of, answer: answer, body: body, at: time.Now()}
	d.srv.owed.add(d.id, x)
	d.enqueue(message{body: body, debt: x})
}

func (d *device) body(name string, payload any) ([]byte, bool) {
	body, err := event(name, payload)
	if err != nil {
		d.srv.log.Error("mqtt message not sent", "device", string(d.id), "err", err)
	}
	return body, err == nil
}

func (d *device) enqueue(m message) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.open || !d.sub(m).on {
		return false
	}
	d.configured = d.configured || m.config
	full := len(d.queue) >= queueMax
	if full {
		d.srv.stats.dropped.Add(1)
	} else {
		d.queue = append(d.queue, m)
		d.pump()
	}
	if len(d.queue) > 0 && len(d.unacked) > 0 && time.Since(d.unacked[0].at) > unackedMax {
		d.srv.stats.slow.Add(1)
		d.end(ending{reason: "slow_consumer", code: packet.QuotaExceeded, text: "nothing was acknowledged"})
		return false
	}
	return !full
}

func (d *device) sub(m message) *subscription {
	if m.command != nil {
		return &d.state.cmd
	}
	return &d.state.down
}

// pump sends what may be sent. d.mu is held.
func (d *device) pump() {
	kept := d.queue[:0]
	for _, m := range d.queue {
		if !d.mayGo(m) {
			kept = append(kept, m)
			continue
		}
		d.transmit(m)
	}
	clear(d.queue[len(kept):])
	d.queue = kept
	if len(kept) == 0 {
		d.queue = nil
	}
}

func (d *device) mayGo(m message) bool {
	if d.sub(m).qos == 0 {
		return true
	}
	if len(d.unacked) >= d.limit {
		return false
	}
	if m.command == nil {
		return true
	}
	for _, u := range d.unacked {
		if u.command {
			return false
		}
	}
	return true
}

// transmit sends one message now, or drops it for good: a command that has
// expired, a packet larger than the client takes, a topic it left.
func (d *device) transmit(m message) {
	sub := d.sub(m)
	if !sub.on {
		d.srv.stats.dropped.Add(1)
		return
	}
	pk := packet.Packet{ProtocolVersion: d.version, TopicName: d.srv.topics.of(d.id, onDown), Payload: m.body}
	pk.FixedHeader.Type, pk.FixedHeader.Qos = packet.Publish, sub.qos
	now := time.Now()
	if c := m.command; c != nil {
		left := time.UnixMilli(c.ExpiresAt).Sub(now)
		if c.ExpiresAt > 0 && left <= 0 {
			d.srv.stats.expired.Add(1)
			return
		}
		pk.TopicName, pk.Payload = d.srv.topics.of(d.id, onCmd), c.Payload(now)
		pk.Properties.CorrelationData = []byte(c.ID)
		if c.ExpiresAt > 0 {
			pk.Properties.MessageExpiryInterval = uint32((left + time.Second - 1) / time.Second)
		}
	}
	if sub.id > 0 {
		pk.Properties.SubscriptionIdentifier = []int{sub.id}
	}
	if sub.qos > 0 {
		pk.PacketID = d.nextID()
	}
	encoded := d.encode(nil, &pk)
	if len(encoded) == 0 {
		d.srv.owed.paid(d.id, m.debt) // the client will never take it
		return
	}
	if sub.qos == 0 {
		d.srv.owed.paid(d.id, m.debt) // nothing will say that it arrived
	} else {
		sent := sentMessage{id: pk.PacketID, command: m.command != nil, at: now, debt: m.debt}
		if m.config {
			sent.config = m.body
		}
		d.unacked = append(d.unacked, sent)
	}
	d.srv.stats.publishOut.Add(1)
	d.put(func(b []byte) []byte { return append(b, encoded...) })
}

// nextID is a packet identifier that is not in use [MQTT-2.2.1-3].
func (d *device) nextID() uint16 {
	for {
		d.lastID++
		if d.lastID != 0 && !d.inUse(d.lastID) {
			return d.lastID
		}
	}
}

func (d *device) inUse(id uint16) bool {
	for _, u := range d.unacked {
		if u.id == id {
			return true
		}
	}
	return false
}

// acked takes a PUBACK of the device. One for nothing that was sent is ignored.
func (d *device) acked(id uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, u := range d.unacked {
		if u.id == id {
			d.unacked = append(d.unacked[:i], d.unacked[i+1:]...)
			d.srv.owed.paid(d.id, u.debt)
			if u.config != nil {
				d.state.config = u.config
			}
			d.pump()
			return
		}
	}
}
