package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/lights"
)

// TestRandomLives plays random lives of commands: people of every policy, a
// device that answers anything at any time or not at all, and says how it is
// before or after, in part or whole, late, or as it was long ago; connections
// that come and go over transports of either kind, adapters that answer in the
// device's place, and a hub that is killed. What must hold all the while, an
// oracle knows by its own book: see rules.
//
// DEVICEHUB_SOAK=1 plays twenty times as many, DEVICEHUB_SEED names one.
func TestRandomLives(t *testing.T) {
	lives := uint64(80)
	switch {
	case os.Getenv("DEVICEHUB_SOAK") != "":
		lives = 1600
	case raceEnabled:
		lives = 12
	}
	first := uint64(0)
	if s := os.Getenv("DEVICEHUB_SEED"); s != "" {
		var err error
		if first, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
		lives = first + 1
	}
	for seed := first; seed < lives && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))) // before 2015 no clock is set
			l := &life{world: newWorld(t), seed: seed, rnd: rand.New(rand.NewPCG(seed, 5))}
			l.rules.init(l)
			l.play()
		})
	}
}

type life struct {
	*world
	seed  uint64
	rnd   *rand.Rand // the player's
	epoch int64
	newer int64 // the greatest epoch so far
	boot  int
	got   []Envelope
	rules rules

	mu sync.Mutex // of what a link's goroutine uses
}

