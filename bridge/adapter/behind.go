package adapter

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/identity"
	"devicehub/devices/lights"
	"devicehub/devices/liveness"
	"devicehub/devices/quota"
	"devicehub/devices/readings"
)

// Hub is what the adapters of every bus need of the hub.
type Hub struct {
	Registry *devices.Registry
	Readings Readings
	Commands Commands
	Liveness Liveness
	Tokens   Tokens
	// Issue is the dispatcher's: a command that somebody gave in a dialect.
	Issue func(ctx context.Context, a devices.Actor, o devices.Origin, id devices.ID, r commands.Request) (commands.Receipt, error)
	// State is a light's reported state, Latest a device's readings and Status
	// what else is known of it.
	State  func(id devices.ID) (lights.Fields, bool)
	Latest func(id devices.ID) map[string]readings.Latest
	Status func(id devices.ID) devices.Status
	Root   string // of the native topics and Home Assistant's
	// Version is the hub's own, URL where people find it; both may be empty.
	Version, URL string
	// EventsPerS bounds the messages of the whole bus; 0 does not. What comes
	// faster waits: a broker that has acknowledged it has nobody to give it back to.
	EventsPerS int
	Audit      devices.Auditor
	Log        *slog.Logger
}

// Readings takes in what devices measure; [readings.Ingest] is one.
type Readings interface {
	Submit(src readings.Source, b readings.Batch, done func(readings.Result, error))
}

// Commands is the commands of devices; [commands.Dispatcher] is one.
type Commands interface {
	Connected(id devices.ID, epoch int64, transport devices.Transport, window int, send func(commands.Envelope) bool)
	Disconnected(id devices.ID, epoch int64)
	Answer(id devices.ID, epoch int64, payload []byte) error
	Forwarded(id devices.ID, epoch int64, cmdID string)
	Report(id devices.ID, epoch int64, at time.Time, payload []byte) (ver int64, err error)
}

// Liveness knows the links behind bridges; [liveness.Tracker] is one.
type Liveness interface {
	BridgeUp(name string)
	BridgeDown(name string)
	BridgeHeard(id devices.ID, name string, can liveness.Availability) (epoch int64)
	BridgeAvailable(id devices.ID, name string, online bool, reason string) (epoch int64)
	BridgeUnknown(id devices.ID, name string)
	Current(id devices.ID) (epoch int64, c liveness.Conn, ok bool)
}

// Tokens verifies the tokens inside messages of a bus that vouches for nobody;
// [identity.Service] does.
type Tokens interface {
	VerifyBridge(bridge string, id devices.ID, token string) (identity.Principal, error)
}

// Stats counts what happened on one bus.
type Stats struct {
	Accepted int64 // messages of devices that were taken
	Refused  int64 // for good
	Retained int64 // commands that were found retained
	Foreign  int64 // messages of devices that are not this bridge's
}

// Behind is the devices behind one bus: what they say is judged and handed on
// here, whatever their dialect. A bus speaks only for devices whose via is its
// name.
type Behind struct {
	Hub
	bus   Bus
	trust bool // the bus vouches for the id in a topic

	accepted, refused, retained, foreign atomic.Int64

	mu      sync.Mutex
	members map[devices.ID]*member
	met     map[string]*Discovered
	labels  map[string]devices.ID // "<kind>=<address>", of the registry's version
	version int64
}

type member struct {
	boot   string
	epoch  int64
	linked bool
	errors *quota.Limiter // told to the device
	can    liveness.Availability
	send   func(*devices.Device, commands.Envelope) bool
}

// Discovered is a device that an adapter has met and nobody has adopted.
type Discovered struct {
	Adopt  string `json:"adopt"` // names it: "<bridge>/<kind>/<address>"
	Bridge string `json:"bridge"`
	SeenAt int64  `json:"seen_at"`
	// Device is what the adapter knows of it. A record with its via and its label,
	// which is named for the dialect and holds the address there, is that device.
	Device *devices.Device `json:"device"`

	kind, address string
	join          func(*devices.Device) // once it is adopted
}

