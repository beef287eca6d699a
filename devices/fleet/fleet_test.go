package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
)

// world is a fleet whose devices are as the test says.
type world struct {
	*Fleet
	t   testing.TB
	reg *devices.Registry

	mu     sync.Mutex
	status map[devices.ID]devices.State
	latest map[devices.ID]map[string]Latest
	on     map[devices.ID]bool
	cmd    map[devices.ID]Command
}

func newWorld(t testing.TB, ds ...*devices.Device) *world {
	t.Helper()
	reg, err := devices.OpenRegistry(t.Context(), new(devices.MemoryRegistry))
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Create(t.Context(), time.Now(), ds...); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, reg: reg, status: map[devices.ID]devices.State{}, latest: map[devices.ID]map[string]Latest{}, on: map[devices.ID]bool{}, cmd: map[devices.ID]Command{}}
	w.Fleet = New(Config{Registry: reg,
		Status: func(id devices.ID) devices.Status {
			w.mu.Lock()
			defer w.mu.Unlock()
			st := w.status[id]
			if st == "" {
				st = devices.NeverSeen
			}
			return devices.Status{State: st, Link: "up", Data: "fresh", Control: "ok"}
		},
		Latest: func(id devices.ID) map[string]Latest {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.latest[id]
		},
		Light: func(id devices.ID) (bool, int, int64, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			on, ok := w.on[id]
			return on, 128, 5000, ok
		},
		Command: func(id devices.ID) (Command, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			c, ok := w.cmd[id]
			return c, ok
		}})
	return w
}

func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done })
}

func (w *world) set(id devices.ID, st devices.State) {
	w.mu.Lock()
	w.status[id] = st
	w.mu.Unlock()
	w.Publish(devices.Event{Device: id, Name: "status"})
}

func (w *world) read(id devices.ID, metric string, v any) {
	w.mu.Lock()
	m := map[string]Latest{}
	for k, l := range w.latest[id] {
		m[k] = l
	}
	m[metric] = Latest{V: v, U: "°C", T: time.Now().UnixMilli()}
	w.latest[id] = m
	w.mu.Unlock()
	w.Publish(devices.Event{Device: id, Name: "reading"})
}

func sensor(id devices.ID, area string) *devices.Device {
	return &devices.Device{ID: id, Name: "The " + string(id), Kinds: []devices.Kind{devices.KindSensor}, Area: area, Enabled: true, Labels: map[string]string{"floor": "2", "team": "Red"}}
}

func viewer(scope string) devices.Actor {
	sc, err := devices.ParseScope(scope)
	if err != nil {
		panic(err)
	}
	return devices.Actor{Kind: devices.ActorUser, Name: "vic", Role: devices.RoleViewer, Rights: devices.RoleViewer.Rights(), Scope: sc}
}

// dashboard is one who looks.
type dashboard struct {
	*View
	Reply
	w *world

	mu    sync.Mutex
	who   devices.Actor
	told  []string // event, payload
	bytes int
}

