package channels

import (
	"context"

	"devicehub/devices"
	"devicehub/devices/fleet"
	"devicehub/hub"
)

// Fleet serves "fleet:<name>": a live, paged view over many devices, for people.
type Fleet struct {
	app  *App
	who  *caller
	view *fleet.View
}

// Join opens a view with the query of the join parameters.
func (c *Fleet) Join(ctx context.Context, s *hub.Socket, p hub.Payload) (hub.Reply, error) {
	c.who = callers.Get(ctx)
	if c.who.visitor == nil {
		return refuseJoin(devices.Refuse(devices.CodeForbidden, "a device sees its own topics only")), nil
	}
	var q fleet.Params
	if err := strict(p, &q); err != nil {
		return c.app.answer(nil, err, "phx_join", s.Topic()), nil
	}
	views := 0
	c.who.visitor.each(func(o *hub.Socket) {
		if len(o.Topic()) > 6 && o.Topic()[:6] == "fleet:" {
			views++
		}
	})
	if views >= maxViews {
		return hub.Error(devices.Refuse(devices.CodeRateLimited, "at most 4 live views a connection")), nil
	}
	c.who.visitor.join(s) // first, so that no change of rights falls between
	conn, topic := s.Conn(), s.Topic()
	view, reply, err := c.app.Fleet.Open(func() (devices.Actor, error) { return c.app.Identity.Actor(c.who.principal) }, q,
		func(event string, payload any) bool { return conn.Push(topic, event, payload) })
	if err != nil {
		c.who.visitor.leave(s)
		if devices.CodeOf(err) != "" {
			return refuseJoin(err), nil
		}
		return c.app.answer(nil, err, "phx_join", topic), nil
	}
	c.view = view
	return hub.OK(reply), nil
}

const maxViews = 4

// HandleIn changes the view's query.
func (c *Fleet) HandleIn(_ context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	if event != "view" {
		return hub.Error(unknownEvent("view")), nil
	}
	var q fleet.Params
	if err := strict(p, &q); err != nil {
		return c.app.answer(nil, err, event, s.Topic()), nil
	}
	reply, err := c.view.Update(q)
	return c.app.answer(reply, err, event, s.Topic()), nil
}

// HandleInfo tells of changed rights; the view itself asks for them anew.
func (c *Fleet) HandleInfo(_ context.Context, s *hub.Socket, msg any) error {
	if again, ok := msg.(recheck); !ok || !again.told {
		return nil
	}
	actor, err := c.app.Identity.Actor(c.who.principal)
	if err != nil {
		return hub.ErrStop
	}
	c.view.Refresh()
	err = s.Push("rights_changed", rightsNow(actor))
	if err == nil && actor.Rights&devices.RightRead == 0 {
		return hub.ErrStop
	}
	return err
}

// Terminate closes the view.
func (c *Fleet) Terminate(s *hub.Socket, _ error) {
	if c.view != nil {
		c.view.Close()
	}
	if c.who != nil && c.who.visitor != nil {
		c.who.visitor.leave(s)
	}
}