// NewBehind is the devices behind bus. trust says that the broker's own rules
// vouch for who publishes under an id; else every message carries a bridge token.
func NewBehind(h Hub, bus Bus, trust bool) *Behind {
	return &Behind{Hub: h, bus: bus, trust: trust, members: map[devices.ID]*member{}, met: map[string]*Discovered{}}
}

// Stats returns the counts.
func (b *Behind) Stats() Stats {
	return Stats{b.accepted.Load(), b.refused.Load(), b.retained.Load(), b.foreign.Load()}
}

// Up says that the bus is connected: devices that are known behind it hear
// commands again.
func (b *Behind) Up() {
	b.Liveness.BridgeUp(b.bus.Name())
	b.mu.Lock()
	ids := slices.Collect(maps.Keys(b.members))
	b.mu.Unlock()
	for _, id := range ids {
		if epoch, c, ok := b.Liveness.Current(id); ok && c.Transport == b.transport() {
			b.link(id, epoch)
		}
	}
}

// word is the hub's own on whether a device can be expected to answer.
func (b *Behind) word(id devices.ID) string {
	if s := b.Status(id).State; s == devices.Offline || s == devices.NeverSeen {
		return "offline"
	}
	return "online"
}

// Down says that the bus lost its connection.
func (b *Behind) Down() { b.Liveness.BridgeDown(b.bus.Name()) }

func (b *Behind) transport() devices.Transport { return devices.OverBridge(b.bus.Name()) }

// device is the record of a device that may speak through this bus.
func (b *Behind) device(id devices.ID) (*devices.Device, error) {
	dev, ok := b.Registry.Get(id)
	switch {
	case !ok:
		return nil, devices.NotFound("device")
	case dev.Via != b.bus.Name():
		b.foreign.Add(1)
		return nil, devices.Refuse(devices.CodeForbidden, "the device is not connected through "+b.bus.Name())
	case !dev.Enabled:
		return nil, devices.Refuse(devices.CodeDeviceDisabled, "the device is disabled")
	}
	return dev, nil
}

// token checks the "token" of a JSON message and takes it out, before anything
// else is done with the message.
func (b *Behind) token(id devices.ID, payload []byte) ([]byte, error) {
	if b.trust {
		return payload, nil
	}
	if err := devices.CheckJSON(payload, "payload"); err != nil { // what is made of it below has each field once
		return nil, err
	}
	var fields map[string]json.RawMessage
	var token string
	if json.Unmarshal(payload, &fields) != nil || json.Unmarshal(fields["token"], &token) != nil || token == "" {
		return nil, devices.Refuse(devices.CodeUnauthorized, "the message carries no bridge token")
	}
	if _, err := b.Tokens.VerifyBridge(b.bus.Name(), id, token); err != nil {
		return nil, err
	}
	delete(fields, "token")
	return json.Marshal(fields)
}

func (b *Behind) member(id devices.ID) *member {
	m := b.members[id]
	if m == nil {
		m = &member{errors: quota.NewLimiter(quota.Rate{PerSecond: 10, Burst: 10})}
		b.members[id] = m
	}
	return m
}

// speaks is the way to send commands to a device, and what its dialect can know
// of its link.
func (b *Behind) speaks(id devices.ID, can liveness.Availability, send func(*devices.Device, commands.Envelope) bool) {
	b.mu.Lock()
	m := b.member(id)
	m.can, m.send = can, send
	b.mu.Unlock()
}

// heard notes a sign of life.
func (b *Behind) heard(id devices.ID) {
	epoch, _ := b.sign(id)
	b.link(id, epoch)
}

// sign notes a sign of life, and leaves it to the caller to make commands flow
// over the link of epoch: what a device says of those under way counts before
// they are sent again. over is the epoch of the way that it came, which is not
// lower than that by which commands went.
func (b *Behind) sign(id devices.ID) (epoch, over int64) {
	b.mu.Lock()
	can := b.member(id).can
	b.mu.Unlock()
	epoch = b.Liveness.BridgeHeard(id, b.bus.Name(), can)
	return epoch, max(epoch, b.way(id))
}

