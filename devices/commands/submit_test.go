package commands

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
)

// Those who submit do not wait for the disk, and their commands wait for it
// together. Each hears once what became of its own.
func TestSubmittedCommandsShareTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.delay = time.Second
		began := time.Now()
		var told []string
		submit := func(cmd string, brightness int) {
			r := Request{CmdID: cmd, Op: "set", Policy: PolicyLatest, Params: fmt.Appendf(nil, `{"brightness":%d}`, brightness)}
			w.Submit(t.Context(), ana, devices.Origin{Via: "ws"}, "lamp", r, func(rc Receipt, err error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				told = append(told, fmt.Sprint(cmd, " ", rc.CmdID, devices.CodeOf(err), " ", time.Since(began)))
			})
		}
		submit("a", 1)
		synctest.Wait() // it is being written
		submit("b", 2)
		submit("c", 3)
		submit("a", 1) // again, before it is on disk
		submit("a", 9) // another command under its id
		submit("d", 1000)
		if took := time.Since(began); took > 0 {
			t.Errorf("held up for %v", took)
		}
		last := func() string {
			w.mu.Lock()
			defer w.mu.Unlock()
			return told[len(told)-1]
		}
		time.Sleep(5 * time.Second)
		w.mu.Lock()
		slices.Sort(told)
		w.mu.Unlock()
		if got, want := fmt.Sprint(told), "[a a 1s a a 1s a conflict 0s b b 2s c c 2s d range 0s]"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
		submit("a", 1)
		if got := last(); got != "a a 5s" {
			t.Errorf("one that is on disk: told %s", got)
		}
		w.store.mu.Lock()
		w.store.fail = errors.New("disk on fire")
		w.store.mu.Unlock()
		submit("e", 4)
		time.Sleep(2 * time.Second)
		if got := last(); got != "e platform_unavailable 6s" {
			t.Errorf("one that cannot be kept: told %s", got)
		}
	})
}

// Nobody waits for ever for a hub that stops.
func TestSubmitToAHubThatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var told []string
		submit := func(cmd string) {
			w.Submit(t.Context(), ana, devices.Origin{}, "lamp", Request{CmdID: cmd, Op: "set", Policy: PolicyLatest, Params: []byte(`{"on":true}`)}, func(_ Receipt, err error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				told = append(told, fmt.Sprint(cmd, " ", devices.CodeOf(err)))
			})
		}
		w.store.delay = time.Second
		submit("a")
		synctest.Wait()
		submit("b") // of the last group
		w.stop()
		submit("c")
		if got, want := fmt.Sprint(told), "[a  b  c platform_unavailable]"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	})
}
