package presence_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/hub/presence"
	"devicehub/hub/pubsub"
)

// viewer does with state and diffs what phoenix.js does.
// Source: phoenix assets/js/phoenix/presence.js, syncDiff.
type viewer struct {
	mu    sync.Mutex
	state map[string][]presence.Meta
	diffs []string
}

type wireState map[string]struct{ Metas []presence.Meta }

func (v *viewer) Deliver(m *pubsub.Message) {
	v.mu.Lock()
	defer v.mu.Unlock()
	text, err := json.Marshal(m.Payload)
	if err != nil {
		panic(err)
	}
	v.diffs = append(v.diffs, string(text))
	var d struct{ Joins, Leaves wireState }
	if err := json.Unmarshal(text, &d); err != nil {
		panic(err)
	}
	if v.state == nil {
		return
	}
	for key, e := range d.Joins {
		metas := slices.DeleteFunc(v.state[key], func(old presence.Meta) bool {
			return slices.ContainsFunc(e.Metas, func(m presence.Meta) bool { return m["phx_ref"] == old["phx_ref"] })
		})
		v.state[key] = append(metas, e.Metas...)
	}
	for key, e := range d.Leaves {
		metas := slices.DeleteFunc(v.state[key], func(old presence.Meta) bool {
			return slices.ContainsFunc(e.Metas, func(m presence.Meta) bool { return m["phx_ref"] == old["phx_ref"] })
		})
		if v.state[key] = metas; len(metas) == 0 {
			delete(v.state, key)
		}
	}
}

func (v *viewer) seen() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.diffs)
}

func (v *viewer) sync(s presence.State) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state = make(map[string][]presence.Meta)
	for key, e := range s.Entries() {
		v.state[key] = e.Metas
	}
}

// refs returns the refs by key, to compare what two have seen.
func refs(state map[string][]presence.Meta) string {
	var all []string
	for key, metas := range state {
		for _, m := range metas {
			all = append(all, fmt.Sprint(key, " ", m["phx_ref"]))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func (v *viewer) refs() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return refs(v.state)
}

func TestTrackUpdateUntrack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := pubsub.NewLocal()
		tr := presence.New(ps)
		var v viewer
		ps.Subscribe("t", &v)
		owner, end := context.WithCancel(t.Context())

		ref, err := tr.Track(owner, "t", "k", presence.Meta{"a": 1})
		if err != nil || len(ref) != 16 {
			t.Fatalf("got ref %q, %v, want 16 characters", ref, err)
		}
		if _, err := tr.Track(owner, "t", "k", nil); !errors.Is(err, presence.ErrTracked) {
			t.Errorf("tracked twice: got %v, want ErrTracked", err)
		}
		if got, want := string(must(json.Marshal(tr.List("t")))), `{"k":{"metas":[{"a":1,"phx_ref":"`+ref+`"}]}}`; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		time.Sleep(time.Second)
		ref2, err := tr.Update(owner, "t", "k", presence.Meta{"a": 2})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		end()
		time.Sleep(time.Second)
		if _, err := tr.Update(owner, "t", "k", nil); !errors.Is(err, presence.ErrNotTracked) {
			t.Errorf("update of nobody: got %v, want ErrNotTracked", err)
		}
		if _, err := tr.Track(owner, "t", "k", nil); !errors.Is(err, presence.ErrEnded) {
			t.Errorf("owner has ended: got %v, want ErrEnded", err)
		}
		one := `{"a":1,"phx_ref":"` + ref + `"}`
		two := `{"a":2,"phx_ref":"` + ref2 + `","phx_ref_prev":"` + ref + `"}`
		want := []string{
			`{"joins":{"k":{"metas":[` + one + `]}},"leaves":{}}`,
			`{"joins":{"k":{"metas":[` + two + `]}},"leaves":{"k":{"metas":[` + one + `]}}}`,
			`{"joins":{},"leaves":{"k":{"metas":[` + two + `]}}}`,
		}
		if got := v.seen()[:3]; !slices.Equal(got, want) {
			t.Errorf("got diffs\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		time.Sleep(time.Second)
		if got := tr.Count("t"); got != 0 {
			t.Errorf("got %d keys, want 0", got)
		}
	})
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestMergedDiffs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := pubsub.NewLocal()
		tr := presence.New(ps)
		var v viewer
		ps.Subscribe("t", &v)
		for i := range 100 {
			owner, cancel := context.WithCancel(t.Context())
			defer cancel()
			tr.Track(owner, "t", fmt.Sprint(i), nil)
		}
		brief, leave := context.WithCancel(t.Context())
		tr.Track(brief, "t", "brief", nil)
		leave()
		synctest.Wait()
		if len(v.seen()) != 1 {
			t.Fatalf("at once: got %d diffs, want 1", len(v.seen()))
		}
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		if len(v.seen()) != 2 {
			t.Fatalf("after the window: got %d diffs, want 2", len(v.seen()))
		}
		if strings.Contains(v.seen()[1], "brief") {
			t.Errorf("who came and went between two diffs is in one: %s", v.seen()[1])
		}
		if got := strings.Count(v.seen()[1], "metas"); got != 99 {
			t.Errorf("got %d joins in the second diff, want 99", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(v.seen()) != 2 {
			t.Errorf("with nothing to tell: got %d diffs, want 2", len(v.seen()))
		}
	})
}

func TestListedJoinIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := pubsub.NewLocal()
		tr := presence.New(ps)
		var v viewer
		tr.Track(t.Context(), "t", "first", nil) // opens the window
		brief, leave := context.WithCancel(t.Context())
		tr.Track(brief, "t", "brief", nil)
		ps.Subscribe("t", &v)
		v.sync(tr.List("t"))
		leave()
		time.Sleep(time.Second)
		synctest.Wait()
		if got := v.refs(); strings.Contains(got, "brief") {
			t.Errorf("a ghost: %s", got)
		}
	})
}

