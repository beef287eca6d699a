package sim

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"devicehub/firmware-sim/profile"
)

// A Report is what a run has shown.
type Report struct {
	Run      string         `json:"run"`
	Seed     uint64         `json:"seed"`
	Began    time.Time      `json:"began"`
	Seconds  float64        `json:"seconds"`
	Hub      string         `json:"hub"`
	Machine  Machine        `json:"machine"`
	Devices  int            `json:"devices"`
	Offline  int            `json:"offline"` // well-behaved devices that were not connected at the end
	ByTransp map[string]int `json:"devices_by_transport"`

	Readings Readings         `json:"readings"`
	Commands Commands         `json:"commands"`
	Latency  []Latency        `json:"latency"`
	Besieged []Besieged       `json:"hostile,omitempty"`
	Errors   map[string]int64 `json:"errors"`

	Verdicts   []Verdict `json:"verdicts"`
	Unjudged   []string  `json:"unjudged,omitempty"` // what could not be read back
	Judged     bool      `json:"judged"`
	Assertions []Result  `json:"assertions"`
	Bottleneck []string  `json:"bottleneck,omitempty"` // why the generator was it

	Plan    []string   `json:"plan"` // what was to be played, as of --dry-run
	Events  []Event    `json:"events"`
	History []Snapshot `json:"history"`

	hist         map[string]*hdrhistogram.Histogram
	commandsLate int64
}

// Machine is where the simulator ran.
type Machine struct {
	OS     string  `json:"os"`
	Arch   string  `json:"arch"`
	Cores  int     `json:"cores"`
	Go     string  `json:"go"`
	CPU    float64 `json:"cpu_s"`
	GC     float64 `json:"gc_share"` // of the CPU time, 0 to 1
	HeapMB float64 `json:"heap_mb"`
	PerDev float64 `json:"heap_kb_per_device"`
	CPUDev float64 `json:"cpu_ms_per_device"`
}

// Readings counts them. Sent is what devices have recorded; of these Acknowledged have been
// confirmed to them, Unheard were sent at QoS 0, which nobody acknowledges; Lost are those that the
// hub must have and has not, Duplicates are stored twice. Unrecorded found the device's store full.
type Readings struct {
	Sent           int64 `json:"sent"`
	Acknowledged   int64 `json:"acknowledged"`
	Replayed       int64 `json:"replayed"`
	Refused        int64 `json:"refused"`
	Unheard        int64 `json:"at_qos_0"`
	Unacknowledged int64 `json:"unacknowledged"`
	Unrecorded     int64 `json:"unrecorded"`
	Lost           int64 `json:"lost"`
	Duplicates     int64 `json:"duplicates"`
}

// A Result is one assertion of the profile.
type Result struct {
	Text  string  `json:"text"`
	Got   float64 `json:"got"`
	Known bool    `json:"known"` // false: there was nothing to judge by
	Holds bool    `json:"holds"` // never without Known
	Why   string  `json:"why,omitempty"`
	// Idle says that the profile asks for nothing that the assertion is about, commands for instance, or the run for no
	// judgement: that is no failure.
	Idle  bool `json:"idle,omitempty"`
	count bool
}

// Failed reports whether the assertion speaks against the hub, or against a run that was to check it and did not.
func (r Result) Failed() bool { return !r.Holds && !r.Idle }

// The invariants that are shown even when nothing was found.
var invariants = []string{
	"lost_acked", "lost_sent", "dup_stored", "value_wrong", "order_wrong",
	"series_foreign", "series_differs", "series_wrong", "window_wrong",
	"latest_wrong", "latest_backwards", "leaked",
	"cmd_run_twice", "cmd_lost", "cmd_false_done", "cmd_false_confirmed", "cmd_false_failed",
	"cmd_proof_ignored", "cmd_differs",
	"presence_wrong", "close_wrong", "clone_missed", "clone_false", "hostile_unchecked",
}

