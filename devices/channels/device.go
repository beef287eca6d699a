package channels

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/session"
	"devicehub/devices/shadow"
	"devicehub/hub"
	"devicehub/hub/presence"
)

// Device serves "sensor:<id>" and "light:<id>". The device that the topic names
// sends readings, states and answers, and hears what is meant for it. People
// watch, and send commands as far as their rights go; rights are looked up on
// join and again on every event.
type Device struct {
	app  *App
	kind devices.Kind

	id     devices.ID
	who    *caller
	isIt   bool // the caller is the device itself
	people bool // the caller was last shown who else watches
}

// Join lets the device itself in, or a person who may see it.
func (c *Device) Join(ctx context.Context, s *hub.Socket, p hub.Payload) (hub.Reply, error) {
	c.who = callers.Get(ctx)
	c.id = devices.ID(strings.TrimPrefix(s.Topic(), string(c.kind)+":"))
	if c.who.session != nil {
		return c.joinDevice(s, p), nil
	}
	c.who.visitor.join(s) // first, so that no change of rights falls between
	_, dev, err := c.mayRead()
	if err != nil {
		c.who.visitor.leave(s)
		return refuseJoin(err), nil
	}
	return hub.OK(c.view(dev)), nil
}

func (c *Device) joinDevice(s *hub.Socket, p hub.Payload) hub.Reply {
	if c.who.session.Device() != c.id {
		return refuseJoin(devices.Refuse(devices.CodeForbidden, "a device joins its own topics only"))
	}
	if err := devices.CheckJSON(p.Bytes(), "payload"); err != nil {
		return hub.Error(err)
	}
	var params session.JoinParams
	if err := p.Decode(&params); err != nil {
		return hub.Error(devices.Invalid("payload", `{"boot","fw","sdk","proto","reported","reported_at"}`))
	}
	c.isIt = true
	s.SkipBroadcasts()
	reply, err := c.who.session.Join(c.kind, params)
	if devices.CodeOf(err) != "" {
		return refuseJoin(err)
	}
	if err != nil {
		return c.app.answer(nil, err, "phx_join", s.Topic())
	}
	return hub.OK(reply)
}

// AfterJoin lets commands flow to a device, or shows a person who is there.
func (c *Device) AfterJoin(_ context.Context, s *hub.Socket) error {
	if c.isIt {
		c.who.session.Listen()
		return nil
	}
	actor, err := c.app.Identity.Actor(c.who.principal)
	if err != nil {
		return hub.ErrStop
	}
	_, err = c.app.Presence.Track(s, s.Topic(), actor.String(), presence.Meta{"role": actor.Role, "since": time.Now().UnixMilli()})
	if err != nil && !errors.Is(err, presence.ErrTracked) && !errors.Is(err, presence.ErrEnded) {
		return err
	}
	return c.showPresent(s, actor)
}

// showPresent tells who is on the topic, as far as the actor may see it.
func (c *Device) showPresent(s *hub.Socket, actor devices.Actor) error {
	c.people = seesPeople(actor)
	there, err := presentTo(actor, c.app.Presence.List(s.Topic()))
	if err != nil {
		return err
	}
	return s.Push(presence.EventState, there)
}

// Intercepts keeps other people's presence, and what of the record is not
// everybody's, from those who may not see it.
func (c *Device) Intercepts() []string {
	if c.isIt {
		return nil
	}
	return []string{presence.EventDiff, "device_changed"}
}

// HandleOut passes on a presence_diff, without people in it for those who may
// not see them at this moment, and a record as far as they may see it.
func (c *Device) HandleOut(_ context.Context, s *hub.Socket, event string, p hub.Payload) error {
	actor, err := c.app.Identity.Actor(c.who.principal)
	if event == "device_changed" {
		if err != nil {
			return nil // who may no longer be here is told so otherwise
		}
		dev := &devices.Device{}
		if err := p.Decode(dev); err != nil {
			return err
		}
		return s.Push(event, dev.SeenBy(actor))
	}
	if err == nil && seesPeople(actor) {
		return s.Push(event, json.RawMessage(p.Bytes()))
	}
	var diff struct {
		Joins  present `json:"joins"`
		Leaves present `json:"leaves"`
	}
	if err := p.Decode(&diff); err != nil {
		return err
	}
	diff.Joins.hidePeople()
	diff.Leaves.hidePeople()
	if len(diff.Joins) == 0 && len(diff.Leaves) == 0 {
		return nil
	}
	return s.Push(event, diff)
}

// HandleIn hands a device's event to its session, and a person's to the service
// that it asks for.
func (c *Device) HandleIn(ctx context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	if c.isIt {
		if slices.Contains(peopleEvents, event) {
			return hub.Error(devices.Refuse(devices.CodeForbidden, "a device does not send "+event)), nil
		}
		ref, topic := s.Ref(), s.Topic()
		c.who.session.Handle(event, p.Bytes(), p.Binary(), func(v any, err error) {
			ref.Reply(c.app.answer(v, err, event, topic))
		})
		return hub.Reply{}, nil
	}
	if slices.Contains(deviceEvents, event) {
		return hub.Error(devices.Refuse(devices.CodeForbidden, "only the device itself sends "+event)), nil
	}
	if event == "command" {
		return c.command(ctx, s, p), nil
	}
	v, err := c.ask(ctx, event, p)
	return c.app.answer(v, err, event, s.Topic()), nil
}

