// Package tsdb is the durable store of readings: an ingest log, a head in
// memory, and day chunks in Pebble.
//
// A group is appended to the log (package ingestlog) and is durable then. Its
// readings stay in the head until a flush merges them into the chunks, one
// value a series and day; a merge operator joins what has come before, so that
// late and repeated readings need no reading before writing. Two generations of
// the head take turns, one being filled while the other is flushed, and a group
// waits when both are full. When a flush is durable the log behind it goes,
// except for what a sink still needs. Opening replays the rest; replaying what
// is in the chunks already changes nothing.
//
// Besides its readings the store keeps what the Book knows of each device, as
// of a position in the log, and roll-ups of 15 minutes and an hour, and what
// each meter came to on the day, made once for each day that is over, and again
// for days that late readings reach.
//
// Nothing that was acknowledged is given up silently. When the log cannot be
// written the group is refused with platform_unavailable: for good after a
// failed fsync or write, until there is room after a full disk. Stats tells.
package tsdb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"devicehub/devices"
	"devicehub/devices/readings"
	"devicehub/devices/tsdb/ingestlog"
)

// When an acknowledged group is on the disk itself.
const (
	SyncBatch    = "batch"    // before it is acknowledged
	SyncInterval = "interval" // within a second: it survives a crash of the hub, not of the machine
	SyncOff      = "off"      // when the system sees fit: likewise
)

// Options of a store. The zero value of a field stands for its default.
type Options struct {
	Fsync         string // SyncBatch, SyncInterval or SyncOff
	RetainRaw     time.Duration
	RetainQuarter time.Duration
	RetainHour    time.Duration
	// MinFree is the room on the disk below which readings are refused, the
	// lesser of 1 GiB and 5 % of it. Negative: 0.
	MinFree       int64
	FlushReadings int           // that a generation of the head holds, 2 million
	FlushEvery    time.Duration // 60 s
	CacheBytes    int64         // of the chunk store, 32 MiB
	OpenFiles     int           // of the chunk store, 1000
	SegmentBytes  int64         // of the log
	FS            ingestlog.FS  // of the log
	Logger        *slog.Logger
	Now           func() time.Time
	// OnSync is called after every fsync of the log with what it took, OnFlush
	// after every flush.
	OnSync  func(took time.Duration)
	OnFlush func(readings int, took time.Duration, err error)
}

