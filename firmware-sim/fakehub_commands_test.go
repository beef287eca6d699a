package sim_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// How long things take for a fake hub's commands, shorter than for a real one.
const (
	fakeLife    = 3 * time.Second
	fakeRefresh = 100 * time.Millisecond
)

// fakeState is a light's, as far as people here ask for it.
type fakeState struct {
	On         bool `json:"on"`
	Brightness int  `json:"brightness"`
	Moving     bool `json:"transitioning"`
}

type fakeCommand struct {
	ID        string         `json:"cmd_id"`
	Op        string         `json:"op"`
	Params    map[string]any `json:"params"`
	Status    string         `json:"status"`
	Code      string         `json:"code,omitempty"`
	IssuedAt  int64          `json:"issued_at"`
	ExpiresAt int64          `json:"expires_at"`
	ExpiresIn int64          `json:"expires_in_ms,omitempty"`

	d     *fakeDevice
	sent  bool
	final bool
	end   chan struct{} // closed when it is final
}

func (c *fakeCommand) envelope() map[string]any {
	return map[string]any{"cmd_id": c.ID, "op": c.Op, "params": c.Params, "ttl_ms": fakeLife.Milliseconds()}
}

// moves the command on, unless it has ended. The lock is held.
func (c *fakeCommand) moves(status, code string, final bool) {
	if c.final {
		return
	}
	if c.Status, c.Code = status, code; final {
		c.final = true
		close(c.end)
	}
}

// shownBy reports whether a state is what a set asked for.
func (c *fakeCommand) shownBy(s fakeState) bool {
	if c.Op != "set" || s.Moving || !c.sent {
		return false
	}
	on, said := c.Params["on"].(bool)
	if b, dims := c.Params["brightness"].(float64); dims && int(b) != s.Brightness {
		return false
	}
	return s.On == (on || !said)
}

func (h *fakeHub) postCommand(w http.ResponseWriter, r *http.Request) {
	c := &fakeCommand{end: make(chan struct{}), IssuedAt: time.Now().UnixMilli(), ExpiresIn: fakeLife.Milliseconds()}
	json.NewDecoder(r.Body).Decode(c)
	c.ExpiresAt = c.IssuedAt + c.ExpiresIn
	h.mu.Lock()
	d := h.devices[r.PathValue("id")]
	c.Status, c.d = "pending", d
	switch c.Op { // resolved by the hub
	case "toggle":
		c.Op, c.Params = "set", map[string]any{"on": !d.state.On}
	case "step":
		delta, _ := c.Params["brightness_delta"].(float64)
		c.Op, c.Params = "set", map[string]any{"brightness": min(max(float64(d.state.Brightness)+delta, 1), 255)}
	}
	h.commands[c.ID] = c
	if h.lie.falseDone {
		c.moves("done", "", true)
	}
	if wait := h.lie.hold; wait > 0 {
		time.AfterFunc(wait, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.send(c)
		})
	} else {
		h.send(c)
	}
	time.AfterFunc(time.Duration(c.ExpiresIn)*time.Millisecond, func() { h.expire(c) })
	h.mu.Unlock()
	<-c.end
	time.Sleep(h.lied().slow)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lie.forget {
		delete(h.commands, c.ID)
	}
	answer(w, 200, c)
}

// send gives a command to its device, twice, as it may; the lock is held.
func (h *fakeHub) send(c *fakeCommand) {
	d := c.d
	if d.link == nil || c.final && !h.lie.falseDone {
		return
	}
	d.link.push("command", c.envelope())
	d.link.push("command", c.envelope())
	d.sent = append(d.sent, c.envelope())
	if n := len(d.sent) - 33; h.lie.resend && n >= 0 { // a device remembers 32
		d.link.push("command", d.sent[n])
	}
	if c.sent = true; c.Status == "pending" {
		c.Status = "sent"
	}
}

// resendTo gives a device that is back what it has not answered; the lock is held.
func (h *fakeHub) resendTo(d *fakeDevice) {
	for _, c := range h.commands {
		if c.d == d && !c.final && (c.Status == "pending" || c.Status == "sent" || c.Status == "acked") &&
			h.lie.hold == 0 {
			h.send(c)
		}
	}
}

// expire ends a command that has had its time.
func (h *fakeHub) expire(c *fakeCommand) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch c.Status {
	case "pending":
		c.moves("expired", "", true)
	case "done":
		c.moves("done", "unconfirmed", true)
	default:
		c.moves("timed_out", "outcome_unknown", true)
	}
}

// answered takes a device's word on a command; the lock is held.
func (h *fakeHub) answered(d *fakeDevice, id, status string) {
	c := h.commands[id]
	if c == nil || c.final {
		return
	}
	switch status {
	case "acked":
		if c.Status != "done" {
			c.Status = "acked"
		}
	case "failed", "rejected":
		c.moves(status, "", true)
	case "done":
		if h.lie.falseFailed {
			c.moves("failed", "", true)
			return
		}
		if c.Op != "set" {
			c.moves("done", "", true)
			return
		}
		c.moves("done", "", false)
		if h.lie.falseConfirm {
			c.moves("confirmed", "", true)
			return
		}
		time.AfterFunc(fakeRefresh, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			if !c.final && d.link != nil {
				d.link.push("command", map[string]any{
					"cmd_id": "refresh-" + c.ID, "op": "refresh", "params": map[string]any{}, "ttl_ms": 1000,
				})
			}
		})
	}
}

// report takes a device's state; the lock is held.
func (h *fakeHub) report(d *fakeDevice, s fakeState) {
	if !s.Moving {
		d.state = s
	}
	for _, c := range h.commands {
		if c.d == d && !h.lie.blindToProof && c.shownBy(s) {
			c.moves("confirmed", "", true)
		}
	}
}

// shown is a command as its record has it.
func (h *fakeHub) shown(c *fakeCommand) fakeCommand {
	out := *c
	if h.lie.record != "" && out.Status == "confirmed" {
		out.Status = h.lie.record
	}
	return out
}

func (h *fakeHub) listCommands(w http.ResponseWriter, _ *http.Request, d *fakeDevice) {
	out := []fakeCommand{}
	for _, c := range h.commands {
		if c.d == d {
			out = append(out, h.shown(c))
		}
	}
	slices.SortFunc(out, func(a, b fakeCommand) int { return int(b.IssuedAt - a.IssuedAt) })
	answer(w, 200, map[string]any{"commands": out})
}

func (h *fakeHub) oneCommand(w http.ResponseWriter, r *http.Request, _ *fakeDevice) {
	if c := h.commands[r.PathValue("cmd")]; c != nil {
		answer(w, 200, h.shown(c))
		return
	}
	answer(w, 404, map[string]string{"code": "not_found", "reason": fmt.Sprintf("no command %s", r.PathValue("cmd"))})
}
