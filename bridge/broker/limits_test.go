package broker_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/bridge/broker"
	"devicehub/bridge/broker/brokerlog"
	"devicehub/bridge/packet"

	"github.com/mochi-mqtt/server/v2/packets"
)

func userProperty(k, v string) packets.UserProperty { return packets.UserProperty{Key: k, Val: v} }

func clean(c *broker.Client) { c.Clean, c.Expiry = true, 0 }

func as(name string) func(*broker.Client) {
	return func(c *broker.Client) { c.Owner = broker.Owner{Name: name, Identity: "1"} }
}

// heap is the memory in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestBoundsAreInMemory fills every store with shapes that are mostly not
// payload, and holds the memory that they take against what is counted, and that
// against the bound. The broker has its durable store, whose index counts too.
func TestBoundsAreInMemory(t *testing.T) {
	const bound = 24 << 20
	long := func(n int) string { return strings.Repeat("x", n) }
	user := func(pk *packet.Packet, pairs, size int) {
		for range pairs {
			pk.Properties.User = append(pk.Properties.User, userProperty(long(size), long(size)))
		}
	}
	retain := func(c *client, topic string, change func(*packet.Packet)) bool {
		pk := publish(topic, "x", 1, 1, true)
		if change != nil {
			change(pk)
		}
		f := make(waiting, 1)
		c.Publish(pk, f)
		return <-f == nil
	}
	queue := func(r *rig, c *client, i int, change func(*packet.Packet)) bool {
		s := fmt.Sprint("s", i/100)
		if i%100 == 0 {
			k := r.connect(s, as("hog"))
			k.Subscribe([]broker.Filter{{Name: "q/" + s + "/#", QoS: 1}})
			k.Detach(k.link, true, nil)
		}
		pk := publish("q/"+s+"/x", "x", 1, 1, false)
		change(pk)
		f := make(waiting, 1)
		c.Publish(pk, f)
		<-f
		return r.Stats().Dropped == 0
	}
	for name, more := range map[string]func(r *rig, c *client, i int) bool{
		"retained: long topics":  func(_ *rig, c *client, i int) bool { return retain(c, fmt.Sprint(i, "/", long(60_000)), nil) },
		"retained: short topics": func(_ *rig, c *client, i int) bool { return retain(c, fmt.Sprint("t/", i), nil) },
		"retained: deep topics": func(_ *rig, c *client, i int) bool {
			return retain(c, fmt.Sprint(i, strings.Repeat("/a", 60)), nil)
		},
		"retained: large properties": func(_ *rig, c *client, i int) bool {
			return retain(c, fmt.Sprint("p/", i), func(pk *packet.Packet) { user(pk, 15, 30_000) })
		},
		"retained: many properties": func(_ *rig, c *client, i int) bool {
			return retain(c, fmt.Sprint("p/", i), func(pk *packet.Packet) { user(pk, 10_000, 1) })
		},
		"retained: a long topic in the way of a short one": func(_ *rig, c *client, i int) bool {
			ok := retain(c, fmt.Sprint(i, "/", long(60_000)), nil) && retain(c, fmt.Sprint(i, "/short"), nil)
			pk := publish(fmt.Sprint(i, "/", long(60_000)), "", 1, 1, true)
			f := make(waiting, 1)
			c.Publish(pk, f)
			<-f
			return ok && i < 1000
		},
		"queued: properties": func(r *rig, c *client, i int) bool {
			return queue(r, c, i, func(pk *packet.Packet) { user(pk, 10, 10_000) })
		},
		"queued: small": func(r *rig, c *client, i int) bool { return queue(r, c, i, func(*packet.Packet) {}) },
		"queued: correlation, topics": func(r *rig, c *client, i int) bool {
			return queue(r, c, i, func(pk *packet.Packet) {
				pk.Properties.CorrelationData, pk.Properties.ResponseTopic = make([]byte, 30_000), long(30_000)
			})
		},
		"subscriptions: long": func(_ *rig, c *client, i int) bool {
			return c.Subscribe([]broker.Filter{{Name: fmt.Sprint(i, "/", long(60_000), "/#")}})[0] == 0
		},
		"subscriptions: deep and shared": func(_ *rig, c *client, i int) bool {
			return c.Subscribe([]broker.Filter{{Name: fmt.Sprint("$share/g/", i, strings.Repeat("/+", 60))}})[0] == 0
		},
		"sessions with wills": func(r *rig, _ *client, i int) bool {
			if i == 90 {
				return false
			}
			r.connect(fmt.Sprint(long(10_000), i), as("hog"), func(c *broker.Client) {
				c.Will = &broker.Message{Topic: "w", Payload: make([]byte, 14_000)}
				c.WillDelay = time.Hour
			})
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := brokerlog.Open(filepath.Join(t.TempDir(), "mqtt"), brokerlog.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			r := &rig{t: t, o: broker.DefaultOptions()}
			r.o.MaxSubscriptions = 1 << 30
			r.o.Limits = broker.Limits{Bytes: 2 * bound, AccountBytes: bound, AccountSessions: 1000, AccountRetained: 1 << 30}
			r.Broker = broker.New(r.o, broker.WithStore(store))
			if err := r.Load(); err != nil {
				t.Fatal(err)
			}
			hog := r.connect("hog", as("hog"), clean)
			before, counted := heap(), r.Stats().Bytes
			n := 0
			for n < 200_000 && more(r, hog, n) {
				n++
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			grew, count := heap()-before, r.Stats().Bytes-counted
			t.Logf("%d: %d MB counted, %d MB in memory", n, count>>20, grew>>20)
			if count > bound || n < 20 {
				t.Errorf("%d bytes are counted for %d, the bound is %d", count, n, bound)
			}
			if slack := int64(1 << 20); grew > count+slack {
				t.Errorf("%d bytes are in use and %d counted", grew, count)
			}
			// Others have room.
			other := r.connect("other", as("other"), clean)
			if !retain(other, "other/topic", nil) {
				t.Error("another account has no room")
			}
			runtime.KeepAlive(r)
			runtime.KeepAlive(hog)
		})
	}
}

// waiting is a sender that can be waited for.
type waiting chan error

func (w waiting) Again(error) bool  { return false }
func (w waiting) Decided(err error) { w <- err }

// An account's retained messages are refused beyond its budget, by number and
// bytes, and by what all accounts have together.
func TestRetainedBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.SetLimits(broker.Limits{Bytes: 3 << 20, AccountBytes: 2 << 20, AccountSessions: 10, AccountRetained: 5})
		a, b := r.connect("a", clean), r.connect("b", as("b"), clean)
		full := func(c *client, topic string, size int) bool {
			c.t.Helper()
			f := new(fate)
			c.Publish(publish(topic, strings.Repeat("x", size), 1, 1, true), f)
			_, err := f.get()
			if err != nil && !errors.Is(err, broker.ErrFull) {
				c.t.Fatal(err)
			}
			return err != nil
		}
		for i := range 5 {
			if full(a, fmt.Sprint("a/", i), 10) {
				t.Fatal("refused early")
			}
		}
		if !full(a, "a/6", 10) || full(a, "a/4", 10) || full(b, "b", 10) {
			t.Error("the number of messages does not hold, or holds for what replaces one, or for others")
		}
		if full(a, "a/0", 1<<20) || !full(a, "a/1", 1<<20) {
			t.Error("the account's bytes do not hold")
		}
		if !full(b, "b", 1900<<10) {
			t.Error("the bytes of all do not hold")
		}
		if err := r.Broker.Publish(broker.Message{Topic: "hub", Payload: make([]byte, 4<<20), Retain: true}); err != nil || r.Stats().Dropped != 3 {
			t.Errorf("the hub's own message has no room: %v, %d dropped", err, r.Stats().Dropped)
		}
	})
}

