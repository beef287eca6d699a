package quota

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// crowd are connections that say nothing, by number.
type crowd struct {
	q    *Quota
	shut map[int]bool
}

func newCrowd(all, perAddress int) *crowd {
	l := limits()
	l.Arrivals, l.ArrivalsPerAddress = all, perAddress
	return &crowd{q: New(l), shut: map[int]bool{}}
}

func (c *crowd) arrive(n int, addr string, free bool) *Arrival {
	return c.q.Arrive(addr, free, func() { c.shut[n] = true })
}

// An address has so many connections on which nobody has signed in, over all ports; those that
// came first go. They have a moment to sign in first.
func TestArrivalsOfAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(0, 4)
		first := c.arrive(0, "192.0.2.1:1", false)
		first.Known()
		for i := 1; i <= 10; i++ {
			c.arrive(i, fmt.Sprintf("192.0.2.1:%d", i), false)
		}
		c.arrive(100, "192.0.2.2:1", false)
		if len(c.shut) != 0 {
			t.Errorf("%v were ended at once, want none within the first moment", c.shut)
		}
		time.Sleep(arrivalGrace)
		c.arrive(11, "192.0.2.1:11", false)
		for i := range 12 {
			if want := i >= 1 && i <= 7; c.shut[i] != want {
				t.Errorf("connection %d: ended %t, want %t", i, c.shut[i], want)
			}
		}
		if c.shut[100] {
			t.Error("another address was charged")
		}
		first.Leave()
		if n := c.q.Arrivals(); n != 5 {
			t.Errorf("%d are counted, want 5", n)
		}
	})
}

// A connection that waits for its next request is nobody's again: it gives way when there are too
// many in all, and the bound of its address is not for it. While it never was anybody's, an answer
// does not make it younger.
func TestArrivalsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(12, 4)
		for i := range 10 {
			a := c.arrive(i, "192.0.2.1:1", false)
			a.Known()
			if n := c.q.Arrivals(); n != i {
				t.Fatalf("%d are counted, want %d", n, i)
			}
			a.Anew()
			a.Anew()
		}
		mute := c.arrive(100, "192.0.2.1:1", false)
		time.Sleep(2 * arrivalGrace)
		mute.Anew()
		gone := c.arrive(101, "192.0.2.1:1", false)
		if len(c.shut) != 0 || c.q.Arrivals() != 12 {
			t.Fatalf("%v were ended and %d are counted, want none and 12", c.shut, c.q.Arrivals())
		}
		gone.Leave()
		gone.Anew()
		for i := range 4 {
			c.arrive(102+i, "192.0.2.2:1", false)
		}
		if !c.shut[0] || !c.shut[1] || !c.shut[2] || c.shut[3] || len(c.shut) != 3 || c.q.Arrivals() != 12 {
			t.Errorf("%v were ended and %d are counted, want the three that waited for longest", c.shut, c.q.Arrivals())
		}
	})
}

// Beyond a burst nobody has a moment; an IPv6 host has one address however it writes it.
func TestArrivalsBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(0, 4)
		for i := range 1000 {
			c.arrive(i, fmt.Sprintf("[2001:db8::%x]:1", i+1), false)
		}
		if n := c.q.Arrivals(); n != arrivalBurst*4 {
			t.Errorf("got %d, want %d", n, arrivalBurst*4)
		}
	})
}

// What is beyond the bound ends also while nobody else comes.
func TestArrivalsAreWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(0, 4)
		for i := range 10 {
			c.arrive(i, "192.0.2.1:1", false)
			c.arrive(100+i, "127.0.0.1:1", true)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.q.WatchArrivals(ctx) }()
		time.Sleep(2 * arrivalGrace)
		stop()
		<-done
		if n := c.q.Arrivals(); n != 14 {
			t.Errorf("got %d, want 4 of the address and the proxy's 10", n)
		}
	})
}

// When there are too many in all, who has most gives way; a proxy does last.
func TestHeaviestAddressGivesWay(t *testing.T) {
	c := newCrowd(8, 0)
	c.arrive(0, "127.0.0.1:1", true)
	c.arrive(1, "192.0.2.1:1", false)
	for i := 2; i < 40; i++ {
		c.arrive(i, "192.0.2.2:1", false)
	}
	if n := c.q.Arrivals(); n != 8 || c.shut[0] || c.shut[1] || !c.shut[2] || !c.shut[33] || c.shut[34] {
		t.Errorf("got %d left and %v ended", n, c.shut)
	}
	for range 7 {
		if !c.q.MakeRoom() {
			t.Fatal("no room was made")
		}
	}
	if c.shut[0] || !c.shut[1] {
		t.Error("the proxy went before the others")
	}
	if !c.q.MakeRoom() || c.q.MakeRoom() {
		t.Error("want the proxy to go last, and then nobody")
	}
}