func (l *life) bad(format string, args ...any) {
	l.t.Errorf("life %d at %v: %s", l.seed, time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}

func (l *life) play() {
	l.store.delay = time.Duration(l.rnd.IntN(5)) * time.Millisecond
	for range 200 {
		switch l.rnd.IntN(16) {
		case 0, 1, 2, 3:
			l.issueSomething()
		case 4:
			l.connect()
		case 5:
			l.disconnect([]devices.State{devices.Offline, devices.Sleeping}[l.rnd.IntN(2)])
		case 6:
			if l.rnd.IntN(4) == 0 {
				l.rules.check()
				l.kill()
				l.rules.killed()
			}
		case 7:
			if id := l.rules.any(l.rnd); id != "" {
				l.Cancel(l.t.Context(), ana, devices.Origin{}, "lamp", id)
			}
		case 8: // a blip: it is back before anything is missed
			l.disconnect(devices.Offline)
			time.Sleep(time.Duration(l.rnd.IntN(900)) * time.Millisecond)
			l.connect()
		case 9: // nothing, for long enough to be asked
			time.Sleep(time.Duration(1000+l.rnd.IntN(2500)) * time.Millisecond)
		default:
			l.answer()
		}
		time.Sleep(time.Duration(l.rnd.ExpFloat64() * float64(300*time.Millisecond)))
		synctest.Wait()
		l.rules.check()
	}
	l.live.set("lamp", devices.Offline)
	time.Sleep(8 * 24 * time.Hour)
	synctest.Wait()
	l.rules.check()
	l.rules.over()
}

// knows is a command as the hub that runs has it, nil if it does not.
func (l *life) knows(id string) (c *command) {
	l.table.Find("lamp", func(e *held) { c = e.State.find(id) })
	return c
}

func (l *life) issueSomething() {
	r := Request{Policy: []string{"none", "latest", "all", ""}[l.rnd.IntN(4)]}
	if l.rnd.IntN(3) == 0 {
		ms := 1 + l.rnd.Int64N(20_000)
		r.ExpiresInMS = &ms
	}
	params := map[string]any{}
	switch l.rnd.IntN(10) {
	case 0:
		r.Op = "identify"
	case 1:
		r.Op = "restart"
	case 2:
		r.Op = "toggle"
	case 3:
		r.Op = "refresh"
	default:
		r.Op = "set"
		if l.rnd.IntN(3) > 0 {
			params["brightness"] = 1 + l.rnd.IntN(4)*60
		}
		if l.rnd.IntN(3) == 0 || len(params) == 0 {
			params["on"] = l.rnd.IntN(3) > 0
		}
		if l.rnd.IntN(3) == 0 {
			params["kelvin"] = 2000 + 1000*l.rnd.IntN(4)
		}
		if l.rnd.IntN(5) == 0 {
			params["transition_ms"] = l.rnd.IntN(4000)
		}
	}
	r.Params, _ = json.Marshal(params)
	n := 1
	if l.rnd.IntN(6) == 0 {
		n = 15 // a slider
	}
	for range n {
		ctx, cancel := context.WithTimeout(l.t.Context(), time.Second)
		rc, err := l.Issue(ctx, ana, devices.Origin{}, "lamp", r)
		cancel()
		if err == nil {
			l.rules.issued(rc.CmdID)
		} else if devices.CodeOf(err) == "" {
			l.bad("%v", err)
		}
	}
}

// connect opens a link of any kind. Before it hears commands, the device may say
// how it is, or was.
func (l *life) connect() {
	transport, window := []devices.Transport{"websocket", "mqtt", "bridge:house"}[l.rnd.IntN(3)], 0
	if transport != "websocket" {
		window = 1
	}
	l.newer++
	epoch := l.newer
	if transport == "bridge:house" && l.rnd.IntN(2) == 0 {
		l.disconnect(devices.DataOnly)
		epoch = 0 // its link is not known
	}
	l.epoch = epoch
	if l.rnd.IntN(3) == 0 {
		l.boot++
	}
	if l.epoch != 0 {
		l.live.set("lamp", devices.Online)
		l.Booted("lamp", l.epoch, fmt.Sprint("boot", l.boot))
		if l.rnd.IntN(3) > 0 {
			l.report(l.something(""), l.epoch, time.Now())
		}
	} else {
		l.live.set("lamp", devices.DataOnly)
	}
	full := l.rnd.IntN(10) == 0
	d := l.Dispatcher
	synctest.Wait()
	l.rules.connected(epoch, window, full)
	l.Connected("lamp", l.epoch, transport, window, func(e Envelope) bool {
		switch {
		case d != l.Dispatcher: // of a hub that is dead
			return false
		case full:
			l.rules.refused(e)
			return false
		}
		l.mu.Lock()
		l.got = append(l.got, e)
		l.mu.Unlock()
		l.rules.leaves(e, epoch)
		if transport == "bridge:house" {
			l.adapter(e, epoch)
		}
		return true
	})
}

func (l *life) disconnect(to devices.State) {
	synctest.Wait()
	l.rules.disconnected()
	l.Disconnected("lamp", l.epoch)
	l.live.set("lamp", to)
}

// adapter passes a command on, and the device may have answered before the
// adapter has said so, or before this returns.
func (l *life) adapter(e Envelope, epoch int64) {
	rnd := rand.New(rand.NewPCG(l.seed, uint64(time.Now().UnixNano())))
	state := map[string]any{}
	for k, v := range e.Params {
		if k != "transition_ms" {
			state[k] = v
		}
	}
	if e.Op == "refresh" {
		state["on"] = rnd.IntN(2) == 0
	}
	answer := func() {
		if len(state) > 0 && (e.Op == "set" || e.Op == "refresh") {
			l.report(state, epoch, time.Now())
		}
	}
	pass := func() {
		l.rules.forwarded(e.CmdID, epoch)
		l.Forwarded("lamp", epoch, e.CmdID)
	}
	switch d := l.Dispatcher; rnd.IntN(4) {
	case 0:
		answer()
		pass()
	case 1:
		answer()
		time.AfterFunc(time.Duration(rnd.IntN(20))*time.Millisecond, func() {
			if d == l.Dispatcher {
				pass()
			}
		})
	case 2:
		pass()
		answer()
	default: // and nothing is heard of it
		pass()
	}
}

// answer has the device say something of one of the last commands.
func (l *life) answer() {
	if len(l.got) == 0 {
		return
	}
	e := l.got[max(0, len(l.got)-1-l.rnd.IntN(4))]
	epoch := l.epoch
	switch l.rnd.IntN(6) {
	case 0, 1, 2:
		status := []string{"acked", "done", "done", "done", "failed", "rejected"}[l.rnd.IntN(6)]
		l.rules.answers(e.CmdID, status, epoch)
		err := l.Answer("lamp", epoch, fmt.Appendf(nil, `{"cmd_id":%q,"status":%q,"code":"x"}`, e.CmdID, status))
		if code := devices.CodeOf(err); err != nil && (code != devices.CodeNotFound || l.rules.known(e.CmdID)) {
			l.bad("answer to %+v: %v", e, err)
		}
	default:
		at := time.Now()
		if l.rnd.IntN(4) == 0 { // it had to wait
			at = at.Add(-time.Duration(l.rnd.IntN(700)) * time.Millisecond)
		}
		if l.rnd.IntN(12) == 0 && epoch > 0 {
			epoch -= l.rnd.Int64N(3)
		}
		l.report(l.something(e.CmdID), epoch, at)
	}
}

// something is what the device says of its state, for the most part because of a
// command.
func (l *life) something(cmd string) map[string]any {
	state := map[string]any{"transitioning": l.rnd.IntN(6) == 0}
	for range 2 { // it may be doing several
		if len(l.got) == 0 {
			break
		}
		e := l.got[max(0, len(l.got)-1-l.rnd.IntN(4))]
		for k, v := range e.Params {
			if k != "transition_ms" && e.Op == "set" && l.rnd.IntN(4) > 0 {
				state[k] = v
			}
		}
	}
	if l.rnd.IntN(4) == 0 {
		state["on"] = l.rnd.IntN(2) == 0
	}
	switch l.rnd.IntN(6) {
	case 0, 1, 2:
		if cmd != "" {
			state["cmd"] = cmd
		}
	case 3:
		state["cause"] = []string{"sync", "boot", "local"}[l.rnd.IntN(3)]
		state["t"] = time.Now().Add(-time.Duration(l.rnd.IntN(3000)) * time.Millisecond).UnixMilli()
	}
	return state
}

// report hands a report to the hub and the oracle.
func (l *life) report(state map[string]any, epoch int64, at time.Time) {
	b, _ := json.Marshal(state)
	r, err := lights.ParseReport(b)
	if err != nil {
		l.bad("%s: %v", b, err)
		return
	}
	l.rules.reported(r, epoch, at)
	if _, err := l.Report("lamp", epoch, at, b); err != nil {
		l.bad("report %s: %v", b, err)
	}
}