func (w *world) open(who devices.Actor, p Params) *dashboard {
	w.t.Helper()
	d := &dashboard{w: w, who: who}
	var err error
	d.View, d.Reply, err = w.Open(func() (devices.Actor, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.who, nil
	}, p, func(event string, payload any) bool {
		b, err := json.Marshal(payload)
		if err != nil {
			w.t.Error(err)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.told = append(d.told, event+" "+string(b))
		d.bytes += len(b)
		return true
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (d *dashboard) ids() string {
	var ids []string
	for _, r := range d.Rows {
		ids = append(ids, string(r.ID))
	}
	return strings.Join(ids, " ")
}

// take returns what was told since, without the times.
func (d *dashboard) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	told := d.told
	d.told = nil
	for i := range told {
		told[i], _, _ = strings.Cut(told[i], `,"server_time"`)
	}
	return told
}

// A key that nothing has is most likely mistyped.
func TestUnknownKeysAreRefused(t *testing.T) {
	a, b := sensor("kitchen-temp", "kitchen"), sensor("vault-temp", "vault")
	a.Labels = map[string]string{"Floor": "2"}
	b.Labels = map[string]string{"secret": "1"}
	b.Metrics = []devices.Metric{{Name: "my_value"}}
	w := newWorld(t, a, b)
	w.read("vault-temp", "odd_value", 1.0)
	scope, err := devices.ParseScope("area=kitchen")
	if err != nil {
		t.Fatal(err)
	}
	cook := devices.Actor{Kind: devices.ActorUser, Name: "cook", Role: devices.RoleViewer, Rights: devices.RightRead, Scope: scope}
	for _, tt := range []struct {
		q         string
		root, him bool
	}{
		{"is:broken", false, false},
		{"batery<20", false, false},
		{"flapping:true battery<20 on:true", true, true},
		{"floor:2", true, true},
		{"label.room:attic", true, true},
		{"secret:1", true, false}, // what he may not see is not there
		{"my_value>1", true, false},
		{"odd_value>1", true, false},
	} {
		_, err := w.Matcher(devices.CLI(), tt.q)
		_, hisErr := w.Matcher(cook, tt.q)
		if (err == nil) != tt.root || (hisErr == nil) != tt.him {
			t.Errorf("%s: got %v, and %v in the kitchen; want it taken: %t, %t", tt.q, err, hisErr, tt.root, tt.him)
		}
	}
}

func TestQuery(t *testing.T) {
	a := sensor("kitchen-temp", "kitchen")
	a.Firmware, a.Model = "1.10.2", "T1000"
	b := sensor("attic-temp", "attic")
	b.Firmware = "1.4"
	c := &devices.Device{ID: "kitchen-lamp", Name: "Lamp", Kinds: []devices.Kind{devices.KindLight}, Area: "kitchen", Enabled: true, Sleepy: true}
	w := newWorld(t, a, b, c)
	w.set("kitchen-temp", devices.Online)
	w.set("attic-temp", devices.Quiet)
	w.read("kitchen-temp", "temperature", 31.5)
	w.read("kitchen-temp", "battery", 12.0)
	w.read("attic-temp", "temperature", 8.0)
	w.read("attic-temp", "motion", true)
	w.read("attic-temp", "mode", "eco")
	w.on["kitchen-lamp"] = true
	for _, tt := range []struct{ q, want string }{
		{"", "attic-temp kitchen-lamp kitchen-temp"},
		{"kitchen", "kitchen-lamp kitchen-temp"},
		{"KITCHEN temp", "kitchen-temp"},
		{"area:kitchen status:online", "kitchen-temp"},
		{"area:attic,kitchen", "attic-temp kitchen-lamp kitchen-temp"},
		{"area!=kitchen", "attic-temp"},
		{"status:quiet,never_seen", "attic-temp kitchen-lamp"},
		{"status!=quiet", "kitchen-lamp kitchen-temp"},
		{"battery<20", "kitchen-temp"},
		{"battery<12", ""},
		{"battery<=12 temperature>30", "kitchen-temp"},
		{"temperature>=8 temperature<30", "attic-temp"},
		{"temperature:31.5", "kitchen-temp"},
		{"fw!=1.4", "kitchen-lamp kitchen-temp"},
		{"fw:1.4", "attic-temp"},
		{"fw>1.4", "kitchen-temp"},
		{"fw<1.10", "attic-temp"},
		{"fw:1.*", "attic-temp kitchen-temp"},
		{"name:lamp", "kitchen-lamp"},
		{`name:"the attic"`, "attic-temp"},
		{`"the attic"`, "attic-temp"},
		{"kind:light", "kitchen-lamp"},
		{"-kind:light", "attic-temp kitchen-temp"},
		{"-kitchen", "attic-temp"},
		{"on:true", "kitchen-lamp"},
		{"on:false", ""},
		{"brightness>100", "kitchen-lamp"},
		{"motion:true", "attic-temp"},
		{"mode:eco", "attic-temp"},
		{"floor:2", "attic-temp kitchen-temp"},
		{"label.floor>1", "attic-temp kitchen-temp"},
		{"team:red", "attic-temp kitchen-temp"},
		{"label:team:red", "attic-temp kitchen-temp"},
		{"label.room!=x", "attic-temp kitchen-lamp kitchen-temp"},
		{"sleepy:yes", "kitchen-lamp"},
		{"id:kitchen-*", "kitchen-lamp kitchen-temp"},
		{"model:t1", "kitchen-temp"},
		{"link:up data:fresh flapping:false", "attic-temp kitchen-lamp kitchen-temp"},
	} {
		if got := w.open(viewer(""), Params{Q: tt.q}).ids(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.q, got, tt.want)
		}
		match, err := w.Matcher(devices.CLI(), tt.q)
		if err != nil {
			t.Fatal(err)
		}
		for d := range w.reg.All() {
			if got := match(d); got != slices.Contains(strings.Fields(tt.want), string(d.ID)) {
				t.Errorf("%s: %s: got %t", tt.q, d.ID, got)
			}
		}
	}
	for _, q := range []string{`"open`, "area:", ":kitchen", "a!b", "battery<low", "status:sick", "flapping:maybe", "kind:boat", "status<online", strings.Repeat("x", 600), strings.Repeat("x ", 40)} {
		if _, err := w.Matcher(devices.CLI(), q); devices.CodeOf(err) != devices.CodeInvalid {
			t.Errorf("%s: got %v, want invalid", q, err)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add(`area:kitchen status:quiet battery<20 fw!=1.4 temperature>30`)
	f.Add(`-name:"a b" x:*y*,z "`)
	w := newWorld(f, sensor("a", "b"))
	d, _ := w.reg.Get("a")
	f.Fuzz(func(t *testing.T, q string) {
		match, err := w.Matcher(devices.CLI(), q)
		if err != nil {
			if devices.CodeOf(err) != devices.CodeInvalid {
				t.Fatal(err)
			}
			return
		}
		match(d)
	})
}

func TestPagesAndOrders(t *testing.T) {
	var ds []*devices.Device
	for i := range 25 {
		d := sensor(devices.ID(fmt.Sprintf("s%02d", i)), "a")
		d.Name = fmt.Sprintf("N%02d", 50-i)
		ds = append(ds, d)
	}
	w := newWorld(t, ds...)
	for i, d := range ds {
		w.set(d.ID, []devices.State{devices.Online, devices.Offline, devices.Quiet}[i%3])
		w.latest[d.ID] = map[string]Latest{"temperature": {V: 1.0, T: int64(1000 + (i*7)%25)}}
	}
	inOrder := map[string]func(a, b *Row) bool{
		"id":   func(a, b *Row) bool { return a.ID < b.ID },
		"name": func(a, b *Row) bool { return a.Name < b.Name },
		"status": func(a, b *Row) bool {
			return slices.Index(ranks, a.Status.State) <= slices.Index(ranks, b.Status.State)
		},
		"-last": func(a, b *Row) bool { return a.Latest["temperature"].T > b.Latest["temperature"].T },
	}
	for sort, opposite := range map[string]string{"id": "-id", "name": "-name", "status": "-status", "-last": "last"} {
		forth := inOrder[sort]
		inOrder[opposite] = func(a, b *Row) bool { return forth(b, a) }
	}
	for sort, less := range inOrder {
		d := w.open(viewer(""), Params{Sort: sort, Limit: 10})
		seen := map[devices.ID]bool{}
		var last *Row
		for pages := 1; ; pages++ {
			if d.Total != 25 || d.Counts[devices.Online] != 9 || d.Counts[devices.Offline] != 8 {
				t.Errorf("%s: total %d, counts %v", sort, d.Total, d.Counts)
			}
			for i := range d.Rows {
				if last != nil && !less(last, &d.Rows[i]) {
					t.Errorf("%s: %s after %s", sort, d.Rows[i].ID, last.ID)
				}
				last = &d.Rows[i]
				seen[last.ID] = true
			}
			if d.NextCursor == "" {
				if pages != 3 {
					t.Errorf("%s: %d pages, want 3", sort, pages)
				}
				break
			}
			r, err := d.Update(Params{Sort: sort, Limit: 10, Cursor: d.NextCursor})
			if err != nil {
				t.Fatal(err)
			}
			d.Reply = r
		}
		if len(seen) != 25 {
			t.Errorf("%s: saw %d, want 25", sort, len(seen))
		}
	}
	d := w.open(viewer(""), Params{Limit: 10})
	for _, p := range []Params{{Sort: "size"}, {Limit: 201}, {Limit: -1}, {Cursor: "x"}, {Sort: "name", Cursor: d.NextCursor}, {Sort: "-id", Cursor: d.NextCursor}, {Metrics: []string{"?"}}, {Q: "a:"}} {
		if _, err := d.Update(p); devices.CodeOf(err) != devices.CodeInvalid && devices.CodeOf(err) != devices.CodeRange {
			t.Errorf("%+v: got %v, want a refusal", p, err)
		}
	}
}

// A view in the opposite order tells of what comes to its top, and of nothing that
// comes behind its page.
func TestViewInTheOppositeOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sensor("a", "x"), sensor("b", "x"), sensor("d", "x"))
		w.run()
		d := w.open(viewer(""), Params{Sort: "-id", Limit: 2})
		if d.ids() != "d b" {
			t.Fatalf("got %q", d.ids())
		}
		add := func(id devices.ID) []string {
			t.Helper()
			if err := w.reg.Create(t.Context(), time.Now(), sensor(id, "x")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(1100 * time.Millisecond)
			synctest.Wait()
			return d.take()
		}
		if got := add("aa"); slices.Contains(got, "order_changed {}") {
			t.Errorf("behind the page: got %q", got)
		}
		if got := add("c"); !slices.Contains(got, "order_changed {}") {
			t.Errorf("on the page: got %q", got)
		}
	})
}

func TestViewIsKeptCurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lamp := &devices.Device{ID: "lamp", Kinds: []devices.Kind{devices.KindLight}, Enabled: true}
		w := newWorld(t, sensor("a", "kitchen"), sensor("b", "kitchen"), sensor("c", "attic"), lamp)
		w.run()
		w.set("a", devices.Online)
		d := w.open(viewer(""), Params{Q: "status:online,quiet", Limit: 2, Metrics: []string{"temperature"}})
		if d.ids() != "a" || d.Total != 1 || d.Counts[devices.NeverSeen] != 3 {
			t.Fatalf("got %q of %d, counts %v", d.ids(), d.Total, d.Counts)
		}
		want := func(want ...string) {
			t.Helper()
			time.Sleep(1100 * time.Millisecond)
			synctest.Wait()
			if got := d.take(); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		want()
		now := time.Now().UnixMilli()
		w.read("a", "temperature", 20.0)
		w.read("a", "temperature", 21.0)
		w.read("a", "humidity", 1.0) // not asked for
		w.read("b", "temperature", 1.0)
		want(fmt.Sprintf(`rows {"patch":[{"id":"a","latest":{"temperature":{"v":21,"u":"°C","t":%d,"stale":false}}}],"removed":[]`, now))
		w.set("a", devices.Quiet)
		want(`rows {"patch":[{"id":"a","status":{"state":"quiet","link":"up","data":"fresh","control":"ok","since":0,"flapping":false}}],"removed":[]`,
			`counts {"counts":{"never_seen":3,"quiet":1},"total":1}`)
		w.set("b", devices.Online) // comes onto the page
		want(`counts {"counts":{"never_seen":2,"online":1,"quiet":1},"total":2}`, `order_changed {}`)
		w.set("a", devices.Offline) // leaves it
		want(`rows {"patch":[],"removed":["a"]`, `counts {"counts":{"never_seen":2,"offline":1,"online":1},"total":1}`)
		if err := w.reg.Delete(t.Context(), "c", time.Now()); err != nil {
			t.Fatal(err)
		}
		want(`counts {"counts":{"never_seen":1,"offline":1,"online":1},"total":1}`)

		r, err := d.Update(Params{Q: "kind:light"})
		if err != nil || len(r.Rows) != 1 {
			t.Fatalf("got %+v %v", r, err)
		}
		w.mu.Lock()
		w.on["lamp"], w.cmd["lamp"] = true, Command{"01J", "confirmed", 5}
		w.mu.Unlock()
		w.Publish(devices.Event{Device: "lamp", Name: "state"})
		want(`rows {"patch":[{"id":"lamp","last_command":{"cmd_id":"01J","status":"confirmed","at":5},"light":{"on":true,"brightness":128,"t":5000}}],"removed":[]`)
		if _, err := w.reg.Update(t.Context(), "lamp", func(d *devices.Device) error { d.Area = "hall"; return nil }); err != nil {
			t.Fatal(err)
		}
		want(`rows {"patch":[{"area":"hall","id":"lamp"}],"removed":[]`)
		d.Close()
		w.set("lamp", devices.Online)
		want()
	})
}

