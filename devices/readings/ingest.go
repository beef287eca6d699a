package readings

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/devices"
)

// Config is what an Ingest needs to know. The zero value of a field stands for
// its default.
type Config struct {
	Now           func() time.Time
	Device        func(devices.ID) (*devices.Device, bool) // the registry's records, for units and staleness
	Logger        *slog.Logger
	LateMax       time.Duration // readings older are refused, 7 d
	BackfillShare int           // percent of each commit that late readings may have, 25
	Feed          devices.Feed  // is told of readings, "reading" and "backfill"
	// MayStore is asked whether a device may have a push stored; its error refuses
	// the push. OnStored is told how many bytes the store took for one.
	MayStore func(devices.ID) error
	OnStored func(id devices.ID, bytes int)
	// OnData is called after a push of the device became durable, before its
	// reply.
	OnData func(id devices.ID, accepted int)
	// OnCommit is called after every group: its readings, how long it took the
	// store to keep them, and how it went.
	OnCommit func(readings int, took time.Duration, err error)
}

// Bounds of the queue between Submit and the commits.
const (
	groupReadings  = 16384           // of one commit
	queuedReadings = 200_000         // waiting, live ones and late ones each
	queuedPushes   = 100_000         // likewise
	backfillWait   = 2 * time.Second // for its turn, then overloaded
	retryAfter     = time.Second
)

// Source is who sends a push, and how.
type Source struct {
	Device    *devices.Device
	Boot      string // of the join, or of the last message of this connection; empty: unknown
	Transport devices.Transport
	Order     *Order // nil: it has no bearing on others
}

// Order ties together pushes that are to be decided in the order in which they
// were submitted. Once the store has refused one of them for now, it refuses
// every later one of the same Order as well, so that whoever sends them again
// can do so in their order: with a new Order, when the last of this one is
// decided. The zero value is ready. A refusal that Submit gives before it
// returns says nothing of other pushes.
type Order struct {
	broken *devices.Error // owned by the goroutine that commits
}

// fail refuses the pushes to come.
func (o *Order) fail(err *devices.Error) {
	if o != nil {
		o.broken = err
	}
}

func (o *Order) failed() *devices.Error {
	if o == nil {
		return nil
	}
	return o.broken
}

// job is one push that waits for its commit, a request to erase a device or
// some series, or a barrier, which is nothing but answered when what was before
// it is durable.
type job struct {
	src    Source
	batch  Batch
	at     time.Time
	forget *Record
	bare   bool      // a barrier
	drop   []*Series // with bare: to be erased
	done   func(Result, error)
	v      verdict
	err    error
}

// Ingest judges what devices send and has the store keep it. Run does the work;
// everything else may be called from any goroutine, before Run too.
type Ingest struct {
	store Store
	book  *Book
	cfg   Config
	seed  maphash.Seed

	mu       sync.Mutex
	live     []*job
	backfill []*job
	liveN    int // readings waiting
	backN    int
	closed   bool
	kick     chan struct{} // something waits, or enough for a full group

	// Owned by the goroutine that commits.
	devs  map[devices.ID]*device
	group uint64

	maxReadings atomic.Int64 // of a push

	clock   clock
	offsets offsets
	stats   stats
	leftOut sync.Once // an export has said that it is not whole
}

// New returns an Ingest over a store.
func New(store Store, cfg Config) *Ingest {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.LateMax == 0 {
		cfg.LateMax = 7 * 24 * time.Hour
	}
	if cfg.BackfillShare == 0 {
		cfg.BackfillShare = 25
	}
	if cfg.Feed == nil {
		cfg.Feed = devices.FeedFunc(func(devices.Event) {})
	}
	in := &Ingest{store: store, book: store.Book(), cfg: cfg, seed: maphash.MakeSeed(),
		kick: make(chan struct{}, 1), devs: map[devices.ID]*device{}}
	in.clock.start(store.Clock(), cfg.Now())
	if in.clock.state.Suspect {
		cfg.Logger.Warn("the clock is under suspicion: it is behind the greatest time on record, or was suspect before", "recorded", in.clock.state.Recorded)
	}
	in.offsets.of = map[devices.ID]*offset{}
	in.SetMaxReadings(MaxReadings)
	return in
}

