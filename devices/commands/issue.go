package commands

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"devicehub/devices"
	"devicehub/devices/lights"
	"devicehub/devices/quota"
)

// Issue takes a command for a device. When it returns, the command is durable,
// and on its way if the device is there. The error is forbidden, not_found,
// device_disabled, invalid, range, conflict (the id stands for another command),
// version_conflict, device_offline, rate_limited, overloaded,
// platform_unavailable, or timeout when ctx ended first: then the command may
// be on its way all the same.
func (d *Dispatcher) Issue(ctx context.Context, a devices.Actor, o devices.Origin, id devices.ID, r Request) (Receipt, error) {
	c, err := d.take(ctx, a, id, r)
	if err == nil {
		err = d.durable(ctx, c)
	}
	return d.receipt(a, o, id, r, c, err)
}

// receipt is what whoever gave a command is told of it, and the audit with them.
func (d *Dispatcher) receipt(a devices.Actor, o devices.Origin, id devices.ID, r Request, c *command, err error) (Receipt, error) {
	d.audit(o, a, id, "command.issue", r, c, err)
	if err != nil {
		return Receipt{}, err
	}
	var rc Receipt
	d.with(id, func(*device, time.Time) {
		rc = Receipt{c.rec.CmdID, c.rec.Status, c.rec.Warning}
		if c.refuse != nil {
			rc, err = Receipt{}, c.refuse
		}
	})
	return rc, err
}

