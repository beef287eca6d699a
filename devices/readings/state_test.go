package readings

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// naive decides numbers as the rules of a window say, one by one.
type naive struct {
	ack     int64
	decided map[int64]bool
}

func (n *naive) mark(s int64) {
	n.decided[s] = true
	n.ack = max(n.ack, s-WindowSize)
	for n.decided[n.ack+1] {
		n.ack++
	}
}

func TestWindowAgainstASet(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := Window{Boot: "b"}
		n := naive{decided: map[int64]bool{}}
		next := int64(1)
		for i := range 3000 {
			s := max(1, next-r.Int64N(1+r.Int64N(300)))
			if r.IntN(500) == 0 {
				s = next + r.Int64N(9000)
			}
			if r.IntN(3) > 0 {
				next = max(next, s+1)
			}
			if got, want := w.Decided(s), n.decided[s]; got != want && (s > n.ack || contains(w.Gaps, s)) {
				t.Fatalf("seed %d, step %d: Decided(%d) is %v, want %v", seed, i, s, got, want)
			}
			before := w.Ack
			if w.Decided(s) {
				continue // a duplicate, or out of memory
			}
			w.Mark(s)
			n.mark(s)
			if w.Ack < before {
				t.Fatalf("ack fell from %d to %d", before, w.Ack)
			}
			if w.Ack != n.ack {
				t.Fatalf("seed %d, step %d, mark %d: ack is %d, want %d", seed, i, s, w.Ack, n.ack)
			}
			lost := int64(0)
			if i%100 == 0 {
				for s := int64(1); s <= w.Ack; s++ {
					if !n.decided[s] {
						lost++
					}
				}
				if w.Lost != lost {
					t.Fatalf("%d are lost, want %d", w.Lost, lost)
				}
				b := w.appendState(nil)
				var back Window
				in := stateReader{b: b}
				back.loadState(&in)
				w2 := w.clone()
				if w2.n == 0 {
					w2.bits = nil
				}
				if in.bad || len(in.b) > 0 || !slices.Equal(back.bits, w2.bits) || back.Ack != w.Ack || back.n != w.n ||
					!slices.Equal(back.Gaps, w.Gaps) || !reflect.DeepEqual(back.appendState(nil), b) {
					t.Fatalf("seed %d: read back %+v, want %+v", seed, back, w)
				}
			}
		}
	}
}

func FuzzLoadState(f *testing.F) {
	b := NewBook()
	r := b.Record("t-1")
	x := b.Define(r, "temperature", "float", "°C", false)
	for i := range int64(30) {
		b.Apply(&Entry{Rec: r, Boot: "b", Items: []Stored{{S: x, Point: Point{T: i * 1000, F: 1.5}, Seq: 1 + i*i}}}, 0)
	}
	f.Add(r.AppendState(nil))
	f.Fuzz(func(t *testing.T, state []byte) {
		if err := b.LoadState(r, state); err != nil {
			return
		}
		again := r.AppendState(nil)
		if err := b.LoadState(r, again); err != nil {
			t.Errorf("%x is read, and not what is written of it: %x", state, again)
		}
	})
}

func TestAStepMakesTheClockSuspect(t *testing.T) {
	now := time.UnixMilli(1_763_726_400_000)
	for _, c := range []struct {
		wall time.Duration
		want bool
	}{{time.Second, false}, {10*time.Minute + time.Second, false}, {10*time.Minute + 2*time.Second, true}, {-10 * time.Minute, true}, {365 * 24 * time.Hour, true}} {
		var k clock
		k.start(ClockMark{Wall: now.UnixMilli()}, now)
		at := now.Add(c.wall)
		k.moved(at, c.wall, time.Second)
		if k.state.Suspect != c.want {
			t.Errorf("a step to %v: suspect %v, want %v", c.wall, k.state.Suspect, c.want)
		}
		if c.want && k.state.Recorded != now.UnixMilli() {
			t.Errorf("a suspect time was trusted: %d", k.state.Recorded)
		}
		// The mark says so, and a start after it is suspect again.
		m := k.mark(at)
		if !c.want {
			continue
		}
		if m == nil || !m.Suspect || m.Wall != now.UnixMilli() {
			t.Errorf("marked %+v, want the time before the step, suspect", m)
		}
		var again clock
		again.start(*m, at)
		if !again.state.Suspect {
			t.Error("forgotten by a start")
		}
	}
}