func (o *Options) fill() error {
	def := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	const days = 24 * time.Hour
	def(&o.RetainRaw, 30*days)
	def(&o.RetainQuarter, 180*days)
	def(&o.RetainHour, 730*days)
	def(&o.FlushEvery, time.Minute)
	if o.FlushReadings == 0 {
		o.FlushReadings = 2_000_000
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 32 << 20
	}
	if o.FS == nil {
		o.FS = ingestlog.Disk{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch o.Fsync {
	case "":
		o.Fsync = SyncBatch
	case SyncBatch, SyncInterval, SyncOff:
	default:
		return fmt.Errorf("readings.fsync is %q: want batch, interval or off", o.Fsync)
	}
	return nil
}

// Store is an open store. It implements readings.Store.
type Store struct {
	dir     string
	opts    Options
	book    *readings.Book
	db      *pebble.DB
	log     *ingestlog.Log
	zip     *zipper
	pool    *blockPool
	coders  sync.Pool
	clock   readings.ClockMark // as opened
	started time.Time

	// wmu is held by whoever writes to the log or freezes the head.
	wmu    sync.Mutex
	writer groupWriter
	known  known
	mark   readings.ClockMark // as of the last group
	free   freeSpace

	mu      sync.RWMutex // the head's generations; what is told of days
	active  *gen
	frozen  *gen // being flushed, or nil
	flushed *sync.Cond
	days    map[byte]map[uint32]struct{} // by class, the days with values
	rolled  map[uint32]bool
	rolling uint32              // day + 1 that is being rolled up
	dirty   map[uint64]struct{} // day<<32|series
	kept    [3]uint32           // by tier, the first day that is complete
	oldest  uint32              // no day with values is before it
	metered uint32              // the first day of which the days of meters are there
	pos     uint64              // the log up to here is in the chunks

	flushMu sync.Mutex // whoever writes chunks or roll-ups
	wake    chan struct{}

	broken  atomic.Pointer[error] // the chunk store failed: for good
	aside   atomic.Int64          // series that no device can have sent
	stalled atomic.Bool           // the head is full, and its flush does not get on
	pins    pins
	stat    flushStats
}

// Open opens the store in dir, which is made if need be, and replays its log.
// A log that is damaged is opened too: Stats tells, Append refuses.
func Open(dir string, opts Options) (*Store, error) {
	if err := opts.fill(); err != nil {
		return nil, err
	}
	logDir := filepath.Join(dir, "log")
	if err := os.MkdirAll(logDir, 0o700); err != nil {
		return nil, fmt.Errorf("readings store: %w", err)
	}
	s := &Store{dir: dir, opts: opts, book: readings.NewBook(), zip: new(zipper), pool: newBlockPool(2 * opts.FlushReadings), started: time.Now(),
		days: map[byte]map[uint32]struct{}{classRaw: {}, classQuarter: {}, classHour: {}}, rolled: map[uint32]bool{}, dirty: map[uint64]struct{}{}, oldest: math.MaxUint32, wake: make(chan struct{}, 1)}
	s.coders.New = func() any { return &coder{zip: s.zip} }
	s.flushed = sync.NewCond(&s.mu)
	s.writer.known = &s.known
	s.pins.at = map[string]uint64{}
	db, err := openChunks(filepath.Join(dir, "chunks"), opts, s.zip, s.breakDown)
	if err != nil {
		return nil, fmt.Errorf("readings store: %w", err)
	}
	s.db = db
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("readings store: %w", err), db.Close())
	}
	s.active = newGen(s.pool, s.seriesCount())
	if err := s.replay(logDir); err != nil {
		return nil, errors.Join(fmt.Errorf("readings store: %w", err), db.Close())
	}
	s.clock = s.mark
	return s, nil
}

func (s *Store) seriesCount() int {
	_, n := s.book.Numbers()
	return int(n) + 1
}

func (s *Store) coder() *coder { return s.coders.Get().(*coder) }

// putCoder takes a coder back, whose blocks were of chunks that are no longer
// held.
func (s *Store) putCoder(c *coder) {
	c.forget()
	s.coders.Put(c)
}

// replay enters the log from the flushed position on.
func (s *Store) replay(dir string) error {
	r := groupReader{book: s.book, known: &s.known, clock: func(m readings.ClockMark) { s.mark = m }}
	tables := known{slices.Clone(s.known.devs), slices.Clone(s.known.series)}
	n, aside := 0, 0
	log, err := ingestlog.Open(dir, ingestlog.Options{FS: s.opts.FS, SegmentBytes: s.opts.SegmentBytes, SyncEvery: s.opts.Fsync == SyncBatch, Logger: s.opts.Logger, Now: s.opts.Now},
		s.pos, func(f ingestlog.Frame) error {
			if f.Type != frameGroup {
				return fmt.Errorf("%w: frame type %d", errCorrupt, f.Type)
			}
			return r.read(f.Body, func(i uint64, e *readings.Entry) {
				n += s.enter(e, f.Pos+1+i)
				for k := range e.Items {
					if x := e.Items[k].S; x != nil && x.Aside() {
						aside++
					}
				}
			})
		})
	if err != nil {
		return err
	}
	s.log = log
	_, end := log.Bounds()
	s.book.Clamp(end)
	if n > 0 {
		s.opts.Logger.Info("the ingest log is replayed", "readings", n, "took", time.Since(s.started))
	}
	s.aside.Store(s.misnamed())
	if series := s.aside.Load(); series > 0 {
		s.opts.Logger.Warn("readings are kept aside: no device can have sent the names that they were stored under, see `devicehub readings check`", "series", series, "replayed", aside)
	}
	// What the log has defined need not be defined again; it is written to the
	// tables with the next flush.
	for rec := range s.book.All() {
		if !tables.devs.has(rec.Num) {
			s.active.devs = append(s.active.devs, rec)
		}
		for _, x := range rec.AllSeries() {
			if !tables.series.has(x.ID) {
				s.active.series = append(s.active.series, x)
			}
		}
	}
	return nil
}

