// Package promql holds the expressions of the dashboard and of the alarms to
// the parser of Prometheus itself.
package promql

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

func read(t *testing.T, file string, decode func([]byte, any) error, v any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := decode(b, v); err != nil {
		t.Fatal(err)
	}
}

// vector wants an expression that gives a value at one time for each series,
// or one value.
func vector(t *testing.T, where, text string) {
	t.Helper()
	e, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		t.Errorf("%s: %s: %v", where, text, err)
		return
	}
	if e.Type() != parser.ValueTypeVector && e.Type() != parser.ValueTypeScalar {
		t.Errorf("%s: %s is of type %s", where, text, e.Type())
	}
}

func TestDashboard(t *testing.T) {
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	read(t, "../devicehub.json", json.Unmarshal, &d)
	chosen := strings.NewReplacer("$__rate_interval", "5m") // what Grafana puts in; names in quotes stay
	n := 0
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			vector(t, p.Title, chosen.Replace(target.Expr))
			n++
		}
	}
	if n == 0 {
		t.Error("no expression was found")
	}
}

func TestAlarms(t *testing.T) {
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	read(t, "../alerts.yaml", yaml.Unmarshal, &rules)
	n := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			vector(t, r.Alert, r.Expr)
			n++
		}
	}
	if n == 0 {
		t.Error("no rule was found")
	}
}
