package broker_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/bridge/broker"
	"devicehub/bridge/packet"
)

// link keeps what a client is sent.
type link struct {
	mu    sync.Mutex
	sent  []packet.Packet
	ended byte
}

func (l *link) Write(pk *packet.Packet) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, *pk)
	return true
}
func (l *link) Backlog() int                      { return 0 }
func (l *link) WhenDrained()                      {}
func (l *link) Address() (transport, addr string) { return "tcp", "192.0.2.1:1" }
func (l *link) End(code byte, _ string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = code
}

// take is what was sent since it was last asked: payload, QoS, and d for DUP, r
// for PUBREL.
func (l *link) take() (packets []packet.Packet, text string) {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	packets, l.sent = l.sent, nil
	var s []string
	for _, pk := range packets {
		switch {
		case pk.FixedHeader.Type == packet.Pubrel:
			s = append(s, "r")
		case pk.FixedHeader.Dup:
			s = append(s, fmt.Sprintf("%s/%dd", pk.Payload, pk.FixedHeader.Qos))
		default:
			s = append(s, fmt.Sprintf("%s/%d", pk.Payload, pk.FixedHeader.Qos))
		}
	}
	return packets, strings.Join(s, " ")
}

// rig is a broker that can be killed and started again.
type rig struct {
	*broker.Broker
	t     *testing.T
	store *failing
	opts  []broker.Option
	o     broker.Options
}

func newRig(t *testing.T, opts ...broker.Option) *rig {
	r := &rig{t: t, store: new(failing), opts: opts, o: broker.DefaultOptions()}
	r.start()
	return r
}

func (r *rig) start() {
	r.t.Helper()
	r.Broker = broker.New(r.o, append([]broker.Option{broker.WithStore(r.store)}, r.opts...)...)
	if err := r.Load(); err != nil {
		r.t.Fatal(err)
	}
	synctest.Wait()
}

// client is one that the broker serves.
type client struct {
	*broker.Session
	*link
	t       *testing.T
	present bool
	id      uint16
}

var someone = broker.Owner{Name: "someone", Identity: "1"}

func (r *rig) connect(id string, change ...func(*broker.Client)) *client {
	r.t.Helper()
	c := &client{link: new(link), t: r.t}
	k := broker.Client{Owner: someone, ID: id, Version: packet.V5, Expiry: time.Hour, Link: c.link}
	for _, f := range change {
		f(&k)
	}
	var ok bool
	if c.Session, c.present, ok = r.Connect(k); !ok {
		r.t.Fatalf("no room for %s", id)
	}
	c.Resume()
	return c
}

func (c *client) sub(qos byte, filters ...string) *client {
	c.t.Helper()
	for _, f := range filters {
		if codes := c.Subscribe([]broker.Filter{{Name: f, QoS: qos}}); codes[0] != qos {
			c.t.Fatalf("SUBACK %02x for %.60s", codes, f)
		}
	}
	c.Pump()
	synctest.Wait()
	return c
}

// fate is what became of a publish.
type fate struct {
	mu      sync.Mutex
	decided int
	err     error
}

func (f *fate) Again(error) bool { return false }
func (f *fate) Decided(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.decided, f.err = f.decided+1, err
}

func (f *fate) get() (int, error) {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.decided, f.err
}

func publish(topic, payload string, qos byte, id uint16, retain bool) *packet.Packet {
	pk := &packet.Packet{TopicName: topic, Payload: []byte(payload), PacketID: id}
	pk.FixedHeader.Qos, pk.FixedHeader.Retain = qos, retain
	return pk
}

// pub publishes and wants it to be taken.
func (c *client) pub(topic, payload string, qos byte) {
	c.t.Helper()
	c.id++
	f := new(fate)
	c.Publish(publish(topic, payload, qos, c.id, false), f)
	if n, err := f.get(); n != 1 || err != nil {
		c.t.Fatalf("%s: decided %d times, %v", payload, n, err)
	}
}

func (c *client) wants(text string) []packet.Packet {
	c.t.Helper()
	pks, got := c.take()
	if got != text {
		c.t.Errorf("got %q, want %q", got, text)
	}
	return pks
}

