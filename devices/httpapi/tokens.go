package httpapi

import (
	"net/http"
	"time"

	"devicehub/devices"
	"devicehub/devices/identity"
)

func (c *call) makeToken() (answer, error) {
	var in struct {
		Mode   string   `json:"mode"`
		TTL    *float64 `json:"ttl_s"`
		Grace  *float64 `json:"grace_s"`
		Form   string   `json:"form"`
		Bridge string   `json:"bridge"`
		IfGen  *int64   `json:"if_gen"`
	}
	if err := c.optionalBody(&in); err != nil {
		return answer{}, err
	}
	var opt identity.TokenOptions
	var err error
	if opt.Expect, err = c.expect(in.IfGen); err != nil {
		return answer{}, err
	}
	if opt.TTL, err = duration("ttl_s", in.TTL); err != nil {
		return answer{}, err
	}
	if opt.Grace, err = duration("grace_s", in.Grace); err != nil {
		return answer{}, err
	}
	switch in.Form {
	case "", "jwt":
	case "short":
		opt.Short = true
	default:
		return answer{}, devices.Invalid("form", "jwt or short")
	}
	if in.Mode != "issue" && in.Mode != "rotate" && in.Mode != "" {
		return answer{}, devices.Invalid("mode", "rotate or issue")
	}
	id := devices.ID(c.PathValue("id"))
	ident := c.api.s.Identity
	var t identity.DeviceToken
	switch {
	case in.Bridge != "" && (in.Mode != "issue" || opt.Short):
		return answer{}, devices.Invalid("bridge", "mode issue and no short form beside it")
	case in.Bridge != "":
		t, err = ident.IssueBridge(c.Context(), c.actor, c.origin, id, in.Bridge, opt)
	case in.Mode == "issue":
		if opt.Grace != nil {
			return answer{}, devices.Invalid("grace_s", "nothing with mode issue: no token ends by it")
		}
		t, err = ident.IssueDevice(c.Context(), c.actor, c.origin, id, opt)
	default:
		t, err = ident.RotateDevice(c.Context(), c.actor, c.origin, id, opt)
	}
	if err != nil {
		return answer{}, c.withGeneration(err, id)
	}
	doc := struct {
		identity.DeviceToken
		GraceUntil int64 `json:"grace_until,omitempty"`
	}{DeviceToken: t}
	if graces := ident.Credential(id).Graces; in.Mode != "issue" && len(graces) > 0 {
		doc.GraceUntil = graces[len(graces)-1].Until
	}
	return answer{status: http.StatusCreated, body: doc, location: base + "/devices/" + string(id) + "/tokens"}, nil
}

func (c *call) revokeTokens() (answer, error) {
	expect, err := c.expect(nil)
	if err != nil {
		return answer{}, err
	}
	id := devices.ID(c.PathValue("id"))
	if err := c.api.s.Identity.RevokeDevice(c.Context(), c.actor, c.origin, id, expect); err != nil {
		return answer{}, c.withGeneration(err, id)
	}
	return none()
}

// withGeneration adds to a version_conflict the generation that the device's tokens
// are at.
func (c *call) withGeneration(err error, id devices.ID) error {
	return withCurrent(err, func() (any, bool) {
		cred := c.api.s.Identity.Credential(id)
		return map[string]int64{"gen": cred.GenIssued, "min_gen": cred.MinGen}, true
	})
}

type tokenDoc struct {
	identity.IssuedToken
	ExpiresAt int64 `json:"expires_at,omitempty"`
	Good      bool  `json:"good"` // of a live generation and not expired
}

func (c *call) tokens() (answer, error) {
	d, err := c.device(devices.RightAdmin)
	if err != nil {
		return answer{}, err
	}
	list, err := c.api.s.Identity.Tokens(c.Context(), c.actor, d.ID)
	if err != nil {
		return answer{}, err
	}
	cred := c.api.s.Identity.Credential(d.ID)
	docs := make([]tokenDoc, len(list))
	nowS := c.api.now().Unix()
	for i, t := range list {
		docs[i] = tokenDoc{t, t.ExpS * 1000, t.Gen >= cred.MinGen && t.Gen <= cred.GenIssued && (t.ExpS == 0 || t.ExpS > nowS)}
	}
	graces := cred.Graces
	if graces == nil {
		graces = []identity.Grace{}
	}
	body := map[string]any{"gen": cred.GenIssued, "min_gen": cred.MinGen, "graces": graces, "generations": cred.Generations(), "tokens": docs}
	return answer{status: http.StatusOK, body: body, ver: &cred.GenIssued, live: true}, nil
}

// postReadings takes a device's readings; the answer comes when they are
// durable.
func (c *call) postReadings() (answer, error) {
	if c.who.Kind != devices.ActorDevice || c.who.Name != c.PathValue("id") {
		return answer{}, devices.Refuse(devices.CodeForbidden, "only the device itself sends its readings")
	}
	if c.api.s.Door == nil {
		return unavailable("readings")
	}
	b, err := c.raw()
	if err != nil {
		return answer{}, err
	}
	type outcome struct {
		v   any
		err error
	}
	done := make(chan outcome, 1)
	c.api.s.Door.Post(c.who, devices.ID(c.who.Name), b, func(v any, err error) { done <- outcome{v, err} })
	wait := time.NewTimer(postWait)
	defer wait.Stop()
	select {
	case o := <-done:
		if o.err != nil {
			return answer{}, o.err
		}
		return ok(o.v)
	case <-c.Context().Done():
		return answer{}, c.Context().Err()
	case <-wait.C:
		return answer{}, devices.Refuse(devices.CodeOverloaded, "the hub is behind; send it again").After(5 * time.Second)
	}
}

// postWait is how long a push waits for the disk before the device is told to
// come again.
const postWait = 30 * time.Second
