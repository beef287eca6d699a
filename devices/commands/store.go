package commands

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/internal/groupcommit"
	"devicehub/devices/lights"
)

// Row is a stored command.
type Row struct {
	Device   devices.ID
	CmdID    string
	IssuedAt int64
	Final    bool
	Body     []byte // JSON
}

// Store keeps commands. Every call is durable, and all or nothing, when it
// returns nil.
type Store interface {
	// Writer groups what is written here with what others write.
	Writer() *groupcommit.Writer
	// SaveCommands adds rows, or replaces those of the same device and id.
	// Devices that are no longer registered are left out.
	SaveCommands(ctx context.Context, rows []Row) error
	// OpenCommands returns the rows that are not final, the oldest first.
	OpenCommands(ctx context.Context) ([]Row, error)
	Command(ctx context.Context, id devices.ID, cmdID string) (row Row, ok bool, err error)
	// CommandHistory returns up to limit rows of a device, by descending
	// (IssuedAt, CmdID), those below the given pair (0, "": all).
	CommandHistory(ctx context.Context, id devices.ID, issuedAt int64, cmdID string, limit int) ([]Row, error)
	// AllCommands returns up to limit rows of all devices, by descending
	// (IssuedAt, CmdID, Device), those below the given row's (IssuedAt 0: all).
	AllCommands(ctx context.Context, below Row, limit int) ([]Row, error)
	// PruneCommands removes final rows from before at, and of each device all
	// final ones but the newest keep.
	PruneCommands(ctx context.Context, at int64, keep int) error
}

// body is what is stored of a command.
type body struct {
	Record
	Want   lights.Fields  `json:"want,omitempty"`
	Hash   string         `json:"hash,omitempty"`
	Refuse *devices.Error `json:"refuse,omitempty"`
	System bool           `json:"system,omitempty"`
	// Leaving says of a command that may run once that it may have left.
	Leaving bool `json:"leaving,omitempty"`
}

func (c *command) row() (Row, error) {
	b, err := json.Marshal(body{c.rec, c.want, c.hash, c.refuse, c.system, c.leaving})
	if err != nil {
		return Row{}, fmt.Errorf("command %s: %w", c.rec.CmdID, err)
	}
	return Row{c.rec.Device, c.rec.CmdID, c.rec.IssuedAt, c.final, b}, nil
}

// record reads what people see of a stored command.
func (r Row) record() (Record, error) {
	var b body
	if err := json.Unmarshal(r.Body, &b); err != nil {
		return Record{}, fmt.Errorf("command %s of %s: %w", r.CmdID, r.Device, err)
	}
	return b.Record, nil
}

// command makes a stored command one in memory, as of now.
func (r Row) command(now time.Time) (*command, error) {
	var b body
	if err := json.Unmarshal(r.Body, &b); err != nil {
		return nil, fmt.Errorf("command %s of %s: %w", r.CmdID, r.Device, err)
	}
	c := &command{rec: b.Record, want: b.Want, group: b.Want.Groups(), hash: b.Hash, refuse: b.Refuse, system: b.System, leaving: b.Leaving,
		final: r.Final, stored: true, durable: make(chan struct{}), issuedAt: when(now, b.IssuedAt), expires: when(now, b.ExpiresAt)}
	close(c.durable)
	c.deadlines()
	return c, nil
}

// when is the time of so many ms since epoch, on the clock that now is of.
func when(now time.Time, ms int64) time.Time {
	return now.Add(time.Duration(ms-now.UnixMilli()) * time.Millisecond)
}

// restore takes over what was under way before this start.
func (d *Dispatcher) restore(rows []Row) error {
	now := d.now()
	for _, row := range rows {
		if _, ok := d.cfg.Registry.Get(row.Device); !ok {
			continue
		}
		c, err := row.command(now)
		if err != nil {
			return err
		}
		d.with(row.Device, func(dev *device, now time.Time) {
			dev.open = append(dev.open, c)
			if row := c.rec.Status; c.leaving && (row == Pending || row == Queued) {
				c.rec.Status, c.rec.Attempt = Sent, 1 // for all we know
			}
			switch c.rec.Status {
			case Sent, Acked, Done:
				// When it was sent is not known any more; by then it was.
				at := when(now, c.rec.At)
				c.sentAt, c.leftAt = now, at
				if c.rec.Status != Sent {
					c.answered, c.ackAt, c.doneAt, c.stands = true, at, at, c.target()
				}
				if c.op().Momentary() {
					// It is not sent again, and its answer may be lost: timed out, once Run runs.
					c.tries, c.ackDue, c.confirmBy = maxAttempts, now, now
					return
				}
				// What it answered since may be lost: ask again when it is back. What
				// is done is not done again; its state is asked for.
				c.ask = c.rec.Status != Done
			}
		})
	}
	return nil
}

// Memory is a Store that forgets everything with the process.
type Memory struct {
	writer groupcommit.Writer

	mu   sync.Mutex
	rows map[devices.ID]map[string]Row
}

// Writer writes at once.
func (m *Memory) Writer() *groupcommit.Writer { return &m.writer }

// SaveCommands keeps rows.
func (m *Memory) SaveCommands(_ context.Context, rows []Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows == nil {
		m.rows = map[devices.ID]map[string]Row{}
	}
	for _, r := range rows {
		if m.rows[r.Device] == nil {
			m.rows[r.Device] = map[string]Row{}
		}
		m.rows[r.Device][r.CmdID] = r
	}
	return nil
}

// OpenCommands returns what is not final.
func (m *Memory) OpenCommands(context.Context) ([]Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows []Row
	for _, cs := range m.rows {
		for _, r := range cs {
			if !r.Final {
				rows = append(rows, r)
			}
		}
	}
	slices.SortFunc(rows, older)
	return rows, nil
}

func older(a, b Row) int {
	return cmp.Or(cmp.Compare(a.IssuedAt, b.IssuedAt), cmp.Compare(a.CmdID, b.CmdID), cmp.Compare(a.Device, b.Device))
}

// Command returns one row.
func (m *Memory) Command(_ context.Context, id devices.ID, cmdID string) (Row, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.rows[id][cmdID]
	return r, ok, nil
}

// CommandHistory returns rows of a device, the newest first.
func (m *Memory) CommandHistory(_ context.Context, id devices.ID, issuedAt int64, cmdID string, limit int) ([]Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows []Row
	for _, r := range m.rows[id] {
		if issuedAt == 0 || older(r, Row{Device: id, IssuedAt: issuedAt, CmdID: cmdID}) < 0 {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b Row) int { return older(b, a) })
	return rows[:min(limit, len(rows))], nil
}

// AllCommands returns rows of all devices, the newest first.
func (m *Memory) AllCommands(_ context.Context, below Row, limit int) ([]Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows []Row
	for _, cs := range m.rows {
		for _, r := range cs {
			if below.IssuedAt == 0 || older(r, below) < 0 {
				rows = append(rows, r)
			}
		}
	}
	slices.SortFunc(rows, func(a, b Row) int { return older(b, a) })
	return rows[:min(limit, len(rows))], nil
}

// PruneCommands drops old final rows.
func (m *Memory) PruneCommands(_ context.Context, at int64, keep int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, cs := range m.rows {
		var final []Row
		for _, r := range cs {
			if r.Final {
				final = append(final, r)
			}
		}
		slices.SortFunc(final, func(a, b Row) int { return older(b, a) })
		for i, r := range final {
			if i >= keep || r.IssuedAt < at {
				delete(cs, r.CmdID)
			}
		}
	}
	return nil
}
