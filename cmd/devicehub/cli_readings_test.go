package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"devicehub/devices/readings"
)

// What an earlier build stored under names that no device can have sent is found
// and erased, whether the hub is stopped, runs, or is elsewhere.
func TestReadingsCheck(t *testing.T) {
	for _, way := range []string{"stopped", "running", "elsewhere"} {
		t.Run(way, func(t *testing.T) {
			config, url := hubFolder(t)
			b, err := os.ReadFile(config)
			if err != nil {
				t.Fatal(err)
			}
			write(t, config, string(b)+"readings: {retention: {raw: 100y, 15m: 100y, 1h: 100y}}\n") // what the folder has stays, whenever this runs
			for _, id := range []string{"a", "b", "greenhouse", "workshop-meter", "quiet"} {
				if r := cli(t, "", "device", "add", id, "--kind", "sensor", "--config", config); r.code != exitDone {
					t.Fatal(r.err)
				}
			}
			where := []string{"--config", config}
			remote := cli(t, "", append([]string{"apitoken", "add", "remote", "--rights", "read,admin"}, where...)...)
			kept := filepath.Join(filepath.Dir(config), "data", readingsFolder)
			if err := os.RemoveAll(kept); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(kept, os.DirFS("../../devices/tsdb/testdata/misnamed")); err != nil {
				t.Fatal(err)
			}
			var stop func()
			if way != "stopped" {
				stop = startHub(t, config, url)
			}
			if way == "elsewhere" {
				t.Setenv(tokenEnv, strings.TrimSpace(remote.out))
				where = []string{"--url", url}
			}
			check := func(code int, words ...string) result {
				t.Helper()
				r := cli(t, "", append(append([]string{"readings", "check"}, words...), where...)...)
				if r.code != code {
					t.Fatalf("%s: got exit %d, want %d: %s", strings.Join(words, " "), r.code, code, r.err)
				}
				if strings.Contains(r.out+r.err, "ImtpZCI6Ij") || strings.ContainsAny(r.out, "\x00\x01") {
					t.Errorf("a piece of a token is shown: %q", r.out+r.err)
				}
				return r
			}
			if way == "running" {
				if text := page(t, url+"/readyz", remote.out); !strings.Contains(text, "5 series are kept aside") {
					t.Errorf("/readyz: got %s", text)
				}
			}
			found := check(exitFailed)
			for _, want := range []string{"DEVICE", "greenhouse      bGci…", "like a piece of a token", "misfiled: lx", "2026-"} {
				if !strings.Contains(found.out, want) {
					t.Errorf("got %q, want %q in it", found.out, want)
				}
			}
			if !strings.Contains(found.err, "6 series with 32 readings found") || !strings.Contains(found.err, "token rotate") {
				t.Errorf("stderr: got %q", found.err)
			}
			var list struct{ Series []readings.Finding }
			if err := json.Unmarshal([]byte(check(exitFailed, "--json").out), &list); err != nil || len(list.Series) != 6 || list.Series[0].Device != "a" || list.Series[0].Readings != 8 {
				t.Errorf("--json: got %+v, %v", list, err)
			}
			if r := check(exitFailed, "--repair"); !strings.Contains(r.err, "5 series with 20 readings erased") || !strings.Contains(r.err, "1 series with 12 readings left") || !strings.Contains(r.err, "token rotate") {
				t.Errorf("--repair: got %q", r.err)
			}
			if way == "running" {
				if text := page(t, url+"/metrics", remote.out); !strings.Contains(text, "\ndevicehub_store_misnamed_series 0\n") {
					t.Error("the metrics do not say that nothing is kept aside any more")
				}
			}
			if r := check(exitDone, "--repair", "--misfiled"); !strings.Contains(r.err, "1 series with 12 readings erased") {
				t.Errorf("--misfiled: got %q", r.err)
			}
			if r := check(exitDone); !strings.Contains(r.out, "every series has a name that its device can have sent") {
				t.Errorf("got %q", r.out)
			}
			if r := check(exitDone, "--repair"); !strings.Contains(r.out, "nothing was erased") {
				t.Errorf("got %q", r.out)
			}
			if stop != nil {
				stop()
			}
			err = filepath.WalkDir(kept, func(path string, e os.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				b, err := os.ReadFile(path)
				if strings.Contains(string(b), "ImtpZCI6Ij") {
					t.Errorf("%s holds a piece of a token still", path)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// page is what a hub answers on a path.
func page(t *testing.T, url, token string) string {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
