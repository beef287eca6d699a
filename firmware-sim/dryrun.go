package sim

import (
	"fmt"
	"io"
	"strings"
	"time"

	"devicehub/firmware-sim/profile"
)

// Plan is what WritePlan writes, line by line.
func Plan(p *profile.Profile, scale float64, duration time.Duration) []string {
	var b strings.Builder
	WritePlan(&b, p, scale, duration)
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

// formsOf says how the devices of a group write their readings.
func formsOf(g *profile.Group) string {
	f := &g.Forms
	text := "written as " + sharesOf(f.Kinds)
	for _, part := range []struct {
		what string
		of   float64
	}{{"without times", f.Untimed}, {"without boot and numbers", f.Plain}, {"in other units", f.Units}} {
		if part.of > 0 {
			text += fmt.Sprintf("; %g %% of the devices %s", 100*part.of, part.what)
		}
	}
	if f.NoBoot {
		text += "; no boots are told"
	}
	if overMQTT(*g) {
		var qos []profile.Weight
		for q, w := range f.QoS {
			qos = append(qos, profile.Weight{Name: fmt.Sprint(q), Weight: w})
		}
		text += "; QoS " + sharesOf(qos)
	}
	return text
}

// sharesOf lists the parts of a mix.
func sharesOf(ws []profile.Weight) string {
	sum := 0.0
	for _, w := range ws {
		sum += w.Weight
	}
	var out []string
	for _, w := range ws {
		if w.Weight > 0 {
			out = append(out, fmt.Sprintf("%s %.3g %%", w.Name, 100*w.Weight/sum))
		}
	}
	return strings.Join(out, ", ")
}

// WritePlan says what a run of the profile would do, without a hub.
func WritePlan(w io.Writer, p *profile.Profile, scale float64, duration time.Duration) {
	pr := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	if duration == 0 {
		duration = p.Load.Hold
	}
	if duration == 0 {
		duration = p.Load.Length()
	}
	hold := "until stopped"
	if duration > 0 {
		hold = "for " + duration.String()
	}
	total, readings, pushes := 0, 0.0, 0.0
	for _, g := range p.Fleet {
		n := g.Devices(scale)
		total += n
		perDevice := 0.0
		for _, m := range g.Metrics {
			perDevice += 1 / m.Every.Seconds()
		}
		readings += perDevice * float64(n)
		pushes += perDevice * float64(n) / float64(g.BatchMax)
	}
	pr("seed %d, %d devices, %s", p.Seed, total, hold)
	for i, g := range p.Fleet {
		var kinds, shares, ms []string
		if g.Sensor {
			kinds = append(kinds, "sensor")
		}
		if g.Light {
			kinds = append(kinds, "light")
		}
		n := g.Devices(scale)
		count := map[string]int{}
		for j := range n {
			count[string(pick(g.Transport, j, n))]++
		}
		for _, s := range g.Transport {
			shares = append(shares, fmt.Sprintf("%d %s", count[s.Transport], s.Transport))
		}
		for _, m := range g.Metrics {
			ms = append(ms, fmt.Sprintf("%s %v every %v", m.Name, m.Gen, m.Every))
		}
		pr("  %2d. %d × %s %q over %s", i+1, n, strings.Join(kinds, "+"), g.Name, strings.Join(shares, ", "))
		if len(ms) > 0 {
			pr("      %s", strings.Join(ms, ", "))
		}
		if g.Sensor {
			pr("      %s", formsOf(&g))
		}
		if g.Light {
			pr("      shows what it has done: %s", sharesOf(g.Behaviour.Reports))
		}
		if g.Reconnect.Every > 0 {
			as := map[bool]string{true: ", as another power-up"}[g.Reconnect.Reboot]
			pr("      says goodbye and comes straight back every %v%s", g.Reconnect.Every, as)
		}
		if g.Misbehave.Bad() {
			pr("      misbehaves: %+v", g.Misbehave)
		}
	}
	l := p.Load
	pr("load: %.1f readings/s in at least %.1f pushes/s, %.1f commands/s, %d watchers", readings, pushes, l.Commands.Rate*scale, l.Watchers)
	if l.Ramp > 0 {
		pr("ramp: %.0f devices/s, all on after %.0f s", l.Ramp*scale, float64(total)/(l.Ramp*scale))
	}
	from := time.Duration(0)
	for _, s := range l.Stages {
		line := fmt.Sprintf("stage from %v to %v:", from, from+s.For)
		if s.Devices >= 0 {
			line += fmt.Sprintf(" up to %.0f devices", s.Devices*float64(total))
		}
		if s.Commands >= 0 {
			line += fmt.Sprintf(" towards %.1f commands/s", s.Commands*scale)
		}
		pr("%s", line)
		from += s.For
	}
	for _, f := range p.Faults {
		for _, k := range f.Kinds {
			pr("fault at %v: %v", f.At, k)
		}
	}
	for _, h := range p.Hostile {
		pr("hostile from %v: %d, %v", h.At, h.Parties(scale, total), &h)
	}
	for _, a := range p.Assert {
		pr("assert %s", a.Text)
	}
}
