package channels

import (
	"fmt"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/hub/hubtest"
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
		var sent []*hubtest.Pushed
		for i := range 10 {
			sent = append(sent, ana.push("light:lamp", "command", fmt.Sprintf(`{"op":"set","params":{"brightness":%d},"policy":"latest"}`, i+1)))
		}
		bad := ana.push("light:lamp", "command", `{"op":"set","params":{"brightness":1000}}`)
		ana.push("light:lamp", "get", "{}").WantReply("ok", nil)
		bad.WantReply("error", nil)
		if waited := time.Since(began); waited > 0 {
			t.Errorf("they waited %v for commands on their way to the disk", waited)
		}
		for _, p := range sent {
			p.WantReply("ok", nil)
		}
		if took := time.Since(began); took < time.Second || took > 3*time.Second {
			t.Errorf("ten commands were answered after %v, with a disk that takes a second", took)
		}
	})
}
