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
		"trim": func(s string) string { return strings.TrimSuffix(s, "_ms") },
		"ms":   func(v float64) string { return fmt.Sprintf("%.1f", v) },
		"code": func() string {
			return map[int]string{0: "passed", 1: "failed"}[min(r.ExitCode(), 2)]
		},
	}).Parse(reportTemplate)
	if err != nil {
		return fmt.Errorf("report template: %w", err)
	}
	return t.Execute(w, struct {
		*Report
		Codes  []string
		Charts []chart
	}{r, r.errorCodes(), r.charts()})
}

// chart is a picture drawn as one SVG path a line, over 720 × 160.
type chart struct {
	Title string
	Lines []line
	Top   string // the value at the upper edge
	Left  string
	Right string
}

type line struct{ Name, Colour, Path string }

const chartWidth, chartHeight = 720.0, 160.0

func (r *Report) charts() []chart {
	var out []chart
	over := func(title string, names []string, values ...func(Snapshot) float64) {
		if len(r.History) < 2 {
			return
		}
		top := 0.0
		for _, h := range r.History {
			for _, v := range values {
				top = max(top, v(h))
			}
		}
		last := r.History[len(r.History)-1].Elapsed
		c := chart{Title: title, Top: fmt.Sprintf("%.4g", top), Left: "0 s", Right: fmt.Sprintf("%.0f s", last)}
		for i, v := range values {
			var b strings.Builder
			for j, h := range r.History {
				fmt.Fprintf(&b, "%c%.1f %.1f", "ML"[min(j, 1)], h.Elapsed/max(last, 1e-9)*chartWidth, chartHeight-v(h)/max(top, 1e-9)*chartHeight)
			}
			c.Lines = append(c.Lines, line{names[i], colours[i%len(colours)], b.String()})
		}
		out = append(out, c)
	}
	over("devices connected", []string{"up"}, func(s Snapshot) float64 { return float64(s.Up) })
	over("readings acknowledged per second", []string{"per second"}, func(s Snapshot) float64 { return s.AckedPerS })
	over("99 % of acknowledgements within, ms", []string{"p99"}, func(s Snapshot) float64 { return s.AckP99 })
	over("commands", []string{"issued", "confirmed"}, func(s Snapshot) float64 { return float64(s.Commands) }, func(s Snapshot) float64 { return float64(s.CommandsOK) })
	over("errors", []string{"so far"}, func(s Snapshot) float64 { return float64(s.Errors) })
	if c, ok := r.percentiles(); ok {
		out = append(out, c)
	}
	return out
}

var colours = []string{"#1769aa", "#b3541e", "#2e7d32", "#6a1b9a", "#ad1457", "#455a64"}

// percentiles draws every histogram against 1/(1-p), in decades, and ms in decades.
func (r *Report) percentiles() (chart, bool) {
	c := chart{Title: "latency by percentile (both axes logarithmic), ms", Left: "0 %", Right: "99.99 %"}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, l := range r.Latency {
		if l.Count > 0 {
			lo, hi = min(lo, max(l.P50/4, 0.01)), max(hi, l.Max)
		}
	}
	if math.IsInf(lo, 1) || hi <= lo {
		return c, false
	}
	c.Top = fmt.Sprintf("%.4g", hi)
	y := func(ms float64) float64 {
		return chartHeight * (1 - (math.Log(max(ms, lo))-math.Log(lo))/(math.Log(hi)-math.Log(lo)))
	}
	for i, l := range r.Latency {
		var b strings.Builder
		for _, d := range l.Distribution {
			x := math.Log10(1/max(1-d[0]/100, 1e-4)) / 4 * chartWidth
			fmt.Fprintf(&b, "%c%.1f %.1f", "ML"[min(b.Len(), 1)], x, y(d[1]))
		}
		c.Lines = append(c.Lines, line{strings.TrimSuffix(l.Name, "_ms"), colours[i%len(colours)], b.String()})
	}
	return c, true
}
