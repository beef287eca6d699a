package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run the program with arguments and an input; it returns what it printed and its exit code.
func program(t *testing.T, in string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = execute(t.Context(), args, strings.NewReader(in), &out, &errs)
	return out.String(), errs.String(), code
}

func TestUsage(t *testing.T) {
	t.Setenv("FIRMWARE_SIM_TOKEN", "")
	t.Setenv("FIRMWARE_SIM_PASSWORD", "")
	demo := "../../configs/fleet/demo.yaml"
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("fleet:\n  - kind: toaster\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		in   string
		code int
		want string // in standard error
	}{
		{"no profile", []string{"run"}, "", 2, "accepts 1 arg"},
		{"unknown flag", []string{"run", demo, "--loud"}, "", 2, "--loud"},
		{"unknown command", []string{"dance"}, "", 2, "dance"},
		{"no such profile", []string{"run", "none.yaml", "--dry-run"}, "", 2, "none.yaml"},
		{"bad profile", []string{"run", bad, "--dry-run"}, "", 2, `line 2: kind: "toaster"`},
		{"scale", []string{"run", demo, "--scale", "-1"}, "", 2, "--scale"},
		{"resume with a profile", []string{"run", demo, "--resume", bad}, "", 2, "leave out"},
		{"resume with a seed", []string{"run", "--resume", bad, "--seed", "3"}, "", 2, "--seed"},
		{"resume nothing", []string{"run", "--resume", filepath.Dir(bad), "--token", "x"}, "", 2, "holds no run"},
		{"state of workers", []string{"run", demo, "--state", bad, "--workers", "2"}, "", 2, "--workers"},
		{"no workers", []string{"run", demo, "--workers", "0"}, "", 2, "--workers"},
		{"more workers than devices", []string{"run", demo, "--workers", "900"}, "", 2, "--workers"},
		{"duration", []string{"run", demo, "--duration", "-5s"}, "", 2, "--duration"},
		{"settle", []string{"run", demo, "--settle", "-5s"}, "", 2, "--settle"},
		{"source is no address", []string{"run", demo, "--token", "x", "--sources", "1.2.3"}, "", 2, "--sources"},
		{"source of another machine", []string{"run", demo, "--token", "x", "--sources", "192.0.2.1"}, "", 2, "not an address of this machine"},
		{"report nowhere", []string{"run", demo, "--token", "x", "--report", filepath.Join(bad, "under a file")}, "", 2, "--report"},
		{"nobody", []string{"run", demo}, "", 2, "--username"},
		{"no password", []string{"run", demo, "--username", "admin"}, "", 2, "--password-stdin"},
		{"empty password", []string{"run", demo, "--username", "admin", "--password-stdin"}, "\n", 2, "no password"},
		{"hub is no URL", []string{"run", demo, "--token", "x", "--hub", "localhost:4000"}, "", 2, "--hub"},
		{"nobody listens", []string{"run", demo, "--token", "x", "--hub", "http://127.0.0.1:1"}, "", 1, "refused"},
		{"device without token", []string{"sensor", "--device", "a"}, "", 2, "--token"},
		{"device over nothing", []string{"light", "--device", "a", "--token", "t", "--transport", "pigeon"}, "", 2, "pigeon"},
		{"bench without server", []string{"bench", "hold", "--url", "tcp://x", "-n", "1"}, "", 2, "tcp"},
		{"bench without clients", []string{"bench", "hold", "-n", "0"}, "", 2, "at least one client"},
		{"bench below nothing", []string{"bench", "fanout", "--size", "-1"}, "", 2, "below 0"},
		{"bench of no process", []string{"bench", "storm", "--pid", "99999999"}, "", 2, "99999999"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, stderr, code := program(t, tt.in, tt.args...)
			if code != tt.code || !strings.Contains(stderr, tt.want) || strings.Count(stderr, "\n") > 1 {
				t.Errorf("exit code %d, want %d; %q, want one line with %q", code, tt.code, stderr, tt.want)
			}
		})
	}
}

func TestDryRun(t *testing.T) {
	profiles, _ := filepath.Glob("../../configs/fleet/*.yaml")
	for _, p := range profiles {
		out, stderr, code := program(t, "", "run", p, "--dry-run")
		if code != 0 || !strings.Contains(out, "devices, ") || !strings.Contains(out, "assert lost_acked == 0") {
			t.Errorf("%s: exit code %d, %s%s", p, code, out, stderr)
		}
	}
	out, _, _ := program(t, "", "run", "../../configs/fleet/storm.yaml", "--dry-run", "--scale", "0.1")
	if !strings.Contains(out, "1000 devices, for 2m30s") {
		t.Errorf("scaled: %s", out)
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"run", "--help"}, {"sensor", "--help"}, {"bench"}, {"bench", "fanout", "--help"}} {
		if out, _, code := program(t, "", args...); code != 0 || !strings.Contains(out, "Usage:") {
			t.Errorf("%v: exit code %d\n%s", args, code, out)
		}
	}
}