// enter applies an entry to the book and the head. It returns how many readings
// it had. The caller holds mu, or is alone.
func (s *Store) enter(e *readings.Entry, pos uint64) int {
	if e.Forget {
		s.book.Apply(e, pos)
		s.active.forgot = append(s.active.forgot, e.Rec)
		return 0
	}
	if !s.book.Apply(e, pos) {
		return 0
	}
	s.active.touched.add(e.Rec.Num)
	n := 0
	for i := range e.Items {
		if it := &e.Items[i]; it.S != nil {
			s.active.add(it.S, &it.Point, it.S.Type != devices.TypeFloat && it.S.Type != devices.TypeBool)
			n++
		}
	}
	return n
}

// misnamed is how many series are, and not dropped.
func (s *Store) misnamed() (n int64) {
	for rec := range s.book.All() {
		for _, x := range rec.AllSeries() {
			if x.Aside() && !x.Dropped() {
				n++
			}
		}
	}
	return n
}

// Book is what the store knows of each device.
func (s *Store) Book() *readings.Book { return s.book }

// Clock is the clock as it was recorded when the store was opened.
func (s *Store) Clock() readings.ClockMark { return s.clock }

// The bounds of Linger.
const (
	lingerMin = 5 * time.Millisecond
	lingerMax = 250 * time.Millisecond
)

// Linger is 5 ms, or four times what the last fsync took, though at most 250
// ms: the disk then syncs a quarter of the time at most.
func (s *Store) Linger() time.Duration {
	if s.opts.Fsync != SyncBatch {
		return lingerMin
	}
	return min(lingerMax, max(lingerMin, 4*s.log.LastSync()))
}

// Append makes a group durable. It waits while the head is full and being
// flushed. Errors are *devices.Error, or readings.ErrMisnamed.
func (s *Store) Append(g *readings.Group) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if err := s.ready(g.Readings); err != nil {
		return err
	}
	wall := s.mark.Wall
	if len(g.Entries) > 0 {
		wall = g.Entries[0].At
	}
	s.writer.newDev, s.writer.newSer, s.writer.misnamed = s.writer.newDev[:0], s.writer.newSer[:0], false
	b := s.writer.appendGroup(s.log.Begin(frameGroup), g, wall)
	if s.writer.misnamed {
		s.writer.undo()
		return readings.ErrMisnamed
	}
	pos, _, err := s.log.Commit(b)
	if err != nil {
		s.writer.undo()
		return unavailable(err)
	}
	if s.opts.Fsync == SyncBatch && s.opts.OnSync != nil {
		s.opts.OnSync(s.log.LastSync())
	}
	s.free.wrote(int64(len(b)))
	if g.Clock != nil {
		s.mark = *g.Clock
	}
	s.mu.Lock()
	s.active.devs = append(s.active.devs, s.writer.newDev...)
	s.active.series = append(s.active.series, s.writer.newSer...)
	for i, e := range g.Entries {
		s.enter(e, pos+1+uint64(i))
	}
	full := int(s.active.n) >= s.opts.FlushReadings
	s.mu.Unlock()
	if full {
		s.freeze()
	}
	s.pins.tell()
	return nil
}

