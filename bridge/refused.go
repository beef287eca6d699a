package bridge

import (
	"errors"
	"time"

	"devicehub/bridge/packet"
	"devicehub/devices"
	"devicehub/devices/readings"
	"devicehub/devices/session"
)

// maxItems is how many refused readings of a batch are listed on sys/down; of a
// client that takes no packets of that size, fewer.
const maxItems = 50

// refusedOf is what was refused of a publish, whole (e) or in part.
func refusedOf(e *devices.Error, answer any, err error) (refused readings.Refusal, some bool) {
	if e == nil {
		if r, ok := answer.(readings.Result); ok {
			return r.Refusal()
		}
		return readings.Refusal{}, false
	}
	var whole *session.Refused
	if errors.As(err, &whole) {
		return whole.Refusal, true
	}
	return readings.Refusal{Err: e}, true
}

// tellRefused tells the device on sys/down of what was refused, where no
// acknowledgement says all of it: none at QoS 0 and of MQTT 3.1.1 does, and that of
// MQTT 5 only one thing.
func (d *device) tellRefused(qos byte, topic string, r readings.Refusal) {
	items := len(r.Result.Rejected)
	whole := items <= 1 && r.Result.Accepted+r.Result.Dup == 0
	if d.version == packet.V5 && qos > 0 && whole {
		return
	}
	if _, ok := d.errors.Take(time.Now()); !ok {
		return
	}
	d.mu.Lock()
	hears := d.state.down.on
	d.mu.Unlock()
	if !hears {
		return
	}
	body, ok := d.body("error", r.On(topic, maxItems))
	for limit := maxItems / 2; ok && items > 0 && !d.fits(len(body)+len(d.srv.topics.of(d.id, onDown))+packetOverhead); limit /= 2 {
		if body, ok = d.body("error", r.On(topic, limit)); limit == 0 {
			break
		}
	}
	if !ok {
		return
	}
	m := message{body: body}
	if !r.Err.Retryable() { // else it is another thing when the device is back
		m.debt = &debt{body: body, at: time.Now()}
		d.srv.owed.add(d.id, m.debt)
	}
	d.enqueue(m)
}

// packetOverhead is more than a PUBLISH has beside topic and payload.
const packetOverhead = 16
