package httpapi

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"devicehub/devices"
	"devicehub/devices/identity"
)

// CSRFHeader must stand, with CSRFValue, in a state-changing request that
// carries the session cookie: no other site can make a browser send it.
const (
	CSRFHeader = "X-Requested-With"
	CSRFValue  = "devicehub"
)

// cookieName is "__Host-devicehub" where the hub is served over https, which
// keeps other hosts and paths from setting it.
func (a *API) cookieName() string {
	if a.https() {
		return "__Host-devicehub"
	}
	return "devicehub"
}

func (a *API) https() bool { return strings.HasPrefix(a.cfg.PublicURL, "https://") }

func (a *API) setCookie(w http.ResponseWriter, token string, expires int64) {
	http.SetCookie(w, &http.Cookie{
		Name: a.cookieName(), Value: token, Path: "/", HttpOnly: true, Secure: a.https(), SameSite: http.SameSiteStrictMode,
		Expires: time.UnixMilli(expires), MaxAge: int(time.UnixMilli(expires).Sub(a.now()).Seconds()),
	})
}

func (a *API) clearCookie(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: a.cookieName(), Path: "/", HttpOnly: true, Secure: a.https(), SameSite: http.SameSiteStrictMode, MaxAge: -1})
}

// identify finds out who calls. The errors are those of identity, and
// forbidden for a cookie without its header.
func (c *call) identify() error {
	c.origin = devices.Origin{Via: "http", Addr: peer(c.Request)}
	if k, local := c.Context().Value(actorKey{}).(known); local {
		c.actor, c.origin.Via = k.actor, k.via
		return nil
	}
	token, byCookie := c.token()
	if token == "" {
		return c.api.unauthorized("sign in first")
	}
	if byCookie && c.Method != http.MethodGet && c.Method != http.MethodHead && c.Header.Get(CSRFHeader) != CSRFValue {
		return devices.Refuse(devices.CodeForbidden, "a call by cookie needs the header "+CSRFHeader+": "+CSRFValue)
	}
	var err error
	if strings.HasPrefix(token, "dh1.") { // the short form does not name its device; the path does
		c.who, err = c.api.s.Identity.From(c.origin.Addr).VerifyDevice(devices.ID(c.PathValue("id")), token)
	} else {
		c.who, err = c.api.s.Identity.From(c.origin.Addr).Verify(token)
	}
	if err != nil {
		return err
	}
	if byCookie && c.who.Kind != devices.ActorUser {
		return c.api.unauthorized("the cookie is for people's tokens")
	}
	if c.who.Expired {
		return devices.Refuse(devices.CodeTokenExpired, "the token has expired")
	}
	c.actor, err = c.api.s.Identity.Actor(c.who)
	return err
}

// logRefused logs a token of a device or a program that was not taken. A person's
// session that has ended is nothing for an operator, and failed logins are in the
// audit.
func (c *call) logRefused(err error) {
	if token, byCookie := c.token(); token == "" || byCookie {
		return
	}
	who := ""
	if c.who.Name != "" {
		who = c.who.String()
	}
	var e *devices.Error
	if errors.As(err, &e) {
		c.api.cfg.Refusals.Refused(c.origin.Via, c.origin.Addr, who, string(e.Code), e.Reason)
	}
}

// token returns the caller's token, from the header or else the cookie.
func (c *call) token() (token string, byCookie bool) {
	if h := c.Header.Values("Authorization"); len(h) > 0 {
		scheme, token, _ := strings.Cut(h[0], " ")
		if len(h) == 1 && strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(token), false
		}
		return "", false // of two, nobody can say which is meant
	}
	if k, err := c.Cookie(c.api.cookieName()); err == nil {
		return k.Value, true
	}
	return "", false
}

func (a *API) unauthorized(reason string) error {
	_, err := a.s.Identity.Verify("") // carries the server's time and a nonce
	if e, isRefusal := err.(*devices.Error); isRefusal {
		u := *e
		u.Reason = reason
		return &u
	}
	return devices.Refuse(devices.CodeUnauthorized, reason)
}

// person is the caller as a person with a login session.
func (c *call) person() (identity.Principal, error) {
	if c.who.Kind != devices.ActorUser {
		return identity.Principal{}, devices.Refuse(devices.CodeForbidden, "people only")
	}
	return c.who, nil
}
