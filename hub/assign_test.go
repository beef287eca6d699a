package hub_test

import (
	"context"
	"errors"
	"testing"

	"devicehub/hub"
)

var (
	nameKey  hub.Key[string]
	otherKey hub.Key[string]
	limitKey hub.Key[int]
	causeKey hub.Key[error]
)

// Keys of one type are told apart, and the innermost value counts.
func TestKey(t *testing.T) {
	ctx := nameKey.Assign(context.Background(), "ann")
	if got := nameKey.Get(ctx); got != "ann" {
		t.Errorf("got %q, want ann", got)
	}
	if got, ok := otherKey.Lookup(ctx); ok || got != "" {
		t.Errorf("another key: got %q %t, want none", got, ok)
	}
	ctx = otherKey.Assign(nameKey.Assign(ctx, ""), "bob")
	if got, ok := nameKey.Lookup(ctx); !ok || got != "" {
		t.Errorf("assigned again: got %q %t, want the empty string", got, ok)
	}
	if got := otherKey.Get(ctx); got != "bob" {
		t.Errorf("got %q, want bob", got)
	}
	if got := limitKey.Get(ctx); got != 0 {
		t.Errorf("no value: got %d, want 0", got)
	}
	want := errors.New("why")
	if got := causeKey.Get(causeKey.Assign(ctx, want)); got != want {
		t.Errorf("an interface: got %v, want %v", got, want)
	}
	if allocs := testing.AllocsPerRun(100, func() { nameKey.Get(ctx) }); allocs != 0 {
		t.Errorf("Get allocates %v times, want 0", allocs)
	}
}