func TestPatchesAreConflated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sensor("a", "kitchen"))
		w.run()
		d := w.open(viewer(""), Params{})
		for i := range 1000 {
			w.read("a", "temperature", float64(i))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		told := d.take()
		if len(told) > 42 || !strings.Contains(told[len(told)-1], `"v":999`) {
			t.Errorf("1000 readings in 10 s: %d patches, the last %s", len(told), told[len(told)-1])
		}
	})
}

func TestScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sensor("a", "kitchen"), sensor("b", "attic"), sensor("c", "kitchen"))
		w.run()
		d := w.open(viewer("area=kitchen"), Params{})
		if d.ids() != "a c" || d.Total != 2 || d.Counts[devices.NeverSeen] != 2 {
			t.Fatalf("got %q of %d, counts %v", d.ids(), d.Total, d.Counts)
		}
		w.set("b", devices.Online)
		w.read("b", "temperature", 1.0)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := d.take(); len(got) != 0 {
			t.Errorf("told of another's device: %q", got)
		}
		// A device that moves out of the scope is gone.
		if _, err := w.reg.Update(t.Context(), "c", func(d *devices.Device) error { d.Area = "attic"; return nil }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := strings.Join(d.take(), " "); !strings.Contains(got, `"removed":["c"]`) || !strings.Contains(got, `"total":1`) || strings.Contains(got, "attic") {
			t.Errorf("moved out: got %s", got)
		}
		// A scope that changes takes effect at once.
		d.mu.Lock()
		d.who = viewer("area=attic")
		d.mu.Unlock()
		d.Refresh()
		w.read("a", "temperature", 5.0)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		got := strings.Join(d.take(), " ")
		if !strings.Contains(got, `"removed":["a"]`) || !strings.Contains(got, "order_changed") || !strings.Contains(got, `"total":2`) || strings.Contains(got, `"v":5`) {
			t.Errorf("another scope: got %s", got)
		}
		if _, _, err := w.Open(func() (devices.Actor, error) { return devices.Actor{}, nil }, Params{}, nil); devices.CodeOf(err) != devices.CodeForbidden {
			t.Errorf("nobody: got %v, want forbidden", err)
		}
		if _, _, err := w.Open(func() (devices.Actor, error) { return devices.Actor{}, errors.New("gone") }, Params{}, nil); err == nil {
			t.Error("no error of the actor")
		}
	})
}

