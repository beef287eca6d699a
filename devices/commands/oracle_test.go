package commands

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"devicehub/devices/lights"
)

// rules is what must hold in every life, by a book of its own.
//
//   - Nothing leaves before it is durable or after it expired, or more than three
//     times; what may run once leaves once; what is done, not again, and nothing
//     leaves again that would undo it. Ten sets a second are the most.
//   - A command is confirmed, or late, by every report that proves it, at once,
//     and by no other.
//   - Of a group one command is under way, until it is done; the next leaves then.
//   - The state is asked for once for each command that is done and was not shown
//     within a second, and for no other.
//   - A device that has answered is not called unresponsive, and no time is below
//     zero.
//   - No final word is taken back, and every command comes to an end.
type rules struct {
	l *life

	mu      sync.Mutex
	book    map[string]*entry
	ids     []string
	state   lights.Fields // with interim values
	settled lights.Fields
	left    int
	firsts  int
	sets    []time.Time // that left for the first time
	every   []time.Time // that left
	seen    int         // of told

	linked   bool
	full     bool
	window   int
	epoch    int64
	since    time.Time // when the link was opened
	asked    map[string]bool
	lastSent string
}

// entry is one command in the book.
type entry struct {
	rec       Record
	want      lights.Fields
	group     lights.Group
	fade      time.Duration // its transition
	leftAt    time.Time
	nth       int
	epoch     int64
	times     int // that it left
	first     int // of all that ever left, when it did so for the first time
	forwarded bool
	doneAt    time.Time // or passed on
	onTheWay  time.Time
	asked     string // the refresh by which it was asked for
	may       bool   // be confirmed, or have ended late
	must      bool
	stated    bool // a report came since it was sent
	answered  bool
	lateDone  bool // the device has said done
	end       Status
}

func (o *rules) init(l *life) {
	o.l, o.book, o.asked = l, map[string]*entry{}, map[string]bool{}
	o.state, o.settled = lights.Fields{}, lights.Fields{}
	l.live.silent = o.unanswered
}

func (o *rules) issued(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ids = append(o.ids, id)
}

func (o *rules) any(rnd *rand.Rand) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.ids) == 0 {
		return ""
	}
	return o.ids[rnd.IntN(len(o.ids))]
}

// entry is that of a command, brought up to what was told of it.
func (o *rules) entry(id string) *entry {
	o.read()
	return o.book[id]
}

// read takes in what was told since.
func (o *rules) read() {
	o.l.world.mu.Lock()
	told := o.l.told[min(o.seen, len(o.l.told)):]
	o.seen = len(o.l.told)
	o.l.world.mu.Unlock()
	for _, e := range told {
		if r, ok := e.Payload.(Record); ok {
			o.told(r)
		}
	}
}

func (o *rules) told(r Record) {
	e := o.book[r.CmdID]
	if e == nil {
		e = &entry{want: lights.Fields{}}
		for name, v := range r.Params {
			switch v := v.(type) {
			case bool:
				e.want[name] = v
			case float64:
				e.want[name] = v
			}
		}
		e.fade = time.Duration(number(r.Params["transition_ms"])) * time.Millisecond
		delete(e.want, "transition_ms")
		if lights.Op(r.Op) != lights.Set {
			e.want = lights.Fields{}
		}
		e.group = e.want.Groups()
		o.book[r.CmdID] = e
	}
	was := e.rec.Status
	e.rec = r
	o.final(e)
	for _, h := range []*int64{r.Hops.Hub, r.Hops.Wire, r.Hops.Device, r.Hops.Confirm} {
		if h != nil && (*h < 0 || *h > r.At-r.IssuedAt) {
			o.l.bad("%+v: %d ms of %d", r, *h, r.At-r.IssuedAt)
		}
	}
	switch r.Status {
	case Done:
		if was != Done {
			e.doneAt = time.UnixMilli(r.At)
		}
		if r.Code == CodeUnconfirmed {
			o.unconfirmed(e)
		}
	case Confirmed:
		if !e.may && lights.Op(r.Op) != lights.Restart {
			o.l.bad("%+v is confirmed by nothing; the state is %v", r, o.state)
		}
	case LateDone:
		if !e.may && !e.lateDone && lights.Op(r.Op) != lights.Restart {
			o.l.bad("%+v is late for nothing", r)
		}
	}
	if r.Code == CodeOutcomeUnknown && r.Status != TimedOut || r.Status == Expired && r.Attempt > 0 {
		o.l.bad("%+v", r)
	}
}

