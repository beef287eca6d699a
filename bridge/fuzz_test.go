package bridge

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"devicehub/bridge/packet"
)

// Whatever a device sends once it is let in, the hub does not panic, ends the
// connection or goes on, and hears of no other device.
func FuzzDevice(f *testing.F) {
	c := &raw{version: packet.V5}
	f.Add(byte(5), frame(0x32, c.publishBody("hub/v1/d/r", `{"m":"t","v":1}`, 1, 1, 35, 0, 1)))
	f.Add(byte(4), frame(0x82, append(str([]byte{0, 1}, "hub/v1/d/cmd"), 1)))
	f.Add(byte(5), append(frame(0x34, c.publishBody("hub/v1/d/r", "1", 2, 2)), frame(0x62, []byte{0, 2})...))
	f.Add(byte(5), frame(0xE0, []byte{0, 5, 17, 0, 0, 0, 1}))
	f.Add(byte(4), []byte{0x40, 2, 0, 1, 0xA2, 4, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, version byte, b []byte) {
		if version != packet.V5 {
			version = packet.V311
		}
		door := newDoor()
		cfg := Default()
		cfg.MaxPacket = 4096
		srv, err := New(cfg, WithDoor(door))
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
		_, _ = near.Write(frame(packet.Connect<<4, r.connectBody(connect{id: "d", user: "d", password: "pw-d"})))
		_, _ = near.Write(b)
		near.Close()
		<-done
		if n := srv.Stats().Panics; n != 0 {
			t.Fatal("it panicked")
		}
		for _, h := range door.heard {
			if h.Device != "d" {
				t.Fatalf("heard %+v", h)
			}
		}
	})
}
