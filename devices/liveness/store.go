package liveness

import (
	"context"
	"slices"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/internal/groupcommit"
)

// Transition is one line of a device's history of connections.
type Transition struct {
	N         int64             `json:"-"` // order in the store
	Device    devices.ID        `json:"-"`
	At        int64             `json:"at"` // ms since epoch
	From      devices.State     `json:"from"`
	To        devices.State     `json:"to"`
	Reason    string            `json:"reason"`
	Epoch     int64             `json:"epoch"`
	Transport devices.Transport `json:"transport"`
	Node      string            `json:"node"`
}

// Known is what is remembered of a device across restarts.
type Known struct {
	Device       devices.ID
	State        devices.State
	Control      string
	Reason       string
	Since        int64
	Epoch        int64
	Transport    devices.Transport
	OfflineAfter time.Duration
	AwakeAt      int64
	LastSeen     int64
	Linked       bool
}

// Store keeps presence. Every call is durable, and all or nothing, when it
// returns nil.
type Store interface {
	// Writer groups what is written here with what others write.
	Writer() *groupcommit.Writer
	// ReserveEpochs returns the first of n numbers that no other call, before
	// or after a restart, returns. The first ever is at least 1.
	ReserveEpochs(ctx context.Context, n int64) (first int64, err error)
	LoadPresence(ctx context.Context) ([]Known, error)
	// SavePresence writes a batch. Devices that are no longer registered are
	// left out.
	SavePresence(ctx context.Context, known []Known, trs []Transition) error
	// SaveSeen sets LastSeen of devices that have a Known.
	SaveSeen(ctx context.Context, seen map[devices.ID]int64) error
	// PresenceHistory returns up to limit transitions of a device, the newest
	// first, with N below before (0: all).
	PresenceHistory(ctx context.Context, id devices.ID, before int64, limit int) ([]Transition, error)
	// PrunePresence removes transitions from before at, and of each device all
	// but the newest keep.
	PrunePresence(ctx context.Context, at int64, keep int) error
}

// Memory is a Store that forgets everything with the process.
type Memory struct {
	writer groupcommit.Writer

	mu    sync.Mutex
	epoch int64
	known map[devices.ID]Known
	trs   []Transition
	n     int64
}

// Writer writes at once.
func (m *Memory) Writer() *groupcommit.Writer { return &m.writer }

// ReserveEpochs returns numbers from 1 up.
func (m *Memory) ReserveEpochs(_ context.Context, n int64) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := m.epoch + 1
	m.epoch += n
	return first, nil
}

// LoadPresence returns what was saved.
func (m *Memory) LoadPresence(context.Context) ([]Known, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ks := make([]Known, 0, len(m.known))
	for _, k := range m.known {
		ks = append(ks, k)
	}
	return ks, nil
}

// SavePresence keeps the batch.
func (m *Memory) SavePresence(_ context.Context, known []Known, trs []Transition) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known = map[devices.ID]Known{}
	}
	for _, k := range known {
		m.known[k.Device] = k
	}
	for _, tr := range trs {
		m.n++
		tr.N = m.n
		m.trs = append(m.trs, tr)
	}
	return nil
}

// SaveSeen keeps when devices were last heard.
func (m *Memory) SaveSeen(_ context.Context, seen map[devices.ID]int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, at := range seen {
		if k, ok := m.known[id]; ok {
			k.LastSeen = at
			m.known[id] = k
		}
	}
	return nil
}

// PresenceHistory returns transitions of a device, the newest first.
func (m *Memory) PresenceHistory(_ context.Context, id devices.ID, before int64, limit int) ([]Transition, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var trs []Transition
	for _, tr := range slices.Backward(m.trs) {
		if len(trs) == limit {
			break
		}
		if tr.Device == id && (before == 0 || tr.N < before) {
			trs = append(trs, tr)
		}
	}
	return trs, nil
}

// PrunePresence drops old transitions.
func (m *Memory) PrunePresence(_ context.Context, at int64, keep int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	count := map[devices.ID]int{}
	kept := m.trs[:0:0]
	for _, tr := range slices.Backward(m.trs) {
		count[tr.Device]++
		if tr.At >= at && count[tr.Device] <= keep {
			kept = append(kept, tr)
		}
	}
	slices.Reverse(kept)
	m.trs = kept
	return nil
}
