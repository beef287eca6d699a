package adapter

import (
	"context"
	"encoding/json"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/readings"
)

// homeAssistant shows the hub's devices to Home Assistant by its MQTT discovery
// (one message a device), keeps their states and availability on the broker, and
// takes commands for lights.
type homeAssistant struct {
	*Behind
	prefix string
	work   chan work
	sets   chan haSet
	missed atomic.Bool // there was more to do than the queue held

	seed maphash.Seed

	// Run's.
	shown  map[devices.ID]*shown
	behind bool // something could not be sent
}

// shown is what stands on the broker of a device.
type shown struct {
	dev    *devices.Device   // the record that was announced; nil: announce it
	sum    uint64            // of the message; 0: say it in any case
	parts  map[string]string // the components there, by platform
	online string
	behind bool // something of it could not be sent
}

// work is one thing to do: an event to tell, a discovery message that was found,
// or, with neither of them, to say everything anew.
type work struct {
	id    devices.ID
	event *devices.Event
	found []byte
}

// haSet is a command to give.
type haSet struct {
	id      devices.ID
	payload []byte
	done    func(error)
}

const (
	haPrefix  = "homeassistant"
	haQueue   = 4096
	haSets    = 64 // commands under way
	haSetWait = 10 * time.Second
	haAgain   = time.Second // what the broker had no room for is tried again
)

func newHomeAssistant(base string, b *Behind) *homeAssistant {
	if base == "" {
		base = haPrefix
	}
	return &homeAssistant{Behind: b, prefix: base, work: make(chan work, haQueue), sets: make(chan haSet, haQueue), seed: maphash.MakeSeed(), shown: map[devices.ID]*shown{}}
}

// Filters are Home Assistant's birth, its commands, and the discovery messages
// that are there: of the hub's own, some may tell of what is no more.
func (h *homeAssistant) Filters() []string {
	return []string{h.prefix + "/status", h.Root + "/+/ha/+/set", h.prefix + "/device/+/config"}
}

func (h *homeAssistant) Lane(topic string) string { return topic }

// Up says everything anew.
func (h *homeAssistant) Up() { h.later(work{}) }

// later leaves work to Run. false means that there is too much of it. Events that
// were lost are made up for by saying everything anew.
func (h *homeAssistant) later(w work) bool {
	select {
	case h.work <- w:
		return true
	default:
		h.missed.Store(true)
		return false
	}
}

// Publish is the Feed's: what happens to devices is told to Home Assistant.
func (h *homeAssistant) Publish(e devices.Event) {
	switch e.Name {
	case "reading", "state", "status", "device_changed":
		h.later(work{id: e.Device, event: &e})
	}
}

// Handle takes Home Assistant's birth and its commands. A command is decided when
// it is in the command log, or refused.
func (h *homeAssistant) Handle(m Message, done func(error)) {
	switch name, config := h.configured(m.Topic); {
	case config:
		if m.Retained && len(m.Payload) > 0 {
			h.later(work{id: name, found: m.Payload})
		}
	case m.Topic == h.prefix+"/status":
		if string(m.Payload) == "online" && !m.Retained {
			// Not all at once with everyone else on the broker.
			time.AfterFunc(rand.N(5*time.Second), h.Up)
		}
	default:
		name, last, _ := strings.Cut(strings.TrimPrefix(m.Topic, h.Root+"/"), "/")
		id, err := devices.ParseID(name)
		switch {
		case m.Retained && len(m.Payload) > 0:
			h.retainedCommand("device:" + name)
		case err == nil && last == "ha/light/set" && !m.Retained:
			select {
			case h.sets <- haSet{id, m.Payload, done}:
			default:
				done(notKept)
			}
			return
		}
	}
	done(nil)
}

// notKept is the fate of a command that the hub cannot take now. Who switched a
// light does not want that done minutes later.
var notKept = devices.Refuse(devices.CodeExpired, "the hub cannot take the command now, and keeps none for later")

// configured is the device of one of the hub's own discovery topics.
func (h *homeAssistant) configured(topic string) (devices.ID, bool) {
	name, ok := strings.CutPrefix(topic, h.prefix+"/device/")
	if !ok {
		return "", false
	}
	name, _ = strings.CutSuffix(name, "/config")
	name, _ = strings.CutPrefix(name, "hub_")
	id, _ := devices.ParseID(name)
	return id, true
}