// The session that is absent for longest gives way: of the account that has as
// many as it may, and in a full house of the one that has most.
func TestSessionsGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.o.MaxSessions = 12
		r.o.Limits.AccountSessions = 10
		r.start()
		for i := range 10 {
			c := r.connect(fmt.Sprint("c", i), as("greedy"))
			time.Sleep(time.Second)
			if i != 0 {
				c.Detach(c.link, true, nil)
			}
		}
		has := func(name string) (ids string) {
			for _, s := range r.Sessions() {
				if s.Account == name {
					ids += s.ClientID + " "
				}
			}
			return ids
		}
		r.connect("c10", as("greedy"))
		if got, want := has("greedy"), "c0 c10 c2 c3 c4 c5 c6 c7 c8 c9 "; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		for i := range 4 {
			r.connect(fmt.Sprint("o", i), as("other"))
		}
		if got, want := has("greedy"), "c0 c10 c4 c5 c6 c7 c8 c9 "; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := has("other"); got != "o0 o1 o2 o3 " {
			t.Errorf("got %s", got)
		}
		if n := r.Stats().Evicted; n != 3 {
			t.Errorf("%d gave way, want 3", n)
		}
		for i := range 6 {
			r.connect(fmt.Sprint("o", 4+i), as("other"))
		}
		// Now every client of the house is there, and an account's own, too.
		for _, who := range []string{"third", "other"} {
			if _, _, ok := r.Connect(broker.Client{Owner: broker.Owner{Name: who, Identity: "1"}, ID: "new", Link: new(link)}); ok {
				t.Errorf("%s has a session that nobody gave way to", who)
			}
		}
	})
}

// slow is a connection that nobody reads.
type slow struct {
	link
	bytes int
}

func (s *slow) Write(pk *packet.Packet) bool { s.bytes += len(pk.Payload); return true }
func (s *slow) Backlog() int                 { return s.bytes }

// What waits on the connections of one account is bounded for all together, and
// goes on when they do.
func TestAccountSending(t *testing.T) {
	r := &rig{t: t, o: broker.DefaultOptions()}
	r.Broker = broker.New(r.o)
	var links []*slow
	for i := range 50 {
		l := &slow{}
		s, _, _ := r.Connect(broker.Client{Owner: someone, ID: fmt.Sprint(i), Version: packet.V5, Link: l})
		s.Subscribe([]broker.Filter{{Name: "big"}})
		s.Resume()
		links = append(links, l)
	}
	p := r.connect("p", as("other"), clean)
	f := make(waiting, 1)
	p.Publish(publish("big", strings.Repeat("x", 1<<20), 0, 0, false), f)
	<-f
	waits, got := 0, 0
	for _, l := range links {
		waits += l.bytes
	}
	if waits > 20<<20 || waits < 10<<20 {
		t.Errorf("%d MB wait", waits>>20)
	}
	for range 10 {
		for _, l := range links {
			got += l.bytes
			l.bytes = 0
		}
		r.Expire(time.Now())
	}
	if got != 50<<20 {
		t.Errorf("%d MB arrived, want 50", got>>20)
	}
}

// A wildcard is no part of a topic that the hub publishes on.
func TestPublishChecksTopics(t *testing.T) {
	b := broker.New(broker.DefaultOptions())
	for _, topic := range []string{"", "a/+/b", "a/#", "a\x00"} {
		if err := b.Publish(broker.Message{Topic: topic}); !errors.Is(err, broker.ErrTopic) {
			t.Errorf("%q: got %v", topic, err)
		}
	}
}
