package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// lateBy is how long a hub may take to act on what it was told, and to write it down.
const lateBy = 2 * time.Second

// judgeCommands holds the hub's records of a light's commands against what the light did and said,
// and against what their givers were told.
func (s *Sim) judgeCommands(ctx context.Context, u *unit, given []*issued) {
	if len(given) == 0 {
		return
	}
	records := map[string]CommandRecord{}
	oldest := given[0].given
	if given[0].old {
		oldest = s.firstBegan()
	}
	err := s.api.Commands(ctx, u.id, oldest.Add(-time.Minute), func(r CommandRecord) { records[r.ID] = r })
	if err != nil {
		s.judge.unable("commands of %s: %v", u.id, err)
		return
	}
	read := time.Now()
	for _, c := range given {
		rec, listed := records[c.id]
		if !listed {
			rec, err = s.api.CommandByID(ctx, u.id, c.id)
			if e, ok := errors.AsType[*APIError](err); ok && e.Status == 404 {
				rec = CommandRecord{ID: c.id, Op: c.op, Status: statusNever}
				if c.status == statusRefused {
					rec.Status = statusRefused
				}
			} else if err != nil {
				s.judge.unable("command %s: %v", c.id, err)
				continue
			}
		}
		s.judge.outcome(outcomeOf(rec.Status, rec.Code))
		// What a hub had not yet written down when it was killed, it does not know.
		c.unwritten = !s.faults.calmFor(c.toldAt, lateBy)
		c.unwrittenShown = !s.faults.calmFor(c.shownAt, lateBy)
		for _, f := range u.judgeCommand(c, rec, read) {
			s.judge.found(f.verdict, f.Finding)
		}
		s.countCommand(c)
	}
}

// byUnit returns what was given to each light, the oldest first.
func (l *commandLog) byUnit() map[*unit][]*issued {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[*unit][]*issued{}
	for _, c := range l.all {
		out[c.unit] = append(out[c.unit], c)
	}
	return out
}

// countCommand counts what was judged by a command.
func (s *Sim) countCommand(c *issued) {
	for _, name := range []string{
		"cmd_lost", "cmd_false_done", "cmd_false_confirmed", "cmd_false_failed", "cmd_proof_ignored",
	} {
		s.judge.checked(name, 1)
	}
	if c.status != "" {
		s.judge.checked("cmd_differs", 1)
	}
}

// commandCase is one command with its record and what its device knows of it.
type commandCase struct {
	*issued
	rec  CommandRecord
	read time.Time // when the record was read

	executed bool
	heard    bool   // the device had it
	want     wanted // what shows that it was carried out
	visible  bool   // there is such a thing
	seen     bool   // the device has shown it since it was given
}

// judgeCommand finds what is wrong with the record of a command, as it was read at a moment.
func (u *unit) judgeCommand(c *issued, rec CommandRecord, read time.Time) (all []found) {
	l := &u.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	k := commandCase{
		issued:   c,
		rec:      rec,
		read:     read,
		executed: l.count(c.id, ran) > 0,
		heard:    l.count(c.id, arrived) > 0,
	}
	k.want, k.visible = want(rec.Op, rec.Params)
	k.seen = k.visible && l.mayProve(k.want, c.given.UnixMilli()) != nil
	judges := []func(*commandCase) (verdict, text string){u.wrongEnd, u.ignoredProof, u.lostCommand, u.otherEnd}
	if c.old {
		judges = []func(*commandCase) (verdict, text string){u.wrongOldEnd}
	}
	for _, judge := range judges {
		if verdict, text := judge(&k); verdict != "" {
			text = fmt.Sprintf("command %s (%s) %s", c.id, c.op, text)
			all = append(all, found{verdict, Finding{Device: u.id, Text: text, Line: u.toldOf(c, rec)}})
		}
	}
	return all
}

// wrongOldEnd judges a command that an earlier process of the run has given: the ledger may have
// lost a part.
func (u *unit) wrongOldEnd(k *commandCase) (verdict, text string) {
	ends := outcomeOf(k.rec.Status, k.rec.Code)
	if (ends == isDone || ends == isConfirmed) && !k.executed && !k.seen && !k.doubt {
		return "cmd_false_done", fmt.Sprintf("is %v and never ran", k.rec)
	}
	return "", ""
}

// wrongEnd holds the end that a record tells against what the device did, said and showed. The lock
// is held.
func (u *unit) wrongEnd(k *commandCase) (verdict, text string) {
	l := &u.ledger
	switch k.rec.Status {
	case statusDone, statusLateDone:
		if l.count(k.id, saidDone) == 0 && !(k.rec.Op == "refresh" && len(l.reports) > 0) && !k.seen {
			return "cmd_false_done", fmt.Sprintf("is %v, and the device never said so", k.rec)
		}
	case statusConfirmed:
		if k.visible && !k.seen || !k.visible && !k.executed {
			return "cmd_false_confirmed", "is confirmed, and the device never showed it"
		}
	case statusFailed, statusRejected:
		if l.count(k.id, saidFailed) == 0 {
			return "cmd_false_failed", fmt.Sprintf("is %v, and the device never said so", k.rec)
		}
	case statusExpired, statusCancelled, statusSuperseded:
		if k.heard && k.calm { // of what left just before it was killed a hub may not know that
			return "cmd_false_failed", fmt.Sprintf("is %v, as if it had never left, and the device had it", k.rec)
		}
	case statusRefused, statusNever: // it is written down before it leaves
		if k.executed {
			return "cmd_false_failed", fmt.Sprintf("is %v, and the device executed it", k.rec)
		}
	}
	return "", ""
}