// What waits for an absent session is there after a crash, in order, and what
// was sent and not acknowledged is sent again as it was.
func TestQueueSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.connect("sub").sub(2, "q/#")
		r.start() // a crash; the session was connected
		p := r.connect("pub", func(c *broker.Client) { c.Clean, c.Expiry = true, 0 })
		for i := range 4 {
			p.pub("q/t", fmt.Sprint(i), byte(i%3))
		}
		r.start()
		s := r.connect("sub")
		if !s.present {
			t.Fatal("the session is gone")
		}
		got := s.wants("1/1 2/2") // QoS 0 is not kept
		s.Acked(packet.Puback, got[0].PacketID, 0)
		s.Acked(packet.Pubrec, got[1].PacketID, 0)
		s.wants("r")
		synctest.Wait()
		r.start()
		s = r.connect("sub")
		if rel := s.wants("r"); rel[0].PacketID != got[1].PacketID {
			t.Errorf("PUBREL %d, want %d", rel[0].PacketID, got[1].PacketID)
		}
		s.Acked(packet.Pubcomp, got[1].PacketID, 0)
		synctest.Wait()
		r.start()
		r.connect("sub").wants("")
	})
}

// What may have been sent before a crash is sent again as a duplicate, what
// cannot have been is not [MQTT-3.3.1-1]; a QoS 2 message keeps its identifier.
func TestDuplicatesSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.connect("sub").sub(2, "q/#")
		p := r.connect("pub", func(c *broker.Client) { c.Clean, c.Expiry = true, 0 })
		p.pub("q", "a", 1)
		p.pub("q", "b", 2)
		sent := s.wants("a/1 b/2")
		r.start()
		again := r.connect("sub")
		if got := again.wants("b/2d a/1d"); got[0].PacketID != sent[1].PacketID {
			t.Errorf("the identifier changed from %d to %d", sent[1].PacketID, got[0].PacketID)
		}
		again.Detach(again.link, true, nil)
		synctest.Wait()
		p = r.connect("pub", func(c *broker.Client) { c.Clean, c.Expiry = true, 0 })
		p.pub("q", "c", 1)
		r.start()
		r.connect("sub").wants("a/1d b/2d c/1")
	})
}

// A QoS 2 publish that was taken is routed once, also when the client sends it
// again after a crash; one that was not decided is given to the hub's own
// subscribers again.
func TestReceiptsSurvive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.connect("sub").sub(1, "q/#")
		p := r.connect("pub")
		f := new(fate)
		p.Publish(publish("q/1", "once", 2, 7, false), f)
		if n, err := f.get(); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		var open []broker.Sender
		hold := func(m broker.Message, from broker.Sender) { open = append(open, from) }
		r.Subscribe("q/2", hold)
		p.Publish(publish("q/2", "for the hub", 2, 8, false), new(fate))
		synctest.Wait()
		r.start()
		r.Subscribe("q/2", hold)
		p = r.connect("pub")
		again := new(fate)
		p.Publish(publish("q/1", "once", 2, 7, false), again)
		if n, err := again.get(); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		p.Publish(publish("q/2", "for the hub", 2, 8, false), again)
		if n, _ := again.get(); n != 1 || len(open) != 2 {
			t.Fatalf("decided %d times, given to the hub %d times", n, len(open))
		}
		open[1].Decided(nil)
		if n, _ := again.get(); n != 2 {
			t.Error("it is not decided")
		}
		released := false
		p.Release(7, func(known bool) { released = known })
		synctest.Wait()
		if !released {
			t.Error("the identifier is not known")
		}
		r.start()
		s := r.connect("sub")
		if _, got := s.take(); got != "once/1d for the hub/1d" {
			t.Errorf("got %q", got)
		}
		p = r.connect("pub")
		p.Release(8, func(known bool) { released = known })
		synctest.Wait()
		p.Release(7, func(known bool) { released = released && !known })
		synctest.Wait()
		if !released {
			t.Error("after a restart: 8 is not known, or 7 still is")
		}
	})
}

// Wills outlive a crash, also those of sessions that do not; a retained one is
// there for who comes later. Time goes on meanwhile.
func TestWillsSurvive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		will := func(topic string, clean bool, expiry, delay time.Duration) func(*broker.Client) {
			return func(c *broker.Client) {
				c.Clean, c.Expiry, c.WillDelay = clean, expiry, delay
				c.Will = &broker.Message{Topic: topic, Payload: []byte(topic), Retain: true}
			}
		}
		r.connect("clean", will("clean", true, 0, 0))
		r.connect("late", will("late", false, time.Minute, 20*time.Second))
		said := r.connect("said", will("said", true, time.Minute, 0))
		said.Detach(said.link, true, nil)
		absent := r.connect("absent", will("absent", false, time.Minute, 20*time.Second))
		absent.Detach(absent.link, false, nil)
		synctest.Wait()
		time.Sleep(10 * time.Second)
		r.start()
		var got []string
		r.Subscribe("#", func(m broker.Message, _ broker.Sender) { got = append(got, m.Topic) })
		for _, step := range []struct {
			after time.Duration
			want  string
		}{{0, "clean"}, {11 * time.Second, "clean absent"}, {21 * time.Second, "clean absent late"}, {time.Hour, "clean absent late"}} {
			time.Sleep(step.after)
			r.Expire(time.Now())
			if strings.Join(got, " ") != step.want {
				t.Errorf("%s later: got %v, want %s", step.after, got, step.want)
			}
		}
		if n := r.Stats().Sessions; n != 0 {
			t.Errorf("%d sessions are left", n)
		}
		synctest.Wait()
		r.start()
		if n := r.Stats().Retained; n != 3 {
			t.Errorf("%d wills are retained after another restart, want 3", n)
		}
	})
}

