package profile

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Assertion compares one figure of the run with a number: "lost_acked == 0", "p99(confirm_ms) < 250",
// "presence_wrong_after(5s) == 0".
type Assertion struct {
	Text   string
	Figure string        // lost_acked; of a percentile the histogram: confirm_ms
	Pctl   float64       // 0: the figure itself; 100: the maximum
	After  time.Duration // presence_wrong_after
	Op     string
	Want   float64
}

// What can be asserted.
var (
	Counts = []string{
		"lost_acked", "lost_sent", "dup_stored", "value_wrong", "order_wrong",
		"series_foreign", "series_differs", "series_wrong", "window_wrong",
		"latest_wrong", "latest_backwards", "leaked", "unacknowledged", "refused",
		"cmd_run_twice", "cmd_lost", "cmd_false_done", "cmd_false_confirmed", "cmd_false_failed",
		"cmd_proof_ignored", "cmd_differs", "commands_unconfirmed", "commands_failed",
		"presence_wrong_after", "close_wrong", "clone_missed", "clone_false", "offline", "errors",
		"hostile_unchecked", "hostile_harm",
	}
	Histograms = []string{
		"ack_ms", "replay_ms", "watch_ms", "done_ms", "confirm_ms", "reach_ms",
		"blip_ms", "backlog_ms", "clone_ms", "connect_ms", "join_ms", "lag_ms",
		"ack_quiet_ms", "ack_hostile_ms", "hostile_answer_ms",
	}
)

var assertion = regexp.MustCompile(`^\s*([a-z0-9_.]+)\s*(?:\(\s*([a-z0-9_.]+)\s*\))?\s*(==|!=|<=|>=|<|>)\s*([0-9.eE+-]+)\s*$`)

// ParseAssertion reads one.
func ParseAssertion(s string) (Assertion, error) {
	a := Assertion{Text: strings.Join(strings.Fields(s), " ")}
	m := assertion.FindStringSubmatch(s)
	if m == nil {
		return a, fmt.Errorf("%q is not an assertion such as lost_acked == 0 or p99(confirm_ms) < 250", s)
	}
	want, err := strconv.ParseFloat(m[4], 64)
	if err != nil {
		return a, fmt.Errorf("assertion %q: %q is not a number", s, m[4])
	}
	a.Figure, a.Op, a.Want = m[1], m[3], want
	arg := m[2]
	switch {
	case a.Figure == "presence_wrong_after":
		if a.After, err = time.ParseDuration(arg); err != nil {
			return a, fmt.Errorf("assertion %q: %q is not a duration", s, arg)
		}
	case arg == "" && slices.Contains(Counts, a.Figure):
	case arg != "" && (a.Figure == "max" || strings.HasPrefix(a.Figure, "p")):
		if !slices.Contains(Histograms, arg) {
			return a, fmt.Errorf("assertion %q: %q is none of %s", s, arg, strings.Join(Histograms, ", "))
		}
		a.Pctl = 100
		if a.Figure != "max" {
			if a.Pctl, err = percentile(a.Figure[1:]); err != nil {
				return a, fmt.Errorf("assertion %q: %w", s, err)
			}
		}
		a.Figure = arg
	default:
		return a, fmt.Errorf("assertion %q: %q is none of %s, or pNN(…) and max(…) of %s", s, a.Figure,
			strings.Join(Counts, ", "), strings.Join(Histograms, ", "))
	}
	return a, nil
}

// percentile reads 50, 99, 99.9 or 999 (which is 99.9).
func percentile(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err == nil && !strings.Contains(s, ".") {
		for v > 100 {
			v /= 10
		}
	}
	if err != nil || v <= 0 || v > 100 {
		return 0, fmt.Errorf("p%s is not a percentile", s)
	}
	return v, nil
}

// Holds reports whether the assertion holds for a figure.
func (a Assertion) Holds(got float64) bool {
	switch a.Op {
	case "==":
		return got == a.Want
	case "!=":
		return got != a.Want
	case "<":
		return got < a.Want
	case "<=":
		return got <= a.Want
	case ">":
		return got > a.Want
	}
	return got >= a.Want
}
