package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// account makes a service account for a topic filter and returns its token.
func (h *hub) account(name, filter string) string {
	h.t.Helper()
	return h.mustCLI("apitoken", "add", name, "--rights", "read", "--topics", filter)
}

// mosquitto runs mosquitto_pub or mosquitto_sub as an account until it ends.
func (h *hub) mosquitto(tool, account, token, stdin string, args ...string) (string, error) {
	h.t.Helper()
	host, port, _ := net.SplitHostPort(h.mqtt)
	ctx, cancel := context.WithTimeout(h.t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, append([]string{"-h", host, "-p", port, "-u", "service:" + account, "-P", token}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s %s: %w %s", tool, strings.Join(args, " "), err, errs.String())
	}
	return out.String(), err
}

func (h *hub) pub(account, token string, args ...string) {
	h.t.Helper()
	if _, err := h.mosquitto("mosquitto_pub", account, token, "", args...); err != nil {
		h.t.Fatal(err)
	}
}

// sub is what mosquitto_sub hears within the seconds of -W.
func (h *hub) sub(account, token string, args ...string) string {
	h.t.Helper()
	out, _ := h.mosquitto("mosquitto_sub", account, token, "", args...) // it exits with 27 when its time is over
	return out
}

// TestRetainedSurviveRestarts publishes with -r, and ends the hub in both ways.
func TestRetainedSurviveRestarts(t *testing.T) {
	h := newHub(t)
	token := h.account("flow", "keep/#")
	h.pub("flow", token, "-t", "keep/me", "-m", "1", "-r", "-q", "1")
	h.pub("flow", token, "-t", "keep/zero", "-m", "2", "-r")
	h.pub("flow", token, "-t", "keep/gone", "-m", "3", "-r", "-q", "1")
	h.pub("flow", token, "-V", "5", "-t", "keep/soon", "-m", "4", "-r", "-q", "1", "-D", "PUBLISH", "message-expiry-interval", "2", "-D", "PUBLISH", "user-property", "k", "v")
	h.pub("flow", token, "-t", "keep/gone", "-n", "-r", "-q", "1")
	stored := time.Now()
	for i, end := range []func(){h.kill, func() {
		if err := h.stop(); err != nil {
			t.Fatal(err)
		}
	}} {
		end()
		if i == 1 {
			time.Sleep(time.Until(stored.Add(2100 * time.Millisecond)))
		}
		h.start()
		early := i == 0 && time.Since(stored) < time.Second
		got := strings.Split(strings.TrimSpace(h.sub("flow", token, "-t", "keep/#", "-v", "-W", "1")), "\n")
		slices.Sort(got)
		want := "keep/me 1 keep/zero 2"
		if early {
			want = "keep/me 1 keep/soon 4 keep/zero 2"
		} else if i == 0 { // a slow machine: it may have run out, or not
			got = slices.DeleteFunc(got, func(s string) bool { return s == "keep/soon 4" })
		}
		if strings.Join(got, " ") != want {
			t.Errorf("restart %d: got %q, want %q", i, got, want)
		}
	}
}

// TestQueuedSurviveKill queues a thousand messages for a session whose client is
// away, each acknowledged, and kills the hub at once.
func TestQueuedSurviveKill(t *testing.T) {
	for _, qos := range []string{"1", "2"} {
		t.Run("QoS "+qos, func(t *testing.T) {
			h := newHub(t)
			reader, writer := h.account("reader", "q/#"), h.account("writer", "q/#")
			h.sub("reader", reader, "-c", "-i", "x", "-q", qos, "-t", "q/#", "-E")
			var lines, want strings.Builder
			for i := range 1000 {
				fmt.Fprintln(&lines, i)
				fmt.Fprintln(&want, "q/t", i)
			}
			if _, err := h.mosquitto("mosquitto_pub", "writer", writer, lines.String(), "-t", "q/t", "-q", qos, "-l"); err != nil {
				t.Fatal(err)
			}
			h.kill()
			h.start()
			got := h.sub("reader", reader, "-c", "-i", "x", "-q", qos, "-t", "q/#", "-v", "-C", "1000", "-W", "30")
			if got != want.String() {
				t.Errorf("got %d lines, want 1000 in order:\n%s", strings.Count(got, "\n"), tail(got, 300))
			}
			if more := h.sub("reader", reader, "-c", "-i", "x", "-q", qos, "-t", "q/#", "-v", "-W", "1"); qos == "2" && more != "" {
				t.Errorf("delivered twice: %q", more)
			}
			// What was delivered does not come back.
			time.Sleep(50 * time.Millisecond)
			h.kill()
			h.start()
			if more := h.sub("reader", reader, "-c", "-i", "x", "-q", qos, "-t", "q/#", "-v", "-W", "1"); more != "" {
				t.Errorf("after another kill: got %q", more)
			}
		})
	}
}

// TestSessionExpirySurvives: a session that ran out while the hub was away is
// gone, one that did not is there; and a backup has both.
func TestSessionExpirySurvives(t *testing.T) {
	h := newHub(t)
	token := h.account("a", "q/#")
	for id, expiry := range map[string]string{"short": "1", "long": "100"} {
		h.sub("a", token, "-V", "5", "-c", "-i", id, "-q", "1", "-t", "q/"+id, "-E", "-x", expiry)
		h.pub("a", token, "-t", "q/"+id, "-q", "1", "-m", "for "+id)
	}
	archive := filepath.Join(t.TempDir(), "hub.backup")
	h.mustCLI("backup", archive)
	h.kill()
	time.Sleep(1100 * time.Millisecond)
	heard := func() string {
		return h.sub("a", token, "-V", "5", "-c", "-i", "short", "-q", "1", "-t", "q/short", "-W", "1", "-x", "100") +
			h.sub("a", token, "-V", "5", "-c", "-i", "long", "-q", "1", "-t", "q/long", "-W", "1", "-x", "100")
	}
	h.start()
	if got := heard(); got != "for long\n" {
		t.Errorf("got %q", got)
	}
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	h.mustCLI("restore", archive)
	h.start()
	if got := heard(); got != "for long\n" {
		t.Errorf("restored: got %q", got)
	}
}
