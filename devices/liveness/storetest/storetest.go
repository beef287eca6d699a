// Package storetest holds every liveness.Store to what the tracker relies on.
package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/liveness"
)

// Test runs the suite. open returns a store in which the devices "a", "b" and
// "c" are registered; called again it returns the same store after a restart.
func Test(t *testing.T, open func(t *testing.T) liveness.Store) {
	ctx := t.Context()
	s := open(t)
	var last int64
	for i := range 4 {
		first, err := s.ReserveEpochs(ctx, 100)
		if err != nil || first <= last || first < 1 {
			t.Fatalf("epochs: got %d %v, want more than %d", first, err, last)
		}
		last = first + 99
		if i%2 == 1 {
			s = open(t)
		}
	}

	a := liveness.Known{Device: "a", State: devices.Online, Control: "ok", Since: 5, Epoch: 7, Transport: "mqtt",
		OfflineAfter: 90 * time.Second, LastSeen: 6, Linked: true}
	b := liveness.Known{Device: "b", State: devices.Sleeping, Control: "unknown", Reason: "client_close", AwakeAt: 99, LastSeen: 3}
	var trs []liveness.Transition
	for i := range 30 {
		trs = append(trs, liveness.Transition{Device: devices.ID([]string{"a", "b"}[i%2]), At: int64(1000 + i), From: devices.Offline, To: devices.Online,
			Reason: fmt.Sprint("r", i), Epoch: int64(i), Transport: "mqtt", Node: "n"})
	}
	if err := s.SavePresence(ctx, []liveness.Known{a, b}, trs); err != nil {
		t.Fatal(err)
	}
	a.State, a.Reason = devices.Offline, "kicked"
	if err := s.SavePresence(ctx, []liveness.Known{a}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.SaveSeen(ctx, map[devices.ID]int64{"b": 77, "c": 78}); err != nil {
		t.Fatal(err)
	}
	b.LastSeen = 77
	s = open(t)
	known, err := s.LoadPresence(ctx)
	slices.SortFunc(known, func(x, y liveness.Known) int { return int(x.Device[0]) - int(y.Device[0]) })
	if err != nil || !slices.Equal(known, []liveness.Known{a, b}) {
		t.Errorf("known: got %+v %v, want %+v", known, err, []liveness.Known{a, b})
	}

	page := func(id devices.ID, before int64, limit int) []liveness.Transition {
		t.Helper()
		got, err := s.PresenceHistory(ctx, id, before, limit)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := page("a", 0, 10)
	if len(first) != 10 || first[0].Reason != "r28" || first[9].Reason != "r10" {
		t.Fatalf("first page: got %+v", first)
	}
	want := trs[28]
	want.N = first[0].N
	if first[0] != want {
		t.Errorf("newest: got %+v, want %+v", first[0], want)
	}
	if rest := page("a", first[9].N, 10); len(rest) != 5 || rest[0].Reason != "r8" {
		t.Errorf("second page: got %+v", rest)
	}
	if err := s.PrunePresence(ctx, 1010, 5); err != nil {
		t.Fatal(err)
	}
	if got := page("a", 0, 100); len(got) != 5 || got[4].Reason != "r20" {
		t.Errorf("pruned to five: got %+v", got)
	}
	if err := s.PrunePresence(ctx, 1026, 5); err != nil {
		t.Fatal(err)
	}
	if got := page("b", 0, 100); len(got) != 2 {
		t.Errorf("pruned by age: got %+v", got)
	}
}
