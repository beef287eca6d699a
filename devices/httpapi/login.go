package httpapi

import (
	"devicehub/devices"
	"devicehub/devices/identity"
)

type userDoc struct {
	Name  string         `json:"name"`
	Role  devices.Role   `json:"role"`
	Scope *devices.Scope `json:"scope,omitempty"`
}

func (c *call) login() (answer, error) {
	if err := c.api.maySignIn(c.Request); err != nil {
		return answer{}, err
	}
	var in struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	c.origin.Via, c.origin.Addr, c.origin.Shared = "http", peer(c.Request), passed(c.Request).hidden
	got, err := c.api.s.Identity.Login(c.Context(), c.origin, in.Username, in.Password, c.UserAgent())
	if err != nil {
		return answer{}, err
	}
	user := userDoc{Name: got.User.Name, Role: got.User.Role}
	if c.Header.Get(CSRFHeader) == CSRFValue {
		c.replaced()
		c.setCookie(got.Token, got.ExpiresAt)
		return ok(map[string]any{"user": user})
	}
	return ok(map[string]any{"token": got.Token, "expires_at": got.ExpiresAt, "user": user})
}

// replaced ends the session of the cookie that a sign-in takes the place of when the hub is served
// by https and was not before.
func (c *call) replaced() {
	old := c.dropPlainCookie()
	if old == "" {
		return
	}
	if who, err := c.api.s.Identity.From(c.origin.Addr).Verify(old); err == nil && who.Kind == devices.ActorUser && !who.Expired {
		if err := c.api.s.Identity.Logout(c.Context(), who, c.origin); err != nil {
			c.api.cfg.Logger.Warn("a session that was replaced goes on", "err", err)
		}
	}
}

func (c *call) logout() (answer, error) {
	p, err := c.person()
	if err != nil {
		return answer{}, err
	}
	if err := c.api.s.Identity.Logout(c.Context(), p, c.origin); err != nil {
		return answer{}, err
	}
	c.clearCookie()
	return none()
}

func (c *call) refresh() (answer, error) {
	acc, err := c.access()
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]any{"token": acc.Token, "expires_at": acc.ExpiresAt, "user": userDoc{Name: acc.User.Name, Role: acc.User.Role}})
}

func (c *call) me() (answer, error) {
	acc, err := c.access()
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]any{
		"user":         userDoc{acc.User.Name, acc.User.Role, &acc.User.Scope},
		"socket_token": acc.Token, "expires_at": acc.ExpiresAt,
	})
}

func (c *call) access() (identity.Access, error) {
	p, err := c.person()
	if err != nil {
		return identity.Access{}, err
	}
	return c.api.s.Identity.Refresh(p)
}

func (c *call) sessions() (answer, error) {
	limit, at, err := c.page("sessions")
	if err != nil {
		return answer{}, err
	}
	list, next, err := c.api.s.Identity.Sessions(c.actor, c.who.SID, limit, at)
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]any{"sessions": list, "next_cursor": cursor("sessions", next)})
}

func (c *call) endSession() (answer, error) {
	if err := c.api.s.Identity.EndSession(c.Context(), c.actor, c.origin, c.PathValue("sid")); err != nil {
		return answer{}, err
	}
	if c.PathValue("sid") == c.who.SID {
		c.clearCookie()
	}
	return none()
}
