package session

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/identity"
	"devicehub/devices/liveness"
	"devicehub/devices/quota"
	"devicehub/devices/readings"
	"devicehub/devices/trace"
)

// Readings takes in what devices measure; [readings.Ingest] is one.
type Readings interface {
	Submit(src readings.Source, b readings.Batch, done func(readings.Result, error))
	AckThrough(id devices.ID) []readings.BootAck
}

// Commands sends what people want to devices and hears what came of it;
// [commands.Dispatcher] is one.
type Commands interface {
	Connected(id devices.ID, epoch int64, transport devices.Transport, window int, send func(commands.Envelope) bool)
	Disconnected(id devices.ID, epoch int64)
	Pending(id devices.ID) []commands.Envelope
	Delta(id devices.ID) map[string]any
	Answer(id devices.ID, epoch int64, payload []byte) error
	Report(id devices.ID, epoch int64, at time.Time, payload []byte) (ver int64, err error)
}

// Liveness arbitrates connections; [liveness.Tracker] is one.
type Liveness interface {
	Admit(id devices.ID, c liveness.Conn) error
	Open(id devices.ID, c liveness.Conn, end func(code devices.Code, reason string, byEpoch int64)) (epoch int64, err error)
	SetBoot(id devices.ID, epoch int64, boot string)
	Close(id devices.ID, epoch int64, reason string)
	Answered(id devices.ID, epoch int64, sure bool)
	Heard(id devices.ID, epoch int64, what liveness.Heard)
	Pong(id devices.ID, epoch int64, rtt time.Duration)
	Sleep(id devices.ID, epoch int64, awakeAt int64)
}

// Identity judges tokens; [identity.Service] is one.
type Identity interface {
	Check(p identity.Principal) error
	RefreshDevice(ctx context.Context, p identity.Principal, o devices.Origin) (identity.DeviceToken, error)
	Used(p identity.Principal, boot string)
}

// Presence shows a device on the topic of one of its kinds for as long as
// owner is not done.
type Presence interface {
	Track(owner Done, k devices.Kind, id devices.ID, meta map[string]any) error
}

// Done is anything that ends.
type Done interface{ Done() <-chan struct{} }

// Limits bound what one device may do.
type Limits struct {
	FrameBytes      int
	ReadingsPerPush int
	PushesInFlight  int
	EventsPerSecond float64 // as the device is told; the Quota holds it to that
}

// Door lets devices in. Its fields are set before the first Open and not
// changed after; only the limits may change, through SetLimits.
type Door struct {
	Registry *devices.Registry
	Identity Identity
	Readings Readings
	Commands Commands
	Liveness Liveness
	Presence Presence
	Quota    *quota.Quota // of what devices may ask for, whichever way they come; nil: no bounds
	Node     string       // this node's name, shown in presence
	// Observe, if set, is told of every connection ("connect") and every event
	// with the code it was refused with, "" when it was taken.
	Observe func(transport devices.Transport, event string, code devices.Code)
	Trace   *trace.Tracer // may be nil
	Log     *slog.Logger

	mu       sync.Mutex
	limits   Limits
	sessions map[devices.ID]map[*Session]struct{} // several for a moment, while one replaces another
	expiring map[*Session]struct{}                // whose tokens are looked at every second
	arrivals map[devices.ID][]*Arrival
}

// SetLimits sets the limits for sessions opened from now on.
func (d *Door) SetLimits(l Limits) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limits = l
}

// Sessions is the number of open sessions.
func (d *Door) Sessions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, s := range d.sessions {
		n += len(s)
	}
	return n
}

// Limits returns the limits in force.
func (d *Door) Limits() Limits {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.limits
}

func (d *Door) observe(transport devices.Transport, event string, err error) {
	if d.Observe != nil {
		d.Observe(transport, event, codeOf(err))
	}
}

// Connects takes one connection from what a verified device may make; the error is
// rate_limited.
func (d *Door) Connects(id devices.ID) error {
	return d.Quota.Once(devices.ActorDevice, string(id), func(a *quota.Account) error {
		_, err := a.Allow(quota.Connects)
		return err
	})
}