// readBack are those that need what the hub has stored.
var readBack = []string{
	"lost_acked", "lost_sent", "dup_stored", "value_wrong", "order_wrong",
	"series_differs", "series_wrong", "window_wrong", "latest_wrong",
	"cmd_lost", "cmd_false_done", "cmd_false_confirmed", "cmd_false_failed",
	"cmd_proof_ignored", "cmd_differs", "close_wrong",
}

func (s *Sim) report() *Report {
	live := s.Live()
	r := &Report{Run: s.run, Seed: s.profile.Seed, Began: s.firstBegan(), Seconds: live.Elapsed, Hub: s.cfg.Hub.Redacted(), Devices: len(s.units),
		ByTransp: map[string]int{}, Errors: s.stats.errorCounts(), hist: s.stats.histograms(), commandsLate: s.stats.commandsLate.Load(), Judged: !s.cfg.NoJudge,
		Machine: Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.GOMAXPROCS(0), Go: runtime.Version(), CPU: live.CPU, GC: gcShare(), HeapMB: live.HeapMB}}
	r.Offline = s.offline
	r.Plan = Plan(s.profile, s.cfg.Scale, s.cfg.Duration)
	for _, u := range s.units {
		r.ByTransp[string(u.config.Transport)]++
	}
	s.judge.mu.Lock()
	for _, name := range invariants {
		r.Verdicts = append(r.Verdicts, *s.judge.verdict(name))
	}
	r.Unjudged = slices.Clone(s.judge.failures)
	outcomes := s.judge.outcomes
	s.judge.mu.Unlock()
	st := s.stats
	r.Readings = Readings{
		Sent: st.measured.Load(), Acknowledged: st.acked.Load(), Replayed: st.replayed.Load(),
		Refused: st.refused.Load(), Unheard: st.unheard.Load(), Unrecorded: st.overflow.Load(),
		Lost: r.broken("lost_acked") + r.broken("lost_sent"), Duplicates: r.broken("dup_stored"),
	}
	r.Readings.Unacknowledged = max(0, r.Readings.Sent-r.Readings.Acknowledged-r.Readings.Refused-r.Readings.Unheard)
	r.Commands = st.commandCounts()
	r.Commands.Twice = r.broken("cmd_run_twice")
	r.Commands.asRecorded(outcomes)
	r.Besieged = s.besieged()
	s.mu.Lock()
	r.Events, r.History = slices.Clone(s.events), slices.Clone(s.history)
	s.mu.Unlock()
	peak := 0.0
	for _, h := range r.History {
		peak = max(peak, h.HeapMB)
	}
	r.Machine.HeapMB = max(peak, r.Machine.HeapMB)
	r.Machine.perDevice(r.Devices)
	r.conclude(s.profile)
	return r
}

// gcShare is the part of this process's CPU time that went into collecting garbage.
func gcShare() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.GCCPUFraction
}

func (m *Machine) perDevice(devices int) {
	m.PerDev = m.HeapMB * 1024 / float64(max(1, devices))
	m.CPUDev = m.CPU * 1000 / float64(max(1, devices))
}

// conclude draws the conclusions from what was counted.
func (r *Report) conclude(p *profile.Profile) {
	r.Latency = latencies(r.hist)
	r.Bottleneck = r.bottleneck()
	for i := range r.Verdicts {
		if v := &r.Verdicts[i]; !v.Seen() {
			v.Idle = idle(p, v.Name)
		}
	}
	r.Assertions = nil
	for _, a := range p.Assert {
		res := r.assert(a)
		if why := idle(p, a.Figure); !res.Known && why != "" {
			res.Idle, res.Why = true, why
		}
		r.Assertions = append(r.Assertions, res)
	}
}

