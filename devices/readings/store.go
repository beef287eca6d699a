package readings

import (
	"context"
	"time"
)

// Tier is a resolution in which readings are kept.
type Tier uint8

// The tiers, the finest first.
const (
	Raw     Tier = iota
	Quarter      // buckets of 15 minutes
	Hour
)

// Step is the length of the tier's buckets in ms, 0 for Raw.
func (t Tier) Step() int64 {
	switch t {
	case Quarter:
		return 15 * 60 * 1000
	case Hour:
		return 3600 * 1000
	}
	return 0
}

func (t Tier) String() string { return [...]string{"raw", "15m", "1h"}[t] }

// Store keeps readings. Package storetest holds what every store does.
type Store interface {
	// Book is what the store knows of each device; it changes only in Append.
	Book() *Book

	// Clock is the clock as recorded when the store was opened.
	Clock() ClockMark

	// Linger is how long a group may wait for company before it is appended.
	Linger() time.Duration

	// Append makes a group durable, all or nothing, enters it in the book and
	// makes it visible to Scan and Rollups. One caller at a time. An error says
	// that nothing of the group is or will be seen; a *devices.Error among them
	// is for the devices to hear. ErrMisnamed is one of them.
	Append(g *Group) error

	// Drop erases series with all their readings: from the log, the tiers and
	// the book. The caller is the one of Append.
	Drop(list []*Series) error

	// Scan calls f with the readings of a series from ≤ t < to, in rising t,
	// some at a time. The slice is the store's: f copies what it keeps. An
	// error of f ends the scan and is returned.
	Scan(ctx context.Context, s *Series, from, to int64, f func([]Point) error) error

	// Rollups calls f with the buckets of a tier that begin from ≤ t < to, in
	// rising t, those that readings of late have changed included. Empty
	// buckets are absent. The slice is the store's.
	Rollups(ctx context.Context, s *Series, tier Tier, from, to int64, f func([]Bucket) error) error

	// Before returns what a meter's readings before at come to, as one bucket: its
	// Last and Tail are exact, and of what lies further back than those depend on
	// nothing need be told. Count is 0 when there is no reading in range.
	Before(ctx context.Context, s *Series, at int64) (Bucket, error)

	// Kept is the time from which on a tier is complete, 0 when nothing of it
	// was ever deleted.
	Kept(t Tier) int64

	// Retain deletes what is older than the tiers are kept for. Limited to two
	// days of a tier unless all is set.
	Retain(ctx context.Context, now time.Time, all bool) error

	// Run does the store's work in the background until ctx ends.
	Run(ctx context.Context) error
}
