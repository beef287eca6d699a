package adapter

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/liveness"
	"devicehub/devices/readings"
)

// native is the hub's own topics on a foreign broker: <root>/<id>/r, r/<metric>,
// senml, state, ack and lwt to the hub; cmd, the errors of sys/down and online
// from it.
type native struct {
	*Behind

	mu   sync.Mutex
	said map[devices.ID]string // on <root>/<id>/online
}

func newNative(b *Behind) *native { return &native{Behind: b, said: map[devices.ID]string{}} }

func (n *native) Filters() []string {
	var f []string
	for _, last := range []string{"r", "r/+", "senml", "state", "ack", "lwt", "cmd"} {
		f = append(f, n.Root+"/+/"+last)
	}
	return f
}

// split is the device and the rest of a native topic.
func (n *native) split(topic string) (id, last string) {
	id, last, _ = strings.Cut(strings.TrimPrefix(topic, n.Root+"/"), "/")
	return id, last
}

func (n *native) Lane(topic string) string {
	id, _ := n.split(topic)
	return id
}

// Up says of every device here whether it is reachable: the broker may have lost
// it, or keep what is no longer so.
func (n *native) Up() {
	n.mu.Lock()
	clear(n.said)
	n.mu.Unlock()
	for dev := range n.Registry.All() {
		n.online(dev.ID)
	}
}

// Publish is the Feed's.
func (n *native) Publish(e devices.Event) {
	if e.Name == "status" || e.Name == "device_changed" {
		n.online(e.Device)
	}
}

// online publishes the hub's word on a device, retained, if it is another than
// before. A device that is no longer here has none.
func (n *native) online(id devices.ID) {
	word := ""
	if dev, ok := n.Registry.Get(id); ok && dev.Via == n.bus.Name() {
		word = n.word(id)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.said[id] == word || !n.bus.Publish(n.Root+"/"+string(id)+"/online", []byte(word), 1, true) {
		return
	}
	if n.said[id] = word; word == "" {
		delete(n.said, id)
	}
}

func (n *native) Handle(m Message, done func(error)) {
	name, last := n.split(m.Topic)
	if last == "cmd" { // the hub's own come back here; a retained one is nobody's to follow
		if m.Retained && len(m.Payload) > 0 {
			n.retainedCommand("device:" + name)
		}
		done(nil)
		return
	}
	done = n.taken(done)
	id, err := devices.ParseID(name)
	if err != nil {
		done(err)
		return
	}
	dev, err := n.device(id)
	if err != nil {
		done(err)
		return
	}
	if m.Retained { // of any age, a will as well
		n.retainedCommand("device:" + name)
		done(devices.Refuse(devices.CodeRetainedCommand, "a device's publish is not retained"))
		return
	}
	n.speaks(id, liveness.WillOnly, n.command)
	payload := m.Payload
	if last != "lwt" { // which may be anything, and is written long before it is sent
		if payload, err = n.token(id, payload); err != nil {
			done(err)
			return
		}
	}
	m.Payload = payload
	n.event(dev, last, m, n.explained(dev.ID, m.Topic, done))
}

// explained tells the device of a refusal, as 3.1.1 hears it from the hub's own
// listener (2-domain §8).
func (n *native) explained(id devices.ID, topic string, done func(error)) func(error) {
	return func(err error) {
		var e *devices.Error
		if errors.As(err, &e) && !e.Retryable() && n.mayComplain(id) {
			say, _ := json.Marshal(struct { // plain values
				E       string         `json:"e"`
				Code    devices.Code   `json:"code"`
				Reason  string         `json:"reason"`
				Details map[string]any `json:"details,omitempty"`
				Topic   string         `json:"topic"`
			}{"error", e.Code, e.Reason, e.Details, topic})
			n.bus.Publish(n.Root+"/"+string(id)+"/sys/down", say, 0, false)
		}
		done(err)
	}
}

func (n *native) event(dev *devices.Device, last string, m Message, done func(error)) {
	payload := m.Payload
	var batch readings.Batch
	var err error
	switch last {
	case "r":
		batch, err = readings.Parse(payload)
	case "senml":
		cbor := len(payload) > 0 && !strings.ContainsRune("[{ \t\r\n", rune(payload[0]))
		batch, err = readings.ParseSenML(payload, cbor, dev.ID, time.Now())
	case "state":
		done(n.report(dev, m.At, payload))
		return
	case "ack":
		done(n.answer(dev.ID, payload))
		return
	case "lwt":
		n.will(dev.ID, payload)
		done(nil)
		return
	default:
		metric, _ := strings.CutPrefix(last, "r/")
		batch, err = readings.ParseBare(metric, payload)
	}
	if err != nil {
		done(err)
		return
	}
	n.push(m, dev, batch, done)
}

// will is a device's last will. That of another boot is ignored: it comes late.
func (n *native) will(id devices.ID, payload []byte) {
	var w struct {
		Boot string `json:"boot"`
	}
	_ = json.Unmarshal(payload, &w) // anything is a will
	n.Behind.mu.Lock()
	boot := n.member(id).boot
	n.Behind.mu.Unlock()
	if w.Boot != "" && boot != "" && w.Boot != boot {
		return
	}
	n.available(id, false, "connection_lost")
}

// command goes out at QoS 0 and is never retained: repetition is the hub's.
func (n *native) command(dev *devices.Device, e commands.Envelope) bool {
	e.TTLMS = max(0, e.ExpiresAt-time.Now().UnixMilli())
	b, err := json.Marshal(e)
	return err == nil && n.bus.Publish(n.Root+"/"+string(dev.ID)+"/cmd", b, 0, false)
}
