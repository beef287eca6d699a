package httpapi

import (
	"math"
	"net/http"
	"strings"
	"time"

	"devicehub/devices"
	"devicehub/devices/identity"
)

func (c *call) users() (answer, error) {
	limit, at, err := c.page("users")
	if err != nil {
		return answer{}, err
	}
	list, next, err := c.api.s.Identity.Users(c.actor, limit, at)
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]any{"users": list, "next_cursor": cursor("users", next)})
}

func (c *call) user() (answer, error) {
	u, err := c.api.s.Identity.User(c.actor, c.PathValue("name"))
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: u, ver: &u.Ver}, nil
}

func (c *call) createUser() (answer, error) {
	var in struct {
		Username string        `json:"username"`
		Password string        `json:"password"`
		Role     devices.Role  `json:"role"`
		Scope    devices.Scope `json:"scope"`
	}
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	u, err := c.api.s.Identity.CreateUser(c.Context(), c.actor, c.origin, identity.NewUser{Username: in.Username, Password: in.Password, Role: in.Role, Scope: in.Scope})
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, body: u, ver: &u.Ver, location: base + "/users/" + u.Name}, nil
}

func (c *call) updateUser() (answer, error) {
	var in struct {
		Role            *devices.Role  `json:"role"`
		Scope           *devices.Scope `json:"scope"`
		Password        *string        `json:"password"`
		CurrentPassword string         `json:"current_password"`
		Enabled         *bool          `json:"enabled"`
		IfVer           *int64         `json:"if_ver"`
	}
	if err := c.patchBody(&in); err != nil {
		return answer{}, err
	}
	expect, err := c.expect(in.IfVer)
	if err != nil {
		return answer{}, err
	}
	name := c.PathValue("name")
	u, err := c.api.s.Identity.UpdateUser(c.Context(), c.actor, c.origin, name, identity.UserPatch{
		Role: in.Role, Scope: in.Scope, Password: in.Password, Enabled: in.Enabled, CurrentPassword: in.CurrentPassword, Expect: expect})
	if err != nil {
		return answer{}, c.withUser(err, name)
	}
	return answer{status: http.StatusOK, body: u, ver: &u.Ver}, nil
}

// withUser adds the present record to a version_conflict.
func (c *call) withUser(err error, name string) error {
	return withCurrent(err, func() (any, bool) {
		u, err := c.api.s.Identity.User(c.actor, name)
		return u, err == nil
	})
}

func (c *call) deleteUser() (answer, error) {
	expect, err := c.expectQuery()
	if err != nil {
		return answer{}, err
	}
	name := c.PathValue("name")
	if err := c.api.s.Identity.DeleteUser(c.Context(), c.actor, c.origin, name, expect); err != nil {
		return answer{}, c.withUser(err, name)
	}
	c.api.repeats.forget(string(devices.ActorUser) + ":" + strings.ToLower(name))
	return none()
}

func (c *call) accounts() (answer, error) {
	limit, at, err := c.page("apitokens")
	if err != nil {
		return answer{}, err
	}
	list, next, err := c.api.s.Identity.Accounts(c.actor, limit, at)
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]any{"apitokens": list, "next_cursor": cursor("apitokens", next)})
}

func (c *call) account() (answer, error) {
	acc, err := c.api.s.Identity.Account(c.actor, c.PathValue("name"))
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, body: acc, ver: &acc.Ver}, nil
}

