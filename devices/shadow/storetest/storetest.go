// Package storetest holds every shadow.Store to what the shadows rely on.
package storetest

import (
	"bytes"
	"slices"
	"testing"

	"devicehub/devices/shadow"
)

// Test runs the suite. open returns a store in which the devices "a" and "b"
// are registered; called again it returns the same store after a restart.
func Test(t *testing.T, open func(t *testing.T) shadow.Store) {
	ctx := t.Context()
	s := open(t)
	for want := int64(1); want <= 3; want++ {
		if got, err := s.ShadowStart(ctx); err != nil || got != want {
			t.Fatalf("start: got %d %v, want %d", got, err, want)
		}
		s = open(t)
	}
	a := shadow.Row{Device: "a", Limit: 5, Start: 3, Body: []byte(`{"desired":{}}`)}
	b := shadow.Row{Device: "b", Limit: 1, Start: 3, Body: []byte(`{}`)}
	if err := s.SaveShadows(ctx, []shadow.Row{a, b}); err != nil {
		t.Fatal(err)
	}
	a.Limit, a.Body = 1029, []byte(`{"desired":{"on":true}}`)
	if err := s.SaveShadows(ctx, []shadow.Row{a}); err != nil {
		t.Fatal(err)
	}
	s = open(t)
	rows, err := s.LoadShadows(ctx)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(rows, func(x, y shadow.Row) int { return int(x.Device[0]) - int(y.Device[0]) })
	same := func(x, y shadow.Row) bool {
		return x.Device == y.Device && x.Limit == y.Limit && x.Start == y.Start && bytes.Equal(x.Body, y.Body)
	}
	if !slices.EqualFunc(rows, []shadow.Row{a, b}, same) {
		t.Errorf("got %+v, want %+v", rows, []shadow.Row{a, b})
	}
}
