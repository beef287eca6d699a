// Package shadow keeps, for each device, what it was last known to be
// (reported) and what people want it to be (desired), under one version that
// rises with every change of either.
//
// Intent is not for ever: under local_wins, the default, a desired field goes
// when the device has it, when somebody changed it at the device later, or when
// its time is over. Under desired_wins it stays until it is replaced or deleted.
// The difference of both sides, the delta, is what a device is told when it
// comes back.
package shadow

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/internal/perdevice"
	"devicehub/devices/lights"
)

// Limits of a shadow.
const (
	MaxBytes = 8192 // of desired, and of a report, as JSON
	MaxDepth = 4
	// IntentFor is how long a desired field of a local_wins device stands.
	IntentFor = 10 * time.Minute
	maxUntil  = 366 * 24 * time.Hour
)

// Config is what a Shadows is made of. Store and Registry are required.
type Config struct {
	Store    Store
	Registry *devices.Registry
	Audit    devices.Auditor // may be nil
	// Scale is the greatest brightness that a device counts to, lights.Unknown
	// where it is not known; nil: known of none.
	Scale func(d *devices.Device) int
	// ClockOffset is how far a device's clock is ahead of the hub's, in ms, where
	// it is known; nil: known of none.
	ClockOffset func(id devices.ID) (ms int64, ok bool)
	Logger      *slog.Logger
	Now         func() time.Time // time.Now unless set
}

// Shadows holds every device's shadow in memory and writes changes behind. Safe
// for concurrent use.
type Shadows struct {
	cfg   Config
	now   func() time.Time
	log   *slog.Logger
	start int64 // the number of this start of the hub

	table   *perdevice.Table[devices.ID, doc]
	writes  writer
	patched []func(id devices.ID)
}

// entry is a shadow with its lock held.
type entry = perdevice.Entry[devices.ID, doc]

// Meta is where the value of a field comes from.
type Meta struct {
	Ver   int64  `json:"ver"`
	At    int64  `json:"at"` // ms since epoch
	By    string `json:"by,omitempty"`
	Cause string `json:"cause,omitempty"`
	Cmd   string `json:"cmd,omitempty"`
	Until int64  `json:"until,omitempty"` // of a desired field: when it ends by itself
}

// Doc is a shadow as people see it.
type Doc struct {
	Device       devices.ID      `json:"device"`
	Kind         devices.Kind    `json:"kind"`
	Ver          int64           `json:"ver"`
	Desired      map[string]any  `json:"desired"`
	DesiredMeta  map[string]Meta `json:"desired_meta"`
	Reported     map[string]any  `json:"reported"`
	ReportedMeta map[string]Meta `json:"reported_meta"`
	Delta        map[string]any  `json:"delta"`
}

// doc is a shadow in memory. Guarded by its entry.
type doc struct {
	id    devices.ID
	said  bool // something was said of the device
	ver   int64
	limit int64 // versions below it may be given out: they are reserved on disk
	body
	interim lights.Fields // of a transition under way; not stored
	target  lights.Fields
}

// body is what is stored of a shadow, beside its version.
type body struct {
	Desired      lights.Fields   `json:"desired,omitempty"`
	DesiredMeta  map[string]Meta `json:"desired_meta,omitempty"`
	Reported     lights.Fields   `json:"reported,omitempty"`
	ReportedMeta map[string]Meta `json:"reported_meta,omitempty"`
	Last         said            `json:"last"`
}

// said is what the last report said about itself.
type said struct {
	T     int64  `json:"t,omitempty"`
	Cause string `json:"cause,omitempty"`
	By    string `json:"by,omitempty"`
	Cmd   string `json:"cmd,omitempty"`
}