// way is the epoch over which commands go to the device.
func (b *Behind) way(id devices.ID) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.member(id).epoch
}

// link makes commands flow over the link of epoch; 0 is an unknown link, over
// which they are sent all the same.
func (b *Behind) link(id devices.ID, epoch int64) {
	b.mu.Lock()
	m := b.member(id)
	if m.linked && m.epoch >= epoch || m.send == nil { // an unknown link does not take the place of a known one
		b.mu.Unlock()
		return
	}
	m.linked, m.epoch = true, epoch
	send := m.send
	b.mu.Unlock()
	b.Commands.Connected(id, epoch, b.transport(), 1, func(e commands.Envelope) bool {
		dev, err := b.device(id)
		return err == nil && send(dev, e)
	})
}

// available takes a device's own word on whether it is there.
func (b *Behind) available(id devices.ID, online bool, reason string) {
	epoch := b.Liveness.BridgeAvailable(id, b.bus.Name(), online, reason)
	if online {
		b.link(id, epoch)
		return
	}
	b.mu.Lock()
	m := b.member(id)
	was, last := m.linked, m.epoch
	m.linked = false
	b.mu.Unlock()
	if was {
		b.Commands.Disconnected(id, last)
	}
}

// mayComplain takes one from the errors that a device is told.
func (b *Behind) mayComplain(id devices.ID) bool {
	b.mu.Lock()
	l := b.member(id).errors
	b.mu.Unlock()
	_, ok := l.Take(time.Now())
	return ok
}

// push hands the readings of a message on, as of the boot that the device last
// named. They are a sign of life, whatever becomes of them.
func (b *Behind) push(m Message, dev *devices.Device, batch readings.Batch, done func(error)) {
	b.pushTold(m, dev, batch, func(_ *readings.Refusal, err error) { done(err) })
}

// pushTold is push for a dialect that has a word for what was refused of a message
// otherwise taken: done hears of that too, nil if it is nothing.
func (b *Behind) pushTold(m Message, dev *devices.Device, batch readings.Batch, done func(*readings.Refusal, error)) {
	id := dev.ID
	var refused *readings.Refusal // at the last try
	b.mu.Lock()
	mem := b.member(id)
	if batch.Boot != "" {
		mem.boot = batch.Boot
	}
	boot := mem.boot
	b.mu.Unlock()
	b.heard(id)
	fate := func(err error) { done(refused, err) }
	m.job.pass(push{readings: batch.Len(), done: fate, submit: func(o *readings.Order, landed func(error)) {
		dev, err := b.device(id)
		if err != nil {
			landed(err)
			return
		}
		src := readings.Source{Device: dev, Boot: boot, Transport: b.transport(), Order: o}
		b.Readings.Submit(src, batch, func(r readings.Result, err error) {
			if refused = nil; len(r.Rejected) > 0 {
				some, _ := r.Refusal()
				refused = &some
			}
			landed(err)
		})
	}})
}

// report hands on a light's state, which arrived at the time at.
func (b *Behind) report(dev *devices.Device, at time.Time, state []byte) error {
	epoch, over := b.sign(dev.ID)
	_, err := b.Commands.Report(dev.ID, over, at, state)
	b.link(dev.ID, epoch)
	return err
}

// answer hands on what a device, or the adapter in its place, says of a command.
func (b *Behind) answer(id devices.ID, payload []byte) error {
	epoch, over := b.sign(id)
	err := b.Commands.Answer(id, over, payload)
	b.link(id, epoch)
	return err
}

// forwarded says that a command was passed on to a device that has no word for
// it, and unsupported that there is none for the command. Both do so on a
// goroutine of their own: the dispatcher is still sending.
func (b *Behind) forwarded(id devices.ID, cmd string) {
	time.AfterFunc(0, func() { b.Commands.Forwarded(id, b.way(id), cmd) })
}

func (b *Behind) unsupported(id devices.ID, cmd string) {
	time.AfterFunc(0, func() {
		p, _ := json.Marshal(map[string]string{"cmd_id": cmd, "status": "rejected", "code": "unsupported"})
		_ = b.Commands.Answer(id, b.way(id), p) // it may have ended in the meantime
	})
}

