package sqlite

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/devices"
)

// Audit is the audit log. Entries wait in memory for a moment and are written
// in groups by Run.
//
// Identical refusals are one entry for an hour. Its first is written within
// moments, how many there are some seconds later. Neither the entries that wait nor
// those that count are without bound. When the disk does not take entries for so
// long that the queue is full, further ones are lost, counted, and one entry says how
// many; refusals are lost first, when space is short.
type Audit struct {
	db  *DB
	key []byte // of the installation, for hashes of addresses
	now func() time.Time
	log *slog.Logger

	// ClockSuspect, if set before the first use, keeps entries from growing too old
	// while it says so.
	ClockSuspect func() bool

	bounds  atomic.Pointer[AuditBounds]
	pruning sync.Mutex

	flushing sync.Mutex // held across a write, so that nothing is written twice

	mu    sync.Mutex
	bound int // entries that may wait
	short bool
	queue []*pending
	folds folds
	lost  AuditLost // not yet written down as lost
	total AuditLost
	seen  int64 // refusals since the start
	wake  chan struct{}
}

// AuditBounds are what the audit may grow to.
type AuditBounds struct {
	MaxAge   time.Duration // 0: entries do not grow too old
	MaxBytes int64         // about, with what finds them; 0: no bound
}

// AuditLost is how many entries were never written.
type AuditLost struct {
	Entries  int64 `json:"entries,omitempty"`  // the queue was full
	Refusals int64 `json:"refusals,omitempty"` // likewise, or space was short
}

// pending is an entry that waits to be written; fold is set for a refusal.
type pending struct {
	e    devices.AuditEntry
	fold *fold
}

var _ devices.AuditLog = (*Audit)(nil)

const (
	auditQueue = 1 << 15
	auditGroup = 50 * time.Millisecond
	countEvery = 10 * time.Second // how long a row may be behind with its count
	pruneEvery = time.Minute      // how often the bounds are looked at
)

// Audit opens the audit log; on the first call for a file it makes the key that
// addresses are hashed with.
func (db *DB) Audit(ctx context.Context, now func() time.Time) (*Audit, error) {
	key, err := db.Secret(ctx, auditKey, 32)
	if err != nil {
		return nil, err
	}
	a := &Audit{
		db: db, key: key, now: now, log: db.log, bound: auditQueue, folds: newFolds(), wake: make(chan struct{}, 1),
	}
	a.SetBounds(AuditBounds{})
	return a, nil
}

// SetBounds changes the bounds, at once.
func (a *Audit) SetBounds(b AuditBounds) { a.bounds.Store(&b) }

// SpaceIsShort says whether the disk is nearly as full as it may become. While it is,
// refusals are counted and not written.
func (a *Audit) SpaceIsShort(short bool) {
	a.mu.Lock()
	a.short = short
	a.mu.Unlock()
}

// Record takes an entry; it is on disk within moments. It never blocks.
func (a *Audit) Record(o devices.Origin, e devices.AuditEntry) {
	if e.At == 0 {
		e.At = a.now().UnixMilli()
	}
	if e.Via == "" {
		e.Via = o.Via
	}
	if e.IPHash == "" && o.Addr != "" {
		h := hmac.New(sha256.New, a.key)
		h.Write([]byte(o.Addr))
		e.IPHash = hex.EncodeToString(h.Sum(nil)[:16])
	}
	a.mu.Lock()
	wake := a.take(e)
	a.mu.Unlock()
	if !wake {
		return
	}
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// take queues an entry or counts it, and says whether there is something to write at
// once. The caller holds mu.
func (a *Audit) take(e devices.AuditEntry) bool {
	if e.Changed() {
		a.folds.changed(e.Actor, e.Target)
		if len(a.queue) >= a.bound {
			a.lost.Entries++
			a.total.Entries++
			return true
		}
		a.queue = append(a.queue, &pending{e: e})
		return true
	}
	a.seen++
	if a.short || len(a.queue) >= a.bound {
		a.lost.Refusals++
		a.total.Refusals++
		return false
	}
	f := a.folds.add(e)
	if f == nil {
		return false
	}
	a.queue = append(a.queue, &pending{fold: f})
	return true
}

// Waiting is how many entries are not yet on the disk, and how many were lost
// since the start.
func (a *Audit) Waiting() (entries int, lost AuditLost) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.queue), a.total
}

// Refusals is how many refusals were recorded since the start, of which many share an
// entry.
func (a *Audit) Refusals() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen
}

