package devices

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// TombstoneFor is how long a deleted id stays taken.
const TombstoneFor = 30 * 24 * time.Hour

// RegistryStore keeps device records. Each call is durable, and all or
// nothing, when it returns nil.
type RegistryStore interface {
	LoadDevices(ctx context.Context) ([]*Device, error)
	LoadTombstones(ctx context.Context) (map[ID]time.Time, error) // id -> when it was deleted
	PutDevices(ctx context.Context, ds []*Device) error
	// DeleteDevice removes the record, leaves a tombstone and forgets what the other stores keep under the id.
	DeleteDevice(ctx context.Context, id ID, at time.Time) error
}

// Registry knows every device. Reads come from memory and never wait for a
// disk; changes are durable before they are seen. Of one device one change runs
// at a time; those of several wait for the disk together. Safe for concurrent use.
type Registry struct {
	store RegistryStore

	changing claims     // the devices that are being changed
	telling  sync.Mutex // held while a change that is durable is made seen and told
	mu       sync.RWMutex
	devices  map[ID]*Device
	tombs    map[ID]time.Time
	watchers []func(Change)
	guards   []func(context.Context, Change) error
	version  atomic.Int64
}

// Change is one change of the registry. Before is nil for a new device, After
// for a deleted one.
type Change struct {
	Before, After *Device
}

// ID is the device that changed.
func (c Change) ID() ID {
	if c.After != nil {
		return c.After.ID
	}
	return c.Before.ID
}

// OpenRegistry loads every record of the store.
func OpenRegistry(ctx context.Context, store RegistryStore) (*Registry, error) {
	ds, err := store.LoadDevices(ctx)
	if err != nil {
		return nil, fmt.Errorf("load devices: %w", err)
	}
	tombs, err := store.LoadTombstones(ctx)
	if err != nil {
		return nil, fmt.Errorf("load tombstones: %w", err)
	}
	r := &Registry{store: store, devices: make(map[ID]*Device, len(ds)), tombs: tombs}
	for _, d := range ds {
		d.Ver = max(d.Ver, 1) // records from before there were versions
		r.devices[d.ID] = d
	}
	return r, nil
}

// Watch has f called after every change, in order, before the change's call
// returns. f must not block and must not change the registry. Watch is for
// wiring, before the first change.
func (r *Registry) Watch(f func(Change)) { r.watchers = append(r.watchers, f) }

// Guard has f asked before a device is made or changed; its error refuses that.
// f must not change the registry, and may be asked about several devices at once.
// Guard is for wiring, before the first change.
func (r *Registry) Guard(f func(context.Context, Change) error) { r.guards = append(r.guards, f) }

// judge refuses what no one can mean, and what a guard will not have.
func (r *Registry) judge(ctx context.Context, c Change) error {
	if err := c.After.judge(c.Before); err != nil {
		return err
	}
	for _, f := range r.guards {
		if err := f(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// Get returns the record of a device. It is shared: do not modify it.
func (r *Registry) Get(id ID) (*Device, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	d, ok := r.devices[id]
	return d, ok
}

// Len is the number of devices.
func (r *Registry) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.devices)
}

// Version rises with every change, so that what was derived from All can be
// kept until it moves.
func (r *Registry) Version() int64 { return r.version.Load() }

// All yields every device as it was when the iteration began, in no order.
func (r *Registry) All() iter.Seq[*Device] {
	return func(yield func(*Device) bool) {
		r.mu.RLock()
		ds := make([]*Device, 0, len(r.devices))
		for _, d := range r.devices {
			ds = append(ds, d)
		}
		r.mu.RUnlock()
		for _, d := range ds {
			if !yield(d) {
				return
			}
		}
	}
}

// Create adds devices, all or none. It returns the first record's error of
// Normalize, that of a declaration that no one can mean or of a guard, or a
// conflict when an id is taken, or was deleted within TombstoneFor and the context
// is not one of [Reusing].
func (r *Registry) Create(ctx context.Context, now time.Time, ds ...*Device) error {
	ids := make([]ID, len(ds))
	for i, d := range ds {
		ids[i] = d.ID
	}
	defer r.changing.claim(ids...)()
	seen := make(map[ID]bool, len(ds))
	for _, d := range ds {
		if err := d.Normalize(); err != nil {
			return withDevice(err, d.ID)
		}
		if err := r.judge(ctx, Change{After: d}); err != nil {
			return withDevice(err, d.ID)
		}
		if d.CreatedAt == 0 {
			d.CreatedAt = now.UnixMilli()
		}
		d.Ver = 1
		if seen[d.ID] {
			return Refuse(CodeConflict, fmt.Sprintf("the id %q is given twice", d.ID)).With("id", d.ID)
		}
		if err := r.free(ctx, d.ID, now); err != nil {
			return err
		}
		seen[d.ID] = true
	}
	if err := r.store.PutDevices(ctx, ds); err != nil {
		return fmt.Errorf("create devices: %w", err)
	}
	changes := make([]Change, len(ds))
	for i, d := range ds {
		changes[i] = Change{After: d}
	}
	r.show(time.Time{}, changes...)
	return nil
}

func withDevice(err error, id ID) error {
	var e *Error
	if errors.As(err, &e) {
		return e.With("id", id)
	}
	return err
}

type reusing struct{}

// Reusing returns a context in which Create takes the ids of deleted devices.
func Reusing(ctx context.Context) context.Context { return context.WithValue(ctx, reusing{}, true) }

// free refuses an id that is not to be had.
func (r *Registry) free(ctx context.Context, id ID, now time.Time) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, taken := r.devices[id]; taken {
		return Refuse(CodeConflict, fmt.Sprintf("the id %q is taken", id)).With("id", id)
	}
	if at, deleted := r.tombs[id]; deleted && now.Sub(at) < TombstoneFor && ctx.Value(reusing{}) == nil {
		until := at.Add(TombstoneFor)
		return Refuse(CodeConflict, fmt.Sprintf("the id %q was a deleted device's and is free again on %s; reuse=true takes it now", id, until.UTC().Format(time.DateOnly))).
			With("id", id).With("until", until.UnixMilli())
	}
	return nil
}

