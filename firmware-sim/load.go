package sim

import (
	"context"
	"crypto/rand"
	"errors"
	"math"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"devicehub/firmware-sim/profile"
)

const (
	commandWait = 20 * time.Second // for a command to be confirmed, or to end otherwise
	maxCommands = 4000             // waiting at once; beyond that the generator is the bottleneck
)

// issued is a command that people gave.
type issued struct {
	unit   *unit
	id, op string
	status string // "" while unknown
	doubt  bool   // it was given by a process that did not live to hear of its end
}

// commandLog is every command that was given.
type commandLog struct {
	mu   sync.Mutex
	all  []*issued
	seen map[string]*issued
}

func (l *commandLog) add(c *issued) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = make(map[string]*issued)
	}
	l.all = append(l.all, c)
	l.seen[c.id] = c
}

func (l *commandLog) ended(c *issued, status string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.status = status
}

// command gives commands at the profile's rate, each at its moment, to lights that are up.
func (s *Sim) command(ctx context.Context) {
	lights := s.lights()
	if len(lights) == 0 {
		return
	}
	next := s.profile.Load.CommandMoments(s.rate(1))
	mix := s.profile.Load.Commands.Mix
	if len(mix) == 0 {
		mix = []profile.Weight{{Name: "set", Weight: 1}}
	}
	r := mathrand.New(mathrand.NewPCG(s.profile.Seed, 0xc0+uint64(s.cfg.Shard)<<16))
	slots := make(chan struct{}, maxCommands)
	// What waits when the load ends may end by itself; each call has its own limit.
	calls := context.WithoutCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		moment := next()
		if moment == math.MaxInt64 {
			return
		}
		due := s.began.Add(moment)
		if due.Before(s.resumed) {
			continue
		}
		if wait := time.Until(due); wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		} else if ctx.Err() != nil {
			return
		}
		u := lights[r.IntN(len(lights))]
		op, params := drawOp(r, mix, u)
		if !u.isUp() {
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			s.stats.commandsLate.Add(1)
			continue
		}
		s.stats.record("lag_ms", time.Since(due))
		wg.Go(func() {
			defer func() { <-slots }()
			s.issue(calls, u, op, params, due)
		})
	}
}

func drawOp(r *mathrand.Rand, mix []profile.Weight, u *unit) (string, map[string]any) {
	sum := 0.0
	for _, w := range mix {
		sum += w.Weight
	}
	x := r.Float64() * sum
	op := mix[len(mix)-1].Name
	for _, w := range mix {
		if x -= w.Weight; x < 0 {
			op = w.Name
			break
		}
	}
	params := map[string]any{}
	dims := len(u.group.Behaviour.Modes) == 0 || u.group.Behaviour.Modes[0] != "onoff"
	switch op {
	case "set":
		params["on"] = r.IntN(4) > 0
		if dims && params["on"] == true {
			params["brightness"] = 1 + r.IntN(255)
			if u.group.Behaviour.Transition && r.IntN(3) == 0 {
				params["transition_ms"] = 100 + r.IntN(400)
			}
		}
	case "step":
		if !dims {
			return "toggle", params
		}
		params["brightness_delta"] = r.IntN(101) - 50
	case "identify":
		params["ms"] = 1000
	}
	return op, params
}

// issue gives one command and waits for its end.
func (s *Sim) issue(ctx context.Context, u *unit, op string, params map[string]any, due time.Time) {
	c := &issued{unit: u, op: op, id: ulid.MustNew(ulid.Now(), rand.Reader).String()}
	s.judge.commands.add(c)
	s.cfg.Journal.given(c)
	s.stats.commands.Add(1)
	body := map[string]any{"op": op, "params": params, "cmd_id": c.id}
	if life := s.profile.Load.Commands.Life; life > 0 {
		body["expires_in_ms"] = life.Milliseconds()
	}
	wait := "confirmed"
	if op == "identify" || op == "refresh" {
		wait = "done"
	}
	ctx, cancel := context.WithTimeout(ctx, commandWait+5*time.Second)
	defer cancel()
	rec, err := s.api.Command(ctx, u.id, body, wait, commandWait)
	if err != nil {
		s.stats.commandsBad.Add(1)
		if e, ok := errors.AsType[*APIError](err); ok {
			s.stats.failed("command:" + e.Code)
			if e.Status != 504 && e.Status < 500 {
				s.cfg.Journal.told(c, "refused")
				s.judge.commands.ended(c, "refused") // it never left
			}
		} else {
			s.stats.failed("command:no_answer")
		}
		return
	}
	s.cfg.Journal.told(c, rec.Status)
	s.judge.commands.ended(c, rec.Status)
	switch rec.Status {
	case "confirmed", "done":
		s.stats.commandsOK.Add(1)
		if op != "restart" {
			// A light that takes its time because it was told to is not slow.
			transition, _ := params["transition_ms"].(int)
			s.stats.record("confirm_ms", time.Since(due)-time.Duration(transition)*time.Millisecond)
		}
	default:
		s.stats.commandsBad.Add(1)
		code := rec.Status
		if rec.Code != "" {
			code += "/" + rec.Code
		}
		s.stats.failed("command:" + code)
	}
}
