package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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
	w.shadows, err = shadow.New(w.t.Context(), shadow.Config{Store: w.shadowS, Registry: w.reg})
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

func (w *world) connect(id devices.ID, epoch int64, transport string, window int) *lamp {
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
	if _, err := l.w.Report(l.id, l.epoch, []byte(payload)); err != nil {
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

func TestMainPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.state(`{"on":false,"brightness":10,"kelvin":2700,"cause":"boot"}`)
		rc := w.must("lamp", `{"op":"set","params":{"brightness":200}}`)
		e := l.last()
		if rc.Status != Sent || e.CmdID != rc.CmdID || e.Op != "set" || e.Params["brightness"] != 200.0 || e.Params["on"] != true ||
			e.Attempt != 1 || e.TTLMS != 10000 || e.ExpiresAt-e.IssuedAt != 10000 || e.By != "user:ana" {
			t.Errorf("receipt %+v, envelope %+v", rc, e)
		}
		time.Sleep(20 * time.Millisecond)
		l.ack(rc.CmdID, "acked")
		time.Sleep(30 * time.Millisecond)
		l.ack(rc.CmdID, "done")
		time.Sleep(5 * time.Millisecond)
		l.state(fmt.Sprintf(`{"on":true,"brightness":200,"cause":"command","cmd":%q}`, rc.CmdID))
		w.wantStatuses(rc.CmdID, "pending sent acked done confirmed")
		r, err := w.Get(t.Context(), viewer, "lamp", rc.CmdID)
		if err != nil || r.Status != Confirmed {
			t.Fatalf("got %+v %v", r, err)
		}
		for name, hop := range map[string]*int64{"0 hub": r.Hops.Hub, "20 wire": r.Hops.Wire, "30 device": r.Hops.Device, "5 confirm": r.Hops.Confirm} {
			if hop == nil || fmt.Sprint(*hop) != strings.Fields(name)[0] {
				t.Errorf("hop: got %v, want %s ms", hop, name)
			}
		}
		last := w.told[len(w.told)-2]
		if st := last.Payload.(map[string]any); last.Name != "state" || st["by"] != "user:ana" || st["cmd"] != rc.CmdID || st["brightness"] != 200.0 || last.Kinds[0] != devices.KindLight {
			t.Errorf("state: got %v", last)
		}
		if doc, _ := w.shadows.Doc("lamp"); len(doc.Desired) != 0 {
			t.Errorf("desired: got %v, want it reached", doc.Desired)
		}
		if len(w.audit) != 1 || w.audit[0].Action != "command.issue" || w.audit[0].Outcome != "ok" || w.audit[0].CmdID != rc.CmdID {
			t.Errorf("audit: got %+v", w.audit)
		}
	})
}

// TestAnyOrderOfAnswers: what was missed in between is told as it must have been.
func TestAnyOrderOfAnswers(t *testing.T) {
	for _, tt := range []struct{ name, answers, want string }{
		{"in order", "acked done shown", "pending sent acked done confirmed"},
		{"done alone", "done shown", "pending sent acked done confirmed"},
		{"shown alone", "shown", "pending sent acked done confirmed"},
		{"shown first", "shown acked done", "pending sent acked done confirmed"},
		{"acked late", "done acked shown", "pending sent acked done confirmed"},
		{"twice", "acked acked done done shown shown", "pending sent acked done confirmed"},
		{"another state", "done other", "pending sent acked done"},
		{"without a name after the ack", "acked bare", "pending sent acked done confirmed"},
		{"without a name before the ack", "bare", "pending sent"},
		{"failed", "acked failed", "pending sent acked failed"},
		{"rejected at once", "rejected done shown", "pending sent rejected"},
		{"failed after it was done", "done failed", "pending sent acked done"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				l := w.connect("lamp", 7, "websocket", 0)
				rc := w.must("lamp", `{"op":"set","params":{"on":true}}`)
				for a := range strings.FieldsSeq(tt.answers) {
					switch a {
					case "shown":
						l.state(fmt.Sprintf(`{"on":true,"cmd":%q}`, rc.CmdID))
					case "other":
						l.state(fmt.Sprintf(`{"on":false,"cmd":%q}`, rc.CmdID))
					case "bare":
						l.state(`{"on":true}`)
					default:
						l.ack(rc.CmdID, a)
					}
				}
				w.wantStatuses(rc.CmdID, tt.want)
			})
		})
	}
}

