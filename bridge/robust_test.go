package bridge

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"devicehub/bridge/broker"
	"devicehub/bridge/packet"
	"devicehub/devices"
)

// A fault in the hub's own code ends the connection that met it, and no other.
func TestPanicIsContained(t *testing.T) {
	door := newDoor()
	door.decide = func(h heard, reply func(any, error)) {
		if h.Device == "bad" {
			panic("a bug")
		}
		reply(nil, nil)
	}
	srv, addr := start(t, nil, WithDoor(door))
	good, bad := dial(t, addr, packet.V5), dial(t, addr, packet.V5)
	good.device("good", connect{clean: true})
	bad.device("bad", connect{clean: true})
	bad.publish("hub/v1/bad/r", "{}", 1, 1)
	if b := bad.wantType(packet.Disconnect); b[0] != packet.Unspecified {
		t.Errorf("DISCONNECT %02x", b[0])
	}
	bad.wantClosed()
	door.wantClosed(t, "bad kicked")
	good.publish("hub/v1/good/r", "{}", 1, 1)
	good.wantType(packet.Puback)
	if n := srv.Stats().Panics; n != 1 {
		t.Errorf("%d panics counted", n)
	}
}

// A device that acknowledges nothing has a full queue, and is cut off when more
// waits for too long.
func TestNothingAcknowledged(t *testing.T) {
	door := newDoor()
	virtual(t, door, func(t *testing.T, dial func(byte) *raw) {
		c := dial(packet.V5)
		c.device("d", connect{clean: true, keepAlive: 60, props: []byte{33, 0, 1}})
		c.subscribe(1, "hub/v1/d/sys/down")
		s := door.session(t, "d")
		tell := func() bool { return s.link.Tell("ping", nil) }
		n := 0
		for tell() {
			n++
			if n == 1 {
				c.message()
			}
		}
		if n != queueMax+1 {
			t.Errorf("%d were taken, want %d", n, queueMax+1)
		}
		time.Sleep(unackedMax + time.Second)
		go tell()
		if h, b := c.read(); h>>4 != packet.Disconnect || b[0] != packet.QuotaExceeded {
			t.Errorf("got %02x %x", h, b)
		}
		if r := <-s.closed; r != "slow_consumer" {
			t.Errorf("reason %s", r)
		}
	})
}

// One message that is never acknowledged holds the next up for half a minute, and
// no longer: a command must not wait behind it for ever.
func TestOneUnacknowledged(t *testing.T) {
	door := newDoor()
	virtual(t, door, func(t *testing.T, dial func(byte) *raw) {
		c := dial(packet.V311)
		c.device("d", connect{clean: true, keepAlive: 60})
		c.subscribe(1, "hub/v1/d/cmd")
		s := door.session(t, "d")
		if !s.link.Command(command("c-1", time.Hour)) {
			t.Fatal("not taken")
		}
		c.message()
		if !s.link.Command(command("c-2", time.Hour)) {
			t.Fatal("not taken")
		}
		time.Sleep(unackedMax + time.Second)
		if s.link.Command(command("c-3", time.Hour)) {
			t.Error("taken, with nowhere to go")
		}
		c.wantClosed()
		if r := <-s.closed; r != "slow_consumer" {
			t.Errorf("reason %s", r)
		}
	})
}

func TestOnlineWord(t *testing.T) {
	srv, _ := start(t, nil, WithDoor(newDoor()))
	var got []string
	defer srv.Broker().Subscribe("hub/v1/d/online", func(m broker.Message, from broker.Sender) { from.Decided(nil); got = append(got, string(m.Payload)) })()
	srv.SetOnline("d", true)
	srv.SetOnline("d", true)
	srv.SetOnline("d", false)
	srv.Forget("d")
	if len(got) != 3 || got[0] != "online" || got[1] != "offline" || got[2] != "" {
		t.Errorf("got %q", got)
	}
}

// The end may come between sign-in and CONNACK.
func TestEndedBeforeWelcome(t *testing.T) {
	door := &hasty{newDoor()}
	_, addr := start(t, nil, WithDoor(door))
	for v, want := range map[byte]byte{packet.V5: packet.SessionTakenOver, packet.V311: 5} {
		c := dial(t, addr, v)
		c.send(packet.Connect<<4, c.connectBody(connect{id: "d", user: "d", password: "pw-d", clean: true}))
		if b := c.wantType(packet.Connack); b[1] != want {
			t.Errorf("CONNACK %02x, want %02x", b[1], want)
		}
		c.wantClosed()
	}
	door.want(t, "both closed", func() bool { return len(door.closed) == 2 })
}

// hasty ends every session as soon as it is open.
type hasty struct{ *fakeDoor }

func (h *hasty) Enter(ctx context.Context, a Arrival, l Link) (Session, error) {
	s, err := h.fakeDoor.Enter(ctx, a, l)
	l.End(devices.CodeReplaced, "a newer connection took over", 2)
	return s, err
}

// Whatever a service account's client sends, the hub does not panic.
func FuzzService(f *testing.F) {
	c := &raw{version: packet.V5}
	f.Add(byte(5), frame(0x33, c.publishBody("a/b", "x", 1, 1, 35, 0, 1, 2, 0, 0, 0, 9)))
	f.Add(byte(5), append(frame(0x82, append(str([]byte{0, 1, 2, 11, 5}, "$share/g/#"), 2)), frame(0x34, c.publishBody("a", "1", 2, 2))...))
	f.Add(byte(4), append(frame(0x82, append(str([]byte{0, 1}, "#"), 2)), frame(0x35, str(nil, "a"))...))
	f.Add(byte(5), frame(0xE0, []byte{4, 5, 17, 0, 0, 0, 1}))
	f.Add(byte(5), []byte{0x50, 2, 0, 1, 0x62, 2, 0, 1, 0x70, 2, 0, 1})
	f.Fuzz(func(t *testing.T, version byte, b []byte) {
		if version != packet.V5 {
			version = packet.V311
		}
		srv, err := New(Default(), WithAccounts(fakeAccounts{"all": {Filters: []string{"#"}}}))
		if err != nil {
			t.Fatal(err)
		}
		near, far := net.Pipe()
		conn, _ := srv.admit(far)
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer srv.release(conn)
			conn.serve(context.Background())
		}()
		go func() { _, _ = io.Copy(io.Discard, near) }()
		_ = near.SetWriteDeadline(time.Now().Add(5 * time.Second))
		r := &raw{t: t, nc: near, version: version}
		_, _ = near.Write(frame(packet.Connect<<4, r.connectBody(connect{id: "c", user: "service:all", password: "pw", will: "will", willPayload: "x"})))
		_, _ = near.Write(b)
		near.Close()
		<-done
		srv.Broker().Expire(time.Now().Add(time.Hour))
		if n := srv.Stats().Panics; n != 0 {
			t.Fatal("it panicked")
		}
	})
}
