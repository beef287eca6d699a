// Package influx sends every reading to an InfluxDB server, behind the ingest
// log and never in its way.
//
// A Sink reads the log from a cursor of its own, which it keeps in a file and
// moves only past what the server has taken (or what was put into the
// dead-letter file). An outage of hours, a restart of either side and an answer
// that got lost thus lose nothing, and double nothing: a point is one by
// measurement, tags and time, and sending it again changes nothing. Points are
// written as readings.AppendLine does: measurement = metric, tags device and
// metric, one field v, b or s, in the unit that was declared when the reading
// came. Where a declaration changes the unit, points from then on are in the new
// one; charts and exports of the hub convert what came before.
//
// The log that waits for the sink is bounded by SpoolMax. Beyond it the oldest
// part is given up as a gap, of which only the time is kept; it is filled from
// the embedded store when the server has caught up otherwise. What the store
// keeps no longer is counted as lost to the sink.
package influx

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	influxdb2 "github.com/influxdata/influxdb-client-go/v2"
	"github.com/influxdata/influxdb-client-go/v2/api"

	"devicehub/devices/readings"
)

// Source is the store that a sink reads; *tsdb.Store is one.
type Source interface {
	Book() *readings.Book
	Scan(ctx context.Context, s *readings.Series, from, to int64, f func([]readings.Point) error) error
	Kept(t readings.Tier) int64
	// Tail calls f for the pushes in the log from pos on, at being when each
	// came, until f returns false at the end of a frame; it returns where to go
	// on.
	Tail(pos uint64, f func(r []readings.Stored, at int64) bool) (uint64, error)
	Grown() <-chan struct{}
	LogBounds() (first, end uint64)
	Pin(name string, pos uint64) error
	Free() (free, total int64, err error)
}

// Config says where to send, and how. Batch, Every, Timeout and the bounds of
// the back-off have defaults.
type Config struct {
	URL, Org, Bucket, Token string
	Dir                     string // of cursor and dead letters; it exists
	SpoolMax                int64  // bytes of log, the lesser of 10 GiB and a fifth of the free disk
	Batch                   int    // points a request, 5000
	Every                   time.Duration
	Timeout                 time.Duration // of a request, 10 s
	BackoffMin, BackoffMax  time.Duration // between tries, 0.5 s and 30 s
	Logger                  *slog.Logger
	Now                     func() time.Time
}

const (
	pinName      = "influx"
	defaultSpool = 10 << 30
	cursorName   = "cursor.json"
)

// The states of a sink.
const (
	StateRunning  = "running"  // sends, or has nothing to send
	StateRetrying = "retrying" // the server cannot take it at present
	StateRefused  = "refused"  // wrong token, organisation or bucket: someone must look
)

// Stats is a snapshot of a sink.
type Stats struct {
	State      string `json:"state"`
	Err        string `json:"error,omitempty"`
	LagBytes   int64  `json:"lag_bytes"`       // of log, not yet sent
	LagMS      int64  `json:"lag_ms"`          // age of the oldest reading not yet sent
	Sent       int64  `json:"sent"`            // points, since the start
	DeadLetter int64  `json:"dead_letter"`     // points refused for good, since the start
	PutAside   int64  `json:"put_aside"`       // points in the dead-letter file, for Replay
	Dropped    int64  `json:"dropped"`         // points older than the bucket keeps
	Retries    int64  `json:"retries"`         // requests that were tried again
	Gaps       []Gap  `json:"gaps,omitempty"`  // to be filled from the embedded store
	Lost       []Gap  `json:"lost,omitempty"`  // can no longer be filled
	Since      int64  `json:"since,omitempty"` // of the state
}

// Sink sends. New allocates, Run does the work.
type Sink struct {
	src    Source
	cfg    Config
	client influxdb2.Client
	write  api.WriteAPIBlocking

	replays chan replayRequest
	ended   chan struct{} // closed when Run returns
	leftOut sync.Once     // it was said that readings are not sent

	mu     sync.Mutex
	cur    cursor
	stats  Stats
	oldest int64 // when the oldest unsent push came, 0: none known
}

