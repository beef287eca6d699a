package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/lights"
)

// TestRandomLives plays random lives of commands: people of every policy, a
// device that answers anything at any time or not at all, connections that come
// and go over transports of either kind, and a hub that is killed. Whatever
// happens: nothing leaves before it is durable or after it expired, what may run
// once leaves once, a group has one command under way, ten sets a second are
// the most, no final word is taken back, and every command comes to an end.
//
// DEVICEHUB_SOAK=1 plays twenty times as many, DEVICEHUB_SEED names one.
func TestRandomLives(t *testing.T) {
	lives := uint64(60)
	switch {
	case os.Getenv("DEVICEHUB_SOAK") != "":
		lives = 1200
	case raceEnabled:
		lives = 10
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
			l := &life{world: newWorld(t), seed: seed, rnd: rand.New(rand.NewPCG(seed, 5)), sent: map[string]int{}, final: map[string]Status{}}
			l.play()
		})
	}
}

type life struct {
	*world
	seed  uint64
	rnd   *rand.Rand
	epoch int64
	on    bool // connected
	boot  int
	got   []Envelope
	sets  []time.Time
	sent  map[string]int // of what may run once
	ids   []string
	final map[string]Status
	seen  int // of told
}

func (l *life) bad(format string, args ...any) {
	l.t.Errorf("life %d: %s", l.seed, fmt.Sprintf(format, args...))
}

func (l *life) play() {
	l.store.delay = time.Duration(l.rnd.IntN(5)) * time.Millisecond
	for range 150 {
		switch l.rnd.IntN(12) {
		case 0, 1, 2, 3:
			l.issueSomething()
		case 4:
			l.connect()
		case 5:
			if l.on {
				l.on = false
				l.Disconnected("lamp", l.epoch)
				l.live.set("lamp", []devices.State{devices.Offline, devices.Sleeping}[l.rnd.IntN(2)])
			}
		case 6:
			if l.rnd.IntN(4) == 0 {
				l.check()
				l.on, l.seen = false, 0
				l.kill()
			}
		case 7:
			if len(l.ids) > 0 {
				l.Cancel(l.t.Context(), ana, devices.Origin{}, "lamp", l.ids[l.rnd.IntN(len(l.ids))])
			}
		default:
			l.answer()
		}
		time.Sleep(time.Duration(l.rnd.ExpFloat64() * float64(400*time.Millisecond)))
		synctest.Wait()
		l.check()
	}
	time.Sleep(8 * 24 * time.Hour)
	synctest.Wait()
	l.check()
	if st := l.Stats(); st.Open != 0 {
		l.bad("%d commands never ended", st.Open)
	}
	for _, id := range l.ids {
		row, ok, err := l.store.Command(l.t.Context(), "lamp", id)
		if err != nil || !ok || !row.Final {
			l.bad("%s: stored %t, final %t, %v", id, ok, row.Final, err)
		}
	}
}

func (l *life) issueSomething() {
	r := Request{Policy: []string{"none", "latest", "all", ""}[l.rnd.IntN(4)]}
	if l.rnd.IntN(3) == 0 {
		ms := 1 + l.rnd.Int64N(20_000)
		r.ExpiresInMS = &ms
	}
	params := map[string]any{}
	switch l.rnd.IntN(8) {
	case 0:
		r.Op = "identify"
	case 1:
		r.Op = "restart"
	case 2:
		r.Op = "toggle"
	default:
		r.Op = "set"
		if l.rnd.IntN(2) == 0 {
			params["brightness"] = 1 + l.rnd.IntN(255)
		} else {
			params["on"] = l.rnd.IntN(2) == 0
		}
		if l.rnd.IntN(3) == 0 {
			params["kelvin"] = 2000 + l.rnd.IntN(4000)
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
			l.ids = append(l.ids, rc.CmdID)
		} else if devices.CodeOf(err) == "" {
			l.bad("%v", err)
		}
	}
}

