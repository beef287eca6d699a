package liveness

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
)

// world is a tracker with the registry, store and feed around it.
type world struct {
	*Tracker
	t     *testing.T
	reg   *devices.Registry
	store *Memory
	audit []devices.AuditEntry
	stop  func()

	mu    sync.Mutex
	fresh map[devices.ID]freshness
	told  []Event
}

type freshness struct {
	stale, any bool
	next       time.Time
}

func (w *world) Record(_ devices.Origin, e devices.AuditEntry) { w.audit = append(w.audit, e) }

func (w *world) Publish(e devices.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, e.Payload.(Event))
}

func (w *world) freshness(id devices.ID, now time.Time) (bool, bool, time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.fresh[id]
	if !f.next.IsZero() && !f.next.After(now) {
		f.stale, f.next = true, time.Time{}
	}
	return f.stale, f.any, f.next
}

// reading makes the device's data fresh for d (0: without an interval).
func (w *world) reading(id devices.ID, d time.Duration) {
	w.mu.Lock()
	f := freshness{any: true}
	if d > 0 {
		f.next = time.Now().Add(d)
	}
	w.fresh[id] = f
	w.mu.Unlock()
	w.DataChanged(id)
	synctest.Wait()
}

func newWorld(t *testing.T, ids ...devices.ID) *world {
	t.Helper()
	reg, err := devices.OpenRegistry(t.Context(), new(devices.MemoryRegistry))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if err := reg.Create(t.Context(), time.Now(), &devices.Device{ID: id, Kinds: []devices.Kind{devices.KindSensor}, Enabled: true}); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, reg: reg, store: new(Memory), fresh: map[devices.ID]freshness{}}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) start() {
	w.t.Helper()
	tr, err := New(w.t.Context(), Config{Store: w.store, Registry: w.reg, Freshness: w.freshness, Feed: w, Audit: w, Node: "n1"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Tracker = tr
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); tr.Run(ctx) }()
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
	synctest.Wait()
}

// restart ends the tracker as kill -9 does, or cleanly, and starts another.
func (w *world) restart() {
	w.stop()
	w.start()
}

func (w *world) open(id devices.ID, c Conn) (epoch int64, ended *[]string) {
	w.t.Helper()
	ended = new([]string)
	epoch, err := w.Open(id, c, func(code devices.Code, _ string, by int64) {
		*ended = append(*ended, fmt.Sprintf("%s by %t", code, by > 0))
	})
	if err != nil {
		w.t.Fatalf("open %s: %v", id, err)
	}
	return epoch, ended
}

func (w *world) want(id devices.ID, want devices.State, more ...string) devices.Status {
	w.t.Helper()
	synctest.Wait()
	st := w.Status(id)
	if st.State != want {
		w.t.Errorf("state of %s: got %s %+v, want %s", id, st.State, st, want)
	}
	got := []string{"link=" + st.Link, "data=" + st.Data, "control=" + st.Control, "reason=" + st.Reason,
		fmt.Sprintf("flapping=%t", st.Flapping), fmt.Sprintf("unverified=%t", st.Unverified)}
	for _, m := range more {
		if !slices.Contains(got, m) {
			w.t.Errorf("status of %s: got %v, want %s", id, got, m)
		}
	}
	return st
}

var ws = Conn{Transport: "websocket", Addr: "10.0.0.1:4711", OfflineAfter: time.Minute}

func TestStatusFollowsLinkDataAndControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		w.want("a", devices.NeverSeen, "link=down", "data=none", "control=unknown")
		e, _ := w.open("a", ws)
		w.want("a", devices.Online, "link=up", "data=none")
		w.reading("a", 30*time.Second)
		w.want("a", devices.Online, "data=fresh")
		time.Sleep(31 * time.Second)
		w.want("a", devices.Quiet, "data=stale", "link=up")
		w.CommandUnanswered("a", e)
		w.want("a", devices.Unresponsive, "control=unanswered")
		w.CommandAnswered("a", e)
		w.want("a", devices.Quiet, "control=ok")
		w.reading("a", 30*time.Second)
		w.want("a", devices.Online)
		w.Pong("a", e, 12*time.Millisecond)
		if st := w.Status("a"); st.RTTMS == nil || *st.RTTMS != 12 {
			t.Errorf("rtt: got %v, want 12", st.RTTMS)
		}
		w.Close("a", e, HeartbeatTimeout)
		st := w.want("a", devices.Offline, "reason=heartbeat_timeout", "link=down")
		if st.Epoch != e {
			t.Errorf("epoch: got %d, want %d", st.Epoch, e)
		}
		for i := 1; i < len(w.told); i++ {
			a, b := w.told[i-1], w.told[i]
			if b.Epoch < a.Epoch || b.Epoch == a.Epoch && b.Seq <= a.Seq {
				t.Errorf("event %d: (%d,%d) after (%d,%d)", i, b.Epoch, b.Seq, a.Epoch, a.Seq)
			}
		}
	})
}

func TestNewestConnectionWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		e1, ended1 := w.open("a", ws)
		e2, ended2 := w.open("a", Conn{Transport: "mqtt", Addr: "10.0.0.1:9"})
		if e2 <= e1 {
			t.Errorf("epoch %d after %d", e2, e1)
		}
		if !slices.Equal(*ended1, []string{"replaced by true"}) || *ended2 != nil {
			t.Errorf("ended: got %v and %v, want the older alone", *ended1, *ended2)
		}
		w.Close("a", e1, Replaced) // late: of no consequence
		w.want("a", devices.Online)
		w.Close("a", e2, ClientClose)
		w.Heard("a", e1, Data)
		w.want("a", devices.Offline, "reason=client_close")
		trs, _, err := w.History(t.Context(), "a", 0, "")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, tr := range trs {
			got = append(got, fmt.Sprintf("%s>%s %s %s %s", tr.From, tr.To, tr.Reason, tr.Transport, tr.Node))
		}
		want := []string{"online>offline client_close mqtt n1", "online>online replaced mqtt n1", "never_seen>online  websocket n1"}
		if !slices.Equal(got, want) {
			t.Errorf("history: got %q, want %q", got, want)
		}
	})
}

func TestDuplicateIdentityIsHeldDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		other := Conn{Transport: "websocket", Addr: "10.0.0.2:1"}
		var ended *[]string
		for i := range 4 {
			_, ended = w.open("a", []Conn{ws, other}[i%2])
			time.Sleep(time.Second)
		}
		wait := 5 * time.Second
		for range 8 {
			_, err := w.Open("a", ws, nil)
			e, ok := err.(*devices.Error)
			if !ok || e.Code != devices.CodeRateLimited || e.RetryAfter != wait {
				t.Fatalf("fifth: got %v, want rate_limited after %v", err, wait)
			}
			time.Sleep(wait)
			wait = min(2*wait, 5*time.Minute)
		}
		if *ended != nil {
			t.Errorf("the standing connection was ended: %v", *ended)
		}
		w.want("a", devices.Online, "flapping=true", "reason=duplicate_identity")
		if len(w.audit) != 1 {
			t.Errorf("audit: got %d records, want 1", len(w.audit))
		}
		time.Sleep(10 * time.Minute)
		w.want("a", devices.Online, "flapping=false", "reason=")
	})
}

func TestReconnectsOfOneDeviceAreNoDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		for range 20 {
			e, _ := w.open("a", ws) // one address, one boot
			w.SetBoot("a", e, "boot1")
		}
		w.want("a", devices.Online, "flapping=true")
		time.Sleep(61 * time.Second)
		w.want("a", devices.Online, "flapping=false")
		for i := range 4 { // one address, alternating boots: two devices behind one router
			e, _ := w.open("b", ws)
			w.SetBoot("b", e, fmt.Sprint("boot", i%2))
		}
		if _, err := w.Open("b", ws, nil); devices.CodeOf(err) != devices.CodeRateLimited {
			t.Errorf("alternating boots: got %v, want rate_limited", err)
		}
		known := ws
		known.Boot = "boot1"
		if _, err := w.Open("b", known, nil); err != nil {
			t.Errorf("the standing device itself: got %v, want it let in", err)
		}
	})
}

func TestSleepingDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		e, _ := w.open("a", ws)
		awake := time.Now().Add(time.Hour).UnixMilli()
		w.Sleep("a", e, awake)
		w.Heard("a", e, Data) // was on its way
		w.Close("a", e, ClientClose)
		if st := w.want("a", devices.Sleeping, "link=down"); st.AwakeAt != awake {
			t.Errorf("awake_at: got %d, want %d", st.AwakeAt, awake)
		}
		time.Sleep(time.Hour + time.Minute)
		w.want("a", devices.Sleeping) // a little late
		time.Sleep(3 * time.Minute)
		w.want("a", devices.Offline, "reason=client_close")
		w.open("a", ws)
		w.want("a", devices.Online)
	})
}

func TestDataOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		if _, err := w.reg.Update(t.Context(), "b", func(d *devices.Device) error { d.ExpectedIntervalS = 20; return nil }); err != nil {
			t.Fatal(err)
		}
		w.Heard("a", 0, Data)
		w.Heard("b", 0, Data)
		w.want("a", devices.DataOnly, "link=unknown")
		time.Sleep(61 * time.Second)
		w.want("a", devices.DataOnly)
		w.want("b", devices.Offline, "reason=heartbeat_timeout")
		time.Sleep(time.Hour)
		w.want("a", devices.Offline)
		e, _ := w.open("a", ws)
		w.Close("a", e, ConnectionLost)
		w.want("a", devices.Offline, "reason=connection_lost", "link=down")
		w.Heard("a", 0, State)
		w.want("a", devices.DataOnly)
	})
}

func TestQuietRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "back", "gone", "off", "slow")
		w.open("back", ws)
		eg, _ := w.open("gone", ws)
		w.open("slow", Conn{Transport: "mqtt", OfflineAfter: 450 * time.Second})
		eo, _ := w.open("off", ws)
		w.Close("off", eo, ClientClose)
		w.reading("back", time.Minute)
		w.Close("gone", eg, ServerDrain) // the hub's own doing: no word about the device
		w.want("gone", devices.Offline, "reason=server_drain")
		time.Sleep(time.Second)
		w.stop()
		time.Sleep(10 * time.Minute) // the hub is away, and what it knew of grows stale
		w.told = nil
		w.start()
		before := w.want("back", devices.Online, "unverified=true", "data=fresh")
		w.want("gone", devices.Online, "unverified=true")
		w.want("off", devices.Offline, "unverified=false", "reason=client_close")
		time.Sleep(80 * time.Second)
		e, _ := w.open("back", ws)
		after := w.want("back", devices.Online, "unverified=false")
		if e <= before.Epoch || after.Since != before.Since {
			t.Errorf("epoch %d after %d, since %d after %d", e, before.Epoch, after.Since, before.Since)
		}
		w.reading("back", time.Minute)
		time.Sleep(11 * time.Second)
		w.want("gone", devices.Offline, "reason=hub_restart", "unverified=false")
		w.want("slow", devices.Online, "unverified=true")
		time.Sleep(6 * time.Minute)
		w.want("slow", devices.Offline, "reason=hub_restart")
		trs, _, err := w.History(t.Context(), "gone", 0, "")
		if err != nil || len(trs) != 3 || trs[0].Reason != HubRestart || trs[1].Reason != ServerDrain {
			t.Errorf("history of one that was drained and never came back: got %+v %v", trs, err)
		}
		for _, e := range w.told {
			if e.Device == "back" && e.State != devices.Online && e.At().Before(time.UnixMilli(before.Since).Add(12*time.Minute)) {
				t.Errorf("a device that came back was told %+v", e)
			}
		}
	})
}

// At is when the told state began.
func (e Event) At() time.Time { return time.UnixMilli(e.Since) }

func TestEpochsRiseAcrossRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		var last int64
		for range 5 {
			for range 3 {
				e, _ := w.open("a", ws)
				if e <= last {
					t.Fatalf("epoch %d after %d", e, last)
				}
				last = e
			}
			w.restart()
		}
	})
}

func TestBridgedDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "z", "w", "n")
		w.BridgeUp("b")
		e1 := w.BridgeHeard("z", "b", Announced)
		w.BridgeHeard("w", "b", WillOnly)
		w.BridgeHeard("n", "b", NoAvailability)
		w.want("z", devices.Online, "link=up")
		w.want("n", devices.DataOnly, "link=unknown")
		w.BridgeAvailable("z", "b", false, ConnectionLost)
		w.BridgeAvailable("w", "b", false, ConnectionLost)
		w.want("z", devices.Offline, "reason=connection_lost")
		w.BridgeHeard("w", "b", WillOnly)
		w.want("w", devices.Online)
		if e2 := w.BridgeAvailable("z", "b", true, ""); e2 <= e1 {
			t.Errorf("epoch %d after %d", e2, e1)
		}
		w.BridgeDown("b")
		time.Sleep(9 * time.Second)
		w.want("z", devices.Online)
		w.BridgeUp("b")
		time.Sleep(20 * time.Second)
		w.want("z", devices.Online)
		w.BridgeDown("b")
		time.Sleep(11 * time.Second)
		w.want("z", devices.Offline, "reason=bridge_down")
		w.want("n", devices.Offline, "reason=bridge_down", "link=down")
		w.BridgeUp("b")
		w.want("z", devices.Online)
		w.want("n", devices.DataOnly, "link=unknown")
	})
}

// slowEpochs is a disk that takes its time to reserve epochs.
type slowEpochs struct{ Memory }

func (s *slowEpochs) ReserveEpochs(ctx context.Context, n int64) (int64, error) {
	time.Sleep(time.Second)
	return s.Memory.ReserveEpochs(ctx, n)
}

// Who waits for the disk to reserve epochs keeps nobody from the device: the writer of what else
// is to be kept may be among them.
func TestEpochsAreReservedWithoutTheDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		tr, err := New(t.Context(), Config{Store: new(slowEpochs), Registry: w.reg})
		if err != nil {
			t.Fatal(err)
		}
		last, err := tr.Open("a", ws, nil)
		if err != nil {
			t.Fatal(err)
		}
		tr.epochs.at = tr.epochs.end // the block is used up, and Run does not reserve another
		began := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if epoch, err := tr.Open("a", ws, nil); err != nil || epoch <= last {
					t.Errorf("got epoch %d after %d, %v", epoch, last, err)
				}
			})
		}
		synctest.Wait()
		if st := tr.Status("a"); st.State != devices.Online || time.Since(began) != 0 {
			t.Errorf("got %s after %v, want online at once", st.State, time.Since(began))
		}
		wg.Wait()
		if took := time.Since(began); took != time.Second {
			t.Errorf("three connections took %v, want the second of one reservation", took)
		}
	})
}

// A bridge that was back in between has its ten seconds anew.
func TestBridgeThatIsBackHasItsTimeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "z")
		w.BridgeUp("b")
		w.BridgeHeard("z", "b", Announced)
		w.BridgeDown("b")
		time.Sleep(8 * time.Second)
		w.BridgeUp("b")
		w.BridgeDown("b")
		time.Sleep(9 * time.Second)
		w.want("z", devices.Online)
		time.Sleep(2 * time.Second)
		w.want("z", devices.Offline, "reason=bridge_down")
	})
}

// A device of which its bridge's adapter knows nothing is not offline for what
// was said of all devices there, once that is no longer so.
func TestUnknownLinksComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "heard", "silent", "told", "direct")
		w.BridgeUp("b")
		w.BridgeHeard("heard", "b", NoAvailability)
		w.BridgeHeard("told", "b", Announced)
		w.open("direct", ws)
		time.Sleep(10 * time.Minute)
		for _, id := range []devices.ID{"heard", "silent"} {
			w.BridgeAvailable(id, "b", false, BridgeDown)
			w.want(id, devices.Offline, "reason=bridge_down", "link=down")
			w.restart()
			w.BridgeUp("b")
			w.BridgeUnknown(id, "b")
		}
		w.want("heard", devices.DataOnly, "link=unknown")
		w.want("silent", devices.NeverSeen, "link=unknown")
		time.Sleep(51 * time.Minute) // an hour after it was heard
		w.want("heard", devices.Offline, "reason=heartbeat_timeout", "link=unknown")
		w.BridgeAvailable("heard", "b", false, BridgeDown)
		w.BridgeUnknown("heard", "b")
		w.want("heard", devices.Offline, "reason=heartbeat_timeout", "link=unknown")
		// Where something is known it stands.
		w.BridgeHeard("told", "b", Announced)
		w.BridgeUnknown("told", "b")
		w.want("told", devices.Online, "link=up")
		w.open("direct", ws)
		w.BridgeUnknown("direct", "b")
		w.want("direct", devices.Online, "link=up")
	})
}

func TestDeletedDeviceIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		e, _ := w.open("a", ws)
		if err := w.reg.Delete(t.Context(), "a", time.Now()); err != nil {
			t.Fatal(err)
		}
		w.Close("a", e, Kicked)
		w.want("a", devices.NeverSeen)
		if _, err := w.Open("a", ws, nil); devices.CodeOf(err) != devices.CodeNotFound {
			t.Errorf("open: got %v, want not_found", err)
		}
		if n := w.Stats().States[devices.Online]; n != 0 {
			t.Errorf("online: got %d, want 0", n)
		}
	})
}

// TestManyAtOnce is for the race detector: transports, people and the clock
// together. At the end every device has the connection that was opened last.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := []devices.ID{"a", "b", "c", "d"}
		w := newWorld(t, ids...)
		var wg sync.WaitGroup
		for _, id := range ids {
			for range 4 {
				wg.Go(func() {
					for i := range 50 {
						var epoch int64
						epoch, err := w.Open(id, Conn{Transport: "mqtt", Addr: "10.0.0.9"}, func(devices.Code, string, int64) {})
						if err != nil {
							t.Error(err)
							return
						}
						w.SetBoot(id, epoch, "boot")
						w.Heard(id, epoch, Data)
						w.DataChanged(id)
						w.CommandUnanswered(id, epoch)
						time.Sleep(time.Duration(i) * time.Millisecond)
						if i != 49 {
							w.Close(id, epoch, ConnectionLost)
						}
						w.Status(id)
					}
				})
			}
			wg.Go(func() {
				for range 20 {
					w.Heard(id, 0, State)
					w.Current(id)
					w.Stats()
					if _, _, err := w.History(t.Context(), id, 10, ""); err != nil {
						t.Error(err)
					}
					time.Sleep(30 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		for _, id := range ids {
			if epoch, _, ok := w.Current(id); !ok || epoch != w.Status(id).Epoch {
				t.Errorf("%s: got %d %t, shown %+v", id, epoch, ok, w.Status(id))
			}
			trs, _, err := w.History(t.Context(), id, 200, "")
			if err != nil || len(trs) == 0 || trs[0].To != w.Status(id).State {
				t.Errorf("%s: the history ends with %+v %v, shown %s", id, trs[0], err, w.Status(id).State)
			}
		}
	})
}

func TestDrainedDeviceComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		e, _ := w.open("a", ws)
		w.Close("a", e, ServerDrain)
		w.restart()
		w.open("a", ws)
		var got []string
		trs, _, err := w.History(t.Context(), "a", 0, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, tr := range trs {
			got = append(got, fmt.Sprintf("%s>%s %s", tr.From, tr.To, tr.Reason))
		}
		if want := []string{"offline>online ", "online>offline server_drain", "never_seen>online "}; !slices.Equal(got, want) {
			t.Errorf("history: got %q, want %q", got, want)
		}
	})
}

// TestReadingsOnTheVerge: readings that are just not stale, and will be now.
func TestReadingsOnTheVerge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		w.open("a", ws)
		turn := time.Now().Add(10 * time.Second)
		w.stop()
		tr, err := New(t.Context(), Config{Store: w.store, Registry: w.reg, Feed: w,
			Freshness: func(_ devices.ID, now time.Time) (bool, bool, time.Time) { return now.After(turn), true, turn }})
		if err != nil {
			t.Fatal(err)
		}
		w.Tracker = tr
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); tr.Run(ctx) }()
		defer func() { cancel(); <-done }()
		w.open("a", ws)
		time.Sleep(10 * time.Second)
		w.want("a", devices.Online)
		time.Sleep(2 * time.Minute) // what was fresh before a restart is believed for a while
		w.want("a", devices.Quiet)
	})
}