// SetMaxReadings changes how many readings a push may have; it is MaxReadings before.
func (in *Ingest) SetMaxReadings(n int) { in.maxReadings.Store(int64(n)) }

// Submit has a push judged and kept. done is called exactly once, on another
// goroutine or before Submit returns, when all that was accepted is durable.
// The error is a *devices.Error when nothing was stored and nothing was a
// duplicate; the Result counts even then. too_large, overloaded and
// platform_unavailable are about the push and decide none of its readings.
func (in *Ingest) Submit(src Source, b Batch, done func(Result, error)) {
	now := in.cfg.Now()
	if n, most := b.Len(), in.maxReadings.Load(); int64(n) > most || n == 0 {
		done(Result{}, devices.Refuse(devices.CodeTooLarge, "too many readings in one push").With("limit", most))
		return
	}
	if in.cfg.MayStore != nil {
		if err := in.cfg.MayStore(src.Device.ID); err != nil {
			in.stats.refusedPushes.Add(1)
			done(Result{}, err)
			return
		}
	}
	in.offsets.note(src.Device.ID, &b, now.UnixMilli())
	j := &job{src: src, batch: b, at: now, done: done}
	late := in.isBackfill(j)
	if err := in.push(j, late); err != nil {
		in.stats.refusedPushes.Add(1)
		done(Result{}, err)
	}
}

func (in *Ingest) push(j *job, late bool) error {
	n := max(1, j.batch.Len())
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return devices.Refuse(devices.CodePlatformUnavailable, "the hub is shutting down").After(5 * time.Second)
	}
	queue, waiting := &in.live, &in.liveN
	if late {
		queue, waiting = &in.backfill, &in.backN
	}
	if *waiting+n > queuedReadings || len(*queue) >= queuedPushes {
		return overloaded()
	}
	first := len(in.live)+len(in.backfill) == 0
	*queue = append(*queue, j)
	*waiting += n
	if first || in.liveN+in.backN >= groupReadings {
		select {
		case in.kick <- struct{}{}:
		default:
		}
	}
	return nil
}

