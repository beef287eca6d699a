package device

import (
	"encoding/json"
	"time"
)

// A Command is the envelope that the hub sends, over channels and MQTT alike (devices/PROTOCOL.md#commands).
type Command struct {
	ID        string          `json:"cmd_id"`
	Op        string          `json:"op"`
	Params    json.RawMessage `json:"params"`
	IssuedAt  int64           `json:"issued_at"`
	ExpiresAt int64           `json:"expires_at"`
	TTL       int64           `json:"ttl_ms"`
	Attempt   int             `json:"attempt"`
	By        string          `json:"by"`

	until   time.Time // when it is too late to begin; zero: never
	answer  answerTo
	reports Reporting
	boot    string // of the life in which it came
}

// request is what came with an envelope beside it. Only MQTT 5 has such things.
type request struct {
	answer answerTo
	until  time.Time // when the message expires; zero: it does not
}

// answerTo says where an answer goes. The zero value is the device's own topic, which every transport has.
type answerTo struct {
	topic       string // MQTT 5 §3.3.2.3.5, response topic
	correlation []byte // §3.3.2.3.6, comes back as it was sent
}

// command takes an envelope. One that was had before is not executed again; its answer is repeated.
func (d *Device) command(payload []byte, asked request) {
	var c Command
	if json.Unmarshal(payload, &c) != nil || c.ID == "" {
		d.failed("malformed_command")
		return
	}
	arrived := time.Now()
	c.answer = asked.answer
	// What a broker kept for a while says in its envelope how long it had when it was written, and in its expiry how long it
	// still has (MQTT 5 §3.3.2.3.3).
	if c.until = asked.until; c.TTL > 0 {
		if until := arrived.Add(time.Duration(c.TTL) * time.Millisecond); c.until.IsZero() || until.Before(c.until) {
			c.until = until
		}
	}
	d.mu.Lock()
	known := d.ring.find(c.ID)
	if known != nil {
		answer, status := ackPayload(c.ID, *known), known.status
		d.mu.Unlock()
		if d.cfg.Hooks.Command != nil {
			d.cfg.Hooks.Command(c, true)
		}
		d.link.ack(answer, c.answer, d.answering(c.ID, status))
		return
	}
	d.ring.add(c.ID, "acked")
	c.boot = d.boot
	var think time.Duration
	if d.light != nil {
		think = ms(d.light.cfg.Ack, d.rand)
		if d.light.cfg.Reports != nil {
			c.reports = d.light.cfg.Reports(d.rand)
		}
	}
	d.mu.Unlock()
	if d.cfg.Hooks.Command != nil {
		d.cfg.Hooks.Command(c, false)
	}
	d.blips(blipOnArrival)
	if think <= 0 {
		d.accept(c, arrived)
		return
	}
	d.mu.Lock()
	d.after(think, func() { d.accept(c, arrived) })
	d.mu.Unlock()
}

// accept acknowledges a command and executes it after the time that the device takes for that, or refuses it if it is too late.
func (d *Device) accept(c Command, arrived time.Time) {
	if d.gone(c) {
		return
	}
	if !c.until.IsZero() && !time.Now().Before(c.until) {
		d.finishCommand(c, "rejected", "expired", arrived)
		return
	}
	if c.Op != "set" {
		c.reports = ReportAfter
	}
	if c.reports != ReportEarly {
		d.link.ack(ackPayload(c.ID, heard{status: "acked"}), c.answer, d.answering(c.ID, "acked"))
	}
	d.blips(blipOnAck)
	d.mu.Lock()
	var exec time.Duration
	fails, hangs := false, false
	if d.light != nil {
		if exec = ms(d.light.cfg.Exec, d.rand); c.reports == ReportEarly {
			exec = 0
		}
		fails = d.light.cfg.FailPct > 0 && d.rand.Float64()*100 < d.light.cfg.FailPct
		hangs = d.light.cfg.HangPct > 0 && d.rand.Float64()*100 < d.light.cfg.HangPct
	}
	if hangs {
		d.mu.Unlock()
		return
	}
	began := time.Now()
	d.after(exec, func() {
		if fails && !d.gone(c) {
			d.finishCommand(c, "failed", "hardware", began)
			return
		}
		d.execute(c, began)
	})
	d.mu.Unlock()
}

// gone reports whether a command went with the power, before it was executed.
func (d *Device) gone(c Command) bool { return d.Boot() != c.boot }

func (d *Device) execute(c Command, began time.Time) {
	d.mu.Lock()
	if d.boot != c.boot {
		d.mu.Unlock()
		return
	}
	if e := d.ring.find(c.ID); e != nil {
		e.ran = true
	}
	d.mu.Unlock()
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
	d.link.ack(ackPayload(c.ID, h), c.answer, d.answering(c.ID, status))
}

// answering tells that an answer leaves; what it returns, that the hub has it.
func (d *Device) answering(id, status string) (taken func()) {
	if d.cfg.Hooks.Answered == nil {
		return nil
	}
	return d.cfg.Hooks.Answered(id, status)
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
