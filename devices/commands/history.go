package commands

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/devices"
)

// Pending are the commands that a device has yet to do, as envelopes for its
// join reply. What may run once is not among them: it is sent once.
func (d *Dispatcher) Pending(id devices.ID) []Envelope {
	es := []Envelope{}
	d.with(id, func(dev *device, now time.Time) {
		for _, c := range dev.open {
			if !c.stored || c.op().Momentary() || !now.Before(c.expires) {
				continue
			}
			switch c.rec.Status {
			case Pending, Queued, Sent, Acked:
				es = append(es, c.envelope(now))
			}
		}
	})
	return es
}

// Delta is what the device shall become, for its join reply.
func (d *Dispatcher) Delta(id devices.ID) map[string]any { return d.cfg.Shadows.Delta(id) }

// Last is the newest command to a device. Of a device that was sent none since
// the start it is looked up on disk, once.
func (d *Dispatcher) Last(id devices.ID) (r Record, ok bool) {
	var looked bool
	if r, looked, ok = d.newest(id); ok || looked {
		return r, ok
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	rows, err := d.cfg.Store.CommandHistory(ctx, id, 0, "", 1)
	if err != nil {
		d.log.Warn("last command not read", "device", id, "err", err)
		return Record{}, false // asked again the next time
	}
	d.with(id, func(dev *device, now time.Time) {
		dev.looked = true
		for _, row := range rows {
			if c, err := row.command(now); err == nil && c.final && dev.find(row.CmdID) == nil {
				dev.recent = append([]*command{c}, dev.recent...)
			}
		}
	})
	r, _, ok = d.newest(id)
	return r, ok
}

func (d *Dispatcher) newest(id devices.ID) (r Record, looked, ok bool) {
	d.table.Find(id, func(e *held) {
		dev := &e.State
		for _, cs := range [][]*command{dev.open, dev.recent} {
			for _, c := range cs {
				if c.rec.IssuedAt >= r.IssuedAt {
					r, ok = c.rec, true
				}
			}
		}
		looked = dev.looked
	})
	return r, looked, ok
}

func (d *Dispatcher) mayRead(a devices.Actor, id devices.ID) error {
	rec, ok := d.cfg.Registry.Get(id)
	if !ok || !a.May(devices.RightRead, rec) {
		if !ok && a.Rights&devices.RightRead != 0 {
			return devices.NotFound("device")
		}
		return devices.Refuse(devices.CodeForbidden, "you may not see this device")
	}
	return nil
}

// Get returns one command. The error is forbidden or not_found.
func (d *Dispatcher) Get(ctx context.Context, a devices.Actor, id devices.ID, cmdID string) (Record, error) {
	if err := d.mayRead(a, id); err != nil {
		return Record{}, err
	}
	rec, _, err := d.look(ctx, id, cmdID, false)
	return rec, err
}

// look finds a command, and with watch what is closed at its next transition.
func (d *Dispatcher) look(ctx context.Context, id devices.ID, cmdID string, watch bool) (r Record, changed <-chan struct{}, err error) {
	found := false
	d.with(id, func(dev *device, _ time.Time) {
		c := dev.find(cmdID)
		if found = c != nil; !found {
			return
		}
		r = c.rec
		if watch && !c.final {
			if c.changed == nil {
				c.changed = make(chan struct{})
			}
			changed = c.changed
		}
	})
	if found {
		return r, changed, nil
	}
	row, ok, err := d.cfg.Store.Command(ctx, id, cmdID)
	if err != nil {
		return Record{}, nil, fmt.Errorf("command %s: %w", cmdID, err)
	}
	if !ok {
		return Record{}, nil, devices.NotFound("command")
	}
	r, err = row.record()
	return r, nil, err
}

// Wait returns the command once it is done or confirmed, as until says, or came
// to something else that it will hardly leave. It is a timeout, with the id,
// when ctx ends first. The caller has checked the rights.
func (d *Dispatcher) Wait(ctx context.Context, id devices.ID, cmdID, until string) (Record, error) {
	if until != string(Done) && until != string(Confirmed) {
		return Record{}, devices.Invalid("wait", "done or confirmed")
	}
	for {
		r, changed, err := d.look(ctx, id, cmdID, true)
		if err != nil {
			if ctx.Err() != nil {
				return Record{}, timeout(cmdID)
			}
			return Record{}, err
		}
		switch r.Status {
		case Pending, Queued, Sent, Acked:
		case Done:
			if until == string(Done) {
				return r, nil
			}
		default:
			return r, nil
		}
		if changed == nil {
			return r, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return r, timeout(cmdID)
		}
	}
}

func timeout(cmdID string) error {
	return devices.Refuse(devices.CodeTimeout, "the command has not come to an end in time").With("cmd_id", cmdID)
}

// Cancel ends a command that was not sent yet. Only who issued it and
// administrators may. The error is forbidden, not_found, or conflict with the
// command's status in the details.
func (d *Dispatcher) Cancel(ctx context.Context, a devices.Actor, o devices.Origin, id devices.ID, cmdID string) (Record, error) {
	r, err := d.cancel(ctx, a, id, cmdID)
	d.audit(o, a, id, "command.cancel", Request{CmdID: cmdID}, nil, err)
	return r, err
}

func (d *Dispatcher) cancel(ctx context.Context, a devices.Actor, id devices.ID, cmdID string) (r Record, err error) {
	if _, err := d.mayCommand(a, id); err != nil {
		return Record{}, err
	}
	if r, _, err = d.look(ctx, id, cmdID, false); err != nil {
		return Record{}, err
	}
	if r.By != a.String() && !a.Admin() {
		return Record{}, devices.Refuse(devices.CodeForbidden, "only who sent the command, or an administrator, may cancel it")
	}
	err = devices.Refuse(devices.CodeConflict, "the command can no longer be cancelled").With("status", r.Status)
	d.with(id, func(dev *device, now time.Time) {
		if c := dev.find(cmdID); c != nil && c.waiting() && !c.final {
			d.move(c, Cancelled, now)
			r, err = c.rec, nil
		}
	})
	d.pump(id)
	return r, err
}

// History returns up to limit commands of a device (50 when 0, at most 200), the
// newest first, and the cursor for those before them, "" when there are none.
func (d *Dispatcher) History(ctx context.Context, a devices.Actor, id devices.ID, limit int, cursor string) (rs []Record, next string, err error) {
	if err := d.mayRead(a, id); err != nil {
		return nil, "", err
	}
	if limit <= 0 {
		limit = 50
	}
	limit = min(limit, 200)
	at, cmdID, err := parseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	rows, err := d.cfg.Store.CommandHistory(ctx, id, at, cmdID, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("commands of %s: %w", id, err)
	}
	if len(rows) > limit {
		rows = rows[:limit]
		last := rows[limit-1]
		next = base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", last.IssuedAt, last.CmdID))
	}
	rs = make([]Record, 0, len(rows))
	for _, row := range rows {
		r, err := row.record()
		if err != nil {
			return nil, "", err
		}
		rs = append(rs, r)
	}
	// What is in memory is ahead of the disk.
	d.with(id, func(dev *device, _ time.Time) {
		for i := range rs {
			if c := dev.find(rs[i].CmdID); c != nil {
				rs[i] = c.rec
			}
		}
	})
	return rs, next, nil
}

func parseCursor(cursor string) (at int64, cmdID string, err error) {
	if cursor == "" {
		return 0, "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	first, rest, ok := strings.Cut(string(b), " ")
	if err == nil && ok {
		if at, err = strconv.ParseInt(first, 10, 64); err == nil && at > 0 {
			return at, rest, nil
		}
	}
	return 0, "", devices.Invalid("cursor", "one that the hub gave")
}

// Stats counts what happened since the start.
type Stats struct {
	Ended  map[Status]int64 // commands by how they ended; timed_out when their outcome is unknown
	Sent   int64            // envelopes, those sent again included
	Resent int64
	// Refreshed counts the states asked for because of commands that were done
	// and not shown.
	Refreshed int64
	Open      int // commands under way
}

type stats struct {
	mu           sync.Mutex
	ended        map[Status]int64
	sent, resent atomic.Int64
	refreshed    atomic.Int64
}

func (s *stats) count(c *command) {
	if !c.final {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.ended = map[Status]int64{}
	}
	s.ended[c.rec.Status]++
}

// Stats returns the counts.
func (d *Dispatcher) Stats() Stats {
	st := Stats{Ended: map[Status]int64{}, Sent: d.stats.sent.Load(), Resent: d.stats.resent.Load(),
		Refreshed: d.stats.refreshed.Load()}
	d.stats.mu.Lock()
	for k, v := range d.stats.ended {
		st.Ended[k] = v
	}
	d.stats.mu.Unlock()
	d.table.Each(func(e *held) { st.Open += len(e.State.open) })
	return st
}