// New returns a sink that goes on where its cursor file says.
func New(src Source, cfg Config) (*Sink, error) {
	if cfg.Batch == 0 {
		cfg.Batch = 5000
	}
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.BackoffMin == 0 {
		cfg.BackoffMin = 500 * time.Millisecond
	}
	if cfg.BackoffMax == 0 {
		cfg.BackoffMax = 30 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.SpoolMax == 0 {
		free, _, err := src.Free()
		if err != nil {
			return nil, err
		}
		cfg.SpoolMax = min(defaultSpool, free/5)
	}
	cur, err := loadCursor(filepath.Join(cfg.Dir, cursorName))
	if err != nil {
		return nil, err
	}
	opts := influxdb2.DefaultOptions().SetPrecision(time.Millisecond).SetUseGZip(true).SetLogLevel(0).
		SetHTTPRequestTimeout(uint(max(1, (cfg.Timeout+time.Second-1)/time.Second)))
	s := &Sink{src: src, cfg: cfg, cur: cur, client: influxdb2.NewClientWithOptions(cfg.URL, cfg.Token, opts),
		replays: make(chan replayRequest), ended: make(chan struct{})}
	s.write = s.client.WriteAPIBlocking(cfg.Org, cfg.Bucket)
	s.stats = Stats{State: StateRunning, Since: cfg.Now().UnixMilli()}
	for _, name := range []string{deadLetterName, replayingName} {
		aside, err := readDead(filepath.Join(cfg.Dir, name))
		if err != nil { // a damaged line must not keep readings from being sent
			cfg.Logger.Error("the dead-letter file cannot be read", "sink", pinName, "err", err)
		}
		s.stats.PutAside += int64(len(aside))
	}
	s.resume()
	return s, src.Pin(pinName, s.cur.Pos)
}

// resume holds the cursor against the log as it is.
func (s *Sink) resume() {
	first, end := s.src.LogBounds()
	switch {
	case s.cur.Pos > end: // the log was replaced by an older one
		s.cur.Pos = end
	case s.cur.Pos < first && s.cur.At == 0:
		s.cur.Pos = first // there was no sink before
	case s.cur.Pos < first:
		now := s.cfg.Now().UnixMilli()
		s.cfg.Logger.Warn("the log no longer has what the sink needs next: it is filled from the store", "from", s.cur.At)
		s.cur.addGap(Gap{From: s.cur.At - resumeBefore.Milliseconds(), To: now})
		s.cur.Pos = first
	}
}

// resumeBefore is how much earlier than the last push sent the readings may lie
// that are filled after a time without a sink.
const resumeBefore = time.Hour

// Run sends until ctx ends.
func (s *Sink) Run(ctx context.Context) error {
	defer s.client.Close()
	defer close(s.ended)
	for ctx.Err() == nil {
		select {
		case r := <-s.replays:
			s.replay(ctx, r)
		default:
		}
		grown := s.src.Grown()
		more, err := s.step(ctx)
		if err != nil && ctx.Err() == nil {
			s.cfg.Logger.Error("the sink is held up", "sink", pinName, "err", err)
			s.setState(StateRetrying, err)
			s.sleep(ctx, s.cfg.BackoffMax)
			continue
		}
		if more {
			continue
		}
		if filled, err := s.fillGap(ctx); filled || err != nil {
			if err != nil && ctx.Err() == nil {
				s.cfg.Logger.Error("a gap of the sink is not filled", "sink", pinName, "err", err)
				s.sleep(ctx, s.cfg.BackoffMax)
			}
			continue
		}
		select {
		case <-ctx.Done():
		case r := <-s.replays:
			s.replay(ctx, r)
		case <-grown:
			s.sleep(ctx, s.cfg.Every) // for company
		}
	}
	return nil
}

func (s *Sink) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// step sends one batch from the log, if there is anything. more says that
// there is more to send at once.
func (s *Sink) step(ctx context.Context) (more bool, err error) {
	if err := s.bound(); err != nil {
		return false, err
	}
	pos := s.cur.Pos
	var lines []string
	var at int64
	next, err := s.src.Tail(pos, func(r []readings.Stored, came int64) bool {
		if at == 0 {
			s.mu.Lock()
			s.oldest = came
			s.mu.Unlock()
		}
		at = max(at, came)
		for i := range r {
			if x := r[i].S; x != nil && s.sends(x) {
				lines = append(lines, line(x, &r[i].Point))
			}
		}
		return len(lines) < s.cfg.Batch
	})
	if err != nil {
		return false, err
	}
	if next == pos {
		s.mu.Lock()
		s.oldest = 0
		s.mu.Unlock()
		return false, nil
	}
	if err := s.send(ctx, lines); err != nil {
		return false, err
	}
	return true, s.advance(next, at)
}

// sends reports whether a series is sent: one whose name no device can have sent
// is not.
func (s *Sink) sends(x *readings.Series) bool {
	if !x.Misnamed() {
		return true
	}
	s.leftOut.Do(func() {
		s.cfg.Logger.Warn("readings are not sent: no device can have sent the names that they were stored under, see `devicehub readings check`", "sink", pinName, "device", x.Rec.ID)
	})
	return false
}

func line(x *readings.Series, p *readings.Point) string {
	return string(readings.AppendLine(nil, x.Rec.ID, x.Metric, readings.Value{Type: x.Type, F: p.F, S: p.S}, p.T))
}

// advance moves the cursor, on disk first, and lets the log behind it go.
func (s *Sink) advance(pos uint64, at int64) error {
	s.mu.Lock()
	s.cur.Pos, s.cur.At = max(s.cur.Pos, pos), max(s.cur.At, at) // the bound may have gone further meanwhile
	cur := s.cur.clone()
	s.mu.Unlock()
	if err := cur.save(filepath.Join(s.cfg.Dir, cursorName)); err != nil {
		return err
	}
	return s.src.Pin(pinName, cur.Pos)
}

// send has the server take the lines, however long that takes. An error is
// that of ctx, or of the dead-letter file.
func (s *Sink) send(ctx context.Context, lines []string) error {
	for len(lines) > 0 {
		n := min(len(lines), s.cfg.Batch)
		if err := s.sendBatch(ctx, lines[:n]); err != nil {
			return err
		}
		lines = lines[n:]
	}
	return nil
}

func (s *Sink) sendBatch(ctx context.Context, lines []string) error {
	wait := s.cfg.BackoffMin
	for {
		err := s.request(ctx, lines)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			s.setState(StateRunning, nil)
			s.count(func(st *Stats) { st.Sent += int64(len(lines)) })
			return nil
		}
		switch verdict, after := classify(err); verdict {
		case bad:
			return s.bisect(ctx, lines, err)
		case expired:
			s.count(func(st *Stats) { st.Dropped += int64(len(lines)) })
			return nil
		case refused:
			s.setState(StateRefused, err)
			wait = s.cfg.BackoffMax
		default:
			s.setState(StateRetrying, err)
			wait = max(wait, min(after, s.cfg.BackoffMax))
		}
		s.count(func(st *Stats) { st.Retries++ })
		s.sleep(ctx, wait/2+rand.N(wait/2+1))
		wait = min(2*wait, s.cfg.BackoffMax)
		// Readings go on meanwhile: the log that waits stays within its bound.
		// What is being sent here is sent; the bound gives up what follows it.
		if err := s.bound(); err != nil {
			return err
		}
	}
}