// ready returns why a group is refused, if it is. The caller holds wmu.
func (s *Store) ready(n int) error {
	if err := s.broken.Load(); err != nil {
		return unavailable(*err)
	}
	if err := s.free.check(s.log, s.opts.MinFree, s.opts.Now()); err != nil {
		return unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fits := func() bool {
		return int(s.active.n)+n <= s.opts.FlushReadings || s.frozen == nil || s.broken.Load() != nil
	}
	if !fits() {
		deadline := time.Now().Add(flushWait)
		t := time.AfterFunc(flushWait, func() {
			s.mu.Lock()
			s.flushed.Broadcast()
			s.mu.Unlock()
		})
		defer t.Stop()
		for !fits() && time.Now().Before(deadline) {
			s.flushed.Wait()
		}
	}
	if err := s.broken.Load(); err != nil {
		return unavailable(*err)
	}
	stalled := !fits()
	if stalled != s.stalled.Load() {
		s.stalled.Store(stalled)
		if stalled {
			s.opts.Logger.Error("the flush of the head does not get on: readings are refused until it does")
		} else {
			s.opts.Logger.Info("the flush of the head gets on again")
		}
	}
	if stalled {
		return unavailable(errStalled)
	}
	return nil
}

// flushWait is how long a group waits for the head to be flushed.
const flushWait = 5 * time.Second

var errStalled = errors.New("the flush of the head does not get on")

// unavailable is what devices hear: it is not their fault, and will pass.
func unavailable(err error) error {
	reason := "readings cannot be kept at present"
	if errors.Is(err, ingestlog.ErrFull) {
		reason = "the disk is full"
	}
	return devices.Refuse(devices.CodePlatformUnavailable, reason).After(5 * time.Second)
}

// freeze ends the active generation and has it flushed, unless the one before
// still is. The caller holds wmu.
func (s *Store) freeze() bool {
	if err := s.log.Sync(); err != nil { // the chunks must not know more than the log
		return false
	}
	_, end := s.log.Bounds()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen != nil {
		return false
	}
	if s.active.empty() && s.pos == end {
		return false
	}
	s.active.pos, s.active.clock = end, s.mark
	s.frozen, s.active = s.active, newGen(s.pool, s.seriesCount())
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

// breakDown notes that the chunk store failed. The log keeps what it has; the
// next start replays it.
func (s *Store) breakDown(err error) {
	if s.broken.CompareAndSwap(nil, &err) {
		s.opts.Logger.Error("the chunk store failed: readings are refused until the hub is started again", "err", err)
	}
	s.mu.Lock()
	s.flushed.Broadcast()
	s.mu.Unlock()
}

// Close flushes what is in the head, so that the next start is quick, and
// closes the store. Run has returned before.
func (s *Store) Close() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	var err error
	if s.broken.Load() == nil && s.log.State() == nil {
		if err = s.flushFrozen(context.Background()); err == nil && s.freeze() {
			err = s.flushFrozen(context.Background())
		}
	}
	err = errors.Join(err, s.log.Close(), s.closeChunks())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken.Load() == nil && s.frozen == nil { // else the head may still be read
		s.active.release()
		s.active = newGen(s.pool, 0)
	}
	s.pool.close()
	return err
}

// freeSpace watches the room on the disk.
type freeSpace struct {
	mu      sync.Mutex
	checked time.Time
	left    int64 // to be written until it is looked at again
	err     error
}

// freeEvery and freeBytes are when the room is looked at again.
const (
	freeEvery = time.Second
	freeBytes = 16 << 20
)

func (f *freeSpace) wrote(n int64) {
	f.mu.Lock()
	f.left -= n
	f.mu.Unlock()
}

// reserve is the room that is kept back: least, or, where that is 0, what a disk of that size is to
// have.
func reserve(least, total int64) int64 {
	if least == 0 {
		return min(1<<30, total/20)
	}
	return least
}

// check returns an error that wraps ErrFull when less than least is free.
func (f *freeSpace) check(l *ingestlog.Log, least int64, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if since := now.Sub(f.checked); f.left > 0 && since >= 0 && since < freeEvery {
		return f.err
	}
	free, total, err := l.Free()
	if err != nil {
		return err
	}
	least = reserve(least, total)
	f.checked, f.left, f.err = now, freeBytes, nil
	if free < least {
		f.err = fmt.Errorf("%w: %d MiB are left, %d are kept back", ingestlog.ErrFull, free>>20, least>>20)
	}
	return f.err
}

func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
