package tsdb

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// The kill -9 test: a child process ingests and prints what it was
// acknowledged; it is killed at a random moment, and the folder must have every
// acknowledged reading once. DEVICEHUB_SOAK=1 makes it a thousand rounds.

const (
	killDevices = 40
	killEnv     = "DEVICEHUB_TEST_KILL_DIR"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killEnv); dir != "" {
		killChild(dir)
		return
	}
	os.Exit(m.Run())
}

func killOptions() Options {
	o := testOptions()
	o.Fsync = []string{SyncOff, SyncBatch, SyncInterval}[os.Getpid()%3]
	o.FlushReadings = 3000
	o.FlushEvery = 50 * time.Millisecond
	o.Now = nil
	return o
}

// killSeq is the value and time of a reading: what it is follows from its
// number alone, so that the parent can look for it.
func killReading(device int, s int64) (t int64, v float64) {
	return 1_763_000_000_000 + s*1000 + int64(device), float64(s*7%1000) / 10
}

func killPush(device int, first int64, n int) readings.Batch {
	type push struct {
		Boot string `json:"boot"`
		S0   int64  `json:"s0"`
		T0   int64  `json:"t0"`
		R    []any  `json:"r"`
	}
	t0, _ := killReading(device, first)
	p := push{Boot: "boot", S0: first, T0: t0}
	for i := range n {
		t, v := killReading(device, first+int64(i))
		p.R = append(p.R, []any{"temperature", v, t - t0})
	}
	text, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	b, err := readings.ParseReadings(text)
	if err != nil {
		panic(err)
	}
	return b
}

// killChild ingests until it is killed. It begins, for each device, behind what
// the store says is decided, sends some pushes twice, and prints a line "device
// first last" for each that was acknowledged, before anything else may happen.
func killChild(dir string) {
	s, err := Open(dir, killOptions())
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	in := readings.New(s, readings.Config{LateMax: 10 * 365 * 24 * time.Hour})
	go func() {
		if err := in.Run(context.Background()); err != nil {
			panic(err)
		}
	}()
	var wg sync.WaitGroup
	var out sync.Mutex
	for d := range killDevices {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(d)))
			dev := &devices.Device{ID: devices.ID(fmt.Sprintf("d-%d", d)), Kinds: []devices.Kind{devices.KindSensor}}
			next := int64(1)
			if acks := in.AckThrough(dev.ID); len(acks) > 0 {
				next = acks[len(acks)-1].S + 1
			}
			for {
				n := 1 + r.IntN(3)
				if r.IntN(4) == 0 {
					n = 1 + r.IntN(300)
				}
				repeat := 1 + r.IntN(10)/9
				done := make(chan string, 2)
				for range repeat {
					in.Submit(readings.Source{Device: dev}, killPush(d, next, n), func(res readings.Result, err error) {
						if err != nil || res.Accepted+res.Dup != n || res.Ack < next+int64(n)-1 {
							done <- fmt.Sprintf("error %s %d: %+v %v", dev.ID, next, res, err)
							return
						}
						done <- fmt.Sprintf("%d %d %d", d, next, next+int64(n)-1)
					})
				}
				for range repeat {
					line := <-done
					out.Lock()
					os.Stdout.WriteString(line + "\n") //nolint:errcheck // the parent reads it, or is gone
					out.Unlock()
				}
				next += int64(n)
			}
		})
	}
	wg.Wait()
}

func TestKilled(t *testing.T) {
	rounds := 20
	if os.Getenv("DEVICEHUB_SOAK") != "" {
		rounds = 1000
	}
	dir := t.TempDir()
	acked := make([]int64, killDevices) // through which number, by device
	r := rand.New(rand.NewPCG(5, uint64(time.Now().UnixNano())))
	for round := range rounds {
		killRound(t, dir, acked, 20+r.IntN(250))
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
		if round%50 == 49 { // the check reads everything: begin again before that is slow
			dir = t.TempDir()
			clear(acked)
		}
	}
}

func killRound(t *testing.T, dir string, acked []int64, ms int) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), killEnv+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var kill *time.Timer
	n := 0
	for lines.Scan() {
		if kill == nil { // from the first acknowledgement on
			kill = time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { child.Process.Signal(syscall.SIGKILL) }) //nolint:errcheck // it may have ended
		}
		f := strings.Fields(lines.Text())
		if len(f) != 3 || f[0] == "error" {
			if len(f) > 0 && f[0] == "error" {
				t.Error(lines.Text())
			}
			continue // the last line may be cut
		}
		d, err1 := strconv.Atoi(f[0])
		last, err2 := strconv.ParseInt(f[2], 10, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("the child says %q", lines.Text())
		}
		acked[d] = max(acked[d], last)
		n++
	}
	child.Wait() //nolint:errcheck // it was killed
	if n == 0 {
		t.Fatal("the child was acknowledged nothing")
	}

	s := mustOpen(t, dir, killOptions())
	if st := s.Stats(); st.State != StateReady {
		t.Fatalf("after the kill: %s, %s", st.State, st.Err)
	}
	for d, through := range acked {
		checkDevice(t, s, d, through)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// checkDevice looks for every acknowledged reading of a device, and that there
// is nothing that was not sent, or twice.
func checkDevice(t *testing.T, s *Store, d int, through int64) {
	t.Helper()
	rec, ok := s.Book().Lookup(devices.ID(fmt.Sprintf("d-%d", d)))
	if !ok {
		if through > 0 {
			t.Errorf("device %d is not known", d)
		}
		return
	}
	ws := rec.Windows()
	if len(ws) != 1 || ws[0].Ack < through || ws[0].Lost != 0 {
		t.Errorf("device %d: got windows %+v, want one through %d", d, ws, through)
		return
	}
	next := int64(1)
	for _, x := range rec.Series() {
		err := s.Scan(context.Background(), x, 0, 1<<46, func(ps []readings.Point) error {
			for _, p := range ps {
				if at, v := killReading(d, next); p.T != at || p.F != v {
					return fmt.Errorf("reading %d: got %+v, want %d %v", next, p, at, v)
				}
				next++
			}
			return nil
		})
		if err != nil {
			t.Errorf("device %d: %v", d, err)
		}
	}
	if next != ws[0].Ack+1 {
		t.Errorf("device %d: %d readings are stored, %d were decided", d, next-1, ws[0].Ack)
	}
}
