package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// metricNames are the names of every metric that the hub may tell of.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	m := newMetrics("test", "n1")
	m.registry.MustRegister(collector{})
	descs := make(chan *prometheus.Desc)
	go func() {
		m.registry.Describe(descs)
		close(descs)
	}()
	quoted := regexp.MustCompile(`fqName: "([^"]+)"`)
	names := map[string]bool{}
	for d := range descs {
		names[quoted.FindStringSubmatch(d.String())[1]] = true
	}
	if len(names) < 40 {
		t.Fatalf("got %d names, want all", len(names))
	}
	return names
}

func TestMetricsOfARunningHub(t *testing.T) {
	r := runHub(t)
	const id = "a-device-that-is-named-nowhere"
	token := r.device(map[string]any{"id": id, "kinds": []string{"sensor"}})
	req, _ := http.NewRequest("POST", r.base+"/api/v1/devices/"+id+"/readings", strings.NewReader(`{"r":[["temperature",21.5],["temperature",true]]}`))
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()

	gathered, err := r.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(gathered).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	text := r.text("/metrics")
	if strings.Contains(text, id) || strings.Contains(text, token) {
		t.Error("a device's id or token stands in the metrics")
	}
	for _, want := range []string{
		`devicehub_connections{transport="mqtt"} 0`,
		`devicehub_device_events_total{code="ok",event="readings",transport="http"} 1`,
		`devicehub_readings_total{outcome="accepted"} 1`,
		`devicehub_readings_rejected_total{code="type_conflict"} 1`,
		`devicehub_devices_by_state{state="data_only"} 1`,
		`devicehub_logins_total{outcome="ok"} 1`,
		`devicehub_logins_total{outcome="failed"} 0`,
		`devicehub_tokens_verified_total{how="signature"}`,
		`devicehub_store_commit_seconds_count 1`,
		`devicehub_database_write_seconds_count`,
		`devicehub_accepting 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

func TestReadinessSaysWhatItWaitsFor(t *testing.T) {
	r := runHub(t)
	var ready struct {
		Status string
		Checks []struct {
			Name   string
			OK     bool
			Detail string
		}
	}
	r.call("GET", "/readyz", nil, 200, &ready)
	names := ""
	for _, c := range ready.Checks {
		names += c.Name + ","
		if !c.OK || c.Detail == "" {
			t.Errorf("got %+v", c)
		}
	}
	if names != "listeners,database,readings store,clock," {
		t.Errorf("got %s", names)
	}
	r.accepting.Store(false)
	if got := r.text("/readyz"); got != `{"status":"not ready"}` {
		t.Errorf("a stranger reads %s", got)
	}
	r.accepting.Store(true)
}