// Run does the work, and gives the commands, until ctx is done.
func (h *homeAssistant) Run(ctx context.Context) {
	var giving sync.WaitGroup
	defer giving.Wait()
	giving.Go(func() { h.give(ctx) })
	again := time.NewTicker(haAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			if h.behind {
				h.catchUp()
			}
		case w := <-h.work:
			switch {
			case w.found != nil:
				h.found(w.id, w.found)
			case w.event != nil:
				h.tell(w.event)
			default:
				h.sayAll()
			}
		}
		if len(h.work) == 0 && h.missed.Swap(false) {
			h.sayAll()
		}
	}
}

// give gives the commands. Each waits until it is in the command log: those of
// many lights wait together, those of one light come one after the other, as its
// lane has them.
func (h *homeAssistant) give(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, haSets)
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-h.sets:
			room <- struct{}{}
			wg.Go(func() {
				s.done(h.set(ctx, s.id, s.payload))
				<-room
			})
		}
	}
}

// sayAll says everything anew, to a broker or a Home Assistant that may know
// nothing of it, or something that is no longer so.
func (h *homeAssistant) sayAll() {
	for id, s := range h.shown {
		s.dev, s.sum, s.online = nil, 0, ""
		if _, ok := h.Registry.Get(id); !ok {
			h.forget(id)
		}
	}
	room := true
	for dev := range h.Registry.All() {
		s := h.of(dev.ID)
		if s.behind = !room; room {
			h.announce(dev, nil)
			h.states(dev)
			room = !s.behind
		}
	}
	h.behind = !room
}

// catchUp says what could not be sent, as far as there is room now.
func (h *homeAssistant) catchUp() {
	h.behind = false
	for id, s := range h.shown {
		if !s.behind {
			continue
		}
		s.behind = false
		if dev, ok := h.Registry.Get(id); ok {
			h.announce(dev, nil)
			h.states(dev)
		} else {
			h.forget(id)
		}
		if s.behind {
			return
		}
	}
}

// send publishes a retained message of a device.
func (h *homeAssistant) send(id devices.ID, topic string, payload []byte, qos byte) bool {
	if h.bus.Publish(topic, payload, qos, true) {
		return true
	}
	h.behind, h.of(id).behind = true, true
	return false
}

// found takes a discovery message that stood on the broker before: of a device
// that is no more, or with components that it has no more.
func (h *homeAssistant) found(id devices.ID, payload []byte) {
	var d haDevice
	if id == "" || json.Unmarshal(payload, &d) != nil || len(d.Availability) == 0 || d.Availability[0].Topic != h.Root+"/_hub/online" {
		return // somebody else's
	}
	s := h.of(id)
	for name, platform := range d.platforms() {
		if s.parts[name] == "" {
			s.parts[name], s.dev, s.sum = platform, nil, 0
		}
	}
	if dev, ok := h.Registry.Get(id); ok {
		h.announce(dev, nil)
	} else {
		h.forget(id)
	}
}

func (h *homeAssistant) of(id devices.ID) *shown {
	s := h.shown[id]
	if s == nil {
		s = &shown{parts: map[string]string{}}
		h.shown[id] = s
	}
	return s
}

// tell brings one event to the broker.
func (h *homeAssistant) tell(e *devices.Event) {
	dev, ok := h.Registry.Get(e.Device)
	if !ok {
		h.forget(e.Device)
		return
	}
	switch p := e.Payload.(type) {
	case *readings.Event:
		var names []string
		p.All(func(metric, _ string, v readings.Value, t int64, q readings.Quality) bool {
			names = append(names, metric)
			return true
		})
		h.announce(dev, names)
		p.All(func(metric, _ string, v readings.Value, t int64, _ readings.Quality) bool {
			if isPart(dev, metric) {
				h.value(dev.ID, metric, v, t)
			}
			return true
		})
		return
	}
	switch e.Name {
	case "state":
		h.announce(dev, nil)
		h.light(dev)
	case "status":
		h.announce(dev, nil)
		h.available(dev.ID)
	case "device_changed":
		h.announce(dev, nil)
	}
}

func (h *homeAssistant) topic(id devices.ID, last string) string {
	return h.Root + "/" + string(id) + "/" + last
}

// announce publishes the discovery message if it says something new: metrics are
// those about to be told, beside the declared and known ones.
func (h *homeAssistant) announce(dev *devices.Device, metrics []string) {
	s := h.of(dev.ID)
	if s.dev == dev && !slices.ContainsFunc(metrics, func(m string) bool { return s.parts[m] == "" && isPart(dev, m) }) {
		return
	}
	d := h.discovery(dev, metrics)
	now := d.platforms()
	if gone := h.gone(s, now); len(gone) > 0 {
		with := d
		with.Parts = maps.Clone(d.Parts)
		for name := range gone { // first without them, by their platform alone
			with.Parts[name] = map[string]any{"p": gone[name]}
		}
		if !h.config(dev.ID, with) {
			return
		}
		for name := range gone {
			h.send(dev.ID, h.topic(dev.ID, "ha/"+name), nil, 1)
		}
	}
	if h.config(dev.ID, d) {
		s.dev, s.parts = dev, now
	}
}

