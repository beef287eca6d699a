package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"devicehub/hub"
	"devicehub/hub/presence"
)

// channel does what the recorded application did on all its topics.
type channel struct {
	presence *presence.Tracker
}

var (
	errCrash  = errors.New("the client asked for it")
	errBinary = errors.New("this event is binary")
)

type joined struct {
	Params any    `json:"params"`
	Topic  string `json:"topic"`
}

// Join implements hub.Channel.
func (c *channel) Join(_ context.Context, s *hub.Socket, p hub.Payload) (hub.Reply, error) {
	kind, name, _ := strings.Cut(s.Topic(), ":")
	room := kind == "room"
	switch {
	case name == "forbidden":
		return hub.Refuse("unauthorized"), nil
	case name == "raise" && kind != "light" || room && name == "throw":
		panic(errCrash)
	case name == "badreturn" && kind != "light":
		return hub.Reply{}, errors.New("junk in place of a reply")
	case room && name == "badreply":
		return hub.OK("notamap"), nil
	case room && name == "badreason":
		return hub.Error("notamap"), nil
	case room && name == "slow":
		time.Sleep(500 * time.Millisecond)
		return hub.OK(nil), nil
	case room && (strings.HasPrefix(name, "quiet") || strings.HasPrefix(name, "welcome")):
		return hub.OK(nil), nil
	case p.Binary():
		return hub.Reply{}, errors.New("binary params are no JSON")
	}
	var params any
	if err := decode(p, &params); err != nil {
		return hub.Reply{}, err
	}
	return hub.OK(joined{params, s.Topic()}), nil
}

// decode keeps numbers as they are written.
func decode(p hub.Payload, v any) error {
	d := json.NewDecoder(bytes.NewReader(p.Bytes()))
	d.UseNumber()
	return d.Decode(v)
}

// AfterJoin implements hub.AfterJoiner.
func (c *channel) AfterJoin(ctx context.Context, s *hub.Socket) error {
	kind, name, _ := strings.Cut(s.Topic(), ":")
	switch {
	case kind == "room" && strings.HasPrefix(name, "welcome"):
		return s.Push("welcome", map[string]bool{"hello": true})
	case kind == "sensor" || kind == "light":
		if err := c.track(ctx, s); err != nil && !errors.Is(err, presence.ErrEnded) {
			return err
		}
		if !strings.Contains(s.Topic(), "nostate") {
			return s.Push("presence_state", c.presence.List(s.Topic()))
		}
	}
	return nil
}

func meta(s *hub.Socket) presence.Meta {
	m := presence.Meta{"online_at": 1, "kind": "device"}
	if strings.Contains(s.Topic(), "bench") {
		delete(m, "kind")
	}
	return m
}

func (c *channel) track(ctx context.Context, s *hub.Socket) error {
	_, err := c.presence.Track(s, s.Topic(), device.Get(ctx), meta(s))
	return err
}

// Intercepts implements hub.Interceptor.
func (c *channel) Intercepts() []string { return intercepted }

var intercepted = []string{"shout_intercepted", "filtered"}

// HandleOut implements hub.Interceptor.
func (c *channel) HandleOut(ctx context.Context, s *hub.Socket, event string, p hub.Payload) error {
	var m map[string]any
	if err := decode(p, &m); err != nil {
		return err
	}
	switch event {
	case "shout_intercepted":
		m["added_for"] = device.Get(ctx)
	case "filtered":
		if m["deny"] == device.Get(ctx) {
			return nil
		}
	}
	return s.Push(event, m)
}

// HandleInfo implements hub.InfoHandler: an answer that was put off.
func (c *channel) HandleInfo(_ context.Context, _ *hub.Socket, msg any) error {
	if later, ok := msg.(func() error); ok {
		return later()
	}
	return nil
}

type counted struct {
	N int `json:"n"`
}

// decodeCount decodes the n of a payload, which must have one.
func decodeCount(p hub.Payload) (counted, error) {
	var in struct{ N *int }
	if err := p.Decode(&in); err != nil {
		return counted{}, err
	}
	if in.N == nil {
		return counted{}, errCrash
	}
	return counted{*in.N}, nil
}