func (o *rules) final(e *entry) {
	if e.end != "" && e.end != e.rec.Status {
		o.l.bad("%+v was %s", e.rec, e.end)
	}
	switch e.rec.Status {
	case Refused, Cancelled, Superseded, Rejected, Failed, Confirmed, Expired, LateDone:
		e.end = e.rec.Status
	}
}

// over is asked at the end of a life.
func (o *rules) over() {
	if st := o.l.Stats(); st.Open != 0 {
		o.l.bad("%d commands never ended", st.Open)
	}
	for _, id := range o.ids {
		row, ok, err := o.l.store.Command(o.l.t.Context(), "lamp", id)
		if err != nil || !ok || !row.Final {
			o.l.bad("%s: stored %t, final %t, %v", id, ok, row.Final, err)
		}
	}
}

// killed takes over what the next hub knows.
func (o *rules) killed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.linked, o.seen, o.left = false, 0, 0
	o.asked, o.sets, o.every, o.lastSent = map[string]bool{}, nil, nil, ""
	o.state = o.settled
	for id, e := range o.book {
		e.nth = 0
		c := o.l.knows(id)
		if c == nil {
			continue
		}
		// What was told within the last 50 ms before the kill may be told again.
		if at := time.UnixMilli(e.rec.At); c.rec.Status != e.rec.Status && !c.op().Momentary() && time.Since(at) > 100*time.Millisecond {
			o.l.bad("%+v is %s after a restart", e.rec, c.rec.Status)
		}
		at := time.UnixMilli(c.rec.At)
		*e = entry{rec: c.rec, want: e.want, group: e.group, fade: e.fade, times: e.times, first: e.first, doneAt: at}
		switch c.rec.Status {
		case Sent, Acked, Done:
			e.leftAt = at
		}
	}
}

func (o *rules) connected(epoch int64, window int, full bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.read()
	o.linked, o.epoch, o.window, o.full, o.since = true, epoch, window, full, time.Now()
}

func (o *rules) disconnected() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.read()
	o.linked = false
}

// leaves looks at what goes to the device at the moment it goes.
func (o *rules) leaves(e Envelope, epoch int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.read()
	now := time.Now()
	if e.TTLMS <= 0 || now.UnixMilli() >= e.ExpiresAt || e.Attempt > maxAttempts {
		o.l.bad("%+v left", e)
	}
	if e.By == "hub" {
		o.refresh(e, now)
		return
	}
	if _, ok, _ := o.l.store.Command(o.l.t.Context(), "lamp", e.CmdID); !ok {
		o.l.bad("%+v is not durable", e)
	}
	c := o.book[e.CmdID]
	if c == nil { // that it is pending is being told at this moment
		o.told(o.l.knows(e.CmdID).rec)
		c = o.book[e.CmdID]
	}
	switch {
	case lights.Op(e.Op).Momentary() && c.times > 0:
		o.l.bad("%+v left again", e)
	case c.rec.Status == Done || c.over():
		o.l.bad("%+v left and is %s", e, c.rec.Status)
	}
	if c.times == 0 {
		for _, other := range o.book {
			if other != c && other.group&c.group != 0 && other.under(now) {
				o.l.bad("%+v left while %+v is under way", e, other.rec)
			}
		}
	}
	for _, other := range o.book {
		if c.times > 0 && other.first > c.first && other.group&c.group != 0 && (other.rec.Status == Done || other.rec.Status == Confirmed) {
			o.l.bad("%+v left again, and undoes %+v", e, other.rec)
		}
	}
	o.left++
	c.leftAt, c.nth, c.epoch = now, o.left, epoch
	if c.times++; c.times == 1 {
		o.firsts++
		c.first = o.firsts
	}
	o.lastSent = e.CmdID
	if e.Op == "set" {
		o.every = append(o.every, now)
		if e.Attempt == 1 {
			o.sets = append(o.sets, now)
		}
		if n := len(o.sets); n > maxSends && now.Sub(o.sets[n-1-maxSends]) < time.Second {
			o.l.bad("%d sets within %v", maxSends+1, now.Sub(o.sets[n-1-maxSends]))
		}
	}
}

