package profile

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// A Dist is a distribution of durations, in milliseconds: a constant (40, 40ms), uniform(a,b), normal(mean,sd),
// exp(mean), or lognormal(median,sigma). Arguments are milliseconds or durations.
type Dist struct {
	text string
	f    func(*rand.Rand) float64
}

// Sample draws a value in ms.
func (d *Dist) Sample(r *rand.Rand) float64 { return d.f(r) }

// String returns the distribution as it was written.
func (d *Dist) String() string { return d.text }

// ParseDist reads a distribution.
func ParseDist(s string) (*Dist, error) {
	name, rest, isFunc := strings.Cut(strings.TrimSpace(s), "(")
	bad := fmt.Errorf("%q is not a distribution: a number of ms, uniform(a,b), normal(mean,sd), exp(mean) or lognormal(median,sigma)", s)
	if !isFunc {
		v, err := millis(name)
		if err != nil {
			return nil, bad
		}
		return &Dist{s, func(*rand.Rand) float64 { return v }}, nil
	}
	rest, ok := strings.CutSuffix(rest, ")")
	if !ok {
		return nil, bad
	}
	var args []float64
	for a := range strings.SplitSeq(rest, ",") {
		v, err := millis(strings.TrimSpace(a))
		if err != nil {
			return nil, bad
		}
		args = append(args, v)
	}
	want := map[string]int{"uniform": 2, "normal": 2, "exp": 1, "lognormal": 2}[name]
	if want == 0 || len(args) != want {
		return nil, bad
	}
	a := args[0]
	b := args[len(args)-1]
	switch {
	case name == "uniform" && a <= b:
		return &Dist{s, func(r *rand.Rand) float64 { return a + (b-a)*r.Float64() }}, nil
	case name == "normal" && b >= 0:
		return &Dist{s, func(r *rand.Rand) float64 { return a + b*r.NormFloat64() }}, nil
	case name == "exp" && a > 0:
		return &Dist{s, func(r *rand.Rand) float64 { return a * r.ExpFloat64() }}, nil
	case name == "lognormal" && a > 0 && b >= 0:
		return &Dist{s, func(r *rand.Rand) float64 { return a * math.Exp(b*r.NormFloat64()) }}, nil
	}
	return nil, bad
}

// millis reads a number of ms, or a duration.
func millis(s string) (float64, error) {
	if v, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(v) && !math.IsInf(v, 0) {
		return v, nil
	}
	d, err := time.ParseDuration(s)
	return float64(d) / float64(time.Millisecond), err
}
