package shadow

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"devicehub/devices"
	"devicehub/devices/internal/groupcommit"
)

// Versions are reserved on disk before they are given out, in blocks, so that
// none is given out twice; what is left of a block at a stop is skipped.
const (
	verBlock   = 1024 // of a device that has a stored shadow
	firstBlock = 128  // of one that this start has not written yet
)

// Row is a stored shadow.
type Row struct {
	Device devices.ID
	Limit  int64  // versions below it may have been given out
	Start  int64  // by the start of the hub with this number
	Body   []byte // JSON
}

// Store keeps shadows. Every call is durable, and all or nothing, when it
// returns nil.
type Store interface {
	// Writer groups what is written here with what others write.
	Writer() *groupcommit.Writer
	// ShadowStart counts the starts of the hub, this one included.
	ShadowStart(ctx context.Context) (starts int64, err error)
	LoadShadows(ctx context.Context) ([]Row, error)
	// SaveShadows writes rows. Devices that are no longer registered are left
	// out.
	SaveShadows(ctx context.Context, rows []Row) error
}

// doc is the stored shadow at a later start. Starts since then that wrote
// nothing may each have given out a few versions.
func (r Row) doc(start int64) (doc, error) {
	ver := r.Limit + (start-r.Start-1)*firstBlock
	d := doc{id: r.Device, said: true, ver: ver, limit: ver + firstBlock}
	if err := json.Unmarshal(r.Body, &d.body); err != nil {
		return d, fmt.Errorf("shadow of %s: %w", r.Device, err)
	}
	return d, nil
}

// row is what is to be stored of d, with versions reserved ahead by the present start.
func (d *doc) row(start int64) (Row, error) {
	b, err := json.Marshal(d.body)
	if err != nil {
		return Row{}, fmt.Errorf("shadow of %s: %w", d.id, err)
	}
	return Row{Device: d.id, Limit: d.ver + verBlock, Start: start, Body: b}, nil
}

// Memory is a Store that forgets everything with the process.
type Memory struct {
	writer groupcommit.Writer

	mu     sync.Mutex
	starts int64
	rows   map[devices.ID]Row
	writes int
}

// Writer writes at once.
func (m *Memory) Writer() *groupcommit.Writer { return &m.writer }

// written is the number of batches.
func (m *Memory) written() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes
}

// ShadowStart counts.
func (m *Memory) ShadowStart(context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.starts++
	return m.starts, nil
}

// LoadShadows returns what was saved.
func (m *Memory) LoadShadows(context.Context) ([]Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rows := make([]Row, 0, len(m.rows))
	for _, r := range m.rows {
		r.Body = slices.Clone(r.Body)
		rows = append(rows, r)
	}
	return rows, nil
}

// SaveShadows keeps rows.
func (m *Memory) SaveShadows(_ context.Context, rows []Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows == nil {
		m.rows = map[devices.ID]Row{}
	}
	for _, r := range rows {
		m.rows[r.Device] = r
	}
	m.writes++
	return nil
}
