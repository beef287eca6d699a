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
	given  time.Time
	blip   bool // it is the one after a blip, which must be there at once

	// What came of it, as far as its giver was told. Guarded by the log's lock.
	status, code string // "" while unknown
	taken        bool   // the hub did not refuse it
	toldAt       time.Time
	shown        string // the end that those were told who look on
	shownAt      time.Time
	arrivedAt    time.Time
	upSince      time.Time // the device was connected, without a break, from before until now; zero: it was not
	calm         bool      // the hub was there all the time

	old   bool // given by an earlier process of the run
	doubt bool // which did not live to hear of its end

	// The hub was killed just after it had told, or shown, its end; of the judge.
	unwritten, unwrittenShown bool
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

func (l *commandLog) ended(c *issued, status, code string, taken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.status, c.code, c.taken, c.toldAt = status, code, taken, time.Now()
}

// arrives notes that a command has reached its device, and returns it the first time that it does.
func (l *commandLog) arrives(id string) *issued {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.seen[id]
	if c == nil || !c.arrivedAt.IsZero() {
		return nil
	}
	c.arrivedAt = time.Now()
	return c
}

// shown notes the end of a command that those were told who look on.
func (l *commandLog) shown(rec CommandRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.seen[rec.ID]; c != nil && ended(rec.Status) {
		c.shown, c.shownAt = rec.Status, time.Now()
	}
}

// never reports whether a command has not reached its device.
func (l *commandLog) never(c *issued) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.arrivedAt.IsZero()
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
			s.issue(calls, &issued{unit: u, op: op}, params, due)
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
func (s *Sim) issue(ctx context.Context, c *issued, params map[string]any, due time.Time) {
	c.id, c.given = ulid.MustNew(ulid.Now(), rand.Reader).String(), time.Now()
	upSince, quiet := c.unit.standing(), s.faults.quietSince(c.given)
	s.judge.commands.add(c)
	s.cfg.Journal.given(c)
	s.stats.commands.Add(1)
	body := map[string]any{"op": c.op, "params": params, "cmd_id": c.id}
	if life := s.profile.Load.Commands.Life; life > 0 {
		body["expires_in_ms"] = life.Milliseconds()
	}
	wait := "confirmed"
	if c.op == "identify" || c.op == "refresh" {
		wait = "done"
	}
	ctx, cancel := context.WithTimeout(ctx, commandWait+5*time.Second)
	defer cancel()
	rec, err := s.api.Command(ctx, c.unit.id, body, wait, commandWait)
	s.judge.commands.stood(c, upSince, quiet && s.faults.quietSince(c.given))
	if c.blip && s.judge.commands.never(c) {
		s.stats.record("blip_ms", commandWait)
	}
	if err != nil {
		s.unheard(c, err)
		return
	}
	s.cfg.Journal.told(c, rec.Status)
	s.judge.commands.ended(c, rec.Status, rec.Code, true)
	outcome := outcomeOf(rec.Status, rec.Code)
	s.stats.outcome(outcome)
	// A light that takes its time because it was told to is not slow.
	transition, _ := params["transition_ms"].(int)
	took := time.Since(due) - time.Duration(transition)*time.Millisecond
	switch {
	case c.op == "restart":
	case outcome == isConfirmed:
		s.stats.record("confirm_ms", took)
	case outcome == isDone:
		s.stats.record("done_ms", took)
	}
	if outcome == isFailed || outcome == isUnconfirmed {
		code := rec.Status
		if rec.Code != "" {
			code += "/" + rec.Code
		}
		s.stats.failed("command:" + code)
	}
}

// unheard is a command whose giver was not told its end.
func (s *Sim) unheard(c *issued, err error) {
	e, answered := errors.AsType[*APIError](err)
	switch {
	case !answered:
		s.stats.failed("command:no_answer")
	case e.Status != 504 && e.Status < 500: // it never left
		s.stats.failed("command:" + e.Code)
		s.stats.outcome(isRefused)
		s.cfg.Journal.told(c, statusRefused)
		s.judge.commands.ended(c, statusRefused, e.Code, false)
	default:
		s.stats.failed("command:" + e.Code)
		s.judge.commands.ended(c, "", "", e.Status == 504)
	}
}

// stood notes how long the device, and the hub, have been there: at the beginning and at the end of
// a command.
func (l *commandLog) stood(c *issued, upSince time.Time, calm bool) {
	now := c.unit.standing()
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.calm = calm; now.Equal(upSince) {
		c.upSince = upSince
	}
}