// idle says why a run of a profile has nothing to check for a figure, "" if it has.
func idle(p *profile.Profile, figure string) string {
	any := func(f func(profile.Group) bool) bool { return slices.ContainsFunc(p.Fleet, f) }
	plays := func(kind profile.FaultKind) bool {
		return slices.ContainsFunc(p.Faults, func(f profile.Fault) bool {
			return slices.ContainsFunc(f.Kinds, func(k profile.FaultPart) bool { return k.Kind == kind })
		})
	}
	sensors := any(func(g profile.Group) bool { return g.Sensor })
	lights := any(func(g profile.Group) bool { return g.Light })
	commands := p.Load.Commands.Rate > 0 || plays(profile.Blip) ||
		slices.ContainsFunc(p.Load.Stages, func(s profile.Stage) bool { return s.Commands > 0 })
	reconnects := plays(profile.Comeback) ||
		any(func(g profile.Group) bool { return g.Reconnect.Every > 0 })
	switch figure {
	case "lost_acked", "dup_stored", "value_wrong", "series_foreign", "series_differs",
		"series_wrong", "latest_wrong", "unacknowledged", "refused", "ack_ms":
		if !sensors {
			return "the fleet has no sensors"
		}
	case "lost_sent":
		atQoS0 := func(g profile.Group) bool {
			return g.Sensor && g.Via == nil && overMQTT(g) && g.Forms.QoS[0] > 0
		}
		if !any(atQoS0) && !reconnects {
			return "the profile has nobody send at QoS 0"
		}
	case "order_wrong":
		untimed := func(g profile.Group) bool {
			return g.Sensor && (g.Forms.Untimed > 0 || g.Clock.UnsetPct > 0)
		}
		if !any(untimed) {
			return "the profile has nobody send without times"
		}
	case "window_wrong":
		counts := func(m profile.Metric) bool { return m.Gen.Kind == "counter" && isCounter(m.Name) }
		if !any(func(g profile.Group) bool { return slices.ContainsFunc(g.Metrics, counts) }) {
			return "the profile has no counters"
		}
	case "cmd_run_twice", "cmd_lost", "cmd_false_done", "cmd_false_confirmed", "cmd_false_failed",
		"cmd_proof_ignored", "cmd_differs", "commands_unconfirmed", "commands_failed",
		"done_ms", "confirm_ms", "reach_ms":
		if !lights || !commands {
			return "the profile gives no commands"
		}
	case "blip_ms":
		if !lights || !plays(profile.Blip) {
			return "the profile has no blips"
		}
	case "close_wrong":
		if !reconnects {
			return "the profile has nobody leave in order"
		}
	case "clone_missed", "clone_ms":
		if !plays(profile.Clone) {
			return "the profile has no clones"
		}
	case "backlog_ms":
		bridged := any(func(g profile.Group) bool { return g.Sensor && g.Via != nil })
		if !bridged || !plays(profile.KillHub) && !plays(profile.BrokerOutage) {
			return "the profile has no bridge that is cut off"
		}
	case "hostile_unchecked":
		long := func(h profile.Hostile) bool { return h.For >= h.Within }
		if !slices.ContainsFunc(p.Hostile, long) {
			return "the profile has nobody do harm for long enough to be stopped"
		}
	case "hostile_harm", ackQuiet, ackHostile:
		if len(p.Hostile) == 0 || !sensors {
			return "the profile has nobody do harm, or no sensors that could notice"
		}
	case "hostile_answer_ms":
		stolen := func(h profile.Hostile) bool { return h.By() == profile.ByDevice }
		if !slices.ContainsFunc(p.Hostile, stolen) {
			return "the profile has no device stolen"
		}
	case "latest_backwards", "watch_ms":
		if !sensors || p.Load.Watchers == 0 {
			return "the profile has nobody watch sensors"
		}
	}
	return ""
}

func overMQTT(g profile.Group) bool {
	return slices.ContainsFunc(g.Transport, func(s profile.Share) bool {
		return strings.HasPrefix(s.Transport, "mqtt") && s.Weight > 0
	})
}

func (r *Report) broken(name string) int64 {
	for _, v := range r.Verdicts {
		if v.Name == name {
			return v.Count
		}
	}
	return 0
}