// Run writes entries and keeps the log within its bounds until ctx ends, and then
// writes what is left.
func (a *Audit) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { a.keepPruned(ctx) })
	counts := time.NewTicker(countEvery)
	defer counts.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return a.Flush(last)
		case <-a.wake:
			err = a.flush(ctx, false)
		case <-counts.C:
			err = a.Flush(ctx)
		}
		if err != nil && ctx.Err() == nil {
			a.log.Error("audit entries wait: they cannot be written", "err", err)
		}
		select { // what comes meanwhile goes into the next group
		case <-ctx.Done():
		case <-time.After(auditGroup):
		}
	}
}

// Flush writes what waits.
func (a *Audit) Flush(ctx context.Context) error { return a.flush(ctx, true) }

// row is what is written of an entry in one transaction.
type row struct {
	*pending
	e   devices.AuditEntry
	seq int64
}

// flush writes the entries that wait and, with counts, how many refusals those stand
// for that are written already.
func (a *Audit) flush(ctx context.Context, counts bool) error {
	a.flushing.Lock()
	defer a.flushing.Unlock()
	added, risen, lost := a.due(counts)
	if len(added) == 0 && len(risen) == 0 {
		return nil
	}
	if lost != (AuditLost{}) {
		a.log.Error("audit entries lost: they could not be written", "entries", lost.Entries, "refusals", lost.Refusals)
	}
	if err := a.db.addAudit(ctx, added, risen); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	written := 0
	for _, r := range added {
		if r.pending == nil {
			continue
		}
		written++
		if f := r.fold; f != nil {
			f.seq, f.written = r.seq, r.e.Count
			f.e.Before, f.e.After = nil, nil
		}
	}
	for _, r := range risen {
		if f := r.fold; r.seq != 0 {
			f.written = r.e.Count
		} else { // its row was pruned: a new one tells of what came since
			f.seq, f.e.At, f.count, f.written = 0, f.last, f.count-f.written, 0
			a.queue = append(a.queue, &pending{fold: f})
		}
	}
	clear(a.queue[:written])
	if a.queue = a.queue[written:]; len(a.queue) == 0 {
		a.queue = nil
	}
	a.lost.Entries -= lost.Entries
	a.lost.Refusals -= lost.Refusals
	a.folds.sweep(a.now().UnixMilli())
	return nil
}

// due is what has to be written now: rows that are new, rows whose count has risen, and
// what was lost, of which the last new row tells.
func (a *Audit) due(counts bool) (added, risen []*row, lost AuditLost) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.queue {
		r := &row{pending: p, e: p.e}
		if p.fold != nil {
			r.e = p.fold.e
			r.e.Count, r.e.LastAt = p.fold.count, p.fold.last
		}
		added = append(added, r)
	}
	if counts && !a.short {
		for _, f := range a.folds.risen() {
			e := devices.AuditEntry{Count: f.count, LastAt: f.last}
			risen = append(risen, &row{pending: &pending{fold: f}, e: e, seq: f.seq})
		}
	}
	if lost = a.lost; lost.Entries > 0 || lost.Refusals > 0 && counts && !a.short {
		added = append(added, &row{e: devices.AuditEntry{
			At: a.now().UnixMilli(), Actor: string(devices.ActorHub), Via: "hub",
			Action: "audit.lost", Target: "audit", After: lost, Outcome: "failed",
		}})
		return added, risen, lost
	}
	return added, risen, AuditLost{}
}

func (db *DB) addAudit(ctx context.Context, added, risen []*row) error {
	return db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		add, err := tx.PrepareContext(ctx, `INSERT INTO audit
			(at, actor, ip_hash, via, action, target, cmd_id, before, after, outcome, code, count, last_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
		if err != nil {
			return err
		}
		defer add.Close()
		var changes, refusals AuditSize
		for _, r := range added {
			e := &r.e
			before, after := jsonOrNull(e.Before), jsonOrNull(e.After)
			if e.Changed() {
				changes.grow(e, before, after)
			} else {
				refusals.grow(e, before, after)
			}
			res, err := add.ExecContext(ctx, e.At, e.Actor, e.IPHash, e.Via, e.Action, e.Target, e.CmdID, before, after,
				e.Outcome, string(e.Code), max(e.Count, 1), e.LastAt)
			if err == nil {
				r.seq, err = res.LastInsertId()
			}
			if err != nil {
				return fmt.Errorf("write audit: %w", err)
			}
		}
		for _, r := range risen {
			res, err := tx.ExecContext(ctx, `UPDATE audit SET count = ?, last_at = ? WHERE seq = ?`, r.e.Count, r.e.LastAt, r.seq)
			if err != nil {
				return fmt.Errorf("write audit: %w", err)
			}
			if n, err := res.RowsAffected(); err == nil && n == 0 {
				r.seq = 0
			}
		}
		return resize(ctx, tx, changes, refusals)
	})
}

func jsonOrNull(v any) any {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil || string(b) == "null" {
		return nil
	}
	return string(b)
}
