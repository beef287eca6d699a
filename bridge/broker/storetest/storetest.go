// Package storetest holds every store of the broker to what [broker.Store] says.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"devicehub/bridge/broker"
)

// Test runs the suite. open opens the store at a place; again, if not nil, is
// called on a store that is open and opens it as after a crash.
func Test(t *testing.T, open func(t *testing.T) broker.Store, again func(t *testing.T, s broker.Store) broker.Store) {
	reopen := func(t *testing.T, s broker.Store) broker.Store {
		if again == nil {
			return s
		}
		return again(t, s)
	}
	t.Run("empty", func(t *testing.T) {
		want(t, open(t), map[broker.Key]string{})
	})
	t.Run("put, put again, delete", func(t *testing.T) {
		s := open(t)
		commit(t, s, change(1, "a"), change(2, ""), change(3, "c"))
		want(t, s, map[broker.Key]string{k(1): "a", k(2): "", k(3): "c"})
		commit(t, s, change(1, "b"), gone(3), gone(4))
		want(t, s, map[broker.Key]string{k(1): "b", k(2): ""})
		s = reopen(t, s)
		want(t, s, map[broker.Key]string{k(1): "b", k(2): ""})
		commit(t, s, gone(1), gone(2))
		want(t, reopen(t, s), map[broker.Key]string{})
	})
	t.Run("keys differ in every part", func(t *testing.T) {
		s := open(t)
		all := map[broker.Key]string{}
		for _, key := range []broker.Key{{Kind: 'a', A: 1, B: 2}, {Kind: 'b', A: 1, B: 2}, {Kind: 'a', A: 2, B: 1}, {Kind: 'a', A: 1<<64 - 1, B: 1<<64 - 1}, {Kind: 'a'}} {
			all[key] = fmt.Sprint(key)
			commit(t, s, broker.Change{Key: key, Value: []byte(all[key])})
		}
		want(t, reopen(t, s), all)
	})
	t.Run("values are the caller's again", func(t *testing.T) {
		s := open(t)
		v := []byte("kept")
		commit(t, s, broker.Change{Key: k(1), Value: v})
		copy(v, "gone")
		want(t, s, map[broker.Key]string{k(1): "kept"})
	})
	t.Run("large", func(t *testing.T) {
		s := open(t)
		v := bytes.Repeat([]byte("large "), 1<<20)
		commit(t, s, change(1, "small"), broker.Change{Key: k(2), Value: v})
		want(t, reopen(t, s), map[broker.Key]string{k(1): "small", k(2): string(v)})
	})
	t.Run("an error of each is returned", func(t *testing.T) {
		s := open(t)
		commit(t, s, change(1, "a"), change(2, "b"))
		n, stop := 0, errors.New("stop")
		if err := s.Load(func(broker.Key, []byte) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
			t.Errorf("got %v after %d records, want %v after 1", err, n, stop)
		}
	})
	t.Run("random", func(t *testing.T) {
		s, model := open(t), map[broker.Key]string{}
		r := rand.New(rand.NewPCG(1, 2))
		for round := range 300 {
			var cs []broker.Change
			for _, i := range r.Perm(200)[:r.IntN(50)] {
				key := k(uint64(i))
				if r.IntN(3) == 0 {
					cs = append(cs, broker.Change{Key: key})
					delete(model, key)
					continue
				}
				v := bytes.Repeat([]byte{byte(round)}, r.IntN(3000))
				cs = append(cs, broker.Change{Key: key, Value: v})
				model[key] = string(v)
			}
			commit(t, s, cs...)
			if round%50 == 0 {
				s = reopen(t, s)
				want(t, s, model)
			}
		}
		want(t, reopen(t, s), model)
	})
}

func k(n uint64) broker.Key { return broker.Key{Kind: 'k', A: n} }

func change(n uint64, v string) broker.Change { return broker.Change{Key: k(n), Value: []byte(v)} }

func gone(n uint64) broker.Change { return broker.Change{Key: k(n)} }

func commit(t *testing.T, s broker.Store, cs ...broker.Change) {
	t.Helper()
	if err := s.Commit(cs); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, s broker.Store, all map[broker.Key]string) {
	t.Helper()
	got := map[broker.Key]string{}
	if err := s.Load(func(key broker.Key, v []byte) error {
		if _, twice := got[key]; twice {
			t.Errorf("%v comes twice", key)
		}
		got[key] = string(v)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, all) {
		t.Fatalf("got %d records, want %d; keys %v and %v", len(got), len(all), slices.Collect(maps.Keys(got)), slices.Collect(maps.Keys(all)))
	}
}
