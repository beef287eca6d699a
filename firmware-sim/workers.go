package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"devicehub/firmware-sim/profile"
)

// A Message is a line that a worker process writes: a second of its run, or its report at the end.
type Message struct {
	Snapshot *Snapshot         `json:"snapshot,omitempty"`
	Report   *Report           `json:"report,omitempty"`
	Hist     map[string][]byte `json:"histograms,omitempty"` // of the report, HDR V2 compressed
	Late     int64             `json:"commands_late,omitempty"`
}

// Message returns the report as a worker sends it, with all that a merger needs.
func (r *Report) Message() (Message, error) {
	m := Message{Report: r, Hist: map[string][]byte{}, Late: r.commandsLate}
	for name, h := range r.hist {
		b, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		if err != nil {
			return m, fmt.Errorf("histogram %s: %w", name, err)
		}
		m.Hist[name] = b
	}
	return m, nil
}

// Merge makes one report of those of all workers, and judges the whole by the profile's assertions.
func Merge(p *profile.Profile, ms []Message) (*Report, error) {
	if len(ms) == 0 {
		return nil, errors.New("no worker has reported")
	}
	all := &Report{ByTransp: map[string]int{}, Errors: map[string]int64{}, hist: map[string]*hdrhistogram.Histogram{}, Judged: true}
	verdicts := map[string]*Verdict{}
	for i, m := range ms {
		r := m.Report
		if i == 0 {
			all.Run, all.Seed, all.Began, all.Hub, all.Machine, all.Plan = r.Run, r.Seed, r.Began, r.Hub, r.Machine, r.Plan
			all.Machine.CPU, all.Machine.GC, all.Machine.HeapMB = 0, 0, 0
		}
		all.Seconds = max(all.Seconds, r.Seconds)
		all.Devices += r.Devices
		all.Offline += r.Offline
		all.Machine.CPU += r.Machine.CPU
		all.Machine.HeapMB += r.Machine.HeapMB
		all.Machine.GC = max(all.Machine.GC, r.Machine.GC)
		all.Judged = all.Judged && r.Judged
		all.commandsLate += m.Late
		all.Unjudged = append(all.Unjudged, r.Unjudged...)
		all.Events = append(all.Events, r.Events...)
		for k, n := range r.ByTransp {
			all.ByTransp[k] += n
		}
		for k, n := range r.Errors {
			all.Errors[k] += n
		}
		all.Readings.add(r.Readings)
		all.Commands.add(r.Commands)
		all.besiegedBy(r.Besieged)
		for _, v := range r.Verdicts {
			sum := verdicts[v.Name]
			if sum == nil {
				sum = &Verdict{Name: v.Name}
				verdicts[v.Name] = sum
			}
			sum.Count, sum.Checked = sum.Count+v.Count, sum.Checked+v.Checked
			sum.First = append(sum.First, v.First...)
			sum.First = sum.First[:min(len(sum.First), keepFindings)]
		}
		for name, b := range m.Hist {
			h, err := hdrhistogram.Decode(b)
			if err != nil {
				return nil, fmt.Errorf("histogram %s of worker %d: %w", name, i, err)
			}
			if all.hist[name] == nil {
				all.hist[name] = newHistogram()
			}
			all.hist[name].Merge(h)
		}
		all.History = addHistory(all.History, r.History)
	}
	for _, name := range slices.Sorted(maps.Keys(verdicts)) {
		all.Verdicts = append(all.Verdicts, *verdicts[name])
	}
	slices.SortFunc(all.Events, func(a, b Event) int { return a.At.Compare(b.At) })
	all.Machine.perDevice(all.Devices)
	all.conclude(p)
	return all, nil
}

// besiegedBy adds what became of those who do harm, who are the same in every share.
func (r *Report) besiegedBy(more []Besieged) {
	for i, b := range more {
		if i == len(r.Besieged) {
			r.Besieged = append(r.Besieged, b)
			continue
		}
		sum := &r.Besieged[i]
		sum.Parties, sum.Counts = sum.Parties+b.Parties, sum.Counts.Add(b.Counts)
	}
}

func (a *Readings) add(b Readings) {
	a.Sent += b.Sent
	a.Acknowledged += b.Acknowledged
	a.Replayed += b.Replayed
	a.Refused += b.Refused
	a.Unacknowledged += b.Unacknowledged
	a.Unheard += b.Unheard
	a.Unrecorded += b.Unrecorded
	a.Lost += b.Lost
	a.Duplicates += b.Duplicates
}

// addHistory adds two histories, second by second, as far as the longer one goes.
func addHistory(a, b []Snapshot) []Snapshot {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := slices.Clone(a)
	for i := range b {
		out[i] = out[i].Add(b[i])
	}
	return out
}