func (s *Sink) request(ctx context.Context, lines []string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	return s.write.WriteRecord(ctx, lines...)
}

// bisect finds the lines that the server will not have, and puts them aside.
func (s *Sink) bisect(ctx context.Context, lines []string, cause error) error {
	if len(lines) == 1 {
		if tooOldForBucket(cause) {
			s.count(func(st *Stats) { st.Dropped++ })
			return nil
		}
		if err := s.putAside(lines[0], cause); err != nil {
			return err
		}
		s.cfg.Logger.Warn("a point is refused for good and put aside", "sink", pinName, "err", cause)
		s.count(func(st *Stats) { st.DeadLetter++ })
		return nil
	}
	half := len(lines) / 2
	if err := s.sendBatch(ctx, lines[:half]); err != nil {
		return err
	}
	return s.sendBatch(ctx, lines[half:])
}

func (s *Sink) count(f func(*Stats)) {
	s.mu.Lock()
	f(&s.stats)
	s.mu.Unlock()
}

func (s *Sink) setState(state string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.stats.State
	s.stats.State, s.stats.Err = state, ""
	if err != nil {
		s.stats.Err = err.Error()
	}
	if was == state {
		return
	}
	s.stats.Since = s.cfg.Now().UnixMilli()
	if state == StateRunning {
		s.cfg.Logger.Info("the sink goes on", "sink", pinName)
	} else {
		s.cfg.Logger.Warn("the sink does not get through", "sink", pinName, "state", state, "err", err)
	}
}

// Stats returns a snapshot.
func (s *Sink) Stats() Stats {
	_, end := s.src.LogBounds()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	if end > s.cur.Pos {
		st.LagBytes = int64(end - s.cur.Pos)
	}
	if s.oldest > 0 && st.LagBytes > 0 {
		st.LagMS = max(0, s.cfg.Now().UnixMilli()-s.oldest)
	}
	cur := s.cur.clone()
	st.Gaps, st.Lost = cur.Gaps, cur.Lost
	return st
}

// Close ends what New has begun, where Run is never called.
func (s *Sink) Close() { s.client.Close() }