// take lines a command up, behind those that were taken before it. It is not on
// disk yet.
func (d *Dispatcher) take(ctx context.Context, a devices.Actor, id devices.ID, r Request) (*command, error) {
	rec, err := d.mayCommand(a, id)
	if err != nil {
		return nil, err
	}
	if r.CmdID != "" && !validID(r.CmdID) {
		return nil, devices.Invalid("cmd_id", "1 to 64 of letters, digits, '-' and '_'")
	}
	hash := hashOf(r)
	if r.CmdID == "" {
		r.CmdID = ulid.MustNewDefault(d.now()).String()
	} else if c, err := d.again(ctx, id, r.CmdID, hash); c != nil || err != nil {
		return c, err
	}
	c, err := d.admit(rec, a.String(), r, hash)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// durable waits for the command to be on disk.
func (d *Dispatcher) durable(ctx context.Context, c *command) error {
	select {
	case <-c.durable:
		return nil
	case <-d.writes.done:
		return stopping(c)
	case <-ctx.Done():
		return devices.Refuse(devices.CodeTimeout, "the command is not on disk yet").With("cmd_id", c.rec.CmdID)
	}
}

func stopping(c *command) error {
	return devices.Refuse(devices.CodePlatformUnavailable, "the hub is stopping").With("cmd_id", c.rec.CmdID)
}

func (d *Dispatcher) mayCommand(a devices.Actor, id devices.ID) (*devices.Device, error) {
	rec, ok := d.cfg.Registry.Get(id)
	switch {
	case !ok && a.Rights&devices.RightCommand != 0:
		return nil, devices.NotFound("device")
	case !ok || !a.May(devices.RightCommand, rec):
		return nil, devices.Refuse(devices.CodeForbidden, "you may not control this device")
	case !rec.Enabled:
		return nil, devices.Refuse(devices.CodeDeviceDisabled, "the device is disabled")
	}
	return rec, nil
}

// again is the command that was already made of this request, if there is one.
func (d *Dispatcher) again(ctx context.Context, id devices.ID, cmdID, hash string) (c *command, err error) {
	d.with(id, func(dev *device, _ time.Time) { c = dev.find(cmdID) })
	if c == nil {
		row, ok, err := d.cfg.Store.Command(ctx, id, cmdID)
		if err != nil {
			return nil, fmt.Errorf("look up command %s: %w", cmdID, err)
		}
		if !ok {
			return nil, nil
		}
		if c, err = row.command(d.now()); err != nil {
			return nil, err
		}
	}
	if c.hash != hash {
		return nil, devices.Refuse(devices.CodeConflict, "this cmd_id stands for another command").With("cmd_id", cmdID)
	}
	return c, nil
}

// hashOf is the same for requests that ask for the same.
func hashOf(r Request) string {
	var params any
	if err := json.Unmarshal(r.Params, &params); err != nil {
		params = string(r.Params)
	}
	b, _ := json.Marshal(struct { // what JSON gave, JSON takes
		Op      string
		Params  any
		Expires *int64
		Policy  string
		IfVer   *int64
	}{r.Op, params, r.ExpiresInMS, r.Policy, r.IfVer})
	sum := sha256.Sum256(b)
	return base64.RawStdEncoding.EncodeToString(sum[:18])
}

func validID(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// commandRate is how many commands people may give one device.
var commandRate = quota.Rate{PerSecond: 60, Burst: 120}

// admit checks a request against the device and lines it up. A refusal of a
// well-formed request is a command too: people see it in the history.
func (d *Dispatcher) admit(rec *devices.Device, by string, r Request, hash string) (c *command, err error) {
	light := rec.Light
	if !rec.Is(devices.KindLight) {
		light = nil
	}
	ask, err := lights.Parse(light, r.Op, r.Params)
	if err != nil {
		return nil, err
	}
	policy, err := policyOf(rec, ask.Op, r.Policy)
	if err != nil {
		return nil, err
	}
	d.with(rec.ID, func(dev *device, now time.Time) {
		if c = dev.find(r.CmdID); c != nil {
			if c.hash != hash {
				err = devices.Refuse(devices.CodeConflict, "this cmd_id stands for another command").With("cmd_id", r.CmdID)
			}
			return // the same request, twice at once
		}
		if dev.rate == nil {
			dev.rate = quota.NewLimiter(commandRate)
		}
		if _, ok := dev.rate.Take(now); !ok {
			err = devices.Refuse(devices.CodeRateLimited, "too many commands for this device").After(time.Second)
			return
		}
		c = &command{hash: hash, issuedAt: now, durable: make(chan struct{}),
			rec: Record{CmdID: r.CmdID, Device: rec.ID, Op: r.Op, Params: map[string]any{}, By: by, Policy: policy, IssuedAt: now.UnixMilli()}}
		err = d.lineUp(dev, rec, c, ask, r, now)
		var refused *devices.Error
		if errors.As(err, &refused) && refused.Code != devices.CodeRateLimited && refused.Code != devices.CodeOverloaded {
			c.refuse, err = refused, nil
			c.rec.Code, c.stored = string(refused.Code), true
			close(c.durable)
			d.move(c, Refused, now)
		}
		if err != nil {
			return
		}
		dev.open = append(dev.open, c)
		if c.refuse == nil {
			d.writes.create(c)
		}
	})
	return c, err
}

func policyOf(rec *devices.Device, op lights.Op, policy string) (string, error) {
	switch policy {
	case PolicyNone, PolicyLatest, PolicyAll:
		return policy, nil
	case "":
		if rec.Sleepy && (op == lights.Set || op == lights.Toggle || op == lights.Step) {
			return PolicyLatest, nil
		}
		return PolicyNone, nil
	}
	return "", devices.Invalid("policy", "none, latest or all")
}

// lineUp makes the command absolute and decides whether it may wait.
func (d *Dispatcher) lineUp(dev *device, rec *devices.Device, c *command, ask lights.Ask, r Request, now time.Time) error {
	st := d.cfg.Liveness.Status(rec.ID)
	transport := st.Transport
	if dev.link != nil {
		transport = dev.link.transport
	}
	life, err := lifeOf(c.rec.Policy, transport, r.ExpiresInMS)
	if err != nil {
		return err
	}
	c.expires = now.Add(life)
	c.rec.ExpiresAt = c.rec.IssuedAt + life.Milliseconds()

	op, params, want, err := ask.Resolve(dev.soon(d.cfg.Shadows.State(rec.ID), now))
	if err != nil {
		return err
	}
	if _, asked := want[lights.On]; !asked {
		delete(params, lights.On) // the device is told; what was asked stays as it was asked
	}
	c.rec.Op, c.rec.Params, c.want, c.group = string(op), params, want, want.Groups()
	c.deadlines()

	status, warning, err := reach(st, dev.link != nil, c.rec.Policy)
	if err != nil {
		return err
	}
	if ask.Clamped {
		warning = join(warning, fmt.Sprintf("transition_ms is %d", ask.TransitionMS))
	}
	c.rec.Warning = warning
	if err := dev.room(c); err != nil {
		return err
	}
	if err := d.cfg.Shadows.Want(rec, c.rec.CmdID, c.rec.By, want, r.IfVer); err != nil {
		return err
	}
	d.supersede(dev, c, now)
	c.leaving = status == Pending && ask.Op.Momentary()
	d.move(c, status, now)
	return nil
}

// lifeOf is how long a command may wait.
func lifeOf(policy string, transport devices.Transport, asked *int64) (time.Duration, error) {
	if asked != nil {
		if *asked < 1 || *asked > maxLife.Milliseconds() {
			return 0, devices.OutOfRange("expires_in_ms", 1, float64(maxLife.Milliseconds()), "ms")
		}
		return time.Duration(*asked) * time.Millisecond, nil
	}
	switch policy {
	case PolicyLatest:
		return latestLife, nil
	case PolicyAll:
		return allLife, nil
	}
	return max(minLife, ackTimeout(transport)*5/2), nil
}

// soon is the state once what is under way is done.
func (dev *device) soon(state lights.Fields, now time.Time) lights.Fields {
	for _, c := range dev.open {
		switch {
		case c.waiting() || c.holds(now):
			state = state.Merge(c.target())
		case c.rec.Status == Done && !c.final:
			state = state.Merge(c.stands)
		}
	}
	return state
}

// reach says whether a command for a device of this status is sent, waits or is
// refused.
func reach(st devices.Status, linked bool, policy string) (status Status, warning string, err error) {
	offline := devices.Refuse(devices.CodeDeviceOffline, "the device is not there: "+string(st.State)).With("status", string(st.State))
	switch st.State {
	case devices.Offline, devices.NeverSeen, devices.DataOnly:
		switch {
		case linked && (st.State != devices.Offline || st.Link == "unknown"):
			warning = string(st.State)
		case policy == PolicyNone:
			return "", "", offline
		default:
			return Queued, "", nil
		}
	case devices.Sleeping:
		if policy == PolicyNone {
			return "", "", offline
		}
		return Queued, "", nil
	case devices.Quiet, devices.Unresponsive:
		warning = string(st.State)
	}
	if st.Flapping {
		warning = join(warning, "flapping")
	}
	if st.Unverified {
		warning = join(warning, "unverified")
	}
	if !linked && policy != PolicyNone {
		return Queued, warning, nil
	}
	return Pending, warning, nil
}

func join(a, b string) string { return strings.TrimPrefix(a+", "+b, ", ") }

// room bounds what is under way to one device.
func (dev *device) room(c *command) error {
	full := devices.Refuse(devices.CodeRateLimited, "too many commands wait for this device").After(time.Second)
	if len(dev.open) >= maxOpen {
		return full
	}
	if c.rec.Policy != PolicyAll {
		return nil
	}
	n := 0
	for _, o := range dev.open {
		if o.waiting() && o.rec.Policy == PolicyAll {
			n++
		}
	}
	if n >= maxQueued {
		return full.With("limit", maxQueued)
	}
	return nil
}

// supersede ends the waiting sets whose every group the new one sets.
func (d *Dispatcher) supersede(dev *device, c *command, now time.Time) {
	if c.group == 0 || c.rec.Policy == PolicyAll {
		return
	}
	for _, o := range dev.open {
		if o.waiting() && o.group != 0 && o.group&^c.group == 0 && o.rec.Policy != PolicyAll {
			d.move(o, Superseded, now)
		}
	}
}

func (d *Dispatcher) audit(o devices.Origin, a devices.Actor, id devices.ID, action string, r Request, c *command, err error) {
	if d.cfg.Audit == nil {
		return
	}
	e := devices.AuditEntry{Actor: a.String(), Via: o.Via, Action: action, Target: "device:" + string(id), CmdID: r.CmdID, Outcome: "ok"}
	if c != nil {
		e.CmdID = c.rec.CmdID
		if err == nil && c.refuse != nil { // settled, else err says so
			err = c.refuse
		}
	}
	if err != nil {
		e.Outcome, e.Code = "refused", devices.CodeOf(err)
		if e.Code == "" {
			e.Outcome, e.Code = "failed", devices.CodePlatformUnavailable
		}
	}
	if r.Op != "" && len(r.Op) <= 16 && len(r.Params) <= 1024 && (len(r.Params) == 0 || json.Valid(r.Params)) {
		e.After = map[string]any{"op": r.Op, "params": r.Params}
	}
	d.cfg.Audit.Record(o, e)
}