// under reports whether it keeps others of its groups waiting.
func (e *entry) under(now time.Time) bool {
	return (e.rec.Status == Sent || e.rec.Status == Acked) && now.UnixMilli() < e.rec.ExpiresAt
}

// over reports whether nothing more is said of it.
func (e *entry) over() bool {
	return e.end != "" || e.rec.Code == CodeUnconfirmed || e.rec.Code == CodeOutcomeUnknown ||
		e.rec.Status == Done && len(e.want) == 0 && lights.Op(e.rec.Op) != lights.Restart
}

func (e *entry) waits() bool { return e.rec.Status == Pending || e.rec.Status == Queued }

// refused is what a full link did not take.
func (o *rules) refused(e Envelope) {
	if e.By != "hub" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.read()
	if len(o.due(time.Now())) == 0 {
		o.l.bad("%+v: nothing is overdue", e)
	}
}

// due are the commands whose proof is overdue.
func (o *rules) due(now time.Time) (due []*entry) {
	for _, e := range o.book {
		if o.unproven(e) && !now.Before(o.dueAt(e)) {
			due = append(due, e)
		}
	}
	return due
}

func (o *rules) unproven(e *entry) bool {
	return len(e.want) > 0 && !e.over() && e.asked == "" && !o.overtaken(e) &&
		(e.rec.Status == Done || e.rec.Status == Acked && e.forwarded)
}

func (o *rules) dueAt(e *entry) time.Time {
	at := e.doneAt
	for _, t := range []time.Time{e.onTheWay, e.leftAt.Add(e.fade), o.since} {
		if t.After(at) {
			at = t
		}
	}
	return at.Add(time.Second)
}

func (o *rules) overtaken(e *entry) bool {
	for _, other := range o.book {
		if other != e && other.group&e.group != 0 && other.nth > e.nth {
			switch other.rec.Status {
			case Pending, Queued, Sent, Acked, Done, Confirmed, LateDone: // it has left, whatever was told
				return true
			}
		}
	}
	return false
}

// refresh looks at a question of the hub's own.
func (o *rules) refresh(e Envelope, now time.Time) {
	due := o.due(now)
	if len(due) == 0 || e.Op != "refresh" || o.asked[e.CmdID] || o.book[e.CmdID] != nil {
		o.l.bad("%+v: nothing is overdue", e)
	}
	for _, c := range due {
		c.asked = e.CmdID
	}
	o.asked[e.CmdID] = true
}

// unconfirmed looks at a command that ended without a proof: there was no time to
// ask, or no way, or it was asked in vain, or there was too much of it.
func (o *rules) unconfirmed(e *entry) {
	now := time.UnixMilli(e.rec.At)
	calm := func(t time.Time) bool { return now.Sub(t) > 500*time.Millisecond }
	if o.linked && !o.full && o.window == 0 && o.unproven(&entry{rec: Record{Status: Done}, want: e.want, asked: e.asked, group: e.group, nth: e.nth}) &&
		calm(o.dueAt(e)) && now.UnixMilli() >= e.rec.ExpiresAt {
		o.l.bad("%+v was not asked for, due at %v", e.rec, o.dueAt(e))
	}
}