func tenThousand(t testing.TB) *world {
	var ds []*devices.Device
	for i := range 10000 {
		ds = append(ds, sensor(devices.ID(fmt.Sprintf("s%05d", i)), fmt.Sprint("area", i%40)))
	}
	w := newWorld(t, ds...)
	for _, d := range ds {
		w.status[d.ID] = devices.Online
		w.latest[d.ID] = map[string]Latest{"temperature": {V: 20.0, U: "°C", T: 1}, "humidity": {V: 40.0, U: "%", T: 1}, "battery": {V: 90.0, U: "%", T: 1}}
	}
	return w
}

// TestTenThousand: every device reads three metrics each ten seconds, some go
// and come; two views of two hundred rows each cost less than 30 kB/s together.
func TestTenThousand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := tenThousand(t)
		w.run()
		d := w.open(viewer(""), Params{Limit: 200})
		e := w.open(viewer(""), Params{Limit: 200, Cursor: d.NextCursor, Q: "battery>20"})
		if d.Total != 10000 || len(d.Rows) != 200 || e.Total != 10000 {
			t.Fatalf("total %d, %d rows", d.Total, len(d.Rows))
		}
		r := rand.New(rand.NewPCG(1, 2))
		const seconds = 20
		for range seconds * 10 {
			for range 100 {
				id := devices.ID(fmt.Sprintf("s%05d", r.IntN(10000)))
				w.read(id, "temperature", 15+r.Float64()*10)
				w.read(id, "humidity", 40+r.Float64()*10)
			}
			for range 50 { // and the page itself is busier than the rest
				w.read(devices.ID(fmt.Sprintf("s%05d", r.IntN(400))), "temperature", r.Float64())
			}
			w.set(devices.ID(fmt.Sprintf("s%05d", r.IntN(10000))), []devices.State{devices.Online, devices.Offline}[r.IntN(2)])
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		d.mu.Lock()
		e.mu.Lock()
		perSecond := (d.bytes + e.bytes) / seconds
		t.Logf("%d B/s, %d and %d pushes in %d s", perSecond, len(d.told), len(e.told), seconds)
		if perSecond > 30_000 || len(d.told) > seconds*6 {
			t.Errorf("%d B/s in %d pushes, want less than 30 kB/s and 6 a second", perSecond, len(d.told))
		}
		d.mu.Unlock()
		e.mu.Unlock()
		// The books are right after all that.
		d.View.mu.Lock()
		total, counts := d.total, d.countsMap()
		d.View.mu.Unlock()
		fresh := w.open(viewer(""), Params{})
		time.Sleep(2 * time.Second)
		if fmt.Sprint(total, counts) != fmt.Sprint(fresh.Total, fresh.Counts) {
			t.Errorf("kept %d %v, anew %d %v", total, counts, fresh.Total, fresh.Counts)
		}
	})
}