// Verdict returns one invariant by name.
func (r *Report) Verdict(name string) Verdict {
	for _, v := range r.Verdicts {
		if v.Name == name {
			return v
		}
	}
	return Verdict{Name: name}
}

// bottleneck says why the simulator's own figures are not to be trusted, if they are not.
func (r *Report) bottleneck() []string {
	var out []string
	if lag, ok := r.percentile("lag_ms", 99); ok && lag > 250 {
		out = append(out, fmt.Sprintf("its schedule was late: 99 %% within %.0f ms, want 250", lag))
	}
	if late, all := r.commandsLate, r.Commands.Issued; late > 0 && late*100 > all {
		out = append(out, fmt.Sprintf("%d commands could not be given in time, %d were", late, all))
	}
	if cores := float64(r.Machine.Cores) * r.Seconds; cores > 0 && r.Machine.CPU > 0.85*cores {
		out = append(out, fmt.Sprintf("it used %.0f %% of this machine's cores", 100*r.Machine.CPU/cores))
	}
	if r.Machine.GC > 0.25 {
		out = append(out, fmt.Sprintf("%.0f %% of its CPU time went into collecting garbage", 100*r.Machine.GC))
	}
	return out
}

func (r *Report) assert(a profile.Assertion) Result {
	res := Result{Text: a.Text, Known: true, count: true}
	if a.Pctl > 0 {
		res.count = false
		if res.Got, res.Known = r.percentile(a.Figure, a.Pctl); !res.Known {
			res.Why = "nothing was measured"
		}
		res.Holds = res.Known && a.Holds(res.Got)
		return res
	}
	if a.Figure == "hostile_harm" {
		res.count = false
		res.Got, res.Why = r.Harm()
		res.Known = res.Why == ""
		res.Holds = res.Known && a.Holds(res.Got)
		return res
	}
	seen := true
	switch a.Figure {
	case "unacknowledged":
		res.Got, seen = float64(r.Readings.Unacknowledged), r.Readings.Sent > 0
	case "refused":
		res.Got, seen = float64(r.Readings.Refused), r.Readings.Sent > 0
	case "errors":
		for _, n := range r.Errors {
			res.Got += float64(n)
		}
	case "offline":
		res.Got = float64(r.Offline)
	case "commands_unconfirmed":
		res.Got, seen = float64(r.Commands.Unconfirmed), r.Commands.Issued > 0
	case "commands_failed":
		res.Got, seen = float64(r.Commands.Failed), r.Commands.Issued > 0
	default:
		v := r.Verdict(strings.TrimSuffix(a.Figure, "_after"))
		res.Got, seen = float64(v.Count), v.Seen()
	}
	switch {
	case slices.Contains(readBack, a.Figure) && !r.Judged:
		res.Known, res.Idle, res.Why = false, true, "what the hub has stored is not to be read back"
	case slices.Contains(readBack, a.Figure) && len(r.Unjudged) > 0:
		res.Known, res.Why = false, "not all could be read back"
	case !seen: // too short a run, or a hub that lists nobody, or acknowledges nothing
		res.Known, res.Why = false, "nothing was checked"
	}
	res.Holds = res.Known && a.Holds(res.Got)
	return res
}

// ExitCode is 0 when every assertion holds, 1 when one does not, and 3 when the generator was the bottleneck, unless what
// failed does not depend on its speed.
func (r *Report) ExitCode() int {
	failed, hard := false, false
	for _, a := range r.Assertions {
		if a.Failed() {
			failed = true
			hard = hard || a.count
		}
	}
	switch {
	case hard:
		return 1
	case len(r.Bottleneck) > 0:
		return 3
	case failed:
		return 1
	}
	return 0
}

// errorCodes returns the codes, the most frequent first.
func (r *Report) errorCodes() []string {
	codes := slices.Sorted(maps.Keys(r.Errors))
	slices.SortStableFunc(codes, func(a, b string) int { return int(r.Errors[b] - r.Errors[a]) })
	return codes
}
