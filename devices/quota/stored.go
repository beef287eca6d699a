package quota

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/devices"
)

// stored counts the bytes that each device has had stored: those that it may have today, and
// those of the last hour.
type stored struct {
	mu      sync.Mutex
	devices map[devices.ID]*writer
	heavy   atomic.Int64 // bytes of the last hour from which on a device is refused for want of space
}

// writer is what one device has written. What it may write fills up again, over a minute and over a
// day.
type writer struct {
	minute, day  bucket
	hour, before int64 // bytes of the hour of the number, and of the one before
	number       int64
}

// day is how long an empty allowance takes to be full again.
const day = 24 * time.Hour

// storeWait is the least that a device is told to wait for its allowance, so that it does not
// come back for each byte.
const storeWait = time.Minute

func (s *stored) init() {
	s.devices = map[devices.ID]*writer{}
	s.heavy.Store(math.MaxInt64)
}

func (l *Limits) daily() Rate { return over(l.DeviceDay, day) }

func (l *Limits) minutely() Rate { return over(l.DeviceMinute, time.Minute) }

// over is so many bytes at once, and as many over again in so long.
func over(bytes int64, d time.Duration) Rate {
	return Rate{float64(bytes) / d.Seconds(), float64(bytes)}
}

// turn brings the hours up to now.
func (w *writer) turn(now int64) {
	switch n := now / int64(time.Hour); n - w.number {
	case 0:
	case 1:
		w.before, w.hour, w.number = w.hour, 0, n
	default:
		w.before, w.hour, w.number = 0, 0, n
	}
}

// lastHour is about what was written in the hour before now.
func (w *writer) lastHour(now int64) int64 {
	w.turn(now)
	gone := float64(now%int64(time.Hour)) / float64(time.Hour)
	return w.hour + int64(float64(w.before)*(1-gone))
}

// MayStore says whether a device may have more stored. The errors are rate_limited, when it has
// had its share of the minute or of the day, and overloaded, when space is short and it is among those who write
// most.
func (q *Quota) MayStore(id devices.ID) error {
	if q == nil {
		return nil
	}
	l, now := q.limits.Load(), q.now().UnixNano()
	heavy := q.stored.heavy.Load()
	q.stored.mu.Lock()
	w := q.stored.devices[id]
	if w == nil {
		q.stored.mu.Unlock()
		return nil
	}
	over := heavy != math.MaxInt64 && w.lastHour(now) > heavy
	today, soon := w.day.owes(l.daily(), now), w.minute.owes(l.minutely(), now)
	q.stored.mu.Unlock()
	switch {
	case today > 0:
		q.count(LimitStored)
		return limited("the device has had its bytes of the day stored", max(today, storeWait))
	case soon > 0:
		q.count(LimitStored)
		return limited("the device has had its bytes of the minute stored", max(soon, time.Second))
	case over:
		q.count(LimitSpace)
		return devices.Refuse(devices.CodeOverloaded, "space on the disk is short, and this device writes most").After(storeWait)
	}
	return nil
}

// Stored counts what the store has kept of a device.
func (q *Quota) Stored(id devices.ID, bytes int) {
	if q == nil || bytes <= 0 {
		return
	}
	l, now := q.limits.Load(), q.now().UnixNano()
	q.stored.mu.Lock()
	defer q.stored.mu.Unlock()
	w := q.stored.devices[id]
	if w == nil {
		w = new(writer)
		q.stored.devices[id] = w
	}
	w.turn(now)
	w.hour += int64(bytes)
	w.day.spend(l.daily(), now, float64(bytes))
	w.minute.spend(l.minutely(), now, float64(bytes))
}

// Forget drops what is counted of a device that is no more.
func (q *Quota) Forget(id devices.ID) {
	q.stored.mu.Lock()
	defer q.stored.mu.Unlock()
	delete(q.stored.devices, id)
}

// A device is among those who write most when it has written more in the last hour than
// heavyFactor times what the device in the middle has, and more than heavyLeast.
const (
	heavyFactor = 4
	heavyLeast  = 1 << 20
)

// SpaceIsShort says whether the disk is nearly as full as it may become. While it is, those who
// wrote most in the last hour are refused.
func (q *Quota) SpaceIsShort(short bool) {
	if !short {
		q.stored.heavy.Store(math.MaxInt64)
		return
	}
	now := q.now().UnixNano()
	q.stored.mu.Lock()
	wrote := make([]int64, 0, len(q.stored.devices))
	for _, w := range q.stored.devices {
		if n := w.lastHour(now); n > 0 {
			wrote = append(wrote, n)
		}
	}
	q.stored.mu.Unlock()
	if len(wrote) == 0 {
		return
	}
	slices.Sort(wrote)
	q.stored.heavy.Store(max(heavyLeast, heavyFactor*wrote[(len(wrote)-1)/2]))
}

// watchEvery is how often the space is looked at.
const watchEvery = 5 * time.Second

// WatchSpace looks at the disk until ctx ends. space returns the bytes that are free and those that
// are kept back, below which everybody is refused; half as much again is when space is short.
func (q *Quota) WatchSpace(ctx context.Context, space func() (free, reserve int64, err error)) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		if n%12 == 0 {
			q.forgetSilent()
		}
		if free, reserve, err := space(); err == nil {
			q.SpaceIsShort(free < reserve+reserve/2)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// forgetSilent drops what is counted of devices that would be the same if they were new.
func (q *Quota) forgetSilent() {
	l, now := q.limits.Load(), q.now().UnixNano()
	q.stored.mu.Lock()
	defer q.stored.mu.Unlock()
	for id, w := range q.stored.devices {
		if w.lastHour(now) == 0 && w.day.full(l.daily(), now) && w.minute.full(l.minutely(), now) {
			delete(q.stored.devices, id)
		}
	}
}