// command gives a person's command. It is answered when it is on disk; what comes
// after it on the topic does not wait for that.
func (c *Device) command(ctx context.Context, s *hub.Socket, p hub.Payload) hub.Reply {
	var r commands.Request
	actor, _, err := c.mayRead()
	if err == nil {
		err = strict(p, &r)
	}
	if err != nil {
		return c.app.answer(nil, err, "command", s.Topic())
	}
	ref, topic := s.Ref(), s.Topic()
	c.app.Commands.Submit(ctx, actor, c.who.origin, c.id, r, func(rc commands.Receipt, err error) {
		ref.Reply(c.app.answer(rc, err, "command", topic))
	})
	return hub.Reply{}
}

var (
	peopleEvents = []string{"command", "cancel", "shadow_update", "get"}
	deviceEvents = []string{"reading", "readings", "senml", "state", "ack", "pong", "token_refresh", "sleep", "info"}
)

func (c *Device) ask(ctx context.Context, event string, p hub.Payload) (any, error) {
	actor, dev, err := c.mayRead()
	if err != nil {
		return nil, err
	}
	switch event {
	case "get":
		return c.view(dev), nil
	case "cancel":
		var r struct {
			CmdID string `json:"cmd_id"`
		}
		if err := strict(p, &r); err != nil {
			return nil, err
		}
		return c.app.Commands.Cancel(ctx, actor, c.who.origin, c.id, r.CmdID)
	case "shadow_update":
		var r shadow.PatchRequest
		if err := strict(p, &r); err != nil {
			return nil, err
		}
		return c.app.Shadows.Patch(ctx, actor, c.who.origin, c.id, r)
	}
	return nil, unknownEvent(peopleEvents...)
}

func unknownEvent(known ...string) *devices.Error {
	return devices.Refuse(devices.CodeInvalid, "unknown event").With("field", "event").With("want", strings.Join(known, ", "))
}

// rightsNow is what somebody hears of rights that were changed: a person of a role, a service
// account, which has none, of its rights.
func rightsNow(actor devices.Actor) map[string]any {
	if actor.Kind == devices.ActorService {
		return map[string]any{"rights": actor.Rights.Names(), "scope": actor.Scope.String()}
	}
	return map[string]any{"role": actor.Role, "scope": actor.Scope.String()}
}

// HandleInfo looks at the caller's rights again when they or the device changed.
func (c *Device) HandleInfo(_ context.Context, s *hub.Socket, msg any) error {
	again, ok := msg.(recheck)
	if !ok || c.isIt {
		return nil
	}
	actor, _, err := c.mayRead()
	if again.told && actor.Kind != "" {
		if err := s.Push("rights_changed", rightsNow(actor)); err != nil {
			return err
		}
	}
	if err != nil {
		return hub.ErrStop
	}
	if seesPeople(actor) != c.people {
		return c.showPresent(s, actor)
	}
	return nil
}

// Terminate forgets the channel.
func (c *Device) Terminate(s *hub.Socket, _ error) {
	if c.who != nil && c.who.visitor != nil {
		c.who.visitor.leave(s)
	}
}

// mayRead returns the caller's rights of this moment and the device, or why it
// may not be seen. A device outside the scope is refused like one that does not
// exist.
func (c *Device) mayRead() (devices.Actor, *devices.Device, error) {
	actor, err := c.app.Identity.Actor(c.who.principal)
	if err != nil {
		return actor, nil, err
	}
	dev, ok := c.app.Registry.Get(c.id)
	if !ok || !dev.Is(c.kind) || !actor.May(devices.RightRead, dev) {
		return actor, nil, devices.Refuse(devices.CodeForbidden, "no such device for you")
	}
	return actor, dev, nil
}

// view is what a person is shown first: {server_time,status,latest,shadow?}.
func (c *Device) view(dev *devices.Device) map[string]any {
	v := map[string]any{
		"server_time": time.Now().UnixMilli(),
		"status":      c.app.Liveness.Status(dev.ID),
		"latest":      json.RawMessage(c.app.Readings.AppendLatest(nil, dev.ID)),
	}
	if c.kind == devices.KindLight {
		if doc, ok := c.app.Shadows.Doc(dev.ID); ok {
			v["shadow"] = doc
		}
	}
	return v
}

// refuseJoin carries the reason that Phoenix programs test for beside the code.
func refuseJoin(err error) hub.Reply {
	var e *devices.Error
	if !errors.As(err, &e) {
		e = devices.Refuse(devices.CodePlatformUnavailable, "the hub cannot judge this")
	}
	refused := *e
	switch e.Code {
	case devices.CodeForbidden, devices.CodeUnauthorized, devices.CodeTokenRevoked, devices.CodeTokenExpired, devices.CodeDeviceDisabled, devices.CodeNotFound:
		refused.Reason = "unauthorized"
	}
	return hub.Error(&refused)
}

// refusal is the body of a refusal in err's chain.
func refusal(err error) (any, bool) {
	var r *session.Refused
	if errors.As(err, &r) {
		return r, true
	}
	var e *devices.Error
	if errors.As(err, &e) {
		return e, true
	}
	return nil, false
}

func strict(p hub.Payload, v any) error {
	if p.Binary() {
		return devices.Invalid("payload", "JSON")
	}
	return devices.Decode(p.Bytes(), "payload", v)
}

// seesPeople reports whether an actor is shown who else watches.
func seesPeople(a devices.Actor) bool { return a.Rights&(devices.RightCommand|devices.RightAdmin) != 0 }

// present is a presence state, or one side of a diff, by key.
type present map[string]json.RawMessage

func (m present) hidePeople() {
	maps.DeleteFunc(m, func(key string, _ json.RawMessage) bool {
		return strings.HasPrefix(key, "user:") || strings.HasPrefix(key, "service:")
	})
}

// presentTo is who is on a topic, as far as the actor may see it.
func presentTo(a devices.Actor, st presence.State) (any, error) {
	if seesPeople(a) {
		return st, nil
	}
	b, err := st.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var m present
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	m.hidePeople()
	return m, nil
}