// Nothing is left in the store when everything has ended.
func TestStoreEmpties(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.connect("sub").sub(2, "q/#", "$share/g/q/#")
		s.Detach(s.link, true, nil)
		p := r.connect("pub")
		for qos := range byte(3) {
			p.pub("q/x", "x", qos)
		}
		f := new(fate)
		p.Publish(publish("q/kept", "kept", 1, 99, true), f)
		f.get()
		if r.store.Len() < 8 {
			t.Fatalf("only %d records", r.store.Len())
		}
		r.start()
		p = r.connect("pub", func(c *broker.Client) { c.Clean, c.Expiry = true, 0 })
		p.Publish(publish("q/kept", "", 1, 1, true), f)
		r.connect("sub", func(c *broker.Client) { c.Clean, c.Expiry = true, 0 })
		synctest.Wait()
		if n := r.store.Len(); n != 1 { // the format
			t.Errorf("%d records are left", n)
		}
		if b := r.Stats().Bytes; b == 0 || b > 10_000 {
			t.Errorf("%d bytes for two sessions", b)
		}
	})
}

// A message whose time is over is not delivered after a restart.
func TestExpirySurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.connect("sub").sub(1, "q/#")
		s.Detach(s.link, true, nil)
		p := r.connect("pub", func(c *broker.Client) { c.Clean, c.Expiry = true, 0 })
		for i, life := range []uint32{5, 50} {
			pk := publish(fmt.Sprint("q/", i), fmt.Sprint(i), 1, 1, true)
			pk.Properties.MessageExpiryInterval = life
			p.Publish(pk, new(fate))
		}
		synctest.Wait()
		time.Sleep(6 * time.Second)
		r.start()
		if n := r.Stats().Retained; n != 1 {
			t.Errorf("%d retained, want 1", n)
		}
		got := r.connect("sub").wants("1/1")
		if left := got[0].Properties.MessageExpiryInterval; left != 44 {
			t.Errorf("%d s are left, want 44", left)
		}
	})
}

// gone are the rights of accounts of which some are gone.
type gone map[string]bool

type rightsOf struct {
	all  gone
	name string
}

func (r rightsOf) Gone() bool               { return r.all[r.name] }
func (r rightsOf) MayReceive(string) bool   { return !r.Gone() }
func (r rightsOf) MaySubscribe(string) bool { return !r.Gone() }
func (r rightsOf) MayPublish(string) bool   { return !r.Gone() }

// What is kept for an account that went while the hub was away goes when it
// starts; its will is not published.
func TestAccountGoneMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := gone{}
		r := newRig(t, broker.WithRights(func(o broker.Owner) broker.Rights { return rightsOf{all, o.Name} }))
		stays := r.connect("stays", as("stays")).sub(1, "#")
		leaves := r.connect("leaves", as("leaves"), func(c *broker.Client) {
			c.Will = &broker.Message{Topic: "will", Payload: []byte("gone")}
		}).sub(1, "q/#")
		stays.Detach(stays.link, true, nil)
		f := new(fate)
		leaves.Publish(publish("kept", "kept", 1, 1, true), f)
		leaves.Publish(publish("q/1", "queued", 1, 2, false), f)
		if n, err := f.get(); n != 2 || err != nil {
			t.Fatal(n, err)
		}
		all["leaves"] = true
		r.start()
		r.Expire(time.Now().Add(time.Minute))
		synctest.Wait()
		if s := r.Stats(); s.Sessions != 1 || s.Retained != 0 || s.Subscriptions != 1 {
			t.Errorf("left behind: %+v", s)
		}
		r.start()
		r.connect("stays", as("stays")).wants("kept/1 queued/1")
		if _, _, ok := r.Connect(broker.Client{Owner: broker.Owner{Name: "leaves", Identity: "1"}, ID: "x", Link: new(link)}); ok {
			t.Error("an account that is gone has a session")
		}
	})
}