func (l *life) connect() {
	l.epoch++
	l.on = true
	l.live.set("lamp", devices.Online)
	transport, window := "websocket", 0
	if l.rnd.IntN(2) == 0 {
		transport, window = "mqtt", 1
	}
	if l.rnd.IntN(3) == 0 {
		l.boot++
	}
	l.Booted("lamp", l.epoch, fmt.Sprint("boot", l.boot))
	full := l.rnd.IntN(10) == 0
	d := l.Dispatcher
	l.Connected("lamp", l.epoch, transport, window, func(e Envelope) bool {
		if d != l.Dispatcher || full {
			return false // of a hub that is dead
		}
		l.leaves(e)
		return true
	})
}

// leaves looks at what goes to the device at the moment it goes.
func (l *life) leaves(e Envelope) {
	now := time.Now()
	l.got = append(l.got, e)
	if e.TTLMS <= 0 || now.UnixMilli() >= e.ExpiresAt || e.Attempt > maxAttempts {
		l.bad("%+v left at %d", e, now.UnixMilli())
	}
	if _, ok, _ := l.store.Command(l.t.Context(), "lamp", e.CmdID); !ok {
		l.bad("%+v is not durable", e)
	}
	if lights.Op(e.Op).Momentary() {
		if l.sent[e.CmdID]++; l.sent[e.CmdID] > 1 {
			l.bad("%+v left again", e)
		}
		return
	}
	sh := l.shard("lamp")
	sh.mu.Lock()
	defer sh.mu.Unlock()
	dev := sh.m["lamp"]
	c := dev.find(e.CmdID)
	for _, o := range dev.open {
		if o != c && o.group&c.group != 0 && o.holds(now) && c.rec.Attempt == 0 {
			l.bad("%+v left while %+v is under way", e, o.rec)
		}
	}
	if e.Op == "set" && e.Attempt == 1 {
		l.sets = append(l.sets, now)
		if n := len(l.sets); n > maxSends && now.Sub(l.sets[n-1-maxSends]) < time.Second {
			l.bad("%d sets within %v", maxSends+1, now.Sub(l.sets[n-1-maxSends]))
		}
	}
}

// answer has the device say something of one of the last commands.
func (l *life) answer() {
	if len(l.got) == 0 {
		return
	}
	e := l.got[max(0, len(l.got)-1-l.rnd.IntN(6))]
	epoch := l.epoch
	switch l.rnd.IntN(6) {
	case 0, 1, 2:
		status := []string{"acked", "done", "done", "failed", "rejected"}[l.rnd.IntN(5)]
		err := l.Answer("lamp", epoch, fmt.Appendf(nil, `{"cmd_id":%q,"status":%q,"code":"x"}`, e.CmdID, status))
		if code := devices.CodeOf(err); err != nil && code != devices.CodeNotFound {
			l.bad("answer: %v", err)
		}
	default:
		state := map[string]any{"transitioning": l.rnd.IntN(5) == 0}
		if e.Op == "set" {
			for k, v := range e.Params {
				if k != "transition_ms" {
					state[k] = v
				}
			}
		}
		if l.rnd.IntN(4) == 0 {
			state["on"] = false
		}
		if l.rnd.IntN(3) > 0 {
			state["cmd"] = e.CmdID
		}
		b, _ := json.Marshal(state)
		if _, err := l.Report("lamp", epoch, b); err != nil {
			l.bad("report %s: %v", b, err)
		}
	}
}

// check reads what was told since: what was final stays so.
func (l *life) check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; l.seen < len(l.told); l.seen++ {
		r, ok := l.told[l.seen].Payload.(Record)
		if !ok {
			continue
		}
		if was, ok := l.final[r.CmdID]; ok {
			l.bad("%s was %s and is %s", r.CmdID, was, r.Status)
		}
		switch r.Status {
		case Refused, Cancelled, Superseded, Rejected, Failed, Confirmed, Expired, LateDone:
			// What was told within the last 50 ms before a kill may be told again.
			if time.Since(time.UnixMilli(r.At)) > 100*time.Millisecond {
				l.final[r.CmdID] = r.Status
			}
		}
		if r.Code == CodeOutcomeUnknown && r.Status != TimedOut || r.Status == Expired && r.Attempt > 0 {
			l.bad("%+v", r)
		}
	}
}
