package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"devicehub/devices"
)

// What a token says it is; one is never taken for another.
const (
	typDevice  = "device"
	typUser    = "user"
	typService = "service"
	typBridge  = "bridge"
)

// MaxToken is the size of the largest token, so that it fits an MQTT password.
const MaxToken = 512

// claims are those of every token of the hub, in the order in which they are
// written. Times are seconds since epoch.
type claims struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	Subject  string `json:"sub"` // device:<id>, user:<name>, service:<name>
	Typ      string `json:"typ"`
	Gen      int64  `json:"gen,omitempty"` // device and bridge
	SID      string `json:"sid,omitempty"` // user
	JTI      string `json:"jti"`
	IssuedAt int64  `json:"iat"`
	Expires  int64  `json:"exp,omitempty"`
}

// The jwt library asks claims for these. Times and audience are judged by
// Verify, which needs finer answers than valid or not.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (c *claims) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.Subject, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return jwt.ClaimStrings{c.Audience}, nil }

// UnmarshalJSON refuses claims of other types than ours.
func (c *claims) UnmarshalJSON(b []byte) error {
	type plain claims
	return json.Unmarshal(b, (*plain)(c))
}

// signed is a token whose signature held.
type signed struct {
	claims
	kid string
}

// sign writes c as a token under the key that signs now.
func (s *Service) sign(c *claims) (token, kid string, err error) {
	s.mu.RLock()
	k := s.signing
	s.mu.RUnlock()
	if k == nil {
		return "", "", errors.New("there is no signing key")
	}
	c.Issuer = s.cfg.Issuer
	if c.Audience == "" {
		c.Audience = audience
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
	t.Header = map[string]any{"alg": "EdDSA", "kid": k.KID}
	token, err = t.SignedString(k.private)
	if err != nil {
		return "", "", fmt.Errorf("sign a token: %w", err)
	}
	if len(token) > MaxToken {
		return "", "", fmt.Errorf("a token of %d bytes is larger than %d", len(token), MaxToken)
	}
	return token, k.KID, nil
}

// mint makes a device token, what is kept of it, and the key that signed it
// with its LastExpS raised (nil when that did not change).
func (s *Service) mint(id devices.ID, gen int64, opt TokenOptions) (DeviceToken, IssuedToken, *Key, error) {
	return s.mintFor(id, gen, opt, "")
}

func (s *Service) mintFor(id devices.ID, gen int64, opt TokenOptions, bridge string) (DeviceToken, IssuedToken, *Key, error) {
	ttl := s.cfg.TokenTTL
	if opt.TTL != nil {
		ttl = *opt.TTL
	}
	if ttl != 0 && (ttl < minTTL || ttl > maxTTL) {
		return DeviceToken{}, IssuedToken{}, nil, devices.OutOfRange("ttl_s", minTTL.Seconds(), maxTTL.Seconds(), "s")
	}
	now := s.now()
	c := &claims{Subject: deviceTarget(id), Typ: typDevice, Gen: gen, JTI: s.newID(), IssuedAt: now.Unix()}
	form := "jwt"
	if bridge != "" {
		c.Typ, c.Audience, form = typBridge, bridgeAudience(bridge), "bridge:"+bridge
	}
	if ttl > 0 {
		c.Expires = now.Add(ttl).Unix()
	}
	var token, kid string
	var err error
	if opt.Short {
		form = "dh1"
		token, kid, err = s.signShort(id, gen, c.Expires)
	} else {
		token, kid, err = s.sign(c)
	}
	if err != nil {
		return DeviceToken{}, IssuedToken{}, nil, err
	}
	t := DeviceToken{Token: token, Gen: gen, ExpiresAt: c.Expires * 1000, JTI: c.JTI, Principal: s.deviceClaims(&signed{*c, kid}, id)}
	t.Principal.Short, t.Principal.Bridge = opt.Short, bridge
	row := IssuedToken{JTI: c.JTI, Device: id, Gen: gen, KID: kid, Form: form, At: now.UnixMilli(), ExpS: c.Expires, Last4: last4(token)}
	return t, row, s.keyWithExp(kid, c.Expires), nil
}

// keyWithExp returns the key with its LastExpS raised to expS, or nil when it
// stands there already.
func (s *Service) keyWithExp(kid string, expS int64) *Key {
	if expS == 0 {
		expS = NeverExpires
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	k := s.keys[kid]
	if k == nil || k.LastExpS >= expS {
		return nil
	}
	next := *k
	next.LastExpS = expS
	return &next
}

// IssueBridge gives a device a token that is good on the named bridge only, for
// brokers whose own sign-in the hub does not see. It is of the device's present
// generation. Administrators only.
func (s *Service) IssueBridge(ctx context.Context, a devices.Actor, o devices.Origin, id devices.ID, bridge string, opt TokenOptions) (t DeviceToken, err error) {
	defer func() { s.record(a, o, "token.issue", deviceTarget(id), nil, tokenFacts(t), err) }()
	if _, err := s.mayAdminister(a, id); err != nil {
		return DeviceToken{}, err
	}
	if bridge == "" || len(bridge) > devices.MaxLabel {
		return DeviceToken{}, devices.Invalid("bridge", "the name of a bridge")
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.credential(id)
	if err := opt.Expect.Check(c.GenIssued); err != nil {
		return DeviceToken{}, err
	}
	if c.GenIssued == 0 {
		c.GenIssued, c.MinGen = 1, 1
	}
	opt.Short = false
	t, row, key, err := s.mintFor(id, c.GenIssued, opt, bridge)
	if err != nil {
		return DeviceToken{}, err
	}
	return t, s.storeOne(ctx, c, []IssuedToken{row}, key)
}

func bridgeAudience(name string) string { return "bridge:" + name }

// parse returns what a token says if its signature holds under a key of ours, and whom to charge if
// it is refused.
func (v Verifier) parse(token string) (g *signed, name string, err error) {
	s := v.s
	if len(token) > MaxToken || strings.Count(token, ".") != 2 {
		return nil, "", s.unauthorized("not a token of this hub")
	}
	if g := s.cache.get(token); g != nil {
		s.count.cached.Add(1)
		return g, g.Subject, nil
	}
	g = &signed{}
	var refused error
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding())
	_, err = parser.ParseWithClaims(token, &g.claims, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		s.mu.RLock()
		k := s.keys[kid]
		s.mu.RUnlock()
		if k == nil {
			return nil, errors.New("unknown key")
		}
		g.kid = k.KID
		name = s.plausible(&g.claims)
		refused = v.judge(name)
		return k.Public, refused
	})
	if refused != nil {
		return nil, name, refused
	}
	if err != nil || g.Issuer != s.cfg.Issuer {
		return nil, name, s.unauthorized("not a token of this hub")
	}
	g.share(s.cfg.Issuer)
	s.count.verified.Add(1)
	s.cache.put(token, g)
	return g, g.Subject, nil
}

// share replaces strings that most tokens have in common by one copy: there
// may be very many in the cache.
func (g *signed) share(issuer string) {
	g.Issuer = issuer
	if g.Audience == audience {
		g.Audience = audience
	}
	for _, typ := range []string{typDevice, typUser, typService, typBridge} {
		if g.Typ == typ {
			g.Typ = typ
		}
	}
}

// revokedKey reports whether the key kid no longer counts.
func (s *Service) revokedKey(kid string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	k := s.keys[kid]
	return k == nil || k.RevokedAt != 0
}

// expired reports how a token that ends at exp (zero: never) stands now: past
// it, and so long past it that it is good for nothing.
func (s *Service) expired(exp time.Time) (past, tooOld bool) {
	if exp.IsZero() || s.suspect() {
		return false, false
	}
	end := exp.Add(leeway)
	now := s.now()
	return now.After(end), now.After(end.Add(usableAfterExpiry))
}
