package logbound

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	window = time.Minute

	perOne   = 3    // lines of one message about one address, principal or bridge
	perNone  = 20   // lines of one message that is about nobody
	perLine  = 60   // lines of one message about all together
	maxKinds = 4096 // counted in a minute; beyond them all others of a level count as one
	toldOf   = 5    // those about whom most was held back are told of one by one
)

// attributes are those that lines are told apart by.
type attributes struct {
	key, who string // the first of the keys below that the line has
	rank     int
	code     string
}

// ranks are the keys that say whom a line is about. An address stands before a name, which a
// stranger may choose.
var ranks = map[string]int{"addr": 6, "id": 5, "device": 4, "bridge": 3, "remote": 2, "service": 1}

// see takes note of an attribute.
func (a *attributes) see(at slog.Attr) bool {
	if at.Key == "code" {
		a.code = Cut(at.Value.String(), maxValue)
	}
	if r := ranks[at.Key]; r > a.rank {
		if who := at.Value.String(); who != "" {
			a.rank, a.key, a.who = r, at.Key, Cut(who, maxValue)
		}
	}
	return true
}

// kind is what is counted together.
type kind struct {
	level     slog.Level
	msg, code string
	key, whom string // whom: the network of an address
	others    bool   // beyond maxKinds
}

type tally struct {
	kind
	seen, written int
	as            string // whom, as it was last told
}

// book counts the lines of a minute.
type book struct {
	next slog.Handler

	mu    sync.Mutex
	since time.Time
	kinds map[kind]*tally
	lines map[string]int // written of a message
}

func newBook(next slog.Handler) *book {
	return &book{next: next, since: time.Now(), kinds: map[kind]*tally{}, lines: map[string]int{}}
}

// admit counts a line, and says whether it is to be written.
func (b *book) admit(level slog.Level, msg string, of attributes) bool {
	k := kind{level: level, msg: Cut(msg, maxValue), code: of.code, key: of.key, whom: of.who}
	if k.key == "addr" || k.key == "remote" {
		k.whom = Network(of.who)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.kinds[k]
	if t == nil && len(b.kinds) >= maxKinds {
		k = kind{level: level, msg: "lines of too many kinds", others: true}
		t = b.kinds[k]
	}
	if t == nil {
		t = &tally{kind: k}
		b.kinds[k] = t
	}
	t.seen++
	t.as = of.who
	most := perNone
	if k.key != "" {
		most = perOne
	}
	if k.others || t.written >= most || b.lines[k.msg] >= perLine {
		return false
	}
	t.written++
	b.lines[k.msg]++
	return true
}

// tell tells of what was held back once the minute is over, or at once, and begins anew.
func (b *book) tell(ctx context.Context, atOnce bool) {
	b.mu.Lock()
	now := time.Now()
	if !atOnce && now.Sub(b.since) < window {
		b.mu.Unlock()
		return
	}
	kinds := b.kinds
	b.since, b.kinds, b.lines = now, map[kind]*tally{}, map[string]int{}
	b.mu.Unlock()

	byMessage := map[kind][]*tally{}
	for _, t := range kinds {
		if t.seen > t.written {
			k := kind{level: t.level, msg: t.msg}
			byMessage[k] = append(byMessage[k], t)
		}
	}
	for k, list := range byMessage {
		b.tellOf(ctx, now, k, list)
	}
}

// tellOf tells how many more there were of a message.
func (b *book) tellOf(ctx context.Context, now time.Time, k kind, list []*tally) {
	slices.SortFunc(list, func(x, y *tally) int { return cmp.Compare(y.missed(), x.missed()) })
	rest, of := 0, 0
	for i, t := range list {
		if i >= toldOf {
			rest, of = rest+t.missed(), of+1
			continue
		}
		r := slog.NewRecord(now, k.level, k.msg, 0)
		if t.key != "" {
			r.AddAttrs(slog.String(t.key, t.host()))
		}
		if t.code != "" {
			r.AddAttrs(slog.String("code", t.code))
		}
		r.AddAttrs(slog.Int("more", t.missed()))
		b.write(ctx, r)
	}
	if rest > 0 {
		r := slog.NewRecord(now, k.level, k.msg, 0)
		r.AddAttrs(slog.Int("others", of), slog.Int("more", rest))
		b.write(ctx, r)
	}
}

func (b *book) write(ctx context.Context, r slog.Record) {
	_ = b.next.Handle(context.WithoutCancel(ctx), r)
}

func (t *tally) missed() int { return t.seen - t.written }

// host is whom the line is about, an address without its port.
func (t *tally) host() string {
	if t.key == "addr" || t.key == "remote" {
		return Host(t.as)
	}
	return t.as
}
