package channels

import (
	"fmt"
	"testing"
	"time"

	"devicehub/devices"
)

// Commands are answered when they are on disk. What comes after one on its topic
// does not wait for that, nor do they wait for each other.
func TestCommandsDoNotHoldUpTheirTopic(t *testing.T) {
	inHouse(t, func(h *house) {
		h.device("lamp", light)
		ana := h.connect(h.person("ana", devices.RoleOperator, ""))
		ana.join("light:lamp")
		h.disk.takes.Store(int64(time.Second))
		began := time.Now()
		send := func(ref, event, payload string) {
			ana.pipe.Send(fmt.Appendf(nil, `["light:lamp",%q,"light:lamp",%q,%s]`, ref, event, payload), false)
		}
		reply := func(ref string) (status any) {
			t.Helper()
			f, ok := ana.next(func(f frame) bool { return f.event == "phx_reply" && f.ref == ref })
			if !ok {
				t.Fatalf("no reply to %s", ref)
			}
			return f.payload["status"]
		}
		for i := range 10 {
			send(fmt.Sprint("c", i), "command", fmt.Sprintf(`{"op":"set","params":{"brightness":%d},"policy":"latest"}`, i+1))
		}
		send("bad", "command", `{"op":"set","params":{"brightness":1000}}`)
		send("get", "get", "{}")
		if reply("get") != "ok" || reply("bad") != "error" || time.Since(began) > 0 {
			t.Errorf("they waited %v for commands on their way to the disk", time.Since(began))
		}
		for i := range 10 {
			if got := reply(fmt.Sprint("c", i)); got != "ok" {
				t.Errorf("command %d: got %v", i, got)
			}
		}
		if took := time.Since(began); took < time.Second || took > 3*time.Second {
			t.Errorf("ten commands were answered after %v, with a disk that takes a second", took)
		}
	})
}
