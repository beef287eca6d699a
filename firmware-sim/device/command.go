package device

import (
	"encoding/json"
	"time"
)

// A Command is the envelope that the hub sends, over channels and MQTT alike (2-domain §4).
type Command struct {
	ID        string          `json:"cmd_id"`
	Op        string          `json:"op"`
	Params    json.RawMessage `json:"params"`
	IssuedAt  int64           `json:"issued_at"`
	ExpiresAt int64           `json:"expires_at"`
	TTL       int64           `json:"ttl_ms"`
	Attempt   int             `json:"attempt"`
	By        string          `json:"by"`
}

// command takes an envelope. One that was had before is not executed again; its answer is repeated.
func (d *Device) command(payload []byte) {
	var c Command
	if json.Unmarshal(payload, &c) != nil || c.ID == "" {
		d.failed("malformed_command")
		return
	}
	d.mu.Lock()
	known := d.ring.find(c.ID)
	if known != nil {
		answer := ackPayload(c.ID, *known)
		d.mu.Unlock()
		if d.cfg.Hooks.Command != nil {
			d.cfg.Hooks.Command(c, true)
		}
		d.link.ack(answer)
		return
	}
	d.ring.add(c.ID, "acked")
	var think time.Duration
	if d.light != nil {
		think = ms(d.light.cfg.Ack, d.rand)
	}
	d.mu.Unlock()
	if d.cfg.Hooks.Command != nil {
		d.cfg.Hooks.Command(c, false)
	}
	if think <= 0 {
		d.accept(c, time.Now())
		return
	}
	arrived := time.Now()
	d.mu.Lock()
	d.after(think, func() { d.accept(c, arrived) })
	d.mu.Unlock()
}

// accept acknowledges a command and executes it after the time that the device takes for that.
func (d *Device) accept(c Command, arrived time.Time) {
	if c.TTL > 0 && time.Since(arrived) > time.Duration(c.TTL)*time.Millisecond {
		d.finishCommand(c, "rejected", "expired", arrived)
		return
	}
	d.link.ack(ackPayload(c.ID, heard{status: "acked"}))
	d.mu.Lock()
	var exec time.Duration
	fails := false
	if d.light != nil {
		exec = ms(d.light.cfg.Exec, d.rand)
		fails = d.light.cfg.FailPct > 0 && d.rand.Float64()*100 < d.light.cfg.FailPct
	}
	began := time.Now()
	d.after(exec, func() {
		if fails {
			d.finishCommand(c, "failed", "hardware", began)
			return
		}
		d.execute(c, began)
	})
	d.mu.Unlock()
}

func (d *Device) execute(c Command, began time.Time) {
	if d.cfg.Hooks.Ran != nil {
		d.cfg.Hooks.Ran(c)
	}
	switch c.Op {
	case "set":
		d.setLight(c, began)
	case "identify":
		d.finishCommand(c, "done", "", began)
	case "refresh":
		d.finishCommand(c, "done", "", began)
		d.report("sync", c.ID)
	case "restart":
		d.finishCommand(c, "done", "", began)
		d.mu.Lock()
		d.after(50*time.Millisecond, d.Restart) // the answer leaves first
		d.mu.Unlock()
	default:
		d.finishCommand(c, "rejected", "unknown_op", began)
	}
}

// finishCommand remembers a command's end and answers it.
func (d *Device) finishCommand(c Command, status, code string, began time.Time) {
	h := heard{id: c.ID, status: status, code: code, execMS: time.Since(began).Milliseconds()}
	d.mu.Lock()
	if e := d.ring.find(c.ID); e != nil {
		*e = h
	}
	d.mu.Unlock()
	d.link.ack(ackPayload(c.ID, h))
}

func ackPayload(id string, h heard) []byte {
	b, _ := json.Marshal(struct { // strings and a number always marshal
		ID     string `json:"cmd_id"`
		Status string `json:"status"`
		Code   string `json:"code,omitempty"`
		ExecMS int64  `json:"exec_ms,omitempty"`
	}{id, h.status, h.code, h.execMS})
	return b
}
