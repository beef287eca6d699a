package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/shadow"
)

var (
	ana    = devices.Actor{Kind: devices.ActorUser, Name: "ana", Role: devices.RoleOperator, Rights: devices.RoleOperator.Rights()}
	viewer = devices.Actor{Kind: devices.ActorUser, Name: "vic", Role: devices.RoleViewer, Rights: devices.RoleViewer.Rights()}
	admin  = devices.CLI()
)

// world is a dispatcher with all that is around it.
type world struct {
	*Dispatcher
	t       *testing.T
	reg     *devices.Registry
	store   *slowStore
	shadows *shadow.Shadows
	shadowS *shadow.Memory
	live    *fakeLiveness
	ahead   atomic.Int64 // ms that the devices' clocks are ahead
	stop    func()

	mu    sync.Mutex
	told  []devices.Event
	audit []devices.AuditEntry
}

type fakeLiveness struct {
	mu         sync.Mutex
	status     map[devices.ID]devices.Status
	unanswered map[devices.ID]int
	answered   map[devices.ID]int
	silent     func() // if set, called when a command is said to be unanswered
}

func (f *fakeLiveness) Status(id devices.ID) devices.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status[id]
}

func (f *fakeLiveness) set(id devices.ID, st devices.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status[id] = devices.Status{State: st, Transport: "websocket"}
}

func (f *fakeLiveness) WatchBoots(func(devices.ID, int64, string)) {}

func (f *fakeLiveness) CommandAnswered(id devices.ID, _ int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answered[id]++
}

func (f *fakeLiveness) CommandUnanswered(id devices.ID, _ int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unanswered[id]++
	if f.silent != nil {
		f.silent()
	}
}

// slowStore is a disk: it takes its time, fails on request, and counts.
type slowStore struct {
	Memory
	mu     sync.Mutex
	delay  time.Duration
	fail   error
	writes int
}

func (s *slowStore) SaveCommands(ctx context.Context, rows []Row) error {
	s.mu.Lock()
	delay, fail := s.delay, s.fail
	s.writes++
	s.mu.Unlock()
	time.Sleep(delay)
	if fail != nil {
		return fail
	}
	return s.Memory.SaveCommands(ctx, rows)
}

func (w *world) Publish(e devices.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, e)
}

func (w *world) Record(_ devices.Origin, e devices.AuditEntry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.audit = append(w.audit, e)
}

