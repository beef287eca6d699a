package influx

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/readings"
	"devicehub/devices/tsdb"
)

// plant is a store with readings that go on, and a sink that is started and
// stopped.
type plant struct {
	t     *testing.T
	dir   string
	store *tsdb.Store
	cfg   Config
	sink  *Sink
	stop  func()
	n     int
	sum   float64
}

const t0 = 1_763_700_000_000

func newPlant(t *testing.T, url string) *plant { return newPlantIn(t, url, t.TempDir()) }

func newPlantIn(t *testing.T, url, dir string) *plant {
	p := &plant{t: t, dir: dir}
	p.cfg = Config{URL: url, Bucket: "iot/raw", Token: serverToken, Dir: filepath.Join(p.dir, "influx"), Batch: 500,
		Every: 10 * time.Millisecond, Timeout: time.Second, BackoffMin: 20 * time.Millisecond, BackoffMax: 200 * time.Millisecond, SpoolMax: 1 << 30}
	if err := os.Mkdir(p.cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := tsdb.Open(filepath.Join(p.dir, "readings"), tsdb.Options{Fsync: tsdb.SyncOff, MinFree: -1, SegmentBytes: 32 << 10, FlushReadings: 2000, FlushEvery: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	p.store = store
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	t.Cleanup(func() {
		p.halt()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// begin starts a sink where the last one left.
func (p *plant) begin() {
	p.t.Helper()
	sink, err := New(p.store, p.cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sink.Run(ctx) }()
	p.sink = sink
	p.stop = func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	}
}

func (p *plant) halt() {
	if p.stop != nil {
		p.stop()
		p.stop = nil
	}
}

// ingest appends n readings of temperature, in pushes of 50 from ten devices.
// It fails when one takes long: the sink must not hold it up.
func (p *plant) ingest(n int) {
	p.t.Helper()
	for range n / 50 {
		book := p.store.Book()
		rec := book.Record(devices.ID(fmt.Sprintf("d-%d", p.n/50%10)))
		x := book.Define(rec, "temperature", devices.TypeFloat, "°C", false)
		e := &readings.Entry{Rec: rec, At: time.Now().UnixMilli()}
		for range 50 {
			v := float64(p.n%1000) / 10
			e.Items = append(e.Items, readings.Stored{S: x, Point: readings.Point{T: t0 + int64(p.n)*1000, F: v}})
			p.n++
			p.sum += v
		}
		from := time.Now()
		if err := p.store.Append(&readings.Group{Entries: []*readings.Entry{e}, Readings: 50}); err != nil {
			p.t.Fatal(err)
		}
		if d := time.Since(from); d > 5*time.Second {
			p.t.Errorf("a group took %v", d)
		}
	}
}

// push appends one reading of any metric.
func (p *plant) push(metric string, v readings.Value) {
	p.t.Helper()
	rec := p.store.Book().Record("d-0")
	x := p.store.Book().Define(rec, metric, v.Type, "", false)
	e := &readings.Entry{Rec: rec, At: time.Now().UnixMilli(), Items: []readings.Stored{{S: x, Point: readings.Point{T: t0 + int64(p.n), F: v.F, S: v.S}}}}
	p.n++
	if err := p.store.Append(&readings.Group{Entries: []*readings.Entry{e}, Readings: 1}); err != nil {
		p.t.Fatal(err)
	}
}

// until waits for what ok tells, up to 30 s.
func (p *plant) until(what string, ok func(Stats) bool) {
	p.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(p.sink.Stats()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("waited for %s: %+v", what, p.sink.Stats())
		}
	}
}

func caughtUp(s Stats) bool { return s.LagBytes == 0 && len(s.Gaps) == 0 && s.State == StateRunning }

// complete checks that the server has every reading, once.
func (p *plant) complete(s *server) {
	p.t.Helper()
	p.until("the server to have everything", caughtUp)
	if n, sum := s.countSum("temperature"); n != p.n || sum < p.sum-0.01 || sum > p.sum+0.01 {
		p.t.Errorf("the server has %d points, sum %v; want %d, %v", n, sum, p.n, p.sum)
	}
}

func TestServerStoppedAndStartedUnderLoad(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := newPlant(t, s.url)
	p.begin()
	p.ingest(5000)
	p.until("some to be sent", func(st Stats) bool { return st.Sent > 0 })
	s.kill()
	p.ingest(20_000)
	p.until("the outage to show", func(st Stats) bool { return st.State == StateRetrying && st.LagBytes > 0 && st.Retries > 2 })
	p.halt() // and a restart of the hub's side
	p.ingest(5000)
	p.begin()
	s.start()
	p.ingest(5000)
	p.complete(s)
	if st := p.sink.Stats(); st.DeadLetter != 0 || st.Dropped != 0 {
		t.Errorf("got %+v", st)
	}
	if first, _ := p.store.LogBounds(); first == 0 {
		t.Error("the log behind the cursor is kept")
	}
}

func TestFaultsInFrontOfTheServer(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	x := newProxy(t, s.url)
	p := newPlant(t, x.url)
	for name, fault := range map[string]func(w http.ResponseWriter, r *http.Request, pass func()){
		"429": func(w http.ResponseWriter, _ *http.Request, _ func()) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		},
		"503": func(w http.ResponseWriter, _ *http.Request, _ func()) { w.WriteHeader(http.StatusServiceUnavailable) },
		"a cache that is full": func(w http.ResponseWriter, _ *http.Request, _ func()) {
			http.Error(w, `{"error":"engine: cache-max-memory-size exceeded"}`, http.StatusInternalServerError)
		},
		"a hang": func(_ http.ResponseWriter, r *http.Request, _ func()) { <-r.Context().Done() },
		"stored, and the answer lost": func(w http.ResponseWriter, _ *http.Request, pass func()) {
			pass()
			panic(http.ErrAbortHandler)
		},
	} {
		x.set(fault)
		p.begin()
		p.ingest(2000)
		p.until(name, func(st Stats) bool { return st.State == StateRetrying && st.Retries >= 2 })
		p.ingest(500)
		x.set(nil)
		p.complete(s)
		p.halt()
	}
}

func TestWrongToken(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := newPlant(t, s.url)
	p.cfg.Token = "admin:wrong"
	p.begin()
	p.ingest(10_000)
	p.until("the refusal", func(st Stats) bool { return st.State == StateRefused && st.Err != "" })
	p.ingest(1000)
	p.halt()
	p.cfg.Token = serverToken
	p.begin()
	p.complete(s)
}

func TestNoSuchBucket(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := newPlant(t, s.url)
	for _, bucket := range []string{"nowhere/raw", "iot/nowhere"} {
		p.cfg.Bucket = bucket
		p.begin()
		p.ingest(500)
		p.until("the refusal", func(st Stats) bool { return st.State == StateRefused })
		p.halt()
	}
	p.cfg.Bucket = "iot/raw"
	p.begin()
	p.complete(s)
}

func TestPoisonIsPutAside(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	// Somebody else wrote a text into what is to be a number.
	r, err := http.NewRequest("POST", s.url+"/write?db=iot&rp=raw&precision=ms&u=admin&p=secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf("odd,device=x,metric=odd v=\"text\" %d", t0)
	if r, err = http.NewRequest("POST", r.URL.String(), stringsReader(body)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatal(resp, err)
	}
	resp.Body.Close()

	p := newPlant(t, s.url)
	p.ingest(1000)
	clean := p.n
	for i := range 3 {
		p.push("odd", readings.Float(float64(i)))
	}
	p.push("label", readings.Text("quotes \" and \\ and\nlines, =1"))
	p.push("door", readings.Bool(true))
	p.begin()
	p.until("everything to be dealt with", caughtUp)
	if st := p.sink.Stats(); st.DeadLetter != 3 {
		t.Errorf("%d points were put aside, want 3", st.DeadLetter)
	}
	if n, _ := s.countSum("temperature"); n != clean {
		t.Errorf("the server has %d points, want %d", n, clean)
	}
	if rows := s.query("iot", `SELECT s FROM iot.raw.label`); len(rows) != 1 || rows[0][1] != "quotes \" and \\ and\nlines, =1" {
		t.Errorf("got %q", rows)
	}
	if rows := s.query("iot", `SELECT b FROM iot.raw.door`); len(rows) != 1 || rows[0][1] != true {
		t.Errorf("got %v", rows)
	}
	p.halt()
	p.begin()

	// Nothing has changed: all stay. Then the measurement is mended.
	again := func(wantTaken, wantLeft int) {
		t.Helper()
		if st := p.sink.Stats(); st.PutAside != int64(wantTaken+wantLeft) {
			t.Errorf("%d points are put aside, want %d", st.PutAside, wantTaken+wantLeft)
		}
		r, err := p.sink.Replay(t.Context())
		if err != nil || r.Taken != wantTaken || r.Left != wantLeft {
			t.Errorf("replayed %+v, %v; want %d taken, %d left", r, err, wantTaken, wantLeft)
		}
	}
	again(0, 3)
	s.query("iot", `DROP MEASUREMENT odd`)
	again(3, 0)
	again(0, 0)
	if n, sum := s.countSum("odd"); n != 3 || sum != 3 {
		t.Errorf("the server has %d points, sum %v; want 3 and 3", n, sum)
	}
}

// What an earlier build stored under names that no device can have sent is sent
// neither from the log nor from the store, nor again when it was put aside.
func TestNamesThatAreNoneAreNotSent(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "readings"), os.DirFS(filepath.Join("..", "tsdb", "testdata", "misnamed"))); err != nil {
		t.Fatal(err)
	}
	p := newPlantIn(t, s.url, dir)
	var log bytes.Buffer
	p.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	aside := `{"at":"2026-11-30T21:00:00Z","reason":"invalid","line":"\u0000\u0001b\u0001EeyJhbG,device=a,metric=\u0000\u0001b\u0001EeyJhbG v=1 1796072532000"}` + "\n" +
		`{"at":"2026-11-30T21:00:00Z","reason":"invalid","line":"sImtpZCI6IjIw,device=a,metric=sImtpZCI6IjIw v=1 1796072532000"}` + "\n" +
		`{"at":"2026-11-30T21:00:00Z","reason":"invalid","line":"rain,device=a,metric=rain v=1 1796072532000"}` + "\n"
	if err := os.WriteFile(filepath.Join(p.cfg.Dir, deadLetterName), []byte(aside), 0o600); err != nil {
		t.Fatal(err)
	}
	cur := cursor{Version: cursorVersion, Gaps: []Gap{{From: 0, To: time.Now().Add(100 * 365 * 24 * time.Hour).UnixMilli()}}} // all of it from the store, too
	if err := cur.save(filepath.Join(p.cfg.Dir, cursorName)); err != nil {
		t.Fatal(err)
	}
	p.ingest(100)
	p.begin()
	p.until("everything to be sent", caughtUp)
	if r, err := p.sink.Replay(t.Context()); err != nil || r != (Replayed{Taken: 1, Erased: 2}) {
		t.Errorf("replayed %+v, %v; want one taken, two erased", r, err)
	}
	if r, err := p.sink.Replay(t.Context()); err != nil || r != (Replayed{}) {
		t.Errorf("replayed %+v, %v; want nothing left", r, err)
	}
	got := map[any]bool{}
	for _, row := range s.query("iot", "SHOW MEASUREMENTS") {
		got[row[0]] = true
	}
	if len(got) != 3 || !got["temperature"] || !got["humidity"] || !got["rain"] {
		t.Errorf("the server has the measurements %v", got)
	}
	for name := range got {
		if !devices.ValidMetricName(name.(string)) {
			t.Errorf("the server has a measurement %q", name)
		}
	}
	if st := p.sink.Stats(); st.DeadLetter != 0 || st.PutAside != 0 {
		t.Errorf("got %+v, want none put aside", st)
	}
	if n := strings.Count(log.String(), "are not sent"); n != 1 {
		t.Errorf("the log says %d times that readings are not sent, want once", n)
	}
}

func TestAFullSpoolIsFilledFromTheStore(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.kill()
	p := newPlant(t, s.url)
	p.cfg.SpoolMax = 128 << 10
	p.begin()
	for range 20 {
		p.ingest(2500)
		time.Sleep(10 * time.Millisecond)
	}
	p.until("the gap", func(st Stats) bool { return len(st.Gaps) > 0 && st.LagBytes <= p.cfg.SpoolMax })
	p.halt()
	p.begin()
	if st := p.sink.Stats(); len(st.Gaps) == 0 {
		t.Error("the gap is forgotten by a restart")
	}
	s.start()
	p.complete(s)
	if st := p.sink.Stats(); len(st.Lost) != 0 {
		t.Errorf("lost %v", st.Lost)
	}
}

func TestPointsOlderThanTheBucketKeeps(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.query("", "CREATE RETENTION POLICY short ON iot DURATION 1h REPLICATION 1")
	p := newPlant(t, s.url)
	p.cfg.Bucket = "iot/short"
	p.ingest(100) // of last year
	p.begin()
	p.until("them to be counted", func(st Stats) bool { return st.Dropped == 100 && st.LagBytes == 0 })
	if st := p.sink.Stats(); st.DeadLetter != 0 {
		t.Errorf("got %+v, want no dead letters", st)
	}
}
