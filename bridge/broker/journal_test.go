package broker_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/bridge/broker"
)

// failing is a store that fails when it is told to.
type failing struct {
	broker.Memory
	mu     sync.Mutex
	fail   bool
	length int // of the longest commit
}

func (f *failing) most() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.length
}

func (f *failing) set(fail bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *failing) Commit(cs []broker.Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.length = max(f.length, len(cs))
	if f.fail {
		return errors.New("the disk is full")
	}
	return f.Memory.Commit(cs)
}

// A client is told what it leaves to be written: what is retained, waits for a session that is kept,
// and subscriptions of one; and nothing of what is only handed on.
func TestKeptIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.connect("home", func(c *broker.Client) { c.Clean, c.Expiry = true, 0 }).sub(1, "live/#")
		var kept int
		c := r.connect("c", func(c *broker.Client) { c.Kept = func(n int) { kept += n } })
		for _, row := range []struct {
			what  string
			do    func()
			least int
		}{
			{"a message that is only handed on", func() { c.Publish(publish("live/1", strings.Repeat("x", 5000), 1, 1, false), new(fate)) }, 0},
			{"a retained one", func() { c.Publish(publish("x/1", strings.Repeat("x", 5000), 1, 2, true), new(fate)) }, 5000},
			{"a subscription", func() { c.sub(1, "q/"+strings.Repeat("y", 3000)) }, 3000},
			{"one that waits for a session", func() {
				c.Publish(publish("q/"+strings.Repeat("y", 3000), strings.Repeat("x", 5000), 1, 3, false), new(fate))
			}, 8000},
		} {
			kept = 0
			row.do()
			synctest.Wait()
			if kept < row.least || kept > row.least+1000 {
				t.Errorf("%s: %d bytes, want some %d", row.what, kept, row.least)
			}
		}
	})
}

// A publish that leaves something to keep is decided when that is durable, and
// refused when it cannot be; the store then catches up. Others are not held up.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.connect("sub").sub(1, "q/#")
		s.Detach(s.link, true, nil)
		p := r.connect("pub", func(c *broker.Client) { c.Clean, c.Expiry = true, 0 })
		synctest.Wait()
		r.store.set(true)
		kept, other := new(fate), new(fate)
		p.Publish(publish("q/1", "kept", 1, 1, false), kept)
		p.Publish(publish("elsewhere", "", 1, 2, false), other)
		if n, err := kept.get(); n != 1 || !errors.Is(err, broker.ErrNotKept) {
			t.Errorf("got %d %v, want it refused", n, err)
		}
		if n, err := other.get(); n != 1 || err != nil {
			t.Errorf("got %d %v, want it taken", n, err)
		}
		r.store.set(false)
		time.Sleep(2 * time.Second)
		r.Expire(time.Now())
		synctest.Wait()
		r.start()
		r.connect("sub").wants("kept/1")
	})
}

// While nothing can be written, what comes and goes takes no memory for good.
func TestFullDiskForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		p := r.connect("pub", func(c *broker.Client) { c.Clean, c.Expiry = true, 0 })
		synctest.Wait()
		before := r.store.Len()
		r.store.set(true)
		f := new(fate)
		for range 50 {
			p.Publish(publish("q/1", "kept", 1, 1, true), f)
			p.Publish(publish("q/1", "", 1, 1, true), f)
			synctest.Wait()
			time.Sleep(1100 * time.Millisecond)
			r.Expire(time.Now())
			synctest.Wait()
		}
		p.Publish(publish("q/2", "kept", 1, 1, true), f)
		r.store.set(false)
		time.Sleep(2 * time.Second)
		r.Expire(time.Now())
		synctest.Wait()
		if n, most := r.store.Len(), r.store.most(); n != before+2 || most > 10 {
			t.Errorf("%d records, %d before, written in a commit of %d", n, before, most)
		}
	})
}