// wait has a job of the hub's own done, and waits for it.
func (in *Ingest) wait(ctx context.Context, j *job) error {
	done := make(chan error, 1)
	j.at = in.cfg.Now()
	j.done = func(_ Result, err error) { done <- err }
	if err := in.push(j, false); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func overloaded() *devices.Error {
	return devices.Refuse(devices.CodeOverloaded, "more readings wait than can be kept at once").After(retryAfter)
}

// isBackfill tells by the newest reading of a push whether it can wait behind
// live ones. It may err on either side: it decides about turns, not about the
// quality of a reading.
func (in *Ingest) isBackfill(j *job) bool {
	newest := -1
	for i := range j.batch.items {
		it := &j.batch.items[i]
		if !it.timed || it.err != nil {
			return false
		}
		if newest < 0 || it.t > j.batch.items[newest].t {
			newest = i
		}
	}
	it := &j.batch.items[newest]
	age := j.at.UnixMilli() - it.t
	if age < 10_000 {
		return false
	}
	if iv := expected(j.src.Device, declared(j.src.Device, it.metric), 0); iv > 0 && age > 2*iv {
		return true
	}
	rec, ok := in.book.Lookup(j.src.Device.ID)
	if !ok {
		return false
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, s := range rec.series {
		if s.Metric == it.metric && s.has && it.t < s.last.T {
			return true
		}
	}
	return false
}

// take removes from the queues what the next commit is to hold: live pushes,
// but for the share of the late ones, then late ones as far as there is room.
// expired are late ones that waited too long for it.
func (in *Ingest) take() (jobs, expired []*job) {
	in.mu.Lock()
	defer in.mu.Unlock()
	now := in.cfg.Now()
	reserve := min(in.backN, groupReadings*in.cfg.BackfillShare/100)
	room := groupReadings
	from := func(queue *[]*job, waiting *int, keep int) {
		q := *queue
		i := 0
		for i < len(q) && (room > keep || len(jobs) == 0) {
			n := max(1, q[i].batch.Len())
			jobs = append(jobs, q[i])
			room -= n
			*waiting -= n
			i++
		}
		clear(q[:i])
		if *queue = q[i:]; len(*queue) == 0 {
			*queue = nil
		}
	}
	from(&in.live, &in.liveN, reserve)
	from(&in.backfill, &in.backN, 0)
	from(&in.live, &in.liveN, 0)
	for len(in.backfill) > 0 && now.Sub(in.backfill[0].at) > backfillWait {
		j := in.backfill[0]
		in.backfill = in.backfill[1:]
		in.backN -= max(1, j.batch.Len())
		expired = append(expired, j)
	}
	return jobs, expired
}

// waiting is the time of the push that waits longest, and whether there is one.
func (in *Ingest) waiting() (since time.Time, full, any bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, q := range [][]*job{in.live, in.backfill} {
		if len(q) > 0 && (!any || q[0].at.Before(since)) {
			since, any = q[0].at, true
		}
	}
	return since, in.liveN+in.backN >= groupReadings, any
}

// Run judges, appends and answers until ctx ends; then it keeps what still
// waits, and returns when the last reply is out.
func (in *Ingest) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	storeErr := make(chan error, 1)
	go func() { storeErr <- in.store.Run(storeCtx) }()
	lanes := make([]chan []*job, min(4, max(2, runtime.GOMAXPROCS(0))))
	for i := range lanes {
		lanes[i] = make(chan []*job, 4)
		wg.Go(func() {
			for jobs := range lanes[i] {
				for _, j := range jobs {
					in.answer(j)
				}
			}
		})
	}
	in.commits(ctx, lanes)
	for _, l := range lanes {
		close(l)
	}
	wg.Wait()
	stopStore()
	return <-storeErr
}

func (in *Ingest) commits(ctx context.Context, lanes []chan []*job) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	retain := time.NewTimer(retainFirst)
	defer retain.Stop()
	var retaining sync.WaitGroup
	defer retaining.Wait()
	for {
		select {
		case <-ctx.Done():
			in.mu.Lock()
			in.closed = true
			in.mu.Unlock()
			for in.commit(lanes) {
			}
			return
		case <-tick.C:
			in.checkClock(lanes)
			continue
		case <-retain.C:
			retaining.Go(func() { in.retain(ctx, false) })
			retain.Reset(retainEvery)
			continue
		case <-in.kick:
		}
		for in.linger(ctx) && ctx.Err() == nil {
			in.commit(lanes)
		}
	}
}

// linger waits until the next group is due. It returns false when nothing
// waits.
func (in *Ingest) linger(ctx context.Context) bool {
	for {
		since, full, any := in.waiting()
		if !any || full {
			return any
		}
		d := in.store.Linger() - in.cfg.Now().Sub(since)
		if d <= 0 {
			return true
		}
		t := time.NewTimer(min(d, in.store.Linger()))
		select {
		case <-t.C:
			return true
		case <-in.kick:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return true
		}
	}
}

// commit judges what waits, appends it and hands it to be answered. It returns
// false when nothing waited.
func (in *Ingest) commit(lanes []chan []*job) bool {
	jobs, expired := in.take()
	for _, j := range expired {
		refused := overloaded()
		j.err = refused
		j.src.Order.fail(refused)
	}
	in.hand(lanes, expired)
	if len(jobs) == 0 {
		return len(expired) > 0
	}
	in.drop(jobs)
	in.group++
	g := Group{Entries: make([]*Entry, 0, len(jobs))}
	suspect := in.clock.suspect()
	for _, j := range jobs {
		if refused := j.src.Order.failed(); refused != nil {
			j.err = refused
			continue
		}
		in.decide(j, suspect)
		if j.v.entry != nil {
			g.Entries = append(g.Entries, j.v.entry)
			g.Readings += j.v.stored
		}
	}
	err := in.append(&g)
	if err == nil && in.cfg.OnStored != nil {
		for _, e := range g.Entries {
			if !e.Forget {
				in.cfg.OnStored(e.Rec.ID, e.Bytes)
			}
		}
	}
	if err != nil {
		refusal := in.refusal(err)
		for _, j := range jobs {
			if j.drop != nil { // which is done, or has an error of its own
				continue
			}
			j.err = refusal
			j.src.Order.fail(refusal)
			if j.forget == nil && !j.bare {
				delete(in.devs, j.src.Device.ID)
			}
		}
	}
	in.hand(lanes, jobs)
	return true
}