// Whatever happens, state and diffs add up to what the tracker lists.
func TestDiffsAddUp(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			ps := pubsub.NewLocal()
			tr := presence.New(ps)
			type owner struct {
				ctx context.Context
				end func()
			}
			owners := make([]owner, 12)
			renew := func(i int) {
				ctx, cancel := context.WithCancel(t.Context())
				owners[i] = owner{ctx, cancel}
			}
			for i := range owners {
				renew(i)
			}
			var viewers []*viewer
			for range 400 {
				i := r.IntN(len(owners))
				key := fmt.Sprint("k", i%5)
				switch r.IntN(8) {
				case 0, 1, 2:
					tr.Track(owners[i].ctx, "t", key, presence.Meta{"i": i})
				case 3:
					tr.Update(owners[i].ctx, "t", key, presence.Meta{"i": -i})
				case 4:
					tr.Untrack(owners[i].ctx, "t", key)
				case 5:
					owners[i].end()
					synctest.Wait()
					renew(i)
				case 6:
					time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond)
				case 7:
					v := new(viewer)
					ps.Subscribe("t", v)
					v.sync(tr.List("t"))
					viewers = append(viewers, v)
				}
			}
			time.Sleep(time.Second)
			synctest.Wait()
			listed := make(map[string][]presence.Meta)
			for key, e := range tr.List("t").Entries() {
				listed[key] = e.Metas
				if got := tr.GetByKey("t", key); len(got) != len(e.Metas) {
					t.Errorf("GetByKey(%s): got %v, want %v", key, got, e.Metas)
				}
			}
			for i, v := range viewers {
				if got, want := v.refs(), refs(listed); got != want {
					t.Errorf("seed %d viewer %d: got\n%s\nwant\n%s", seed, i, got, want)
				}
			}
		})
	}
}

func TestHooks(t *testing.T) {
	ps := pubsub.NewLocal()
	var seen []presence.Diff
	tr := presence.New(ps,
		presence.WithFetch(func(topic string, entries map[string]presence.Entry) map[string]presence.Entry {
			for key, e := range entries {
				e.Extra = map[string]any{"name": "<" + key + ">"}
				entries[key] = e
			}
			return entries
		}),
		presence.WithOnDiff(func(_ string, d presence.Diff) { seen = append(seen, d) }))
	var v viewer
	ps.Subscribe("t", &v)
	ref, _ := tr.Track(t.Context(), "t", "k", nil)
	want := `{"k":{"metas":[{"phx_ref":"` + ref + `"}],"name":"<k>"}}`
	if got := string(must(tr.List("t").AppendJSON(nil))); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := v.seen()[0]; !strings.Contains(got, "k") || !strings.Contains(got, `"name"`) {
		t.Errorf("the diff has no name: %s", got)
	}
	if len(seen) != 1 || len(seen[0].Joins["k"].Metas) != 1 || len(seen[0].Leaves) != 0 {
		t.Errorf("OnDiff: got %v", seen)
	}
	if got := tr.List("t").Entries()["k"].Extra["name"]; got != "<k>" {
		t.Errorf("got extra %v", got)
	}
}

func TestConcurrentUse(t *testing.T) {
	ps := pubsub.NewLocal()
	tr := presence.New(ps)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 100 {
				ctx, cancel := context.WithCancel(context.Background())
				topic := fmt.Sprint(i % 3)
				tr.Track(ctx, topic, fmt.Sprint(g), nil)
				tr.List(topic)
				if i%2 == 0 {
					tr.Untrack(ctx, topic, fmt.Sprint(g))
				}
				cancel()
			}
		})
	}
	wg.Wait()
	deadline := time.Now().Add(5 * time.Second)
	for i := range 3 {
		for tr.Count(fmt.Sprint(i)) > 0 && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if got := tr.Count(fmt.Sprint(i)); got != 0 {
			t.Errorf("topic %d: got %d keys, want 0", i, got)
		}
	}
}

func BenchmarkJoinAndList1000(b *testing.B) {
	for b.Loop() {
		tr := presence.New(pubsub.NewLocal())
		for i := range 1000 {
			tr.Track(b.Context(), "t", fmt.Sprint("device-", i), presence.Meta{"online_at": i})
			tr.List("t")
		}
	}
}