func TestUnansweredIsSentThreeTimes(t *testing.T) {
	for _, tt := range []struct {
		transport, request, want string
		at                       []time.Duration
	}{
		{"websocket", `{"op":"set","params":{"on":true}}`, "pending sent sent2 sent3 timed_out timed_out(outcome_unknown)", []time.Duration{0, 2 * time.Second, 4 * time.Second}},
		{"mqtt", `{"op":"set","params":{"on":true}}`, "pending sent sent2 sent3 timed_out timed_out(outcome_unknown)", []time.Duration{0, 5 * time.Second, 10 * time.Second}},
		{"longpoll", `{"op":"set","params":{"on":true}}`, "pending sent sent2 sent3 timed_out timed_out(outcome_unknown)", []time.Duration{0, 15 * time.Second, 30 * time.Second}},
		{"websocket", `{"op":"set","params":{"on":true},"expires_in_ms":3000}`, "pending sent sent2 timed_out timed_out(outcome_unknown)", []time.Duration{0, 2 * time.Second}},
		{"websocket", `{"op":"identify"}`, "pending sent timed_out timed_out(outcome_unknown)", []time.Duration{0}},
		{"websocket", `{"op":"restart"}`, "pending sent timed_out timed_out(outcome_unknown)", []time.Duration{0}},
	} {
		t.Run(tt.transport+tt.request, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				start := time.Now()
				l := w.connect("lamp", 7, tt.transport, 0)
				rc := w.must("lamp", tt.request)
				time.Sleep(3 * time.Minute)
				w.wantStatuses(rc.CmdID, tt.want)
				var at []time.Duration
				for i, e := range l.got {
					at = append(at, l.at[i].Sub(start))
					if e.Attempt != i+1 || e.CmdID != rc.CmdID || e.TTLMS != e.ExpiresAt-l.at[i].UnixMilli() {
						t.Errorf("envelope %d: %+v", i, e)
					}
				}
				if !slices.Equal(at, tt.at) {
					t.Errorf("sent at %v, want %v", at, tt.at)
				}
				if w.live.unanswered["lamp"] != 1 {
					t.Errorf("told unresponsive %d times, want once", w.live.unanswered["lamp"])
				}
				if len(w.shadows.Delta("lamp")) != 0 {
					t.Errorf("delta: got %v, want none", w.shadows.Delta("lamp"))
				}
			})
		})
	}
}

func TestLateAnswers(t *testing.T) {
	for _, tt := range []struct{ name, answer, want string }{
		{"done", "done", "pending sent sent2 sent3 timed_out late_done"},
		{"failed", "failed", "pending sent sent2 sent3 timed_out failed"},
		{"rejected", "rejected", "pending sent sent2 sent3 timed_out failed"},
		{"acked only", "acked", "pending sent sent2 sent3 timed_out timed_out(outcome_unknown)"},
		{"shown", "shown", "pending sent sent2 sent3 timed_out late_done"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				l := w.connect("lamp", 7, "websocket", 0)
				rc := w.must("lamp", `{"op":"set","params":{"on":true}}`)
				time.Sleep(65 * time.Second) // expired 55 s ago
				if tt.answer == "shown" {
					l.state(fmt.Sprintf(`{"on":true,"cmd":%q}`, rc.CmdID))
				} else {
					l.ack(rc.CmdID, tt.answer)
				}
				time.Sleep(time.Minute)
				w.wantStatuses(rc.CmdID, tt.want)
				l.ack(rc.CmdID, "done") // final by now
				w.wantStatuses(rc.CmdID, tt.want)
			})
		})
	}
}

func TestDoneWithoutAStateToShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		set := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		l.ack(set.CmdID, "done")
		id := w.must("lamp", `{"op":"identify","params":{"ms":1000}}`)
		l.ack(id.CmdID, "done")
		slow := w.must("lamp", `{"op":"set","params":{"kelvin":3000,"transition_ms":20000}}`)
		l.ack(slow.CmdID, "done")
		time.Sleep(15 * time.Second)
		w.wantStatuses(set.CmdID, "pending sent acked done done(unconfirmed)")
		w.wantStatuses(id.CmdID, "pending sent acked done")
		l.state(`{"kelvin":3000}`)
		w.wantStatuses(slow.CmdID, "pending sent acked done confirmed")
	})
}

func TestRestartIsConfirmedByANewBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Booted("lamp", 7, "boot1")
		l := w.connect("lamp", 7, "websocket", 0)
		rc := w.must("lamp", `{"op":"restart"}`)
		l.ack(rc.CmdID, "acked")
		w.Disconnected("lamp", 7)
		time.Sleep(20 * time.Second)
		w.Booted("lamp", 8, "boot1") // the network only
		w.wantStatuses(rc.CmdID, "pending sent acked")
		w.Booted("lamp", 9, "boot2")
		w.wantStatuses(rc.CmdID, "pending sent acked done confirmed")
		if l2 := w.connect("lamp", 9, "websocket", 0); l2.count() != 0 {
			t.Error("restart was sent again")
		}
	})
}

