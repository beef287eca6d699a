package commands_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/liveness"
	"devicehub/devices/shadow"
	"devicehub/devices/sqlite"
)

// hub is the control path on its real stores.
type hub struct {
	reg  *devices.Registry
	live *liveness.Tracker
	cmds *commands.Dispatcher
	ids  []devices.ID

	commits atomic.Int64
}

// cost reports what n of something have cost since start: transactions, and time of all cores.
func (h *hub) cost(b *testing.B, n int, commits int64, cpu time.Duration) {
	b.ReportMetric(float64(h.commits.Load()-commits)/float64(n), "commits/each")
	b.ReportMetric(float64((used()-cpu).Nanoseconds())/1000/float64(n), "cpu-µs/each")
}

// used is the time that this process has had of all cores.
func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func newHub(b *testing.B, n int) *hub {
	b.Helper()
	db, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "hub.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	h := &hub{}
	db.OnWrite = func(time.Duration, error) { h.commits.Add(1) }
	if h.reg, err = devices.OpenRegistry(b.Context(), db); err != nil {
		b.Fatal(err)
	}
	var ds []*devices.Device
	for i := range n {
		id := devices.ID(fmt.Sprintf("d%05d", i))
		h.ids = append(h.ids, id)
		ds = append(ds, &devices.Device{ID: id, Kinds: []devices.Kind{devices.KindLight}, Enabled: true})
	}
	if err := h.reg.Create(b.Context(), time.Now(), ds...); err != nil {
		b.Fatal(err)
	}
	shadows, err := shadow.New(b.Context(), shadow.Config{Store: db, Registry: h.reg})
	if err != nil {
		b.Fatal(err)
	}
	if h.live, err = liveness.New(b.Context(), liveness.Config{Store: db, Registry: h.reg}); err != nil {
		b.Fatal(err)
	}
	h.cmds, err = commands.New(b.Context(), commands.Config{Store: db, Registry: h.reg, Shadows: shadows, Liveness: h.live})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { h.live.Run(ctx) })
	wg.Go(func() { shadows.Run(ctx) })
	wg.Go(func() { h.cmds.Run(ctx) })
	b.Cleanup(func() { cancel(); wg.Wait(); db.Close() })
	return h
}

// BenchmarkCommand asks 300 times a second, in an open loop, ten thousand lights
// that take 25 ms each: from Issue to confirmed.
func BenchmarkCommand(b *testing.B) {
	h := newHub(b, 10_000)
	var wg sync.WaitGroup
	for _, id := range h.ids {
		epoch, err := h.live.Open(id, liveness.Conn{Transport: "websocket"}, func(devices.Code, string, int64) {})
		if err != nil {
			b.Fatal(err)
		}
		h.cmds.Connected(id, epoch, "websocket", 0, func(e commands.Envelope) bool {
			wg.Add(1)
			time.AfterFunc(25*time.Millisecond, func() {
				defer wg.Done()
				e.Params["cmd"] = e.CmdID
				state, _ := json.Marshal(e.Params)
				h.cmds.Answer(id, epoch, fmt.Appendf(nil, `{"cmd_id":%q,"status":"done"}`, e.CmdID))
				h.cmds.Report(id, epoch, time.Now(), state)
			})
			return true
		})
	}
	who := devices.CLI()
	var mu sync.Mutex
	var took []time.Duration
	start, commits, cpu := time.Now(), h.commits.Load(), used()
	n := 0
	for b.Loop() {
		intended := start.Add(time.Duration(n) * time.Second / 300)
		time.Sleep(time.Until(intended))
		id := h.ids[n*7919%len(h.ids)]
		n++
		wg.Go(func() {
			r, err := h.cmds.Issue(b.Context(), who, devices.Origin{}, id, commands.Request{Op: "set", Params: fmt.Appendf(nil, `{"brightness":%d}`, 1+n%255)})
			if err == nil {
				_, err = h.cmds.Wait(b.Context(), id, r.CmdID, "confirmed")
			}
			if err != nil {
				b.Error(err)
			}
			mu.Lock()
			took = append(took, time.Since(intended))
			mu.Unlock()
		})
	}
	wg.Wait()
	h.cost(b, n, commits, cpu)
	slices.Sort(took)
	at := func(p int) float64 { return float64(took[len(took)*p/100].Microseconds()) / 1000 }
	b.ReportMetric(at(50), "p50-ms")
	b.ReportMetric(at(99), "p99-ms")
	b.ReportMetric(float64(len(took))/time.Since(start).Seconds(), "commands/s")
}

