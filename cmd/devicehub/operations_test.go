package main

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// metricWord is a name of a metric in prose or in an expression.
var metricWord = regexp.MustCompile(`\b(?:devicehub|process|go)_[a-z0-9_]+\b`)

// checkMetrics holds every metric named in text against those that exist.
func checkMetrics(t *testing.T, file, text string, names map[string]bool) (seen map[string]bool) {
	t.Helper()
	seen = map[string]bool{}
	for _, w := range metricWord.FindAllString(text, -1) {
		name := w
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(w, suffix); !names[w] && names[base] {
				name = base
			}
		}
		if !names[name] {
			t.Errorf("%s names %s, which the hub does not tell of", file, w)
		}
		seen[name] = true
	}
	return seen
}

func TestDashboardShowsMetricsThatExist(t *testing.T) {
	b, err := os.ReadFile("../../configs/grafana/devicehub.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title  string
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr, RefID string }
			GridPos     struct{ X, Y, W, H int }
		}
		Templating struct{ List []struct{ Definition string } }
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	names := metricNames(t)
	shown, exprs := map[string]bool{}, 0
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" || at[0] > 23 {
					t.Errorf("%s lies on %s or outside", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			exprs++
			if strings.Count(target.Expr, "(") != strings.Count(target.Expr, ")") || strings.Count(target.Expr, "{") != strings.Count(target.Expr, "}") {
				t.Errorf("%s: unbalanced: %s", p.Title, target.Expr)
			}
			for name := range checkMetrics(t, p.Title, target.Expr, names) {
				shown[name] = true
			}
		}
	}
	for _, v := range d.Templating.List {
		checkMetrics(t, "a variable", v.Definition, names)
	}
	if exprs < 60 {
		t.Errorf("got %d expressions", exprs)
	}
	for name := range names {
		if strings.HasPrefix(name, "devicehub_") && !shown[name] && !slices.Contains([]string{"devicehub_info", "devicehub_frames_total", "devicehub_mqtt_publishes_total", "devicehub_mqtt_refused_total", "devicehub_users", "devicehub_service_accounts"}, name) {
			t.Errorf("%s is on no panel", name)
		}
	}
}

func TestAlarmsAreOnMetricsThatExist(t *testing.T) {
	b, err := os.ReadFile("../../configs/grafana/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(b, &rules); err != nil {
		t.Fatal(err)
	}
	names := metricNames(t)
	page, err := os.ReadFile("../../configs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range rules.Groups[0].Rules {
		n++
		if r.Alert == "" || r.Annotations["summary"] == "" || !slices.Contains([]string{"page", "warn"}, r.Labels["severity"]) {
			t.Errorf("got %+v", r)
		}
		for name := range checkMetrics(t, r.Alert, r.Expr, names) {
			if !strings.Contains(string(page), name) {
				t.Errorf("%s: the operations page does not say what to do about %s", r.Alert, name)
			}
		}
	}
	if n < 10 {
		t.Errorf("got %d alarms", n)
	}
}

func TestOperationsPage(t *testing.T) {
	b, err := os.ReadFile("../../configs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	names := metricNames(t)
	seen := checkMetrics(t, "operations.md", text, names)
	for name := range names {
		if strings.HasPrefix(name, "devicehub_") && !seen[name] {
			t.Errorf("operations.md does not say what %s means", name)
		}
	}
	// Commands and keys that it names are ours.
	for _, m := range regexp.MustCompile("(?m)(?:^|`)devicehub ((?:backup|restore|trace|clock|apitoken|readings)[^`#|>\n]*)").FindAllStringSubmatch(text, -1) {
		parses(t, strings.Fields(m[1]))
	}
	keys := map[string]bool{}
	for _, k := range configKeys() {
		keys[k.Path] = true
	}
	for _, m := range regexp.MustCompile("`((?:limits|readings|http|log|auth|mqtt)\\.[a-z0-9_.]+)(?::[^`]*)?`").FindAllStringSubmatch(text, -1) {
		if !keys[m[1]] {
			t.Errorf("operations.md names the key %s, which is none", m[1])
		}
	}
	for _, k := range configKeys() { // the table is complete
		if strings.HasPrefix(k.Path, "limits.") && !strings.Contains(text, "`"+k.Path+"`") {
			t.Errorf("operations.md does not say what happens beyond %s", k.Path)
		}
	}
	// Files that it names are there.
	for _, m := range regexp.MustCompile("`(configs/[^`]+)`").FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat("../../" + m[1]); err != nil {
			t.Error(err)
		}
	}
}
