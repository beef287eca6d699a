package main

import (
	"context"
	"strings"

	"devicehub/hub"
	"devicehub/hub/presence"
)

// user has the name of who has connected.
var user hub.Key[string]

const (
	maxName = 40   // characters of a name
	maxText = 2000 // bytes of what is said at once
)

// connect lets in who says a name. A program with accounts would judge info.AuthToken here.
func connect(ctx context.Context, info *hub.ConnectInfo) (context.Context, error) {
	name := strings.TrimSpace(info.Params.Get("name"))
	if name == "" || len([]rune(name)) > maxName {
		return nil, hub.ErrRefused
	}
	return user.Assign(ctx, name), nil
}

// Room is a topic on which everybody hears what anybody says, and sees who is there.
type Room struct{ here *presence.Tracker }

// Join lets everybody in.
func (r *Room) Join(context.Context, *hub.Socket, hub.Payload) (hub.Reply, error) {
	return hub.OK(nil), nil
}

// AfterJoin shows the room who has come, and who is there to who has come.
func (r *Room) AfterJoin(ctx context.Context, s *hub.Socket) error {
	if _, err := r.here.Track(s, s.Topic(), user.Get(ctx), presence.Meta{}); err != nil {
		return err
	}
	return s.Push(presence.EventState, r.here.List(s.Topic()))
}

// HandleIn tells the room what is said, and the others that somebody is typing.
func (r *Room) HandleIn(ctx context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	switch event {
	case "say":
		var said struct{ Text string }
		if err := p.Decode(&said); err != nil || said.Text == "" || len(said.Text) > maxText {
			return hub.Refuse("malformed"), nil
		}
		return hub.OK(nil), s.Broadcast("said", map[string]string{"by": user.Get(ctx), "text": said.Text})
	case "typing":
		return hub.Reply{}, s.BroadcastFrom("typing", map[string]string{"by": user.Get(ctx)})
	}
	return hub.Reply{}, hub.Unhandled(event)
}