func TestOfflinePolicies(t *testing.T) {
	for _, tt := range []struct {
		name    string
		id      devices.ID
		state   devices.State
		request string
		want    Status
		code    devices.Code
		warning string
		linked  bool
	}{
		{name: "offline", id: "lamp", state: devices.Offline, request: `{"op":"set","params":{"on":true}}`, code: devices.CodeDeviceOffline},
		{name: "never seen", id: "lamp", state: devices.NeverSeen, request: `{"op":"toggle"}`, code: devices.CodeDeviceOffline},
		{name: "offline, latest", id: "lamp", state: devices.Offline, request: `{"op":"set","params":{"on":true},"policy":"latest"}`, want: Queued},
		{name: "offline, all", id: "lamp", state: devices.Offline, request: `{"op":"set","params":{"on":true},"policy":"all"}`, want: Queued},
		{name: "a sleepy device's set waits", id: "sleepy", state: devices.Sleeping, request: `{"op":"set","params":{"on":true}}`, want: Queued},
		{name: "its identify does not", id: "sleepy", state: devices.Sleeping, request: `{"op":"identify"}`, code: devices.CodeDeviceOffline},
		{name: "quiet", id: "lamp", state: devices.Quiet, request: `{"op":"toggle"}`, want: Sent, warning: "quiet", linked: true},
		{name: "unresponsive", id: "lamp", state: devices.Unresponsive, request: `{"op":"toggle"}`, want: Sent, warning: "unresponsive", linked: true},
		{name: "data only, through a bridge", id: "lamp", state: devices.DataOnly, request: `{"op":"toggle"}`, want: Sent, warning: "data_only", linked: true},
		{name: "data only, no way to it", id: "lamp", state: devices.DataOnly, request: `{"op":"toggle"}`, code: devices.CodeDeviceOffline},
		{name: "a long transition", id: "lamp", state: devices.Online, request: `{"op":"toggle","params":{"transition_ms":7000000}}`, want: Sent, warning: "transition_ms is 6553000", linked: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.live.set(tt.id, tt.state)
				if tt.linked {
					w.connect(tt.id, 7, "mqtt", 1)
				}
				rc, err := w.issue(tt.id, tt.request)
				if devices.CodeOf(err) != tt.code || rc.Status != tt.want || rc.Warning != tt.warning {
					t.Errorf("got %+v %v, want %s %q %s", rc, err, tt.want, tt.warning, tt.code)
				}
				if tt.code == devices.CodeDeviceOffline {
					var e *devices.Error
					if errors.As(err, &e); e.Details["status"] != string(tt.state) {
						t.Errorf("details: got %v, want the status", e.Details)
					}
					rs, _, err := w.History(t.Context(), ana, tt.id, 0, "")
					time.Sleep(time.Second)
					rs, _, err = w.History(t.Context(), ana, tt.id, 0, "")
					if err != nil || len(rs) != 1 || rs[0].Status != Refused || rs[0].Code != string(tt.code) {
						t.Errorf("history: got %+v %v, want the refusal", rs, err)
					}
				}
			})
		})
	}
}

func TestQueuedCommandsGoWhenTheDeviceComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.live.set("sleepy", devices.Sleeping)
		a := w.must("sleepy", `{"op":"set","params":{"brightness":10}}`)
		b := w.must("sleepy", `{"op":"set","params":{"brightness":20}}`)
		c := w.must("sleepy", `{"op":"set","params":{"kelvin":3000}}`)
		w.wantStatuses(a.CmdID, "queued superseded")
		ps := w.Pending("sleepy")
		if len(ps) != 2 || ps[0].CmdID != b.CmdID || ps[1].CmdID != c.CmdID {
			t.Errorf("pending: got %+v", ps)
		}
		time.Sleep(5 * time.Minute)
		w.live.set("sleepy", devices.Online)
		l := w.connect("sleepy", 9, "websocket", 0)
		if l.count() != 2 || l.got[0].CmdID != b.CmdID || l.got[0].TTLMS != 5*60*1000 {
			t.Errorf("got %+v", l.got)
		}
		w.Disconnected("sleepy", 9)
		w.live.set("sleepy", devices.Sleeping)
		d := w.must("sleepy", `{"op":"set","params":{"on":false}}`)
		time.Sleep(11 * time.Minute)
		w.wantStatuses(d.CmdID, "queued expired")
		if got := w.Delta("sleepy"); len(got) != 0 {
			t.Errorf("delta: got %v; expired intent is never applied", got)
		}
	})
}

func TestPolicyAllIsBoundedAndKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.live.set("lamp", devices.Offline)
		var ids []string
		for i := range 32 {
			ids = append(ids, w.must("lamp", fmt.Sprintf(`{"op":"set","params":{"brightness":%d},"policy":"all"}`, i+1)).CmdID)
		}
		if _, err := w.issue("lamp", `{"op":"set","params":{"on":true},"policy":"all"}`); devices.CodeOf(err) != devices.CodeRateLimited {
			t.Errorf("the 33rd: got %v, want rate_limited", err)
		}
		w.live.set("lamp", devices.Online)
		l := w.connect("lamp", 9, "websocket", 0)
		for i := range ids {
			time.Sleep(200 * time.Millisecond)
			e := l.last()
			if e.CmdID != ids[i] {
				t.Fatalf("%d: got %v, want %s", i, e, ids[i])
			}
			l.state(fmt.Sprintf(`{"on":true,"brightness":%v,"cmd":%q}`, e.Params["brightness"], e.CmdID))
		}
	})
}

func TestGroupsGoOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		a := w.must("lamp", `{"op":"set","params":{"brightness":10}}`)
		b := w.must("lamp", `{"op":"set","params":{"brightness":20}}`)
		c := w.must("lamp", `{"op":"set","params":{"kelvin":3000}}`)
		d := w.must("lamp", `{"op":"set","params":{"brightness":30,"kelvin":4000}}`) // both groups
		e := w.must("lamp", `{"op":"set","params":{"effect":"blink"}}`)
		w.wantStatuses(a.CmdID, "pending sent")
		w.wantStatuses(b.CmdID, "pending superseded")
		w.wantStatuses(c.CmdID, "pending sent")
		w.wantStatuses(d.CmdID, "pending")
		time.Sleep(200 * time.Millisecond)
		w.wantStatuses(e.CmdID, "pending sent")
		l.state(fmt.Sprintf(`{"on":true,"brightness":10,"cmd":%q}`, a.CmdID))
		w.wantStatuses(d.CmdID, "pending") // colour is still under way
		l.state(fmt.Sprintf(`{"kelvin":3000,"cmd":%q}`, c.CmdID))
		w.wantStatuses(d.CmdID, "pending sent")
	})
}

func TestToggleAndStepAreAbsolute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.state(`{"on":false,"brightness":100}`)
		a := w.must("lamp", `{"op":"toggle"}`)
		if e := l.last(); e.Op != "set" || e.Params["on"] != true {
			t.Errorf("toggle: got %+v", e)
		}
		b := w.must("lamp", `{"op":"toggle"}`) // against what is under way
		l.state(fmt.Sprintf(`{"on":true,"cmd":%q}`, a.CmdID))
		if e := l.last(); e.CmdID != b.CmdID || e.Params["on"] != false {
			t.Errorf("toggle of a toggle: got %+v", e)
		}
		l.state(fmt.Sprintf(`{"on":false,"cmd":%q}`, b.CmdID))
		time.Sleep(time.Second)
		w.must("lamp", `{"op":"step","params":{"brightness_delta":50}}`)
		if e := l.last(); e.Params["brightness"] != 150.0 {
			t.Errorf("step: got %+v", e)
		}
		w.must("lamp", `{"op":"step","params":{"brightness_delta":50}}`)
		r, _ := w.Last("lamp")
		if r.Params["brightness"] != 200.0 || r.Op != "set" {
			t.Errorf("step of a step: got %+v", r)
		}
	})
}

// TestSlider: sixty values a second for three seconds, a device that does each
// within 30 ms: at most ten a second reach it, and the last one does.
func TestSlider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.delay = 3 * time.Millisecond
		l := w.connect("lamp", 7, "websocket", 0)
		done := 0
		var last Receipt
		for i := range 180 {
			last = w.must("lamp", fmt.Sprintf(`{"op":"set","params":{"brightness":%d}}`, i+1))
			time.Sleep(13 * time.Millisecond)
			for ; done < l.count(); done++ {
				e := l.got[done]
				l.state(fmt.Sprintf(`{"on":true,"brightness":%v,"cmd":%q}`, e.Params["brightness"], e.CmdID))
			}
		}
		time.Sleep(time.Second)
		e := l.last()
		if e.CmdID != last.CmdID || e.Params["brightness"] != 180.0 {
			t.Errorf("last: got %+v, want the last value", e)
		}
		for i := range l.at {
			n := 0
			for _, at := range l.at[i:] {
				if at.Sub(l.at[i]) < time.Second {
					n++
				}
			}
			if n > 10 {
				t.Errorf("%d within a second", n)
			}
		}
		if l.count() < 25 {
			t.Errorf("got %d, want nearly 10 a second", l.count())
		}
	})
}

