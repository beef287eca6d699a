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

// The names of the session cookie. The prefix keeps other hosts, paths and plain HTTP from setting
// it.
const (
	secureCookie = "__Host-devicehub"
	plainCookie  = "devicehub"
)

// https reports whether the browser came by https: so says the connection, a trusted proxy, or the
// configuration.
func (c *call) https() bool {
	return Secure(c.Request) || strings.HasPrefix(c.api.cfg.PublicURL, "https://")
}

func (c *call) cookieName() string {
	if c.https() {
		return secureCookie
	}
	return plainCookie
}

func (c *call) setCookie(token string, expires int64) {
	http.SetCookie(c.w, &http.Cookie{
		Name: c.cookieName(), Value: token, Path: "/", HttpOnly: true, Secure: c.https(), SameSite: http.SameSiteStrictMode,
		Expires: time.UnixMilli(expires), MaxAge: int(time.UnixMilli(expires).Sub(c.api.now()).Seconds()),
	})
}

func (c *call) clearCookie() {
	http.SetCookie(c.w, &http.Cookie{Name: c.cookieName(), Path: "/", HttpOnly: true, Secure: c.https(), SameSite: http.SameSiteStrictMode, MaxAge: -1})
}

// dropPlainCookie has a browser that comes by https forget the cookie of plain HTTP, which anybody
// on the way could have read or set: it signs nobody in here.
func (c *call) dropPlainCookie() (token string) {
	if !c.https() {
		return ""
	}
	old, err := c.Cookie(plainCookie)
	if err != nil {
		return ""
	}
	http.SetCookie(c.w, &http.Cookie{Name: plainCookie, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: -1})
	return old.Value
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
		if c.route.path != base+"/login" {
			c.dropPlainCookie()
		}
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
	if k, err := c.Cookie(c.cookieName()); err == nil {
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
