package sqlite

import (
	"encoding/json"
	"slices"
	"time"

	"devicehub/devices"
	"devicehub/hub/logbound"
)

const (
	foldFor   = time.Hour // how long identical refusals are one entry
	maxFolds  = 4096      // entries of refusals within it
	foldsOfIt = 32        // of one actor; beyond it, one for each action and code
	maxFacts  = 1 << 10   // bytes of what a refused action would have changed
	maxTarget = 256       // bytes of what it was about, and of a command's id
)

// others stands in an entry for many, whom nobody wants to read of one by one.
const others = "(others)"

// foldKey is what identical refusals have in common.
type foldKey struct{ actor, ip, via, action, target, outcome, code string }

// fold is one entry for all refusals of a key within foldFor.
type fold struct {
	e       devices.AuditEntry // the first
	count   int64
	last    int64 // ms since epoch
	seq     int64 // of the row; 0: it is not written yet
	written int64 // the count in the row
}

// folds are the entries of refusals of the last hour, by actor.
type folds struct {
	of   map[string]map[foldKey]*fold
	n    int
	late []*fold // of hours that are over, and not written to the end
}

func newFolds() folds { return folds{of: map[string]map[foldKey]*fold{}} }

// add counts a refusal. It returns the fold if it is new.
func (fs *folds) add(e devices.AuditEntry) (made *fold) {
	e.Target, e.CmdID = logbound.Clip(e.Target, maxTarget), logbound.Clip(e.CmdID, maxTarget) // a client's words
	k := foldKey{e.Actor, e.IPHash, e.Via, e.Action, e.Target, e.Outcome, string(e.Code)}
	if e.Stranger {
		k.ip, k.via = "", ""
	}
	own := fs.of[k.actor]
	old := own[k]
	switch room := fs.n < maxFolds; {
	case old != nil && old.holds(e.At):
		old.count++
		old.last = max(old.last, e.At)
		return nil
	case old != nil:
		fs.drop(k)
	case room && len(own) < foldsOfIt:
	case k.target != others:
		e.IPHash, e.Via, e.Target, e.CmdID, e.Before, e.After = "", "", others, "", nil, nil
		return fs.add(e)
	case room && len(own) < 4*foldsOfIt: // there are not so many actions and codes
	case e.Actor != others:
		e.Actor, e.Action, e.Outcome, e.Code = others, others, "refused", ""
		return fs.add(e)
	}
	e.Before, e.After = facts(e.Before), facts(e.After)
	f := &fold{e: e, count: 1, last: e.At}
	if fs.of[k.actor] == nil {
		fs.of[k.actor] = map[foldKey]*fold{}
	}
	fs.of[k.actor][k] = f
	fs.n++
	return f
}

// changed says that an actor has changed a target: what it is refused from now on is another
// entry, so that the order of what became of it stays.
func (fs *folds) changed(actor, target string) {
	for k := range fs.of[actor] {
		if k.target == target {
			fs.drop(k)
		}
	}
}

// drop makes no more of a fold, but for what its row does not say yet.
func (fs *folds) drop(k foldKey) {
	own := fs.of[k.actor]
	if f := own[k]; f.behind() && len(fs.late) < maxFolds {
		fs.late = append(fs.late, f)
	}
	delete(own, k)
	fs.n--
	if len(own) == 0 {
		delete(fs.of, k.actor)
	}
}

// holds reports whether a refusal at a time is one of the fold's.
func (f *fold) holds(at int64) bool { return at < f.e.At+foldFor.Milliseconds() }

// facts are what an action was about, as JSON, if that is not too long.
func facts(v any) any {
	text, some := jsonOrNull(v).(string)
	switch {
	case !some:
		return nil
	case len(text) > maxFacts:
		return map[string]int{"bytes": len(text)}
	}
	return json.RawMessage(text)
}

// behind reports whether the fold's row does not say all.
func (f *fold) behind() bool { return f.count != f.written }

// risen are those whose rows are behind.
func (fs *folds) risen() (list []*fold) {
	see := func(f *fold) {
		if f.seq != 0 && f.behind() {
			list = append(list, f)
		}
	}
	for _, f := range fs.late {
		see(f)
	}
	for _, own := range fs.of {
		for _, f := range own {
			see(f)
		}
	}
	return list
}

// sweep forgets what is over at a time and written.
func (fs *folds) sweep(at int64) {
	fs.late = slices.DeleteFunc(fs.late, func(f *fold) bool { return !f.behind() })
	for _, own := range fs.of {
		for k, f := range own {
			if !f.holds(at) && !f.behind() {
				fs.drop(k)
			}
		}
	}
}
