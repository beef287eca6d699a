package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	sim "devicehub/firmware-sim"
	"devicehub/firmware-sim/profile"
)

// workers plays one fleet in several processes of this program. Each writes a line a second, and its report at the end, to a
// pipe; over another it hears that the hub was killed. What it needs to sign in travels by the first line of that pipe.
type workers struct {
	profile *profile.Profile
	args    []string // of every worker
	secret  string
	stderr  io.Writer
	show    *progress

	mu     sync.Mutex
	latest []sim.Snapshot
	pipes  []io.Writer
}

// run starts n processes and returns their common report.
func (w *workers) run(ctx context.Context, n int, server, broker sim.Server, hubFaults []profile.Fault) (*sim.Report, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread() // workers end with the thread that started them: see sim.Apart
	defer runtime.UnlockOSThread()
	run := sim.NewRun()
	reports := make([]sim.Message, n)
	errs := make([]error, n+1)
	var wg sync.WaitGroup
	for i := range n {
		args := append([]string{}, w.args...)
		args = append(args, fmt.Sprintf("--worker=%d/%d/%s", i, n, run))
		cmd := exec.Command(exe, args...)
		sim.Apart(cmd)
		cmd.Stderr = w.stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		fmt.Fprintln(in, w.secret)
		w.pipes = append(w.pipes, in)
		stop := context.AfterFunc(ctx, func() { cmd.Process.Signal(os.Interrupt) })
		wg.Go(func() {
			defer stop()
			errs[i] = w.read(i, out, &reports[i])
			if err := cmd.Wait(); errs[i] == nil && reports[i].Report == nil {
				errs[i] = fmt.Errorf("worker %d ended without a report: %w", i, errors.Join(err, errNoReport))
			}
		})
	}
	faults, cancel := context.WithCancel(ctx)
	var breaking sync.WaitGroup
	if len(hubFaults) > 0 {
		breaking.Go(func() { errs[n] = sim.BreakHub(faults, server, broker, hubFaults, time.Now(), w.tell) })
	}
	wg.Wait()
	cancel()
	breaking.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return sim.Merge(w.profile, reports)
}

var errNoReport = errors.New("no report")

// read takes what one worker writes.
func (w *workers) read(i int, out io.Reader, report *sim.Message) error {
	dec := json.NewDecoder(out)
	for {
		var m sim.Message
		if err := dec.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("worker %d: %w", i, err)
		}
		if m.Report != nil {
			*report = m
		}
		if m.Snapshot != nil {
			w.snapshot(i, *m.Snapshot)
		}
	}
}

// snapshot shows the sum whenever the first worker has spoken.
func (w *workers) snapshot(i int, s sim.Snapshot) {
	w.mu.Lock()
	w.latest[i] = s
	w.mu.Unlock()
	if i == 0 {
		w.show.update(w.sum())
	}
}

// sum is the whole fleet, by what each worker said last.
func (w *workers) sum() sim.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := w.latest[0]
	for _, l := range w.latest[1:] {
		sum = sum.Add(l)
	}
	return sum
}

func (w *workers) tell(word sim.Word) {
	for _, p := range w.pipes {
		fmt.Fprintln(p, word)
	}
}

// inWorkers plays the fleet in several processes. The hub's own faults are this one's.
func (f *runFlags) inWorkers(cmd *cobra.Command, path string, p *profile.Profile, cfg sim.Config, show *progress) (*sim.Report, error) {
	plan := sim.Plan(p, cfg.Scale, cfg.Duration)
	hubFaults := sim.SplitFaults(p)
	if err := cfg.CanBreak(hubFaults); err != nil {
		return nil, usageError{err}
	}
	secret := cfg.Password
	if cfg.Username == "" {
		secret = cfg.Token
	}
	w := &workers{latest: make([]sim.Snapshot, f.workers), profile: p, args: f.workerArgs(path, p.Seed), secret: secret, stderr: show, show: show}
	if f.metrics != "" {
		stop, err := serveMetrics(cmd.Context(), f.metrics, w.sum)
		if err != nil {
			return nil, err
		}
		defer stop()
	}
	report, err := w.run(cmd.Context(), f.workers, cfg.Server, cfg.Broker, hubFaults)
	if err == nil {
		report.Plan = plan // with the hub's faults, of which workers do not know
	}
	return report, err
}

// workerArgs are the flags of this command line that workers need, in the form that they read.
func (f *runFlags) workerArgs(path string, seed uint64) []string {
	args := []string{"run", path, "--hub", f.hub, "--password-stdin", "--seed", strconv.FormatUint(seed, 10),
		"--duration", f.duration.String(), "--settle", f.settle.String(), "--scale", strconv.FormatFloat(f.scale, 'g', -1, 64),
		fmt.Sprintf("--keep-devices=%v", f.keep), fmt.Sprintf("--no-judge=%v", f.noJudge), fmt.Sprintf("--debug=%v", f.debug)}
	if f.mqtt != "" {
		args = append(args, "--mqtt", f.mqtt)
	}
	if f.bridge != "" {
		args = append(args, "--bridge", f.bridge)
	}
	if len(f.sources) > 0 {
		args = append(args, "--sources", strings.Join(f.sources, ","))
	}
	if f.username != "" {
		args = append(args, "--username", f.username)
	}
	return args
}

// asWorker plays one share of a fleet for a parent process.
func (f *runFlags) asWorker(cmd *cobra.Command, p *profile.Profile) error {
	var shard, shards int
	var run string
	if parts := strings.SplitN(f.worker, "/", 3); len(parts) == 3 {
		shard, _ = strconv.Atoi(parts[0])
		shards, _ = strconv.Atoi(parts[1])
		run = parts[2]
	}
	if shards < 1 || shard < 0 || shard >= shards || run == "" {
		return usageError{errors.New("--worker is for the program's own use")}
	}
	in := bufio.NewReader(cmd.InOrStdin())
	secret, err := in.ReadString('\n')
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	secret = strings.TrimRight(secret, "\n")
	sim.SplitFaults(p)
	cfg, err := f.base(p)
	if err != nil {
		return err
	}
	if cfg.Username == "" {
		cfg.Token = secret
	} else {
		cfg.Password = secret
	}
	cfg.Shard, cfg.Shards, cfg.Run = shard, shards, run
	cfg.Log = f.log(cmd.ErrOrStderr())
	var mu sync.Mutex
	enc := json.NewEncoder(cmd.OutOrStdout())
	cfg.Progress = func(s sim.Snapshot) {
		mu.Lock()
		defer mu.Unlock()
		_ = enc.Encode(sim.Message{Snapshot: &s}) // a parent that is gone is seen at the end
	}
	s, err := sim.New(cfg)
	if err != nil {
		return err
	}
	// A parent that was killed leaves nobody to report to: the devices are taken away, whatever the pipes say, and however often
	// the kernel tells that the parent is gone, which it does for each of its threads.
	signal.Ignore(syscall.SIGPIPE)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM)
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	go func() { // ends with the pipe, which the parent closes by ending
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				cancel()
				return
			}
			s.Hear(ctx, sim.Word(strings.TrimSpace(line)))
		}
	}()
	report, err := s.Run(ctx)
	if err != nil {
		return err
	}
	m, err := report.Message()
	if err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	return enc.Encode(m)
}
