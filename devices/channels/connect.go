package channels

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"devicehub/devices"
	"devicehub/devices/identity"
	"devicehub/devices/quota"
	"devicehub/devices/session"
	"devicehub/hub"
)

// caller is who opened a connection, kept in its context.
type caller struct {
	principal identity.Principal
	account   *quota.Account // of the principal, over all its connections
	origin    devices.Origin
	arrival   *session.Arrival // of a device, until it has a session
	session   *session.Session // devices
	visitor   *visitor         // people and services
}

// callers has the caller of each connection.
var callers hub.Key[*caller]

// connect judges the token that a client opens a connection with.
func (a *App) connect(ctx context.Context, info *hub.ConnectInfo) (context.Context, error) {
	p, err := a.Identity.From(info.RemoteAddr).Verify(a.token(info))
	if err == nil && p.Expired && p.Kind != devices.ActorDevice {
		err = devices.Refuse(devices.CodeTokenExpired, "the token has expired")
	}
	if err == nil && p.Kind == devices.ActorDevice {
		err = a.Identity.Check(p)
	} else if err == nil {
		_, err = a.Identity.Actor(p)
	}
	if err != nil {
		a.refused(devices.Transport(info.Transport), info.RemoteAddr, p, err)
		return nil, err
	}
	c := &caller{principal: p, origin: devices.Origin{Via: devices.Transport(info.Transport).Via(), Addr: devices.Host(info.RemoteAddr)}}
	if err := a.enter(ctx, c, devices.Transport(info.Transport)); err != nil {
		a.refused(devices.Transport(info.Transport), info.RemoteAddr, p, err)
		return nil, err
	}
	if p.Kind == devices.ActorDevice && !p.Expired {
		if c.arrival, err = a.Door.Admit(devices.ID(p.Name), devices.Transport(info.Transport), info.RemoteAddr); err != nil {
			a.refused(devices.Transport(info.Transport), info.RemoteAddr, p, err)
			return nil, err
		}
		context.AfterFunc(ctx, c.arrival.Done) // should it not come to be opened
	}
	return callers.Assign(ctx, c), nil
}

// enter takes a connection and a place from what the caller may have, until ctx ends.
func (a *App) enter(ctx context.Context, c *caller, transport devices.Transport) error {
	account := a.Quota.Hold(c.principal.Kind, c.principal.Name)
	place := quota.Sockets
	if transport == devices.OverLongPoll {
		place = quota.LongPolls
	}
	_, err := account.Allow(quota.Connects)
	leave := func() {}
	if err == nil {
		leave, err = account.Enter(place)
	}
	if err != nil {
		account.Release()
		return err
	}
	c.account = account
	context.AfterFunc(ctx, func() {
		leave()
		account.Release()
	})
	return nil
}

// refused tells of a client that was not let in: in the log, and to those who follow
// the device.
func (a *App) refused(transport devices.Transport, addr string, p identity.Principal, err error) {
	a.logRefused(transport, addr, p, err)
	if p.Kind == devices.ActorDevice {
		a.Door.Refused(transport, addr, devices.ID(p.Name), err)
	}
}

func (a *App) logRefused(transport devices.Transport, addr string, p identity.Principal, err error) {
	who := ""
	if p.Name != "" {
		who = p.String()
	}
	var e *devices.Error
	if errors.As(err, &e) {
		a.Refusals.Refused(string(transport), addr, who, string(e.Code), e.Reason)
	}
}

// token finds the token wherever the client's library puts it.
func (a *App) token(info *hub.ConnectInfo) string {
	if info.AuthToken != "" || !a.AllowQueryToken {
		return info.AuthToken
	}
	if devices.Transport(info.Transport) == devices.OverWebSocket {
		if t := info.Params.Get("token"); t != "" {
			return t
		}
	}
	return info.Params.Get("access_token") // on long-poll, token is the session's own
}

func socketID(ctx context.Context) string {
	p := callers.Get(ctx).principal
	return string(p.Kind) + ":" + p.Name
}

// opened begins a device's session, or notes a person's connection, once the
// transport is up.
func (a *App) opened(ctx context.Context, conn *hub.Conn) (context.Context, error) {
	c := callers.Get(ctx)
	if c.principal.Kind != devices.ActorDevice {
		c.visitor = a.visitors.add(c.principal, conn)
		context.AfterFunc(ctx, func() { a.visitors.remove(c.visitor) })
		// What happened since the token was judged was told to nobody here.
		if _, err := a.Identity.Actor(c.principal); err != nil {
			return nil, closeFor(err)
		}
		conn.Guard(c.guard(link{conn}))
		return ctx, nil
	}
	offlineAfter := a.OfflineAfter
	transport := devices.Transport(conn.Transport())
	if transport == devices.OverLongPoll {
		offlineAfter = a.LongPollAfter
	}
	s, err := a.Door.Open(ctx, session.Hello{
		Principal: c.principal, Device: devices.ID(c.principal.Name), Transport: transport, Addr: conn.RemoteAddr(), OfflineAfter: offlineAfter, Arrival: c.arrival,
	}, link{conn})
	if err != nil {
		a.logRefused(transport, conn.RemoteAddr(), c.principal, err) // who follows the device heard of it from Open
		return nil, closeFor(err)
	}
	c.session = s
	conn.OnAnswer(s.Answered)
	conn.Guard(c.guard(link{conn}))
	context.AfterFunc(ctx, func() { s.Close(closeReason(context.Cause(ctx))) })
	return ctx, nil
}

// closeFor is the close frame for a device that is refused after its upgrade.
func closeFor(err error) error {
	var e *devices.Error
	if !errors.As(err, &e) {
		return err
	}
	return errors.Join(&hub.CloseError{Code: closeCode(e.Code), Reason: string(e.Code)}, e)
}

// RefuseUpgrade is the engine's error handler: a refused connection is answered
// with the status and body of its code.
func RefuseUpgrade(w http.ResponseWriter, _ *http.Request, err error) {
	e := whyRefused(err)
	w.Header().Set("Content-Type", "application/json")
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(e.RetryAfter.Seconds()+1)))
	}
	w.WriteHeader(e.HTTPStatus())
	_ = json.NewEncoder(w).Encode(e)
}

// RefusePoll is the body of the answer to a refused long-poll client. The HTTP
// status is 200, and clients look at the status within.
func RefusePoll(err error) any {
	return map[string]any{"status": http.StatusForbidden, "error": whyRefused(err)}
}

func whyRefused(err error) *devices.Error {
	var e *devices.Error
	if !errors.As(err, &e) {
		return devices.Refuse(devices.CodePlatformUnavailable, "the hub cannot judge the token")
	}
	return e
}