// Add returns the sum of two snapshots of the same moment. Percentiles cannot be added: the greater one stands.
func (s Snapshot) Add(o Snapshot) Snapshot {
	s.Elapsed = max(s.Elapsed, o.Elapsed)
	if s.Phase == o.Phase {
		s.Left, s.Warming = max(s.Left, o.Left), s.Warming || o.Warming
	}
	s.Devices += o.Devices
	s.Up += o.Up
	s.Sent += o.Sent
	s.Acked += o.Acked
	s.Unheard += o.Unheard
	s.Refused += o.Refused
	s.SentPerS += o.SentPerS
	s.AckedPerS += o.AckedPerS
	s.Commands += o.Commands
	s.CommandsDone += o.CommandsDone
	s.CommandsConfirmed += o.CommandsConfirmed
	s.CommandsUnconfirmed += o.CommandsUnconfirmed
	s.CommandsFailed += o.CommandsFailed
	s.Errors += o.Errors
	s.AckP50, s.AckP99 = max(s.AckP50, o.AckP50), max(s.AckP99, o.AckP99)
	s.ConfirmP50, s.ConfirmP99 = max(s.ConfirmP50, o.ConfirmP50), max(s.ConfirmP99, o.ConfirmP99)
	s.LagP99 = max(s.LagP99, o.LagP99)
	s.Drops += o.Drops
	s.Leaves += o.Leaves
	s.Goroutines += o.Goroutines
	s.HeapMB += o.HeapMB
	s.CPU += o.CPU
	s.CPUShare += o.CPUShare
	s.Links, s.Codes = maps.Clone(s.Links), maps.Clone(s.Codes)
	for path, l := range o.Links {
		if s.Links == nil {
			s.Links = make(map[string]Links)
		}
		s.Links[path] = s.Links[path].Add(l)
	}
	for code, n := range o.Codes {
		if s.Codes == nil {
			s.Codes = make(map[string]int64)
		}
		s.Codes[code] += n
	}
	s.Faults = slices.Clone(s.Faults)
	for _, f := range o.Faults { // every worker has the same, each on its own devices
		if !slices.ContainsFunc(s.Faults, func(x FaultSign) bool { return x.Text == f.Text }) {
			s.Faults = append(s.Faults, f)
		}
	}
	if s.Next == nil || o.Next != nil && o.Next.Left < s.Next.Left {
		s.Next = o.Next
	}
	return s
}

// SplitFaults takes the faults of the hub's and the broker's process out of a profile: with several workers they are the
// parent's.
func SplitFaults(p *profile.Profile) (hub []profile.Fault) {
	var fleet []profile.Fault
	for _, f := range p.Faults {
		h, d := f, f
		h.Kinds, d.Kinds = nil, nil
		for _, k := range f.Kinds {
			if k.Kind == profile.KillHub || k.Kind == profile.StoreOutage || k.Kind == profile.BrokerOutage {
				h.Kinds = append(h.Kinds, k)
			} else {
				d.Kinds = append(d.Kinds, k)
			}
		}
		if len(h.Kinds) > 0 {
			hub = append(hub, h)
		}
		if len(d.Kinds) > 0 {
			fleet = append(fleet, d)
		}
	}
	p.Faults = fleet
	return hub
}

// A Word tells what befalls the hub and the broker, to those who play a share of the fleet.
type Word string

// The words.
const (
	HubAway    Word = "away"
	HubBack    Word = "back"
	HubFull    Word = "full" // its disk takes nothing
	HubTakes   Word = "takes"
	BrokerBack Word = "broker"
)

// Hear takes a word of the process that breaks the hub. What is measured after an outage ends with
// ctx, and Run waits for it.
func (s *Sim) Hear(ctx context.Context, w Word) {
	measure := func() {
		now := time.Now()
		s.measuring.Go(func() { s.awaitBacklog(ctx, now) })
	}
	switch w {
	case HubAway:
		s.hubAway(true)
	case HubBack:
		s.hubAway(false)
		measure()
	case HubFull, HubTakes:
		s.storeFull(w == HubFull)
	case BrokerBack:
		measure()
	}
}

// BreakHub makes faults of the hub's and the broker's process happen, counted from began; tell is
// told of them.
func BreakHub(
	ctx context.Context, server, broker Server, faults []profile.Fault, began time.Time, tell func(Word),
) error {
	var errs []error
	for _, f := range faults {
		sleep(ctx, time.Until(began.Add(f.At)))
		if ctx.Err() != nil {
			break
		}
		for _, p := range f.Kinds {
			switch p.Kind {
			case profile.KillHub:
				tell(HubAway)
				errs = append(errs, killFor(context.WithoutCancel(ctx), server, p.For))
				tell(HubBack)
				continue
			case profile.BrokerOutage:
				errs = append(errs, killFor(context.WithoutCancel(ctx), broker, max(p.For, time.Second)))
				tell(BrokerBack)
				continue
			}
			if o, ok := server.(Outage); ok {
				tell(HubFull)
				errs = append(errs, o.StoreOutage(true))
				sleep(ctx, max(p.For, time.Second))
				errs = append(errs, o.StoreOutage(false))
				sleep(ctx, time.Second) // until it has noticed
				tell(HubTakes)
			}
		}
	}
	return errors.Join(errs...)
}
