package commands_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/liveness"
	"devicehub/devices/shadow"
	"devicehub/devices/sqlite"
)

// TestKillOnRealStores: the hub dies after each step of a command, what is left
// is the files as they are at that moment, and a second hub on them says rightly
// what came of the command.
func TestKillOnRealStores(t *testing.T) {
	for _, tt := range []struct {
		name, before, after string
		want                commands.Status
		sent                int // by the second hub
	}{
		{"sent", "connect", "connect acked done shown", commands.Confirmed, 1},
		{"acked", "connect acked", "connect done shown", commands.Confirmed, 1},
		{"done", "connect done", "connect shown", commands.Confirmed, 0},
		{"confirmed", "connect done shown", "connect", commands.Confirmed, 0},
		{"failed", "connect failed", "connect", commands.Failed, 0},
		{"queued", "", "connect acked done shown", commands.Confirmed, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			first := filepath.Join(t.TempDir(), "hub.db")
			l := openLife(t, first, true)
			rc, err := l.cmds.Issue(t.Context(), devices.CLI(), devices.Origin{}, "lamp",
				commands.Request{Op: "set", Params: []byte(`{"on":true}`), Policy: "latest"})
			if err != nil {
				t.Fatal(err)
			}
			l.cmd = rc.CmdID
			l.steps(tt.before)
			time.Sleep(150 * time.Millisecond) // written behind by now
			second := filepath.Join(t.TempDir(), "hub.db")
			for _, suffix := range []string{"", "-wal"} {
				copyFile(t, first+suffix, second+suffix)
			}
			before, err := l.cmds.Get(t.Context(), devices.CLI(), "lamp", rc.CmdID)
			if err != nil {
				t.Fatal(err)
			}
			l.stop()

			l = openLife(t, second, false)
			l.cmd = rc.CmdID
			after, err := l.cmds.Get(t.Context(), devices.CLI(), "lamp", rc.CmdID)
			if err != nil || after.Status != before.Status || after.Attempt != before.Attempt {
				t.Errorf("kept: got %+v %v, want %+v", after, err, before)
			}
			l.steps(tt.after)
			if r, err := l.cmds.Get(t.Context(), devices.CLI(), "lamp", rc.CmdID); err != nil || r.Status != tt.want {
				t.Errorf("at last: got %+v %v, want %s", r, err, tt.want)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.sent != tt.sent {
				t.Errorf("sent %d times, want %d", l.sent, tt.sent)
			}
		})
	}
}

type oneLife struct {
	t     *testing.T
	live  *liveness.Tracker
	cmds  *commands.Dispatcher
	stop  func()
	cmd   string
	epoch int64

	mu   sync.Mutex
	sent int
}

func openLife(t *testing.T, path string, fresh bool) *oneLife {
	t.Helper()
	db, err := sqlite.Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	reg, err := devices.OpenRegistry(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	if fresh {
		if err := reg.Create(t.Context(), time.Now(), &devices.Device{ID: "lamp", Kinds: []devices.Kind{devices.KindLight}, Enabled: true}); err != nil {
			t.Fatal(err)
		}
	}
	shadows, err := shadow.New(t.Context(), shadow.Config{Store: db, Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	l := &oneLife{t: t}
	if l.live, err = liveness.New(t.Context(), liveness.Config{Store: db, Registry: reg}); err != nil {
		t.Fatal(err)
	}
	if l.cmds, err = commands.New(t.Context(), commands.Config{Store: db, Registry: reg, Shadows: shadows, Liveness: l.live}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { l.live.Run(ctx) })
	wg.Go(func() { shadows.Run(ctx) })
	wg.Go(func() { l.cmds.Run(ctx) })
	l.stop = sync.OnceFunc(func() { cancel(); wg.Wait(); db.Close() })
	t.Cleanup(l.stop)
	return l
}

func (l *oneLife) steps(steps string) {
	l.t.Helper()
	for s := range strings.FieldsSeq(steps) {
		var err error
		switch s {
		case "connect":
			last := l.epoch
			if l.epoch, err = l.live.Open("lamp", liveness.Conn{Transport: "websocket"}, func(devices.Code, string, int64) {}); l.epoch <= last {
				l.t.Errorf("epoch %d after %d", l.epoch, last)
			}
			l.cmds.Connected("lamp", l.epoch, "websocket", 0, func(commands.Envelope) bool {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.sent++
				return true
			})
		case "shown":
			_, err = l.cmds.Report("lamp", l.epoch, time.Now(), fmt.Appendf(nil, `{"on":true,"cmd":%q}`, l.cmd))
		default:
			err = l.cmds.Answer("lamp", l.epoch, fmt.Appendf(nil, `{"cmd_id":%q,"status":%q}`, l.cmd, s))
		}
		if err != nil {
			l.t.Errorf("%s: %v", s, err)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