func (c *call) createAccount() (answer, error) {
	var in struct {
		Name   string        `json:"name"`
		Rights []string      `json:"rights"`
		Scope  devices.Scope `json:"scope"`
		Topics []string      `json:"topics"`
		TTL    *float64      `json:"ttl_s"`
	}
	if err := c.body(&in); err != nil {
		return answer{}, err
	}
	rights, err := devices.ParseRights(in.Rights)
	if err != nil {
		return answer{}, err
	}
	ttl, err := duration("ttl_s", in.TTL)
	if err != nil {
		return answer{}, err
	}
	n := identity.NewAccount{Name: in.Name, Rights: rights, Scope: in.Scope, Topics: in.Topics}
	if ttl != nil {
		n.TTL = *ttl
	}
	starts := c.starts(in.Topics)
	acc, token, err := c.api.s.Identity.CreateAccount(c.Context(), c.actor, c.origin, n)
	if err != nil {
		return answer{}, err
	}
	body := struct {
		identity.AccountInfo
		Token  string   `json:"token"`
		Starts []string `json:"starts_adapters,omitempty"`
	}{acc, token, starts}
	return answer{status: http.StatusCreated, body: body, ver: &acc.Ver, location: base + "/apitokens/" + acc.Name}, nil
}

// starts are the adapters that begin to work on the hub's own broker because an account may
// use topics of theirs.
func (c *call) starts(topics []string) []string {
	if c.api.s.Starts == nil {
		return nil
	}
	return c.api.s.Starts(topics)
}

func (c *call) updateAccount() (answer, error) {
	var in struct {
		Rights *[]string      `json:"rights"`
		Scope  *devices.Scope `json:"scope"`
		Topics *[]string      `json:"topics"`
		IfVer  *int64         `json:"if_ver"`
	}
	if err := c.patchBody(&in); err != nil {
		return answer{}, err
	}
	expect, err := c.expect(in.IfVer)
	if err != nil {
		return answer{}, err
	}
	p := identity.AccountPatch{Scope: in.Scope, Topics: in.Topics, Expect: expect}
	if in.Rights != nil {
		rights, err := devices.ParseRights(*in.Rights)
		if err != nil {
			return answer{}, err
		}
		p.Rights = &rights
	}
	var starts []string
	if in.Topics != nil {
		starts = c.starts(*in.Topics)
	}
	name := c.PathValue("name")
	acc, err := c.api.s.Identity.UpdateAccount(c.Context(), c.actor, c.origin, name, p)
	if err != nil {
		return answer{}, c.withAccount(err, name)
	}
	body := struct {
		identity.AccountInfo
		Starts []string `json:"starts_adapters,omitempty"`
	}{acc, starts}
	return answer{status: http.StatusOK, body: body, ver: &acc.Ver}, nil
}

// withAccount adds the present record to a version_conflict.
func (c *call) withAccount(err error, name string) error {
	return withCurrent(err, func() (any, bool) {
		acc, err := c.api.s.Identity.Account(c.actor, name)
		return acc, err == nil
	})
}

func (c *call) deleteAccount() (answer, error) {
	expect, err := c.expectQuery()
	if err != nil {
		return answer{}, err
	}
	name := c.PathValue("name")
	if err := c.api.s.Identity.DeleteAccount(c.Context(), c.actor, c.origin, name, expect); err != nil {
		return answer{}, c.withAccount(err, name)
	}
	c.api.repeats.forget(string(devices.ActorService) + ":" + strings.ToLower(name))
	return none()
}

func (c *call) keys() (answer, error) {
	list, err := c.api.s.Identity.Keys(c.actor)
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]any{"keys": list})
}

func (c *call) rotateKey() (answer, error) {
	k, err := c.api.s.Identity.RotateKey(c.Context(), c.actor, c.origin)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, body: k, location: base + "/keys/" + k.KID}, nil
}

func (c *call) revokeKey() (answer, error) {
	n, err := c.api.s.Identity.RevokeKey(c.Context(), c.actor, c.origin, c.PathValue("kid"))
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]int{"stranded": n})
}

// duration reads seconds of a body; nil stays nil.
func duration(field string, s *float64) (*time.Duration, error) {
	if s == nil {
		return nil, nil
	}
	const max = 100 * 366 * 24 * 3600
	if math.IsNaN(*s) || *s < 0 || *s > max {
		return nil, devices.OutOfRange(field, 0, max, "s")
	}
	d := time.Duration(*s * float64(time.Second))
	return &d, nil
}
