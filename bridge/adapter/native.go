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
// senml, state, ack and lwt to the hub; cmd, the errors and settings of sys/down
// and online from it.
type native struct {
	*Behind

	mu   sync.Mutex
	said map[devices.ID]string     // on <root>/<id>/online
	told map[devices.ID]configured // on <root>/<id>/sys/down
}

func newNative(b *Behind) *native {
	return &native{Behind: b, said: map[devices.ID]string{}, told: map[devices.ID]configured{}}
}

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
		if n.misinformed(dev) {
			n.configure(devices.Event{Device: dev.ID})
		}
	}
}

// Publish is the Feed's.
func (n *native) Publish(e devices.Event) {
	if e.Name == "status" || e.Name == "device_changed" {
		n.online(e.Device)
		n.configure(e)
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

// fate hears what became of a message, and of the readings in it which were refused.
type fate func(refused *readings.Refusal, err error)

// explained tells the device of a refusal, of a part of a message too, as it hears
// it from the hub's own listener.
func (n *native) explained(id devices.ID, topic string, done func(error)) fate {
	return func(refused *readings.Refusal, err error) {
		var e *devices.Error
		switch {
		case err != nil && (!errors.As(err, &e) || e.Retryable()): // it comes again
		case refused != nil:
			n.complain(id, topic, *refused)
		case err != nil:
			n.complain(id, topic, readings.Refusal{Err: e})
		}
		done(err)
	}
}

// maxItems is how many refused readings of one message a device is told.
const maxItems = 50

func (n *native) complain(id devices.ID, topic string, r readings.Refusal) {
	if n.mayComplain(id) {
		n.down(id, "error", r.On(topic, maxItems), 0)
	}
}

// down says something to a device on sys/down: {"e":event,…}.
func (n *native) down(id devices.ID, event string, fields json.RawMessage, qos byte) bool {
	say := append([]byte(`{"e":"`+event+`",`), fields[1:]...) // an object that is not empty
	return n.bus.Publish(n.Root+"/"+string(id)+"/sys/down", say, qos, false)
}

func (n *native) event(dev *devices.Device, last string, m Message, done fate) {
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
		done(nil, n.report(dev, m.At, payload))
		return
	case "ack":
		done(nil, n.answer(dev.ID, payload))
		return
	case "lwt":
		n.will(dev.ID, payload)
		done(nil, nil)
		return
	default:
		metric, _ := strings.CutPrefix(last, "r/")
		batch, err = readings.ParseBare(metric, payload)
	}
	if err != nil {
		done(nil, err)
		return
	}
	n.pushTold(m, dev, batch, done)
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
