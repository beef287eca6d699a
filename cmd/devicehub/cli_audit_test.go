package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"devicehub/devices"
)

// The audit can be listed, written out and pruned, with a hub and without one.
func TestAuditCommands(t *testing.T) {
	config, url := hubFolder(t)
	run := func(args ...string) result {
		t.Helper()
		r := cli(t, "", append(args, "--config", config)...)
		if r.code != exitDone {
			t.Fatalf("%v: got exit %d: %s", args, r.code, r.err)
		}
		return r
	}
	stop := startHub(t, config, url)
	for i := range 7 {
		if r := cli(t, "", "device", "add", "lamp", "--kind", "light", "--config", config); (r.code == exitDone) != (i == 0) {
			t.Fatalf("%d: %+v", i, r)
		}
	}
	for range 4 {
		res, err := http.Post(url+"/api/v1/login", "application/json", strings.NewReader(`{"username":"admin","password":"wrong"}`))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}

	out := run("audit", "list", "--device", "lamp").out
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 3 || !strings.Contains(lines[1], "refused: conflict") || !strings.Contains(lines[1], "  6  ") || !strings.Contains(lines[2], "device.create") {
		t.Errorf("list: got\n%s", out)
	}
	if out := run("audit", "list", "--action", "login", "--outcome", "refused", "--json").out; !strings.Contains(out, `"count": 4`) || !strings.Contains(out, `"target": "user:admin"`) {
		t.Errorf("a stranger's: got\n%s", out)
	}
	var entries []devices.AuditEntry
	for line := range strings.Lines(run("audit", "export").out) {
		var e devices.AuditEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	rows, err := csv.NewReader(strings.NewReader(run("audit", "export", "--format", "csv").out)).ReadAll()
	if err != nil || len(rows) != len(entries)+1 || rows[0][2] != "count" || rows[1][2] != fmt.Sprint(entries[0].Count) || rows[1][7] != entries[0].Target {
		t.Errorf("csv: got %q %v for %+v", rows, err, entries)
	}
	if r := run("audit", "prune", "--before", "1d"); !strings.Contains(r.err, "nothing to take out") {
		t.Errorf("before yesterday: got %+v", r)
	}
	if r := run("audit", "prune"); !strings.Contains(r.err, "nothing to take out") {
		t.Errorf("within bounds: got %+v", r)
	}
	stop()
	n := len(entries)
	r := run("audit", "prune", "--before", "0")
	if !strings.Contains(r.err, "2 of refusals are taken out") {
		t.Errorf("prune: got %+v of %d", r, n)
	}
	out = run("audit", "list").out
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 || !strings.Contains(lines[1], "audit.prune") {
		t.Errorf("afterwards: got\n%s", out)
	}
}