// events are what was told so far.
func (w *world) events() []devices.Event {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	reg, err := devices.OpenRegistry(t.Context(), new(devices.MemoryRegistry))
	if err != nil {
		t.Fatal(err)
	}
	light := &devices.Light{Modes: []devices.LightMode{devices.ModeRGB, devices.ModeColorTemp}, Effects: []string{"blink"}}
	for _, dev := range []*devices.Device{
		{ID: "lamp", Kinds: []devices.Kind{devices.KindLight}, Enabled: true, Light: light},
		{ID: "sleepy", Kinds: []devices.Kind{devices.KindLight}, Enabled: true, Light: light, Sleepy: true},
		{ID: "sign", Kinds: []devices.Kind{devices.KindLight}, Enabled: true, Light: light, ShadowPolicy: devices.DesiredWins},
		{ID: "probe", Kinds: []devices.Kind{devices.KindSensor}, Enabled: true},
		{ID: "off", Kinds: []devices.Kind{devices.KindLight}, Light: light},
	} {
		if err := reg.Create(t.Context(), time.Now(), dev); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, reg: reg, store: new(slowStore), shadowS: new(shadow.Memory),
		live: &fakeLiveness{status: map[devices.ID]devices.Status{}, unanswered: map[devices.ID]int{}, answered: map[devices.ID]int{}}}
	for d := range reg.All() {
		w.live.set(d.ID, devices.Online)
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) start() {
	w.t.Helper()
	var err error
	w.shadows, err = shadow.New(w.t.Context(), shadow.Config{Store: w.shadowS, Registry: w.reg,
		ClockOffset: func(devices.ID) (int64, bool) { ms := w.ahead.Load(); return ms, ms != 0 }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Dispatcher, err = New(w.t.Context(), Config{Store: w.store, Registry: w.reg, Shadows: w.shadows, Liveness: w.live, Feed: w, Audit: w})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	d, s := w.Dispatcher, w.shadows
	wg.Go(func() { d.Run(ctx) })
	wg.Go(func() { s.Run(ctx) })
	w.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	synctest.Wait()
}

// kill ends the hub as kill -9 does: the store keeps what it has at this
// moment, whatever the old hub still does.
func (w *world) kill() {
	old := w.store
	w.store = &slowStore{Memory: Memory{rows: map[devices.ID]map[string]Row{}}}
	old.Memory.mu.Lock()
	for id, cs := range old.rows {
		w.store.rows[id] = map[string]Row{}
		for k, r := range cs {
			w.store.rows[id][k] = r
		}
	}
	old.Memory.mu.Unlock()
	w.told = nil
	w.stop()
	w.told = nil
	w.start()
}

// lamp is a device at the other end.
type lamp struct {
	w     *world
	id    devices.ID
	epoch int64

	mu   sync.Mutex
	got  []Envelope
	at   []time.Time
	full bool
}

func (w *world) connect(id devices.ID, epoch int64, transport devices.Transport, window int) *lamp {
	l := &lamp{w: w, id: id, epoch: epoch}
	w.Connected(id, epoch, transport, window, func(e Envelope) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.full {
			return false
		}
		l.got = append(l.got, e)
		l.at = append(l.at, time.Now())
		return true
	})
	synctest.Wait()
	return l
}

func (l *lamp) last() Envelope {
	l.w.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.got) == 0 {
		l.w.t.Fatal("the device got nothing")
	}
	return l.got[len(l.got)-1]
}

func (l *lamp) count() int {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.got)
}

func (l *lamp) ack(cmdID, status string) {
	l.w.t.Helper()
	if err := l.w.Answer(l.id, l.epoch, fmt.Appendf(nil, `{"cmd_id":%q,"status":%q}`, cmdID, status)); err != nil {
		l.w.t.Errorf("ack %s: %v", status, err)
	}
	synctest.Wait()
}

func (l *lamp) state(payload string) {
	l.w.t.Helper()
	l.stateAt(time.Now(), payload)
}

// stateAt is a report that arrived earlier, and had to wait.
func (l *lamp) stateAt(at time.Time, payload string) {
	l.w.t.Helper()
	if _, err := l.w.Report(l.id, l.epoch, at, []byte(payload)); err != nil {
		l.w.t.Errorf("state %s: %v", payload, err)
	}
	synctest.Wait()
}

func (w *world) issue(id devices.ID, request string) (Receipt, error) {
	var r Request
	if err := json.Unmarshal([]byte(request), &r); err != nil {
		w.t.Fatal(err)
	}
	rc, err := w.Issue(w.t.Context(), ana, devices.Origin{Via: "ws"}, id, r)
	synctest.Wait()
	return rc, err
}

func (w *world) must(id devices.ID, request string) Receipt {
	w.t.Helper()
	rc, err := w.issue(id, request)
	if err != nil {
		w.t.Fatalf("%s: %v", request, err)
	}
	return rc
}

// statuses are those told of a command, repeated ones with their attempt.
func (w *world) statuses(cmdID string) string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var got []string
	for _, e := range w.told {
		if r, ok := e.Payload.(Record); ok && r.CmdID == cmdID {
			s := string(r.Status)
			if r.Attempt > 1 && r.Status == Sent {
				s += fmt.Sprint(r.Attempt)
			}
			if r.Code != "" {
				s += "(" + r.Code + ")"
			}
			got = append(got, s)
		}
	}
	return strings.Join(got, " ")
}

func (w *world) wantStatuses(cmdID, want string) {
	w.t.Helper()
	if got := w.statuses(cmdID); got != want {
		w.t.Errorf("told of %s: got %q, want %q", cmdID, got, want)
	}
}