// isPart reports whether a metric is shown as a component of the device.
func isPart(dev *devices.Device, metric string) bool {
	_, ok := dev.Declared(metric)
	return ok && metric != "light" // which is the light's name
}

// gone are the components that are shown and are no more, or are of another
// platform now.
func (h *homeAssistant) gone(s *shown, now map[string]string) map[string]string {
	gone := map[string]string{}
	for name, platform := range s.parts {
		if now[name] != platform {
			gone[name] = platform
		}
	}
	return gone
}

func (h *homeAssistant) configTopic(id devices.ID) string {
	return h.prefix + "/device/hub_" + string(id) + "/config"
}

// config publishes a discovery message, unless it stands there.
func (h *homeAssistant) config(id devices.ID, d haDevice) bool {
	body, err := json.Marshal(d)
	if err != nil {
		return false // plain values
	}
	s, sum := h.of(id), maphash.Bytes(h.seed, body)
	if s.sum == sum {
		return true
	}
	if !h.send(id, h.configTopic(id), body, 1) {
		return false
	}
	s.sum = sum
	return true
}

// forget removes a deleted device from Home Assistant, and what the broker keeps
// of it. What cannot be said now is said when the broker is back.
func (h *homeAssistant) forget(id devices.ID) {
	s := h.shown[id]
	if s == nil {
		return
	}
	topics := []string{h.configTopic(id), h.topic(id, "online")}
	for name := range s.parts {
		topics = append(topics, h.topic(id, "ha/"+name))
	}
	for _, t := range topics {
		if !h.send(id, t, nil, 1) {
			return
		}
	}
	delete(h.shown, id)
}

// states publishes all that is known of a device.
func (h *homeAssistant) states(dev *devices.Device) {
	h.available(dev.ID)
	for metric, l := range h.Latest(dev.ID) {
		if !l.Undeclared {
			h.publishValue(dev.ID, metric, l.V, l.T)
		}
	}
	h.light(dev)
}

func (h *homeAssistant) available(id devices.ID) {
	word := h.word(id)
	if s := h.of(id); s.online != word && h.send(id, h.topic(id, "online"), []byte(word), 1) {
		s.online = word
	}
}

func (h *homeAssistant) value(id devices.ID, metric string, v readings.Value, t int64) {
	var x any
	if json.Unmarshal(v.AppendJSON(nil), &x) == nil {
		h.publishValue(id, metric, x, t)
	}
}

func (h *homeAssistant) publishValue(id devices.ID, metric string, v any, t int64) {
	b, err := json.Marshal(map[string]any{"v": v, "t": t})
	if err == nil {
		h.send(id, h.topic(id, "ha/"+metric), b, 0)
	}
}

func (h *homeAssistant) light(dev *devices.Device) {
	if dev.Light == nil {
		return
	}
	f, ok := h.State(dev.ID)
	if !ok {
		return
	}
	b, err := json.Marshal(haState(dev.Light, f))
	if err == nil {
		h.send(dev.ID, h.topic(dev.ID, "ha/light"), b, 1)
	}
}

// set gives a command that Home Assistant sent.
func (h *homeAssistant) set(ctx context.Context, id devices.ID, payload []byte) error {
	params, err := haCommand(payload)
	if err == nil {
		var b []byte
		if b, err = json.Marshal(params); err == nil {
			ctx, cancel := context.WithTimeout(ctx, haSetWait)
			defer cancel()
			actor := devices.Actor{Kind: devices.ActorBridge, Name: h.bus.Name(), Rights: devices.RightCommand}
			_, err = h.Issue(ctx, actor, devices.Origin{Via: devices.OverMQTT.Via()}, id, commands.Request{Op: "set", Params: b})
		}
	}
	if err == nil {
		h.accepted.Add(1)
		return nil
	}
	h.refused.Add(1)
	h.Log.Info("command from Home Assistant refused", "bridge", h.bus.Name(), "device", string(id), "err", err)
	h.later(work{id: id, event: &devices.Event{Device: id, Name: "state"}}) // what it shows is not so
	if _, again := retry(err); again {
		return notKept
	}
	return err
}