// TestBooksAgainstAnew holds views that are kept current against views opened
// anew, through random changes of everything.
func TestBooksAgainstAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		var ds []*devices.Device
		for i := range 60 {
			ds = append(ds, sensor(devices.ID(fmt.Sprintf("s%02d", i)), "a0"))
		}
		w := newWorld(t, ds...)
		w.run()
		params := []Params{{Limit: 10}, {Sort: "status", Limit: 10}, {Sort: "-last", Limit: 5}, {Sort: "name", Q: "temperature>20", Limit: 20}, {Q: "area:a1 status:online,quiet"}}
		var open []*dashboard
		for _, p := range params {
			open = append(open, w.open(viewer(""), p))
		}
		for round := range 60 {
			for range r.IntN(12) {
				id := devices.ID(fmt.Sprintf("s%02d", r.IntN(60)))
				switch r.IntN(4) {
				case 0:
					w.set(id, ranks[r.IntN(len(ranks))])
				case 1:
					w.read(id, "temperature", r.Float64()*40)
				case 2:
					w.reg.Update(t.Context(), id, func(d *devices.Device) error {
						d.Area, d.Name = fmt.Sprint("a", r.IntN(2)), fmt.Sprint("n", r.IntN(100))
						return nil
					})
				case 3:
					if r.IntN(5) == 0 {
						w.reg.Delete(t.Context(), id, time.Now())
					}
				}
				time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			for i, d := range open {
				anew := w.open(viewer(""), params[i])
				d.View.mu.Lock()
				var kept []string
				for _, sh := range d.View.rows {
					kept = append(kept, string(sh.key.id))
				}
				got, want := fmt.Sprint(d.total, d.countsMap()), fmt.Sprint(anew.Total, anew.Counts)
				d.View.mu.Unlock()
				if got != want {
					t.Fatalf("round %d, %+v: kept %s, anew %s", round, params[i], got, want)
				}
				told := strings.Join(d.take(), "\n")
				if strings.Join(kept, " ") != anew.ids() && !strings.Contains(told, "order_changed") && !strings.Contains(told, `"removed":["`) {
					t.Fatalf("round %d, %+v: shows %v, anew %s, and was not told to look again: %s", round, params[i], kept, anew.ids(), told)
				}
				anew.Close()
				if _, err := d.Update(params[i]); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func BenchmarkFirstPage(b *testing.B) {
	w := tenThousand(b)
	for _, p := range []Params{{}, {Sort: "-last"}, {Q: "area:area7 status:online battery<95 temperature>10", Sort: "name"}} {
		b.Run(p.Q+p.Sort, func(b *testing.B) {
			for b.Loop() {
				w.open(viewer(""), p).Close()
			}
		})
	}
}