// lostCommand finds one that was taken and has no record, or that never came to its device. The
// lock is held.
func (u *unit) lostCommand(k *commandCase) (verdict, text string) {
	ends := outcomeOf(k.rec.Status, k.rec.Code)
	switch {
	case k.rec.Status == statusNever && k.taken:
		return "cmd_lost", "was taken, and the hub has no record of it"
	case ends == isSuperseded, k.rec.Status == statusExpired, ends == isRefused:
	case ends == isOpen && k.read.UnixMilli() < k.rec.ExpiresAt: // it may have to wait for another of its group
	case k.heard || !k.calm || k.upSince.IsZero():
	case u.endedWithin(k.given, k.toldAt.Add(lateBy)):
		// It was on its way, and nobody sends again what has its end.
	default:
		return "cmd_lost", fmt.Sprintf("is %v, and never came to the device, which was connected all the time", k.rec)
	}
	return "", ""
}

// otherEnd holds a record against what the command's giver was told, and those who look on.
func (u *unit) otherEnd(k *commandCase) (verdict, text string) {
	answered := k.status == statusTimedOut &&
		slices.Contains([]string{statusLateDone, statusFailed}, k.rec.Status) // late
	refused := k.status == statusRefused && k.rec.Status == statusNever
	switch {
	case k.shown != "" && k.shown != k.rec.Status && !k.unwrittenShown:
		return "cmd_differs", fmt.Sprintf("was shown to be %s, and the record has %v", k.shown, k.rec)
	case k.status == "" || k.status == k.rec.Status || answered || refused || k.unwritten:
		return "", ""
	}
	return "cmd_differs", fmt.Sprintf("was said to be %s, and the record has %v", k.status, k.rec)
}

// ignoredProof finds a word of the device that the hub has acknowledged, and that the record leaves
// out. The lock is held.
func (u *unit) ignoredProof(k *commandCase) (verdict, text string) {
	l := &u.ledger
	switch k.rec.Status {
	case statusConfirmed, statusLateDone, statusFailed, statusRejected:
		return "", ""
	}
	inTime := func(at int64) bool {
		return at > 0 && k.read.UnixMilli()-at > lateBy.Milliseconds() &&
			(k.rec.ExpiresAt == 0 || at < k.rec.ExpiresAt-lateBy.Milliseconds())
	}
	say := func(what string, at int64) (verdict, text string) {
		return "cmd_proof_ignored", fmt.Sprintf("is %v, and %s at %s", k.rec, what, stamp(time.UnixMilli(at)))
	}
	if k.visible && k.heard {
		// A report of this life of the command, which the hub took after it had sent it last.
		r := l.proves(k.want, max(k.given.UnixMilli(), l.last(k.id, arrived)))
		if r != nil && inTime(r.taken) {
			return say("the device showed it", r.at)
		}
	}
	if ends := outcomeOf(k.rec.Status, k.rec.Code); ends == isDone || ends == isUnconfirmed {
		return "", ""
	}
	for _, what := range []momentKind{doneTaken, failedTaken} {
		if at := l.last(k.id, what); inTime(at) {
			return say(momentNames[what], at)
		}
	}
	return "", ""
}

// toldOf is the time line of a command: what the device heard and said, its reports, and the hub's
// record. The lock is held.
func (u *unit) toldOf(c *issued, rec CommandRecord) []string {
	lines := []string{}
	if !c.given.IsZero() {
		lines = append(lines, stamp(c.given)+"  given")
	}
	lines = append(lines, u.ledger.told(c.id)...)
	n := 0
	for _, r := range u.ledger.reports {
		if r.at < c.given.UnixMilli() || r.at > rec.ExpiresAt+lateBy.Milliseconds() || n == 10 {
			continue
		}
		n++
		line := fmt.Sprintf("%s  reported on=%v brightness=%d", stamp(time.UnixMilli(r.at)), r.on, r.brightness)
		if r.moving {
			line += ", moving"
		}
		if r.taken > 0 {
			line += ", taken " + stamp(time.UnixMilli(r.taken))
		}
		lines = append(lines, line)
	}
	slices.Sort(lines) // each begins with its time of day, but for what the device never heard
	return append(lines, fmt.Sprintf("the hub's record: %v, %s %s, attempt %d, until %s",
		rec, rec.Op, rec.Params, rec.Attempt, stamp(time.UnixMilli(rec.ExpiresAt))))
}