func TestIdempotency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		const req = `{"op":"set","params":{"on":true,"brightness":9},"cmd_id":"my-key_1"}`
		a := w.must("lamp", req)
		b := w.must("lamp", `{"cmd_id":"my-key_1","params":{"brightness":9,"on":true},"op":"set"}`)
		if a.CmdID != "my-key_1" || b.CmdID != a.CmdID || l.count() != 1 {
			t.Errorf("got %+v and %+v, %d sent", a, b, l.count())
		}
		if _, err := w.issue("lamp", `{"op":"set","params":{"on":false},"cmd_id":"my-key_1"}`); devices.CodeOf(err) != devices.CodeConflict {
			t.Errorf("another body: got %v, want conflict", err)
		}
		l.state(`{"on":true,"brightness":9,"cmd":"my-key_1"}`)
		w.stop()
		w.start()
		l = w.connect("lamp", 8, "websocket", 0)
		if c := w.must("lamp", req); c.Status != Confirmed || l.count() != 0 {
			t.Errorf("after a restart: got %+v, %d sent", c, l.count())
		}
		w.live.set("lamp", devices.Offline)
		w.Disconnected("lamp", 8)
		const off = `{"op":"set","params":{"on":true},"cmd_id":"k2"}`
		_, err1 := w.issue("lamp", off)
		w.live.set("lamp", devices.Online)
		_, err2 := w.issue("lamp", off)
		if devices.CodeOf(err1) != devices.CodeDeviceOffline || devices.CodeOf(err2) != devices.CodeDeviceOffline {
			t.Errorf("a refusal again: got %v and %v", err1, err2)
		}
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.state(`{"on":true}`)
		for _, tt := range []struct {
			name, request string
			actor         devices.Actor
			id            devices.ID
			want          devices.Code
		}{
			{"a viewer", `{"op":"toggle"}`, viewer, "lamp", devices.CodeForbidden},
			{"nobody's device", `{"op":"toggle"}`, ana, "none", devices.CodeNotFound},
			{"disabled", `{"op":"toggle"}`, ana, "off", devices.CodeDeviceDisabled},
			{"unknown op", `{"op":"explode"}`, ana, "lamp", devices.CodeInvalid},
			{"out of range", `{"op":"set","params":{"brightness":256}}`, ana, "lamp", devices.CodeRange},
			{"policy", `{"op":"toggle","policy":"maybe"}`, ana, "lamp", devices.CodeInvalid},
			{"life", `{"op":"toggle","expires_in_ms":0}`, ana, "lamp", devices.CodeRange},
			{"id", `{"op":"toggle","cmd_id":"a b"}`, ana, "lamp", devices.CodeInvalid},
			{"another version", `{"op":"toggle","if_ver":9}`, ana, "lamp", devices.CodeVersionConflict},
			{"a sensor", `{"op":"toggle"}`, ana, "probe", devices.CodeInvalid},
		} {
			var r Request
			if err := json.Unmarshal([]byte(tt.request), &r); err != nil {
				t.Fatal(err)
			}
			_, err := w.Issue(t.Context(), tt.actor, devices.Origin{Via: "ws"}, tt.id, r)
			if devices.CodeOf(err) != tt.want {
				t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
			}
			if e := w.audit[len(w.audit)-1]; e.Outcome != "refused" || e.Code != tt.want {
				t.Errorf("%s: audit %+v", tt.name, e)
			}
		}
		if l.count() != 0 {
			t.Errorf("the device got %+v", l.got)
		}
		for _, payload := range []string{`{}`, `[]`, `{"cmd_id":"a","status":"sent"}`, `{"cmd_id":"a","status":"done","more":1}`, `{"cmd_id":"a","status":"done"} x`} {
			if err := w.Answer("lamp", 7, []byte(payload)); devices.CodeOf(err) != devices.CodeInvalid {
				t.Errorf("ack %s: got %v, want invalid", payload, err)
			}
		}
		if err := w.Answer("lamp", 7, []byte(`{"cmd_id":"a","status":"done"}`)); devices.CodeOf(err) != devices.CodeNotFound {
			t.Errorf("ack of nothing: got %v, want not_found", err)
		}
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.live.set("lamp", devices.Offline)
		bob := ana
		bob.Name = "bob"
		a := w.must("lamp", `{"op":"set","params":{"on":true},"policy":"latest"}`)
		if _, err := w.Cancel(t.Context(), bob, devices.Origin{}, "lamp", a.CmdID); devices.CodeOf(err) != devices.CodeForbidden {
			t.Errorf("somebody else: got %v, want forbidden", err)
		}
		if r, err := w.Cancel(t.Context(), ana, devices.Origin{}, "lamp", a.CmdID); err != nil || r.Status != Cancelled {
			t.Errorf("got %+v %v", r, err)
		}
		b := w.must("lamp", `{"op":"set","params":{"on":true},"policy":"latest"}`)
		if r, err := w.Cancel(t.Context(), admin, devices.Origin{}, "lamp", b.CmdID); err != nil || r.Status != Cancelled {
			t.Errorf("an administrator: got %+v %v", r, err)
		}
		w.live.set("lamp", devices.Online)
		l := w.connect("lamp", 7, "websocket", 0)
		if l.count() != 0 {
			t.Errorf("a cancelled command was sent: %+v", l.got)
		}
		c := w.must("lamp", `{"op":"toggle"}`)
		if _, err := w.Cancel(t.Context(), ana, devices.Origin{}, "lamp", c.CmdID); devices.CodeOf(err) != devices.CodeConflict {
			t.Errorf("sent: got %v, want conflict", err)
		}
		if _, err := w.Cancel(t.Context(), ana, devices.Origin{}, "lamp", "nothing"); devices.CodeOf(err) != devices.CodeNotFound {
			t.Errorf("unknown: got %v, want not_found", err)
		}
	})
}