// admit returns the record of a device that may connect directly now.
func (d *Door) admit(p identity.Principal, id devices.ID) (*devices.Device, error) {
	if p.Kind != devices.ActorDevice || p.Name != string(id) {
		return nil, devices.Refuse(devices.CodeForbidden, "the token is not this device's")
	}
	if err := d.Identity.Check(p); err != nil {
		return nil, err
	}
	dev, ok := d.Registry.Get(id)
	switch {
	case !ok:
		return nil, devices.Refuse(devices.CodeUnauthorized, "no such device")
	case !dev.Enabled:
		return nil, devices.Refuse(devices.CodeDeviceDisabled, "the device is disabled")
	case dev.Via != devices.ViaDirect:
		return nil, devices.Refuse(devices.CodeForbidden, "the device is connected through "+dev.Via)
	}
	return dev, nil
}

// Admit says early, before a transport has taken the connection, that Open would
// turn it away because devices fight over one identity. Else it returns the
// arrival for Hello, whose Done is to be called should there be no Open.
func (d *Door) Admit(id devices.ID, transport devices.Transport, addr string) (*Arrival, error) {
	if err := d.Liveness.Admit(id, liveness.Conn{Transport: transport, Addr: addr}); err != nil {
		return nil, err
	}
	return d.arrive(id), nil
}

// Watch ends or corrects sessions whose device changed. It is a
// [devices.Registry] watcher.
func (d *Door) Watch(c devices.Change) {
	for _, s := range d.of(c.ID()) {
		switch {
		case c.After == nil:
			s.End(devices.CodeTokenRevoked, "the device was deleted")
		case !c.After.Enabled:
			s.End(devices.CodeDeviceDisabled, "the device is disabled")
		case c.After.Via != devices.ViaDirect:
			s.End(devices.CodeForbidden, "the device is connected through "+c.After.Via)
		case ConfigChanged(c.Before, c.After):
			s.sendConfig(c.After)
		}
	}
}

// Recheck ends the sessions of the named devices, or of all, whose tokens are
// no longer good.
func (d *Door) Recheck(ids []devices.ID, all bool) {
	if all {
		d.mu.Lock()
		ids = slices.Collect(maps.Keys(d.sessions))
		d.mu.Unlock()
	}
	for _, id := range ids {
		for _, s := range d.of(id) {
			if err := d.Identity.Check(s.Principal()); err != nil {
				s.endFor(err)
			}
		}
	}
}

// Goodbye tells every connected device that the hub is going down; the
// transports close the connections after it.
func (d *Door) Goodbye() {
	d.mu.Lock()
	var list []*Session
	for _, set := range d.sessions {
		for s := range set {
			list = append(list, s)
		}
	}
	d.mu.Unlock()
	for _, s := range list {
		for _, k := range s.topics() {
			s.send(k, "disconnect", map[string]any{"code": "server_drain", "reason": "the hub is restarting"})
		}
	}
}

func (d *Door) of(id devices.ID) []*Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]*Session, 0, len(d.sessions[id]))
	for s := range d.sessions[id] {
		list = append(list, s)
	}
	return list
}

// turns is how many seconds it takes to look at every session once.
const turns = 60

// Run pings devices, warns of tokens that run out and ends the sessions of
// those that did, until ctx is done.
func (d *Door) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := uint32(0); ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			for _, s := range d.turnOf(n%turns, turns) {
				s.tend(now)
			}
			for _, s := range d.runningOut() {
				s.watchToken(now)
			}
		}
	}
}

func (d *Door) runningOut() []*Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.expiring))
}

// expires says whether the session's token is looked at every second.
func (d *Door) expires(s *Session, soon bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, open := d.sessions[s.device][s]; !open || !soon {
		delete(d.expiring, s)
		return
	}
	if d.expiring == nil {
		d.expiring = map[*Session]struct{}{}
	}
	d.expiring[s] = struct{}{}
}

func (d *Door) turnOf(i, of uint32) []*Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []*Session
	for _, set := range d.sessions {
		for s := range set {
			if s.turn%of == i {
				list = append(list, s)
			}
		}
	}
	return list
}