// BenchmarkAlone has one light connect, obey a command and go, with nothing else to write: what
// each costs in transactions by itself.
func BenchmarkAlone(b *testing.B) {
	h := newHub(b, 1)
	id := h.ids[0]
	const quiet = 400 * time.Millisecond // all that is behind is written then
	var connects, obeyed int64
	n := 0
	for b.Loop() {
		n++
		before := h.commits.Load()
		sent := make(chan commands.Envelope, 1)
		epoch, err := h.live.Open(id, liveness.Conn{Transport: "websocket"}, func(devices.Code, string, int64) {})
		if err != nil {
			b.Fatal(err)
		}
		h.cmds.Connected(id, epoch, "websocket", 0, func(e commands.Envelope) bool { sent <- e; return true })
		time.Sleep(quiet)
		connects += h.commits.Load() - before
		before = h.commits.Load()
		_, err = h.cmds.Issue(b.Context(), devices.CLI(), devices.Origin{}, id, commands.Request{Op: "set", Params: fmt.Appendf(nil, `{"brightness":%d}`, 1+n%255)})
		if err != nil {
			b.Fatal(err)
		}
		e := <-sent
		time.Sleep(10 * time.Millisecond)
		e.Params["cmd"] = e.CmdID
		state, _ := json.Marshal(e.Params)
		if err := h.cmds.Answer(id, epoch, fmt.Appendf(nil, `{"cmd_id":%q,"status":"done"}`, e.CmdID)); err != nil {
			b.Fatal(err)
		}
		if _, err := h.cmds.Report(id, epoch, time.Now(), state); err != nil {
			b.Fatal(err)
		}
		time.Sleep(quiet)
		obeyed += h.commits.Load() - before
		h.live.Close(id, epoch, liveness.ClientClose)
	}
	b.ReportMetric(float64(connects)/float64(n), "commits/connect")
	b.ReportMetric(float64(obeyed)/float64(n), "commits/command")
}

// BenchmarkReconnect has ten thousand devices connect at once, until all of it
// is in the history on disk.
func BenchmarkReconnect(b *testing.B) {
	h := newHub(b, 10_000)
	commits, cpu := h.commits.Load(), used()
	for b.Loop() {
		for _, id := range h.ids {
			epoch, err := h.live.Open(id, liveness.Conn{Transport: "websocket"}, func(devices.Code, string, int64) {})
			if err != nil {
				b.Fatal(err)
			}
			h.cmds.Connected(id, epoch, "websocket", 0, func(commands.Envelope) bool { return true })
			h.live.Close(id, epoch, liveness.ConnectionLost)
		}
		if _, _, err := h.live.History(b.Context(), h.ids[0], 1, ""); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(h.ids)*b.N)/b.Elapsed().Seconds(), "connects/s")
	h.cost(b, len(h.ids)*b.N, commits, cpu)
}

// BenchmarkConnect has devices of a fleet connect, 300 a second, each of which reports a new
// firmware.
func BenchmarkConnect(b *testing.B) {
	h := newHub(b, 10_000)
	var wg sync.WaitGroup
	start, commits, cpu := time.Now(), h.commits.Load(), used()
	n := 0
	for b.Loop() {
		time.Sleep(time.Until(start.Add(time.Duration(n) * time.Second / 300)))
		id := h.ids[n%len(h.ids)]
		n++
		version := fmt.Sprint(n)
		wg.Go(func() {
			epoch, err := h.live.Open(id, liveness.Conn{Transport: "websocket"}, func(devices.Code, string, int64) {})
			if err == nil {
				h.cmds.Connected(id, epoch, "websocket", 0, func(commands.Envelope) bool { return true })
				_, err = h.reg.Report(b.Context(), id, func(d *devices.Device) error { d.Firmware = version; return nil })
			}
			if err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	h.cost(b, n, commits, cpu)
}

// BenchmarkRollout has a fleet report a new firmware, a hundred devices at a time.
func BenchmarkRollout(b *testing.B) {
	h := newHub(b, 10_000)
	ids := make(chan devices.ID)
	var wg sync.WaitGroup
	var version atomic.Int64
	for range 100 {
		wg.Go(func() {
			for id := range ids {
				_, err := h.reg.Report(b.Context(), id, func(d *devices.Device) error { d.Firmware = fmt.Sprint(version.Add(1)); return nil })
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	commits, cpu := h.commits.Load(), used()
	n := 0
	for b.Loop() {
		ids <- h.ids[n%len(h.ids)]
		n++
	}
	close(ids)
	wg.Wait()
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "reports/s")
	h.cost(b, n, commits, cpu)
}
