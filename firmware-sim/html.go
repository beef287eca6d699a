package sim

import (
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "embed"
)

//go:embed report.html.tmpl
var reportTemplate string

// WriteDir writes report.json and report.html into a folder, which it makes.
func (r *Report) WriteDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), b, 0o644); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "report.html"))
	if err != nil {
		return err
	}
	if err := r.WriteHTML(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// WriteHTML writes the report as one page that needs nothing else: no script, no other file.
func (r *Report) WriteHTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"trim":   func(s string) string { return strings.TrimSuffix(s, "_ms") },
		"ms":     func(v float64) string { return fmt.Sprintf("%.1f", v) },
		"number": func(v any) string { return number(toFloat(v)) },
		"clock":  clock,
		"join":   func(s []string) string { return strings.Join(s, "\n") },
		"about":  func(name string) string { return promises[strings.TrimSuffix(name, "_ms")] },
		"since":  func(at time.Time) string { return fmt.Sprintf("%.1f s", max(0, at.Sub(r.Began).Seconds())) },
		"share":  func(n int64) float64 { return 100 * float64(n) / float64(max(1, r.mostErrors())) },
	}).Parse(reportTemplate)
	if err != nil {
		return fmt.Errorf("report template: %w", err)
	}
	return t.Execute(w, struct {
		*Report
		Verdict  string
		Passed   bool
		Codes    []string
		Tiles    []tile
		Charts   []chart
		TimeLine []moments
	}{r, verdictWords[r.ExitCode()], r.ExitCode() == 0, r.errorCodes(), r.tiles(), r.charts(), r.timeLine()})
}

var verdictWords = map[int]string{0: "passed", 1: "failed", 3: "no verdict: the generator was too slow"}

// promises are the invariants and the latencies in words.
var promises = map[string]string{
	"lost_acked":          "a reading that was acknowledged and is not stored under its name",
	"lost_sent":           "a reading that was sent at QoS 0 on a connection that did not break, and is not stored",
	"dup_stored":          "a reading that is stored more often than it may be",
	"value_wrong":         "a reading that is stored with another value, or one that was never sent",
	"order_wrong":         "readings that the hub put its time on, and that stand in another order than they were sent",
	"series_foreign":      "a series, or a name among the latest or the live values, that the device never sent",
	"series_differs":      "a series that counts other readings than the export has",
	"series_wrong":        "a bucket whose mean, least or greatest value is not that of its readings",
	"window_wrong":        "windows of a counter that do not add up to what it rose by",
	"latest_wrong":        "a latest value that is not the newest that is stored",
	"latest_backwards":    "a live reading that is older than the one before",
	"leaked":              "something that was heard by whom it is not for",
	"cmd_run_twice":       "a command that ran twice",
	"cmd_lost":            "a command that was taken and has no record, or never came to a device that was there",
	"cmd_false_done":      "a command that is called done, of which the device never said so",
	"cmd_false_confirmed": "a command that is called confirmed, which the device never showed",
	"cmd_false_failed":    "a command that is called failed, expired or refused, and is not",
	"cmd_proof_ignored":   "a command of which the hub has heard that it is done, or seen it, and does not say so",
	"cmd_differs":         "a command whose giver was told another end than stands in its record",
	"presence_wrong":      "a device that is shown online and is not, or the other way round",
	"close_wrong":         "a connection that the device closed in order, and that the hub takes for lost",
	"clone_missed":        "two devices of one identity that are taken for one",
	"clone_false":         "a device alone that is taken for two",
	"hostile_unchecked":   "harm that the hub let go on and put no stop to",

	"ack_quiet":      "the same, of good devices while nobody did harm and nothing was broken",
	"ack_hostile":    "the same, of good devices while some did harm, and nothing else was broken",
	"hostile_answer": "until stolen devices had an answer, whatever it was",

	"ack":     "from the moment at which a push was due to its acknowledgement",
	"done":    "from the moment at which a command was due that nothing can be seen of, to its end",
	"confirm": "from the moment at which a command was due to its confirmation",
	"reach":   "from the moment at which a command was given to its arrival",
	"blip":    "the same, of the next command after a connection broke under one",
	"backlog": "from the end of an outage until the hub has what brokers had acknowledged",
	"clone":   "until the hub says that two devices share an identity",
	"connect": "until the hub let the device in",
	"join":    "from then until the last topic was joined",
	"watch":   "from the measurement to those who look on",
	"replay":  "readings that had to wait for a connection, or were sent again",
	"lag":     "how late the simulator itself was",
}

// tile is a figure that is shown large.
type tile struct{ Figure, Name, More string }

func (r *Report) tiles() []tile {
	out := []tile{
		{number(float64(r.Devices)), "devices", fmt.Sprintf("%d not connected at the end", r.Offline)},
		{number(float64(r.Readings.Acknowledged)), "readings acknowledged",
			fmt.Sprintf("of %s sent, %s at QoS 0", number(float64(r.Readings.Sent)), number(float64(r.Readings.Unheard)))},
	}
	if r.Commands.Issued > 0 {
		c := r.Commands
		more := fmt.Sprintf("of %s issued; %s done, %s unconfirmed, %s failed", number(float64(c.Issued)),
			number(float64(c.Done)), number(float64(c.Unconfirmed)), number(float64(c.Failed)))
		out = append(out, tile{number(float64(c.Confirmed)), "commands confirmed", more})
	}
	for _, l := range r.Latency {
		if name := map[string]string{"ack_ms": "to acknowledge a reading", "confirm_ms": "to confirm a command"}[l.Name]; name != "" {
			out = append(out, tile{fmt.Sprintf("%.3g ms", l.P99), name, fmt.Sprintf("99 %% within; half within %.3g ms", l.P50)})
		}
	}
	sum := int64(0)
	for _, n := range r.Errors {
		sum += n
	}
	return append(out, tile{number(float64(sum)), "errors", fmt.Sprintf("of %d codes", len(r.Errors))})
}

func (r *Report) mostErrors() (n int64) {
	for _, m := range r.Errors {
		n = max(n, m)
	}
	return n
}

// moments is an event of the time line; N is its mark in the charts, 0 without.
type moments struct {
	Event
	N int
}

func (r *Report) timeLine() (out []moments) {
	n := 0
	for _, e := range r.Events {
		m := moments{Event: e}
		if strings.HasPrefix(e.Text, faultEvent) {
			n++
			m.N = n
		}
		out = append(out, m)
	}
	return out
}

func toFloat(v any) float64 {
	switch v := v.(type) {
	case int:
		return float64(v)
	case int64:
		return float64(v)
	case float64:
		return v
	}
	return math.NaN()
}
