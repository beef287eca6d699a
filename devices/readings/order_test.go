package readings_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// Pushes of one Order are in flight together. When the commit of one fails, none
// that was submitted after it is kept: sent again with a new Order, they are
// stored, and stamped, as they came. Other pushes are none the worse.
func TestAnOrderIsKeptOverAFailedCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, func(f *faulty, _ *readings.Config) { f.slow = 5 * time.Millisecond })
		dev := sensor()
		other := sensor(func(d *devices.Device) { d.ID = "t-2" })
		var codes []string
		submit := func(d *devices.Device, o *readings.Order, v int) {
			batch, err := readings.ParseReading(fmt.Appendf(nil, `{"m":"temperature","v":%d}`, v))
			if err != nil {
				t.Fatal(err)
			}
			b.in.Submit(readings.Source{Device: d, Order: o}, batch, func(_ readings.Result, err error) {
				b.mu.Lock()
				codes = append(codes, fmt.Sprint(d.ID, " ", v, " ", devices.CodeOf(err)))
				b.mu.Unlock()
			})
		}
		b.store.fail(errors.New("disk on fire"))
		first := new(readings.Order)
		submit(dev, first, 1)
		synctest.Wait() // the commit that will fail is under way
		submit(dev, first, 2)
		submit(other, new(readings.Order), 1)
		submit(other, nil, 2)
		b.store.fail(nil)
		time.Sleep(6 * time.Millisecond) // it failed; the next group is under way
		submit(dev, first, 3)
		time.Sleep(20 * time.Millisecond)
		b.mu.Lock()
		slices.Sort(codes)
		all := strings.Join(codes, "; ")
		b.mu.Unlock()
		if got, want := all, "t-1 1 platform_unavailable; t-1 2 platform_unavailable; t-1 3 platform_unavailable; t-2 1 ; t-2 2 "; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		again := new(readings.Order)
		for v := 1; v <= 3; v++ {
			submit(dev, again, v)
		}
		time.Sleep(20 * time.Millisecond)
		var values []string
		for _, line := range strings.Split(b.export("t-1"), "; ") {
			values = append(values, strings.Fields(line)[2])
		}
		if got, want := strings.Join(values, " "), "1 2 3"; got != want {
			t.Errorf("stored in the order %s, want %s", got, want)
		}
	})
}