// Update changes one device through change, which is given a copy, and raises
// its version unless nothing is different then. It returns the new record,
// not_found, change's error, that of Normalize, of a declaration that is new and
// that no one can mean, or of a guard. ID, Ver, CreatedAt and Kinds cannot be
// changed. What change finds in Ver still holds when the record is replaced.
func (r *Registry) Update(ctx context.Context, id ID, change func(*Device) error) (*Device, error) {
	return r.change(ctx, id, 1, change)
}

// Report is Update for what a device says of itself, such as its firmware: the
// version stays, so that nobody's edit fails for it.
func (r *Registry) Report(ctx context.Context, id ID, change func(*Device) error) (*Device, error) {
	return r.change(ctx, id, 0, change)
}

func (r *Registry) change(ctx context.Context, id ID, raise int64, change func(*Device) error) (*Device, error) {
	defer r.changing.claim(id)()
	before, ok := r.Get(id)
	if !ok {
		return nil, NotFound("device")
	}
	after := before.Clone()
	if err := change(after); err != nil {
		return nil, err
	}
	after.ID, after.Ver, after.CreatedAt, after.Kinds = before.ID, before.Ver, before.CreatedAt, before.Kinds
	if err := after.Normalize(); err != nil {
		return nil, err
	}
	if reflect.DeepEqual(before, after) {
		return before, nil
	}
	if err := r.judge(ctx, Change{Before: before, After: after}); err != nil {
		return nil, err
	}
	after.Ver += raise
	if err := r.store.PutDevices(ctx, []*Device{after}); err != nil {
		return nil, fmt.Errorf("update device %s: %w", id, err)
	}
	r.show(time.Time{}, Change{Before: before, After: after})
	return after, nil
}

// Delete removes a device, if its version is what is expected, and keeps its id
// taken for TombstoneFor. What else is kept under the id is erased by those who
// watch.
func (r *Registry) Delete(ctx context.Context, id ID, now time.Time, expect ...Expect) error {
	defer r.changing.claim(id)()
	before, ok := r.Get(id)
	if !ok {
		return NotFound("device")
	}
	for _, e := range expect {
		if err := e.Check(before.Ver); err != nil {
			return err
		}
	}
	if err := r.store.DeleteDevice(ctx, id, now); err != nil {
		return fmt.Errorf("delete device %s: %w", id, err)
	}
	r.show(now, Change{Before: before})
	return nil
}

// show makes changes seen that are durable, and tells of them; now is when a device was deleted.
func (r *Registry) show(now time.Time, changes ...Change) {
	r.telling.Lock()
	defer r.telling.Unlock()
	r.mu.Lock()
	for _, c := range changes {
		if c.After == nil {
			delete(r.devices, c.ID())
			r.tombs[c.ID()] = now
		} else {
			r.devices[c.ID()] = c.After
			delete(r.tombs, c.ID())
		}
	}
	r.mu.Unlock()
	for _, c := range changes {
		r.version.Add(1)
		for _, f := range r.watchers {
			f(c)
		}
	}
}

// claims are the ids that somebody changes. The zero value is ready.
type claims struct {
	mu    sync.Mutex
	freed sync.Cond
	held  map[ID]bool
}

// claim waits until nobody holds any of ids, and holds them all until release.
func (c *claims) claim(ids ...ID) (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held, c.freed.L = map[ID]bool{}, &c.mu
	}
	for slices.ContainsFunc(ids, func(id ID) bool { return c.held[id] }) {
		c.freed.Wait()
	}
	for _, id := range ids {
		c.held[id] = true
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, id := range ids {
			delete(c.held, id)
		}
		c.freed.Broadcast()
	}
}

// MemoryRegistry is a RegistryStore that forgets everything with the process.
type MemoryRegistry struct {
	mu    sync.Mutex
	ds    map[ID]*Device
	tombs map[ID]time.Time
}

// LoadDevices returns the records put so far.
func (m *MemoryRegistry) LoadDevices(context.Context) ([]*Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ds := make([]*Device, 0, len(m.ds))
	for _, d := range m.ds {
		ds = append(ds, d.Clone())
	}
	return ds, nil
}

// LoadTombstones returns the ids deleted so far.
func (m *MemoryRegistry) LoadTombstones(context.Context) (map[ID]time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	tombs := map[ID]time.Time{}
	maps.Copy(tombs, m.tombs)
	return tombs, nil
}

// PutDevices keeps copies of the records.
func (m *MemoryRegistry) PutDevices(_ context.Context, ds []*Device) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ds == nil {
		m.ds = map[ID]*Device{}
	}
	for _, d := range ds {
		m.ds[d.ID] = d.Clone()
	}
	return nil
}

// DeleteDevice forgets the record and keeps a tombstone.
func (m *MemoryRegistry) DeleteDevice(_ context.Context, id ID, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.ds, id)
	if m.tombs == nil {
		m.tombs = map[ID]time.Time{}
	}
	m.tombs[id] = at
	return nil
}