// HandleIn implements hub.Channel.
func (c *channel) HandleIn(ctx context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	if strings.HasPrefix(event, "bin_") {
		return handleBinary(s, event, p)
	}
	switch event {
	case "reading":
		return hub.OK(nil), nil
	case "echo":
		return hub.OK(p), nil
	case "noreply":
		return hub.Reply{}, nil
	case "shout", "shout_intercepted", "filtered":
		return after(s.Broadcast(event, p), hub.OK(nil))
	case "shout_noreply":
		return hub.Reply{}, s.Broadcast("shout", p)
	case "shout_from":
		return after(s.BroadcastFrom("shout_from", p), hub.OK(nil))
	case "push_me":
		return after(s.Push("pushed", p), hub.OK(nil))
	case "push_many":
		return hub.Reply{}, many(p, func(i counted) error { return s.Push("pushed", i) })
	case "shout_many":
		n, err := decodeCount(p)
		if err != nil {
			return hub.Reply{}, err
		}
		return after(many(p, func(i counted) error { return s.Broadcast("shout", i) }), hub.OK(n))
	case "async_reply":
		ref := s.Ref()
		if !ref.OK() {
			return hub.Reply{}, errors.New("a message without a ref cannot be answered later")
		}
		s.Send(func() error { return ref.Reply(hub.OK(p)) })
		return hub.Reply{}, nil
	case "fail":
		return hub.Refuse("failed"), nil
	case "fail_bare":
		return hub.Error(nil), nil
	case "custom_status":
		return hub.Status("accepted", map[string]int{"a": 1}), nil
	case "nonmap_reply":
		return hub.OK("str"), nil
	case "stop", "stop_shutdown", "stop_shutdown_tuple":
		return hub.Reply{}, hub.ErrStop
	case "stop_reply":
		return hub.OK(map[string]bool{"bye": true}), hub.ErrStop
	case "typing", "track", "track_again", "untrack", "list":
		return c.handlePresence(ctx, s, event, p)
	}
	return hub.Reply{}, errCrash
}

// after is the reply of a handler that crashes, and answers nothing, if something failed.
func after(err error, r hub.Reply) (hub.Reply, error) {
	if err != nil {
		return hub.Reply{}, err
	}
	return r, nil
}

// many calls f with 1 to the n of the payload.
func many(p hub.Payload, f func(counted) error) error {
	n, err := decodeCount(p)
	if err != nil {
		return err
	}
	for i := 1; i <= n.N; i++ {
		if err := f(counted{i}); err != nil {
			return err
		}
	}
	return nil
}

func (c *channel) handlePresence(ctx context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	switch event {
	case "typing":
		var in struct{ Typing json.RawMessage }
		if err := p.Decode(&in); err != nil {
			return hub.Reply{}, err
		}
		if in.Typing == nil {
			return hub.Reply{}, errCrash
		}
		m := meta(s)
		m["typing"] = in.Typing
		_, err := c.presence.Update(s, s.Topic(), device.Get(ctx), m)
		return after(err, hub.OK(nil))
	case "track":
		return after(c.track(ctx, s), hub.OK(nil))
	case "track_again":
		result := ":ok"
		if err := c.track(ctx, s); err != nil {
			result = ":error"
		}
		return hub.OK(map[string]string{"result": result}), nil
	case "untrack":
		c.presence.Untrack(s, s.Topic(), device.Get(ctx))
		return hub.OK(nil), nil
	}
	return hub.OK(c.presence.List(s.Topic())), nil
}

func handleBinary(s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	if !p.Binary() {
		return hub.Reply{}, errBinary
	}
	switch event {
	case "bin_echo":
		return hub.OK(p), nil
	case "bin_fail":
		return hub.Error(p), nil
	case "bin_len":
		return hub.OK(map[string]int{"len": len(p.Bytes())}), nil
	case "bin_push":
		return after(s.Push("bin_pushed", p), hub.OK(nil))
	case "bin_shout":
		return after(s.Broadcast("bin_shout", p), hub.OK(nil))
	}
	return hub.Reply{}, errCrash
}
