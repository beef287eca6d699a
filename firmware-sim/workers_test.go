package sim_test

import (
	"encoding/json"
	"testing"

	sim "devicehub/firmware-sim"
	"devicehub/firmware-sim/profile"
)

// Two shares of one fleet, each played against the same hub, make one report: nobody twice, nobody left out, and
// percentiles of all values.
func TestShardsMakeOneReport(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		run := sim.NewRun()
		const text = small + `
hostile: [{flood_readings: {count: 3, rate: 20/s, for: 1s}, wrong_tokens: {count: 2, rate: 10/s, for: 1s}}]
`
		reports := make([]sim.Message, 2)
		done := make(chan struct{})
		for i := range reports {
			go func() {
				defer func() { done <- struct{}{} }()
				r := play(t, h, text, func(c *sim.Config) { c.Shard, c.Shards, c.Run = i, 2, run })
				m, err := r.Message()
				if err != nil {
					t.Error(err)
				}
				b, err := json.Marshal(m) // as over the pipe
				if err != nil {
					t.Error(err)
				}
				if err := json.Unmarshal(b, &reports[i]); err != nil {
					t.Error(err)
				}
			}()
		}
		<-done
		<-done
		all, err := sim.Merge(parse(t, text), reports)
		if err != nil {
			t.Fatal(err)
		}
		a, b := reports[0].Report, reports[1].Report
		if all.Devices != 12 || a.Devices != 6 || all.Readings.Sent != a.Readings.Sent+b.Readings.Sent || all.Run != run {
			t.Errorf("%d devices of %d and %d, %d readings", all.Devices, a.Devices, b.Devices, all.Readings.Sent)
		}
		floods, strangers := all.Besieged[0], all.Besieged[1]
		if n := a.Besieged[0].Tried + b.Besieged[0].Tried; floods.Parties != 3 || floods.Tried != n || n < 50 {
			t.Errorf("%+v of %+v and %+v", floods, a.Besieged[0], b.Besieged[0])
		}
		if strangers.Parties != 2 || strangers.Tried < 20 || strangers.Denied() != strangers.Tried {
			t.Errorf("%+v", strangers)
		}
		if all.ExitCode() == 1 || len(all.Assertions) != len(a.Assertions) {
			t.Error(table(all))
		}
		counts := func(r *sim.Report) (n int64) {
			for _, l := range r.Latency {
				if l.Name == "ack_ms" {
					n = l.Count
				}
			}
			return n
		}
		if counts(all) != counts(a)+counts(b) {
			t.Errorf("%d latencies of %d and %d", counts(all), counts(a), counts(b))
		}
		if _, err := sim.Merge(parse(t, small), nil); err == nil {
			t.Error("no reports: no error")
		}
	})
}

func TestSplitFaults(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		p := parse(t, small+"\nfaults: [{at: 1s, kill_hub: {}, drop: {pct: 5}}, {at: 2s, flap: {}}, {at: 3s, store_outage: {for: 1s}}]\n")
		hub := sim.SplitFaults(p)
		if len(hub) != 2 || hub[0].Kinds[0].Kind != profile.KillHub || hub[1].Kinds[0].Kind != profile.StoreOutage ||
			len(p.Faults) != 2 || p.Faults[0].Kinds[0].Kind != profile.Drop {
			t.Errorf("got %+v and %+v", hub, p.Faults)
		}
	})
}