// drop erases the series of those jobs that ask for it. What the judge remembers
// of their devices is made again from the book.
func (in *Ingest) drop(jobs []*job) {
	for _, j := range jobs {
		if j.drop == nil {
			continue
		}
		if err := in.store.Drop(j.drop); err != nil {
			j.err = in.refusal(err)
			continue
		}
		for _, s := range j.drop {
			delete(in.devs, s.Rec.ID)
		}
	}
}

func (in *Ingest) append(g *Group) error {
	g.Clock = in.clock.mark(in.cfg.Now())
	if len(g.Entries) == 0 && g.Clock == nil {
		return nil
	}
	from := time.Now()
	err := in.store.Append(g)
	took := time.Since(from)
	in.stats.groups.Add(1)
	if err == nil {
		in.clock.marked(g.Clock)
	}
	if in.cfg.OnCommit != nil {
		in.cfg.OnCommit(g.Readings, took, err)
	}
	return err
}

// refusal is what devices are told when the store has not kept a group. The
// store itself logs why.
func (in *Ingest) refusal(err error) *devices.Error {
	var e *devices.Error
	if errors.As(err, &e) {
		return e
	}
	in.cfg.Logger.Error("readings are refused", "err", err)
	return devices.Refuse(devices.CodePlatformUnavailable, "readings cannot be kept at present").After(5 * time.Second)
}

func (in *Ingest) decide(j *job, suspect bool) {
	if j.forget != nil {
		j.v.entry = &Entry{Rec: j.forget, At: j.at.UnixMilli(), Forget: true}
		delete(in.devs, j.forget.ID)
		return
	}
	if j.bare {
		return
	}
	d := j.src.Device
	js := in.devs[d.ID]
	if js == nil || js.from != d && js.group != in.group {
		js = load(in.book.Record(d.ID), d)
		in.devs[d.ID] = js
	}
	js.group = in.group
	j.v = js.judge(&j.batch, j.src.Boot, j.at.UnixMilli(), in.cfg.LateMax.Milliseconds(), suspect, func(m *metric) *Series {
		return in.book.Define(js.rec, m.name, m.typ, m.unit, m.counter())
	})
}

// hand gives jobs to be answered, those of one device always to the same lane.
func (in *Ingest) hand(lanes []chan []*job, jobs []*job) {
	if len(jobs) == 0 {
		return
	}
	split := make([][]*job, len(lanes))
	for _, j := range jobs {
		i := 0
		if j.forget == nil && !j.bare {
			i = int(maphash.String(in.seed, string(j.src.Device.ID)) % uint64(len(lanes)))
		}
		split[i] = append(split[i], j)
	}
	for i, part := range split {
		if len(part) > 0 {
			lanes[i] <- part
		}
	}
}

// answer tells the device, then those who watch.
func (in *Ingest) answer(j *job) {
	switch {
	case j.err != nil:
		in.stats.refusedPushes.Add(1)
		j.done(Result{}, j.err)
		return
	case j.forget != nil || j.bare:
		for _, s := range j.drop {
			if in.cfg.OnData != nil { // what is fresh may be another
				in.cfg.OnData(s.Rec.ID, 0)
			}
		}
		j.done(Result{}, nil)
		return
	}
	in.stats.count(&j.v.result)
	if j.v.stored > 0 && in.cfg.OnData != nil {
		in.cfg.OnData(j.src.Device.ID, j.v.stored)
	}
	if j.v.err != nil {
		j.done(j.v.result, j.v.err)
		return
	}
	j.done(j.v.result, nil)
	in.publish(j)
}
