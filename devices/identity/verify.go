package identity

import (
	"strings"
	"time"

	"devicehub/devices"
)

// Principal is who a token speaks for. What they may do is asked anew for every
// event, by Actor or Check.
type Principal struct {
	Kind devices.ActorKind // ActorDevice, ActorUser or ActorService
	Name string            // device id, user or account name
	SID  string            // people: the login session
	Gen  int64             // devices: the token's generation
	JTI  string
	KID  string // the key that signed
	// Exp is when a connection made with the token ends at the latest: a
	// device's when its token does (unless refreshed), a person's with the
	// login session. Zero: never.
	Exp      time.Time
	IssuedAt time.Time // devices; of a short token, as far as it can be told
	// Expired: a genuine device token past its exp. It may token_refresh and
	// nothing else.
	Expired bool
	Short   bool          // the short form was shown
	Life    time.Duration // devices: how long the token was to live; 0: unknown or for ever
	Bridge  string        // a bridge token: good for messages on this bridge only
}

// String is the form that stands in records: "user:ana".
func (p Principal) String() string { return string(p.Kind) + ":" + p.Name }

// Verify is Verifier.Verify for tokens that nobody is to be charged for.
func (s *Service) Verify(token string) (Principal, error) { return s.From("").Verify(token) }

// speaksFor is whom a user, service or device token speaks for.
func (s *Service) speaksFor(g *signed) (Principal, error) {
	if g.Audience != audience {
		return Principal{}, s.unauthorized("not a token of this hub")
	}
	kind, name, _ := strings.Cut(g.Subject, ":")
	if kind != g.Typ || name == "" {
		return Principal{}, s.unauthorized("not a token of this hub")
	}
	switch g.Typ {
	case typDevice:
		return s.devicePrincipal(g, devices.ID(name))
	case typUser:
		p := Principal{Kind: devices.ActorUser, Name: name, SID: g.SID, JTI: g.JTI, KID: g.kid}
		return s.personPrincipal(p, g)
	case typService:
		p := Principal{Kind: devices.ActorService, Name: name, JTI: g.JTI, KID: g.kid}
		return s.personPrincipal(p, g)
	}
	return Principal{}, s.unauthorized("not a token of this hub")
}

// VerifyBridge is for a token inside a message that came over the named
// bridge: it speaks for the device id there and nowhere else.
func (s *Service) VerifyBridge(bridge string, id devices.ID, token string) (Principal, error) {
	v := s.From("bridge:" + bridge)
	g, name, err := v.parse(token)
	if err != nil {
		return v.charge(Principal{}, name, err)
	}
	if g.Typ != typBridge || g.Audience != bridgeAudience(bridge) || g.Subject != deviceTarget(id) {
		return Principal{}, s.unauthorized("not a token of this device on this bridge")
	}
	p, err := s.devicePrincipal(g, id)
	p.Bridge = bridge
	if err == nil && p.Expired {
		return Principal{}, devices.Refuse(devices.CodeTokenExpired, "the token has expired")
	}
	return p, err
}

// deviceClaims reads a device's or bridge's token, judging nothing.
func (s *Service) deviceClaims(g *signed, id devices.ID) Principal {
	p := Principal{Kind: devices.ActorDevice, Name: string(id), Gen: g.Gen, JTI: g.JTI, KID: g.kid}
	if g.IssuedAt != 0 {
		p.IssuedAt = time.Unix(g.IssuedAt, 0)
	}
	if g.Expires == 0 {
		return p
	}
	p.Exp = time.Unix(g.Expires, 0)
	if g.IssuedAt == 0 { // the short form does not tell
		p.IssuedAt = p.Exp.Add(-s.cfg.TokenTTL)
	} else {
		p.Life = p.Exp.Sub(p.IssuedAt)
	}
	return p
}

func (s *Service) devicePrincipal(g *signed, id devices.ID) (Principal, error) {
	p := s.deviceClaims(g, id)
	past, tooOld := s.expired(p.Exp)
	p.Expired = past
	if err := s.Check(p); err != nil {
		return Principal{Kind: p.Kind, Name: p.Name}, err
	}
	if tooOld {
		return Principal{Kind: p.Kind, Name: p.Name}, devices.Refuse(devices.CodeTokenExpired, "the token has expired")
	}
	return p, nil
}

// Check reports whether a device's token is still good: its error is
// unauthorized (no such device), token_revoked (or the device deleted),
// device_disabled or token_expired (unless p.Expired says that this is known).
// It reads memory only.
func (s *Service) Check(p Principal) error {
	if p.Kind != devices.ActorDevice {
		_, err := s.Actor(p)
		return err
	}
	id := devices.ID(p.Name)
	d, exists := s.reg.Get(id)
	now := s.now().UnixMilli()
	s.mu.RLock()
	c := s.creds[id]
	known := exists || c != nil // a deleted device's credential stays
	good := c != nil && p.Gen <= c.GenIssued && p.Gen >= c.minGen(now)
	if k := s.keys[p.KID]; k == nil || k.RevokedAt != 0 {
		good = false
	}
	s.mu.RUnlock()
	switch {
	case !known:
		return s.unauthorized("no such device")
	case !exists:
		return devices.Refuse(devices.CodeTokenRevoked, "the device was deleted")
	case !good:
		return devices.Refuse(devices.CodeTokenRevoked, "the token was revoked")
	case !d.Enabled:
		return devices.Refuse(devices.CodeDeviceDisabled, "the device is disabled")
	}
	if past, _ := s.expired(p.Exp); past && !p.Expired {
		return devices.Refuse(devices.CodeTokenExpired, "the token has expired")
	}
	return nil
}

// unixTime is sec as a time; 0 is the zero time.
func unixTime(sec int64) time.Time {
	if sec == 0 {
		return time.Time{}
	}
	return time.Unix(sec, 0)
}

func (s *Service) personPrincipal(p Principal, g *signed) (Principal, error) {
	if past, _ := s.expired(unixTime(g.Expires)); past {
		return Principal{}, devices.Refuse(devices.CodeTokenExpired, "the token has expired")
	}
	if _, err := s.Actor(p); err != nil {
		return Principal{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if ses := s.sessions[p.SID]; p.Kind == devices.ActorUser && ses != nil {
		p.Exp = time.UnixMilli(ses.ExpiresAt)
	}
	if p.Kind == devices.ActorService {
		p.Exp = unixTime(g.Expires)
	}
	return p, nil
}

// Actor returns what p may do at this moment. Its errors are unauthorized,
// token_expired and token_revoked: the person, session, account or key is no
// longer there. It reads memory only. A use of a login session keeps it from
// becoming idle.
func (s *Service) Actor(p Principal) (devices.Actor, error) {
	if s.revokedKey(p.KID) {
		return devices.Actor{}, devices.Refuse(devices.CodeTokenRevoked, "the token was revoked")
	}
	switch p.Kind {
	case devices.ActorUser:
		return s.userActor(p)
	case devices.ActorService:
		return s.serviceActor(p)
	case devices.ActorDevice:
		if err := s.Check(p); err != nil {
			return devices.Actor{}, err
		}
		return devices.Actor{Kind: devices.ActorDevice, Name: p.Name}, nil
	}
	return devices.Actor{}, s.unauthorized("not signed in")
}