// taken counts the outcome of a message.
func (b *Behind) taken(done func(error)) func(error) {
	return func(err error) {
		var e *devices.Error
		switch {
		case err == nil:
			b.accepted.Add(1)
		case errors.As(err, &e) && !e.Retryable():
			b.refused.Add(1)
			b.Log.Debug("bridge message refused", "bridge", b.bus.Name(), "code", string(e.Code))
		}
		done(err)
	}
}

// retainedCommand drops, counts and audits a command that the broker keeps.
func (b *Behind) retainedCommand(target string) {
	b.retained.Add(1)
	if b.Audit != nil {
		b.Audit.Record(devices.Origin{Via: devices.OverMQTT.Via()}, devices.AuditEntry{
			Actor: "bridge:" + b.bus.Name(), Via: devices.OverMQTT.Via(), Action: "mqtt.retained", Target: target, Outcome: "refused", Code: devices.CodeRetainedCommand,
		})
	}
}

// adopted is the device that was adopted under an address of a dialect. The
// label named for the dialect holds it.
func (b *Behind) adopted(kind, address string) (*devices.Device, bool) {
	b.mu.Lock()
	if v := b.Registry.Version(); b.labels == nil || v != b.version {
		b.labels, b.version = map[string]devices.ID{}, v
		for dev := range b.Registry.All() {
			if dev.Via != b.bus.Name() {
				continue
			}
			for _, k := range Kinds() {
				if a := dev.Labels[k]; a != "" {
					b.labels[k+"="+a] = dev.ID
				}
			}
		}
	}
	id, ok := b.labels[kind+"="+address]
	b.mu.Unlock()
	if !ok {
		return nil, false
	}
	dev, err := b.device(id)
	return dev, err == nil
}

const maxMet = 1000

// meet remembers a device that nobody has adopted. When somebody does, join says
// what is known of it by then: a lamp may have nothing to say before it is told.
func (b *Behind) meet(kind, address string, dev *devices.Device, join func(*devices.Device)) {
	if len(address) > devices.MaxLabel {
		return // could not be kept with the record
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	name := b.bus.Name() + "/" + kind + "/" + address
	if b.met[name] == nil && len(b.met) >= maxMet {
		return
	}
	dev.Labels = map[string]string{kind: address}
	b.met[name] = &Discovered{Adopt: name, Bridge: b.bus.Name(), SeenAt: time.Now().UnixMilli(), Device: dev, kind: kind, address: address, join: join}
}

// changed is told of every change of a record: it may be an adoption.
func (b *Behind) changed(id devices.ID) {
	dev, ok := b.Registry.Get(id)
	if !ok || dev.Via != b.bus.Name() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if m := b.members[id]; m != nil && m.linked {
		return
	}
	for _, kind := range Kinds() {
		if d := b.met[b.bus.Name()+"/"+kind+"/"+dev.Labels[kind]]; d != nil {
			time.AfterFunc(0, func() { d.join(dev) }) // the change's call has not returned
		}
	}
}

// keepMet forgets what was met in a dialect under other addresses: it is gone.
func (b *Behind) keepMet(kind string, addresses map[string]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.met, func(_ string, d *Discovered) bool { return d.kind == kind && !addresses[d.address] })
}

// known is what was met under an address so far, or nil.
func (b *Behind) known(kind, address string) *devices.Device {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.met[b.bus.Name()+"/"+kind+"/"+address]; d != nil {
		return d.Device
	}
	return nil
}

// Discovered lists the devices that were met and not adopted, by name.
func (b *Behind) Discovered() []Discovered {
	b.mu.Lock()
	list := make([]Discovered, 0, len(b.met))
	for _, name := range slices.Sorted(maps.Keys(b.met)) {
		list = append(list, *b.met[name])
	}
	b.mu.Unlock()
	return slices.DeleteFunc(list, func(d Discovered) bool {
		_, taken := b.adopted(d.kind, d.address)
		return taken
	})
}