// known reports whether an answer to it is to be expected, by the hub that runs.
func (o *rules) known(id string) bool {
	if o.l.knows(id) != nil {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.book {
		if e.asked == id && o.l.knows(e.rec.CmdID) != nil {
			return true
		}
	}
	return false
}

// answers notes that the device says this of a command.
func (o *rules) answers(id, status string, epoch int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e := o.entry(id); e != nil {
		e.lateDone = e.lateDone || status == "done"
		o.heard(e, epoch)
	}
}

// heard notes that the device knows the command. After a restart the hub may not
// know yet that it had sent it.
func (o *rules) heard(e *entry, epoch int64) {
	e.answered = true
	if e.leftAt.IsZero() && e.waits() {
		o.left++
		e.leftAt, e.nth, e.epoch = time.Now(), o.left, epoch
	}
}

// forwarded notes that an adapter passes a command on.
func (o *rules) forwarded(id string, epoch int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.entry(id)
	if e == nil || e.over() {
		return
	}
	if e.rec.Status != Acked && e.rec.Status != Done {
		e.doneAt = time.Now()
	}
	e.forwarded = true
	o.heard(e, epoch)
	e.must = e.must || e.stated && lights.Op(e.rec.Op) == lights.Refresh
}

// reported holds a report that is about to be given against every command.
func (o *rules) reported(r lights.Report, epoch int64, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.read()
	o.state = o.state.Merge(r.Fields)
	if !r.Transitioning {
		o.settled = o.state
	}
	from := at.UnixMilli()
	if !o.asked[r.Cmd] && r.T != 0 && (r.Cause == lights.CauseSync || r.Cause == lights.CauseBoot) {
		from = min(from, r.T)
	}
	ids := slices.SortedFunc(maps.Keys(o.book), func(a, b string) int { return o.book[b].nth - o.book[a].nth }) // the newest first
	var late lights.Group                                                                                       // of those that are late by this report
	for _, id := range ids {
		e := o.book[id]
		if e.over() {
			continue
		}
		if r.Transitioning {
			e.onTheWay = time.Now()
		}
		named := r.Cmd == id
		if named {
			o.heard(e, epoch)
		}
		if r.Transitioning {
			continue
		}
		shown := len(e.want) > 0 && o.state.Fulfils(e.want, lights.Unknown)
		since := !e.leftAt.IsZero() && !at.Before(e.leftAt) && epoch >= e.epoch && from >= e.leftAt.UnixMilli()
		switch {
		case named:
			e.must = e.must || shown || lights.Op(e.rec.Op) == lights.Refresh
		case !since:
		case lights.Op(e.rec.Op) == lights.Refresh:
			e.stated = true
			e.must = e.must || e.forwarded
		case shown && o.speaks(r, e) && !(e.rec.Status == TimedOut && (o.overtaken(e) || late&e.group != 0)):
			e.must = true
		}
		if e.must {
			late |= e.group
		}
		e.may = e.may || e.must
	}
}

func (o *rules) speaks(r lights.Report, e *entry) bool {
	names := []string{lights.On, lights.Brightness, lights.Kelvin}
	if e.want[lights.On] == false {
		names = names[:1]
	}
	for _, name := range names {
		_, wanted := e.want[name]
		if _, said := r.Fields[name]; said && wanted {
			return true
		}
	}
	return false
}

// check is asked whenever nothing more happens by itself.
func (o *rules) check() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.read()
	now := time.Now()
	busy := false
	for _, e := range o.book {
		busy = busy || e.rec.Status == Sent && e.epoch == o.epoch
		if e.must && !e.over() {
			o.l.bad("%+v is proven: the state is %v, it left at %v", e.rec, o.state, e.leftAt)
		}
	}
	if !o.linked || o.full || busy && o.window > 0 {
		return
	}
	for _, e := range o.due(now.Add(-2 * time.Millisecond)) {
		o.l.bad("%+v: its state is not asked for, due at %v", e.rec, o.dueAt(e))
	}
	o.free(now)
}

// free looks for a command that waits for nothing.
func (o *rules) free(now time.Time) {
	recent, fresh := 0, false
	for _, at := range o.every {
		if now.Sub(at) < time.Second {
			recent++
		}
		fresh = fresh || now.Sub(at) <= minSpacing
	}
	var held lights.Group
	for _, e := range o.book {
		if e.under(now) {
			held |= e.group
		}
	}
	for _, id := range o.ids {
		e := o.book[id]
		if e == nil || !e.waits() {
			continue
		}
		paced := lights.Op(e.rec.Op) == lights.Set && (recent >= burst || fresh)
		writing := lights.Op(e.rec.Op).Momentary() // the disk must know that it may have left
		if e.group&held == 0 && !paced && !writing && e.rec.ExpiresAt-now.UnixMilli() > 1 {
			o.l.bad("%+v waits for nothing", e.rec)
		}
		held |= e.group
	}
}

// unanswered is told that the device is called unresponsive.
func (o *rules) unanswered() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.read()
	if e := o.book[o.lastSent]; e != nil && (e.answered || e.may) {
		o.l.bad("unresponsive, and %+v is answered", e.rec)
	}
}
