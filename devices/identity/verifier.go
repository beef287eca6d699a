package identity

import (
	"strings"

	"devicehub/devices"
)

// Strangers bounds what those cost whom nobody has verified yet. [quota.Quota] is one.
type Strangers interface {
	// Judge is asked before the signature of a token that was not seen before is checked. addr is
	// where it came from, name the principal that it claims to speak for, "" if it is none that could
	// have such a token. The error refuses it unchecked.
	Judge(addr, name string) error
	// Failed is told of a token that was refused. Its error is answered instead.
	Failed(addr, name string) error
}

// Verifier judges the tokens that come from one address. Tokens that were seen before are judged
// whatever others at the address have done.
type Verifier struct {
	s    *Service
	addr string
}

// From returns the Verifier for a peer's address, with or without a port; "" is nobody who could
// be charged.
func (s *Service) From(addr string) Verifier { return Verifier{s, addr} }

// Verify returns whom a user, service or device token speaks for, at this
// moment. Errors are unauthorized, token_expired, token_revoked,
// device_disabled and rate_limited. A device token past its exp is returned with
// Expired set. With an error about a genuine device token come its device's Kind
// and Name, and nothing else.
func (v Verifier) Verify(token string) (Principal, error) {
	g, name, err := v.parse(token)
	if err != nil {
		return v.charge(Principal{}, name, err)
	}
	p, err := v.s.speaksFor(g)
	return v.charge(p, name, err)
}

// VerifyDevice is Verify for a device that gives its id and a password: its
// token, or the short form.
func (v Verifier) VerifyDevice(id devices.ID, password string) (Principal, error) {
	if strings.HasPrefix(password, shortPrefix) {
		g, err := v.s.parseShort(id, password)
		if err != nil {
			return v.charge(Principal{}, "", err)
		}
		p, err := v.s.devicePrincipal(g, id)
		p.Short = true
		return v.charge(p, deviceTarget(id), err)
	}
	p, err := v.Verify(password)
	if err == nil && (p.Kind != devices.ActorDevice || p.Name != string(id)) {
		return v.charge(Principal{}, p.String(), v.s.unauthorized("the token is another's"))
	}
	return p, err
}

// VerifyService is Verify for a service account that gives its name ("service:"
// before it or not) and its token as a password.
func (v Verifier) VerifyService(name, password string) (Principal, error) {
	p, err := v.Verify(password)
	if err == nil && (p.Kind != devices.ActorService || p.Name != strings.TrimPrefix(name, "service:")) {
		return v.charge(Principal{}, p.String(), v.s.unauthorized("the token is another's"))
	}
	return p, err
}

// charge counts a refusal, and puts rate_limited in its place when there were too many.
func (v Verifier) charge(p Principal, name string, err error) (Principal, error) {
	if err == nil || v.addr == "" || v.s.cfg.Strangers == nil {
		return p, err
	}
	switch devices.CodeOf(err) {
	case devices.CodeUnauthorized, devices.CodeTokenExpired, devices.CodeTokenRevoked, devices.CodeDeviceDisabled:
		if limited := v.s.cfg.Strangers.Failed(v.addr, name); limited != nil {
			return Principal{}, limited
		}
	}
	return p, err
}

// judge asks whether the signature of a token with these claims may be checked.
func (v Verifier) judge(name string) error {
	if v.addr == "" || v.s.cfg.Strangers == nil {
		return nil
	}
	return v.s.cfg.Strangers.Judge(v.addr, name)
}

// plausible is the subject of a token's claims, as records name it, if somebody of that name could
// have such a token. A person's and an account's tell something that strangers do not know, so that
// none of them can be charged for what a stranger claims.
func (s *Service) plausible(c *claims) string {
	_, name, _ := strings.Cut(c.Subject, ":")
	s.mu.RLock()
	defer s.mu.RUnlock()
	ok := false
	switch c.Typ {
	case typUser:
		ses := s.sessions[c.SID]
		ok = ses != nil && ses.User == name
	case typService:
		acc := s.accounts[name]
		ok = acc != nil && acc.JTI == c.JTI
	case typDevice, typBridge:
		cred := s.creds[devices.ID(name)]
		ok = cred != nil && c.Gen <= cred.GenIssued
	}
	if !ok {
		return ""
	}
	return c.Subject
}