func TestOneUnacknowledgedOverMQTT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "mqtt", 1)
		a := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		b := w.must("lamp", `{"op":"set","params":{"kelvin":3000}}`)
		c := w.must("lamp", `{"op":"identify"}`)
		if l.count() != 1 {
			t.Fatalf("got %d, want one", l.count())
		}
		l.ack(a.CmdID, "acked")
		if e := l.last(); l.count() != 2 || e.CmdID != b.CmdID {
			t.Errorf("after the ack: got %+v", l.got)
		}
		time.Sleep(5100 * time.Millisecond)
		if e := l.last(); l.count() != 3 || e.CmdID != b.CmdID || e.Attempt != 2 {
			t.Errorf("after the ack_timeout: got %+v", l.got)
		}
		l.ack(b.CmdID, "done")
		if e := l.last(); e.CmdID != c.CmdID {
			t.Errorf("at last: got %+v", e)
		}
	})
}

func TestReconnectAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.connect("lamp", 7, "websocket", 0)
		a := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		id := w.must("lamp", `{"op":"identify"}`)
		w.Disconnected("lamp", 7)
		time.Sleep(time.Second)
		l := w.connect("lamp", 8, "websocket", 0)
		if l.count() != 1 || l.got[0].CmdID != a.CmdID || l.got[0].Attempt != 2 || l.got[0].TTLMS != 9000 {
			t.Errorf("got %+v, want the set again and not the identify", l.got)
		}
		w.wantStatuses(id.CmdID, "pending sent")
		l.state(`{"on":true}`) // older than the ack, for all we know
		w.wantStatuses(a.CmdID, "pending sent sent2")
		l.ack(a.CmdID, "acked")
		l.state(`{"on":true}`)
		w.wantStatuses(a.CmdID, "pending sent sent2 acked done confirmed")
	})
}

func TestFullLinkIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.full = true
		a := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		time.Sleep(time.Second)
		w.wantStatuses(a.CmdID, "pending")
		l.mu.Lock()
		l.full = false
		l.mu.Unlock()
		time.Sleep(300 * time.Millisecond)
		w.wantStatuses(a.CmdID, "pending sent")
	})
}

// TestKillAtEachTransition: the hub dies after each step; what it did is told
// rightly by the next one.
func TestKillAtEachTransition(t *testing.T) {
	for _, tt := range []struct {
		name, op, before, after, want string
		sent                          int // by the second hub
	}{
		{"queued", "set", "", "connect acked done shown", "sent acked done confirmed", 1},
		{"sent", "set", "connect", "connect acked done shown", "sent2 acked done confirmed", 1},
		{"acked", "set", "connect acked", "connect done shown", "done confirmed", 1},
		{"done", "set", "connect done", "connect shown", "confirmed", 1},
		{"confirmed", "set", "connect done shown", "connect", "", 0},
		{"sent, and never back", "set", "connect", "wait", "timed_out timed_out(outcome_unknown)", 0},
		{"queued, and never back", "set", "", "wait", "expired", 0},
		{"identify sent", "identify", "connect", "connect wait", "timed_out timed_out(outcome_unknown)", 0},
		{"identify done", "identify", "connect done", "connect wait", "", 0},
		{"restart acked", "restart", "connect acked", "connect wait", "timed_out timed_out(outcome_unknown)", 0},
		{"identify queued", "identify", "", "connect done", "sent acked done", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.live.set("lamp", devices.Offline)
				params := `{"on":true}`
				if tt.op != "set" {
					params = `{}`
				}
				rc := w.must("lamp", fmt.Sprintf(`{"op":%q,"params":%s,"policy":"latest","expires_in_ms":60000}`, tt.op, params))
				w.live.set("lamp", devices.Online)
				var l *lamp
				epoch := int64(7)
				step := func(steps string) {
					for s := range strings.FieldsSeq(steps) {
						switch s {
						case "connect":
							epoch++
							l = w.connect("lamp", epoch, "websocket", 0)
						case "shown":
							l.state(fmt.Sprintf(`{"on":true,"cmd":%q}`, rc.CmdID))
						case "wait":
							time.Sleep(5 * time.Minute)
						default:
							l.ack(rc.CmdID, s)
						}
					}
				}
				step(tt.before)
				time.Sleep(50 * time.Millisecond) // written behind by now
				w.kill()
				l = nil
				step(tt.after)
				w.wantStatuses(rc.CmdID, tt.want)
				if l != nil && l.count() != tt.sent {
					t.Errorf("sent %d times, want %d", l.count(), tt.sent)
				}
			})
		})
	}
}

func TestDurableBeforeItLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		w.store.delay = 100 * time.Millisecond
		start := time.Now()
		done := make(chan error, 1)
		go func() {
			_, err := w.Issue(t.Context(), ana, devices.Origin{}, "lamp", Request{Op: "toggle"})
			done <- err
		}()
		time.Sleep(50 * time.Millisecond)
		if l.count() != 0 {
			t.Error("it left before it was durable")
		}
		if err := <-done; err != nil || time.Since(start) != 100*time.Millisecond || l.count() != 1 {
			t.Errorf("got %v after %v, %d sent", err, time.Since(start), l.count())
		}
		w.store.mu.Lock()
		w.store.delay, w.store.fail = 0, errors.New("disk full")
		w.store.mu.Unlock()
		if _, err := w.issue("lamp", `{"op":"identify"}`); devices.CodeOf(err) != devices.CodePlatformUnavailable {
			t.Errorf("a failing disk: got %v, want platform_unavailable", err)
		}
		if l.count() != 1 {
			t.Error("a command left that is not durable")
		}
		l.ack(l.got[0].CmdID, "done")
		w.store.mu.Lock()
		w.store.fail = nil
		w.store.mu.Unlock()
		time.Sleep(2 * time.Second)
		if row, ok, _ := w.store.Command(t.Context(), "lamp", l.got[0].CmdID); !ok {
			t.Error("the transition was lost")
		} else if r, _ := row.record(); r.Status != Done {
			t.Errorf("stored: got %s, want done", r.Status)
		}
	})
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		rc := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		type result struct {
			r   Record
			err error
			at  time.Duration
		}
		start := time.Now()
		wait := func(until string, limit time.Duration) chan result {
			ch := make(chan result, 1)
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				r, err := w.Wait(ctx, "lamp", rc.CmdID, until)
				ch <- result{r, err, time.Since(start)}
			}()
			return ch
		}
		done, confirmed, short := wait("done", time.Minute), wait("confirmed", time.Minute), wait("done", time.Second/2)
		time.Sleep(time.Second)
		l.ack(rc.CmdID, "done")
		time.Sleep(time.Second)
		l.state(`{"on":true}`)
		if r := <-done; r.err != nil || r.r.Status != Done || r.at != time.Second {
			t.Errorf("done: got %+v", r)
		}
		if r := <-confirmed; r.err != nil || r.r.Status != Confirmed || r.at != 2*time.Second {
			t.Errorf("confirmed: got %+v", r)
		}
		var e *devices.Error
		if r := <-short; !errors.As(r.err, &e) || e.Code != devices.CodeTimeout || e.Details["cmd_id"] != rc.CmdID {
			t.Errorf("short: got %+v", r)
		}
		if r := <-wait("confirmed", time.Second); r.r.Status != Confirmed {
			t.Errorf("afterwards: got %+v", r)
		}
		if _, err := w.Wait(t.Context(), "lamp", "nothing", "done"); devices.CodeOf(err) != devices.CodeNotFound {
			t.Errorf("unknown: got %v", err)
		}
	})
}

func TestHistoryIsPaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.live.set("lamp", devices.Offline)
		var want []string
		for i := range 25 {
			want = append(want, w.must("lamp", fmt.Sprintf(`{"op":"set","params":{"brightness":%d},"policy":"latest"}`, i+1)).CmdID)
		}
		slices.Reverse(want)
		var got []string
		cursor := ""
		for {
			rs, next, err := w.History(t.Context(), viewer, "lamp", 10, cursor)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rs {
				got = append(got, r.CmdID)
			}
			if cursor = next; cursor == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if _, _, err := w.History(t.Context(), viewer, "lamp", 10, "?"); devices.CodeOf(err) != devices.CodeInvalid {
			t.Errorf("cursor: got %v", err)
		}
		scope, _ := devices.ParseScope("area=attic")
		other := viewer
		other.Scope = scope
		if _, _, err := w.History(t.Context(), other, "lamp", 10, ""); devices.CodeOf(err) != devices.CodeForbidden {
			t.Errorf("out of scope: got %v", err)
		}
	})
}

func TestDesiredStateIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.state(`{"on":false,"brightness":5}`)
		if _, err := w.shadows.Patch(t.Context(), ana, devices.Origin{}, "lamp", shadow.PatchRequest{Desired: map[string]any{"on": true}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		e := l.last()
		if e.Op != "set" || e.Params["on"] != true || e.By != "user:ana" {
			t.Errorf("got %+v", e)
		}
		l.state(fmt.Sprintf(`{"on":true,"cmd":%q}`, e.CmdID))
		time.Sleep(time.Minute)
		if l.count() != 1 {
			t.Errorf("got %d, want one", l.count())
		}

		// Under desired_wins what was changed at the device is changed back.
		s := w.connect("sign", 8, "mqtt", 1)
		s.state(`{"on":true,"brightness":100}`)
		if _, err := w.shadows.Patch(t.Context(), ana, devices.Origin{}, "sign", shadow.PatchRequest{Desired: map[string]any{"brightness": 200.0}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		s.state(fmt.Sprintf(`{"brightness":200,"cmd":%q}`, s.last().CmdID))
		time.Sleep(time.Minute)
		n := s.count()
		s.state(`{"brightness":7,"cause":"local"}`)
		time.Sleep(time.Second)
		if e := s.last(); s.count() != n+1 || e.Params["brightness"] != 200.0 {
			t.Errorf("changed back: got %+v", e)
		}
	})
}

func TestDeltaIsAppliedOnReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.live.set("lamp", devices.Offline)
		if _, err := w.shadows.Patch(t.Context(), ana, devices.Origin{}, "lamp", shadow.PatchRequest{Desired: map[string]any{"on": true}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if d := w.Delta("lamp"); d["on"] != true {
			t.Errorf("delta in the join reply: got %v", d)
		}
		w.live.set("lamp", devices.Online)
		l := w.connect("lamp", 7, "websocket", 0)
		time.Sleep(2 * time.Second)
		if l.count() != 0 {
			t.Error("it was not given the time to do it by itself")
		}
		time.Sleep(2 * time.Second)
		if e := l.last(); e.Params["on"] != true {
			t.Errorf("got %+v", e)
		}
	})
}

func TestSyncIsNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.state(`{"on":true,"brightness":5,"cause":"boot"}`)
		n := len(w.told)
		l.state(`{"on":true,"brightness":5,"cause":"sync"}`)
		l.state(`{"on":true,"cause":"boot"}`)
		if len(w.told) != n {
			t.Errorf("told %v", w.told[n:])
		}
		l.state(`{"on":true,"transitioning":true,"brightness":50,"target":{"brightness":100}}`)
		if e := w.told[len(w.told)-1]; e.Key != "state" || e.Payload.(map[string]any)["transitioning"] != true {
			t.Errorf("interim: got %+v", e)
		}
	})
}

func TestFloodIsRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.connect("lamp", 7, "websocket", 0)
		var err error
		for i := 0; i < 1000 && err == nil; i++ {
			_, err = w.issue("lamp", `{"op":"set","params":{"on":true}}`)
		}
		var e *devices.Error
		if !errors.As(err, &e) || e.Code != devices.CodeRateLimited || e.RetryAfter == 0 {
			t.Errorf("got %v, want rate_limited", err)
		}
	})
}

// TestManyAtOnce is for the race detector: people, device and clock together.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.delay = time.Millisecond
		var wg sync.WaitGroup
		for _, id := range []devices.ID{"lamp", "sleepy", "sign"} {
			got := make(chan Envelope, 1000)
			for n := range 3 {
				wg.Go(func() {
					for i := range 30 {
						r := Request{Op: "set", Params: fmt.Appendf(nil, `{"brightness":%d}`, 1+(i*7+n)%200), Policy: "latest"}
						if _, err := w.Issue(t.Context(), ana, devices.Origin{}, id, r); err != nil && devices.CodeOf(err) == "" {
							t.Error(err)
						}
						time.Sleep(17 * time.Millisecond)
					}
				})
			}
			wg.Go(func() {
				for epoch := range int64(5) {
					w.Connected(id, epoch+1, "websocket", 0, func(e Envelope) bool { got <- e; return true })
					time.Sleep(200 * time.Millisecond)
					w.Disconnected(id, epoch+1)
				}
				close(got)
			})
			wg.Go(func() {
				for e := range got {
					time.Sleep(5 * time.Millisecond)
					w.Answer(id, 1, fmt.Appendf(nil, `{"cmd_id":%q,"status":"done"}`, e.CmdID))
					w.Report(id, 1, fmt.Appendf(nil, `{"on":true,"brightness":%v,"cmd":%q}`, e.Params["brightness"], e.CmdID))
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := w.Stats().Open; n != 0 {
			t.Errorf("%d commands never ended", n)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"cmd_id":"01JD","status":"done","exec_ms":12.5}`))
	f.Add([]byte(`{"cmd_id":"01JD","status":"failed","code":"hot","msg":"too hot"}`))
	f.Add([]byte(`{"cmd_id":null,"status":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnswer(b)
		if err != nil {
			if devices.CodeOf(err) == "" {
				t.Fatalf("an error without a code: %v", err)
			}
			return
		}
		if !validID(a.CmdID) || len(a.Code) > maxCode || len(a.Msg) > maxMsg {
			t.Fatalf("accepted %+v", a)
		}
	})
}
