package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

// plan says how long a hub is watched, and with how many good devices.
type plan struct {
	program      string
	devices      int
	every        time.Duration // each sends a reading so often
	quiet, under time.Duration
	conf         []string // for the hub's configuration
}

// report is what one attack did to the hub and to its good devices.
type report struct {
	seen         tally // by the attacker
	quiet, under time.Duration
	quietAcks    *took
	underAcks    *took
	resident     int64 // bytes that it grew by at most
	disk, log    int64 // bytes beyond what the quiet time had in as long
	audited      int   // entries of the audit, up to a thousand
	cpu          float64
	sent         int64 // readings of the good devices, in all
	trouble      []string
}

// besiege runs a hub with good devices: some quiet time, then an attack. look, which may be nil, sees
// the hub while it is still under attack.
func besiege(ctx context.Context, p plan, a attack, look func(h *hub)) (_ *report, err error) {
	dir, err := os.MkdirTemp("", "devicehub-hostile-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	h, err := startHub(ctx, p.program, dir, p.conf...)
	if err != nil {
		return nil, err
	}
	defer h.stop()
	token, err := a.arm(h)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.name, err)
	}
	f, err := newFleet(ctx, h, p.devices, p.every)
	if err != nil {
		return nil, err
	}
	defer f.end()
	sleep(ctx, p.quiet/4) // the first minutes of a process are not like the others
	f.phase()
	r := &report{}
	before := h.meter()
	sleep(ctx, p.quiet)
	r.quietAcks = f.phase()
	calm := h.meter()
	r.quiet = calm.at.Sub(before.at)
	var failed error
	peak := h.watch(ctx, p.under, func(ctx context.Context) { failed = h.attack(context.WithoutCancel(ctx), a, token, p.under, &r.seen) }, look)
	if failed != nil {
		return nil, failed
	}
	r.underAcks = f.phase()
	after := h.meter()
	r.under = after.at.Sub(calm.at)
	usual := r.under.Seconds() / r.quiet.Seconds()
	r.resident = peak - calm.resident
	r.disk = after.disk - calm.disk - int64(usual*float64(calm.disk-before.disk))
	r.log = after.log - calm.log - int64(usual*float64(calm.log-before.log))
	r.cpu = (after.cpu - calm.cpu - usual*(calm.cpu-before.cpu)) / r.under.Seconds()
	f.end()
	r.trouble = f.trouble()
	r.sent = f.sent()
	if kept, err := f.kept(); err != nil {
		r.trouble = append(r.trouble, err.Error())
	} else if kept != r.sent {
		r.trouble = append(r.trouble, fmt.Sprintf("%d of %d readings are kept", kept, r.sent))
	}
	if r.audited, err = h.audited(calm.at); err != nil {
		r.trouble = append(r.trouble, err.Error())
	}
	return r, nil
}

// sleep waits, until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// meter is what the hub's process has used at a moment.
type meter struct {
	at                  time.Time
	resident, disk, log int64
	cpu                 float64
}

func (h *hub) meter() meter { return meter{time.Now(), h.resident(), h.stored(), h.logged(), h.cpu()} }

// watch runs f for so long and returns the most memory that the hub had.
func (h *hub) watch(ctx context.Context, d time.Duration, f func(context.Context), look func(*hub)) (peak int64) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { f(ctx) })
	if look != nil {
		wg.Go(func() { sleep(ctx, d/2); look(h) })
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		peak = max(peak, h.resident())
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	wg.Wait()
	return peak
}