// New loads every shadow.
func New(ctx context.Context, cfg Config) (*Shadows, error) {
	s := &Shadows{cfg: cfg, now: cfg.Now, log: cfg.Logger}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.table = perdevice.New(perdevice.Rules[devices.ID, doc]{Make: s.unwritten, Due: s.expire, Now: s.now})
	s.writes.init(s)
	var err error
	if s.start, err = cfg.Store.ShadowStart(ctx); err != nil {
		return nil, fmt.Errorf("count the start: %w", err)
	}
	rows, err := cfg.Store.LoadShadows(ctx)
	if err != nil {
		return nil, fmt.Errorf("load shadows: %w", err)
	}
	for _, row := range rows {
		if _, ok := cfg.Registry.Get(row.Device); !ok {
			continue
		}
		s.table.With(row.Device, func(e *entry) {
			if e.State, err = row.doc(s.start); err == nil {
				s.watchUntil(e)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	cfg.Registry.Watch(s.changed)
	return s, nil
}

// Watch has f called after a change of desired that did not come from a
// command. For wiring, before the first Patch; f must not block.
func (s *Shadows) Watch(f func(id devices.ID)) { s.patched = append(s.patched, f) }

// Run ends intent whose time is over and writes what changed, until ctx ends;
// then it writes what is left.
func (s *Shadows) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.table.Run(ctx) })
	wg.Go(func() { s.writes.run(ctx) })
	wg.Wait()
	return nil
}

// with runs f on the device's shadow, made if need be, under its lock. f
// returns an error to leave it; what it changed is written.
func (s *Shadows) with(rec *devices.Device, f func(d *doc, now time.Time) (changed bool, err error)) (err error) {
	s.table.With(rec.ID, func(e *entry) {
		d := &e.State
		var changed bool
		if d.ver+1 >= d.limit {
			s.writes.kick()
			err = devices.Refuse(devices.CodeOverloaded, "the shadow changes faster than it can be kept").After(100 * time.Millisecond)
		} else {
			changed, err = f(d, s.now())
		}
		d.said = d.said || err == nil
		switch {
		case !d.said:
			e.Delete()
		case changed && err == nil:
			s.watchUntil(e)
			s.writes.mark(d.id)
		}
	})
	return err
}

// unwritten makes the shadow of a device of which nothing was said yet.
func (s *Shadows) unwritten(e *entry) bool {
	e.State = s.fresh(e.Key)
	return true
}

func (s *Shadows) fresh(id devices.ID) doc {
	first := (s.start - 1) * firstBlock
	return doc{id: id, ver: first, limit: first + firstBlock}
}

func (s *Shadows) watchUntil(e *entry) {
	var next int64
	for _, m := range e.State.DesiredMeta {
		if m.Until != 0 && (next == 0 || m.Until < next) {
			next = m.Until
		}
	}
	if next != 0 {
		now := s.now()
		e.Sooner(now.Add(time.Duration(next-now.UnixMilli()) * time.Millisecond))
	}
}

// expire ends desired fields whose time is over.
func (s *Shadows) expire(id devices.ID) {
	rec, ok := s.cfg.Registry.Get(id)
	if !ok {
		return
	}
	err := s.with(rec, func(d *doc, now time.Time) (bool, error) {
		changed := false
		for name, m := range d.DesiredMeta {
			if m.Until != 0 && m.Until <= now.UnixMilli() {
				d.drop(name)
				changed = true
			}
		}
		if changed {
			d.ver++
		}
		return changed, nil
	})
	s.table.Find(id, func(e *entry) {
		if err != nil {
			e.Sooner(s.now().Add(time.Second))
		} else {
			s.watchUntil(e)
		}
	})
}

func (d *doc) drop(name string) {
	delete(d.Desired, name)
	delete(d.DesiredMeta, name)
}

func (d *doc) want(name string, v any, m Meta) {
	if d.Desired == nil {
		d.Desired, d.DesiredMeta = lights.Fields{}, map[string]Meta{}
	}
	d.Desired[name], d.DesiredMeta[name] = v, m
}

// shows reports whether a state has the field as v, as far as the device can tell.
func (s *Shadows) shows(rec *devices.Device, state lights.Fields, name string, v any) bool {
	if !rec.Is(devices.KindLight) {
		return reflect.DeepEqual(v, state[name])
	}
	return state.Shows(name, v, s.Scale(rec))
}

// Scale is the greatest brightness that the device counts to, lights.Unknown
// where it is not known.
func (s *Shadows) Scale(rec *devices.Device) int {
	if s.cfg.Scale == nil {
		return lights.Unknown
	}
	return s.cfg.Scale(rec)
}

// live reports whether a desired field is still meant.
func (m Meta) live(now int64) bool { return m.Until == 0 || m.Until > now }

func (s *Shadows) delta(rec *devices.Device, d *doc) map[string]any {
	now := s.now().UnixMilli()
	delta := map[string]any{}
	for name, v := range d.Desired {
		if d.DesiredMeta[name].live(now) && !s.shows(rec, d.Reported, name, v) {
			delta[name] = v
		}
	}
	return delta
}

// Doc is the device's shadow, also where neither side was ever written; ok is
// false for one that was not.
func (s *Shadows) Doc(id devices.ID) (Doc, bool) {
	rec, ok := s.cfg.Registry.Get(id)
	if !ok {
		return Doc{}, false
	}
	var v Doc
	ok = s.table.Find(id, func(e *entry) { v = s.view(rec, &e.State) })
	if !ok {
		d := s.fresh(id)
		v = s.view(rec, &d)
	}
	return v, ok
}

func (s *Shadows) view(rec *devices.Device, d *doc) Doc {
	v := Doc{Device: rec.ID, Kind: rec.ControlTopicKinds()[0], Ver: d.ver,
		Desired: map[string]any{}, DesiredMeta: map[string]Meta{}, ReportedMeta: map[string]Meta{}, Delta: s.delta(rec, d)}
	now := s.now().UnixMilli()
	for name, m := range d.DesiredMeta {
		if m.live(now) {
			v.Desired[name], v.DesiredMeta[name] = d.Desired[name], m
		}
	}
	maps.Copy(v.ReportedMeta, d.ReportedMeta)
	v.Reported = d.state(rec)
	return v
}

// state is the reported side as people see it, during a transition the interim
// values.
func (d *doc) state(rec *devices.Device) map[string]any {
	f := d.Reported
	if d.interim != nil {
		f = d.interim
	}
	if len(f) == 0 {
		return map[string]any{}
	}
	m := maps.Clone(map[string]any(f))
	if rec.Is(devices.KindLight) {
		m = f.Wire()
	}
	m["transitioning"] = d.interim != nil
	if len(d.target) > 0 {
		m["target"] = map[string]any(d.target)
	}
	m["ver"], m["t"], m["cause"] = d.ver, d.Last.T, d.Last.Cause
	if d.Last.By != "" {
		m["by"] = d.Last.By
	}
	if d.Last.Cmd != "" {
		m["cmd"] = d.Last.Cmd
	}
	return m
}

// Delta is what the device has yet to become: the desired fields that differ
// from what it reported.
func (s *Shadows) Delta(id devices.ID) map[string]any {
	if !s.wanted(id) {
		return map[string]any{}
	}
	d, _ := s.Doc(id)
	return d.Delta
}

// wanted reports whether anything is desired of the device.
func (s *Shadows) wanted(id devices.ID) (wanted bool) {
	s.table.Find(id, func(e *entry) { wanted = len(e.State.Desired) > 0 })
	return wanted
}

// DeltaBeside is Delta without the fields that commands for which open is true
// ask for, and who wanted the rest.
func (s *Shadows) DeltaBeside(id devices.ID, open func(cmd string) bool) (delta map[string]any, by string) {
	if !s.wanted(id) {
		return nil, ""
	}
	d, _ := s.Doc(id)
	for name := range d.Delta {
		m := d.DesiredMeta[name]
		if m.Cmd != "" && open(m.Cmd) {
			delete(d.Delta, name)
			continue
		}
		by = m.By
	}
	return d.Delta, by
}

// State is what the device last reported of itself, without interim values. It
// must not be modified.
func (s *Shadows) State(id devices.ID) (f lights.Fields) {
	s.table.Find(id, func(e *entry) { f = maps.Clone(e.State.Reported) })
	return f
}

// Power is whether a light is on and how bright, as reported at the time at or,
// during a transition, as it passes; ok is false for one that never said.
func (s *Shadows) Power(id devices.ID) (on bool, brightness int, at int64, ok bool) {
	s.table.Find(id, func(e *entry) {
		d := &e.State
		f := d.Reported
		if d.interim != nil {
			f = d.interim
		}
		on, ok = f[lights.On].(bool)
		b, _ := f[lights.Brightness].(float64)
		brightness, at = int(b), d.Last.T
	})
	return on, brightness, at, ok
}

// changed forgets the shadow of a deleted device.
func (s *Shadows) changed(c devices.Change) {
	if c.After != nil {
		return
	}
	s.table.Find(c.ID(), (*entry).Delete)
	s.writes.forget(c.ID())
}
