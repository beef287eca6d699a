package identity

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"devicehub/devices"
	"devicehub/devices/quota"
)

// DeviceToken is a fresh device token. The token is in no store: it is shown now or
// never.
type DeviceToken struct {
	Token     string `json:"token,omitempty"` // absent when the device is to go on with the one it has
	Gen       int64  `json:"gen"`
	ExpiresAt int64  `json:"expires_at,omitempty"` // ms since epoch, absent: never
	JTI       string `json:"-"`
	// Principal is whom the token speaks for, as Verify would answer.
	Principal Principal `json:"-"`
}

// TokenOptions are choices in issuing a device token.
type TokenOptions struct {
	TTL   *time.Duration // nil: the configured life; 0: no exp
	Grace *time.Duration // rotation: how long the older generations live on; nil: 7 days
	Short bool           // the short signed form
	// Expect is asked about the generation before a token is made of it or of the
	// next.
	Expect devices.Expect
}

const (
	defaultGrace = 7 * 24 * time.Hour
	maxGrace     = 366 * 24 * time.Hour
	minTTL       = time.Second
	maxTTL       = 100 * 366 * 24 * time.Hour
	maxGraces    = 8 // rotations whose older generations still live; beyond them the oldest die early
)

// mayAdminister returns the record of id if a may administer it. A device outside
// an administrating account's scope is refused like one that does not exist.
func (s *Service) mayAdminister(a devices.Actor, id devices.ID) (*devices.Device, error) {
	if !a.Admin() {
		return nil, devices.Refuse(devices.CodeForbidden, "administrators only")
	}
	d, ok := s.reg.Get(id)
	if !ok || !a.May(devices.RightAdmin, d) {
		return nil, devices.NotFound("device")
	}
	return d, nil
}

// IssueDevice gives a device one more token of its present generation, or of
// the first. Administrators only.
func (s *Service) IssueDevice(ctx context.Context, a devices.Actor, o devices.Origin, id devices.ID, opt TokenOptions) (t DeviceToken, err error) {
	defer func() { s.record(a, o, "token.issue", deviceTarget(id), nil, tokenFacts(t), err) }()
	if _, err := s.mayAdminister(a, id); err != nil {
		return DeviceToken{}, err
	}
	return s.issue(ctx, id, opt, func(c *Credential) {
		if c.GenIssued == 0 {
			c.GenIssued, c.MinGen = 1, 1
		}
	})
}

// RotateDevice gives a device a token of a new generation. The older ones die
// when the grace is over, or as soon as the new one was used on two different
// boots. Administrators only.
func (s *Service) RotateDevice(ctx context.Context, a devices.Actor, o devices.Origin, id devices.ID, opt TokenOptions) (t DeviceToken, err error) {
	defer func() { s.record(a, o, "token.rotate", deviceTarget(id), nil, tokenFacts(t), err) }()
	if _, err := s.mayAdminister(a, id); err != nil {
		return DeviceToken{}, err
	}
	grace := defaultGrace
	if opt.Grace != nil {
		grace = *opt.Grace
	}
	if grace < 0 || grace > maxGrace {
		return DeviceToken{}, devices.OutOfRange("grace_s", 0, maxGrace.Seconds(), "s")
	}
	until := s.now().Add(grace).UnixMilli()
	t, err = s.issue(ctx, id, opt, func(c *Credential) { c.rotate(until, grace == 0) })
	if err == nil && grace == 0 {
		s.tell(Change{Devices: []devices.ID{id}, Reason: devices.CodeTokenRevoked})
	}
	return t, err
}

func (c *Credential) rotate(until int64, atOnce bool) {
	had := c.GenIssued > 0
	c.advance()
	switch {
	case !had || atOnce:
		c.MinGen, c.Graces = c.GenIssued, nil
		return
	}
	// A generation that an earlier rotation lets die sooner still does.
	c.Graces = append(slices.Clone(c.Graces), Grace{Below: c.GenIssued, Until: until})
	for len(c.Graces) > maxGraces {
		c.MinGen = max(c.MinGen, c.Graces[0].Below)
		c.Graces = c.Graces[1:]
	}
}

// RevokeDevice ends every token that the device has, if its generation is what is
// expected. It needs a new one to come back. Administrators only.
func (s *Service) RevokeDevice(ctx context.Context, a devices.Actor, o devices.Origin, id devices.ID, expect ...devices.Expect) (err error) {
	var before, after any
	defer func() { s.record(a, o, "token.revoke", deviceTarget(id), before, after, err) }()
	if _, err := s.mayAdminister(a, id); err != nil {
		return err
	}
	err = s.changeCredential(ctx, id, func(c *Credential) error {
		for _, e := range expect {
			if err := e.Check(c.GenIssued); err != nil {
				return err
			}
		}
		before = c.facts()
		c.advance()
		c.MinGen, c.Graces = c.GenIssued, nil
		after = c.facts()
		return nil
	})
	if err != nil {
		return err
	}
	s.tell(Change{Devices: []devices.ID{id}, Reason: devices.CodeTokenRevoked})
	return nil
}

// RefreshDevice gives the device that p speaks for a token of the same
// generation, form and length of life. A genuine token up to 180 days past its
// exp may do this and nothing else.
//
// Before four fifths of the token's life are over, and while the key that signed
// it still signs, the device is told to go on with the one that it has: nothing is
// made or recorded, and the answer has no Token. After that it gets one every ten
// minutes, and three at once; beyond, the error is rate_limited.
func (s *Service) RefreshDevice(ctx context.Context, p Principal, o devices.Origin) (t DeviceToken, err error) {
	a := devices.Actor{Kind: devices.ActorDevice, Name: p.Name}
	id := devices.ID(p.Name)
	early := false
	defer func() {
		if !early {
			s.record(a, o, "token.refresh", deviceTarget(id), nil, tokenFacts(t), err)
		}
	}()
	if p.Kind != devices.ActorDevice || p.Bridge != "" {
		return DeviceToken{}, devices.Refuse(devices.CodeForbidden, "devices only")
	}
	early = s.isEarly(p)
	if early {
		if err := s.Check(p); err != nil {
			return DeviceToken{}, err
		}
		return DeviceToken{Gen: p.Gen, ExpiresAt: expiresAt(p), Principal: p}, nil
	}
	p.Expired = true // even if it only now is
	if err := s.Check(p); err != nil {
		return DeviceToken{}, err
	}
	if wait, ok := s.refreshes.Take(quota.Stranger{Name: p.Name}, s.now()); !ok {
		early = true // nothing is recorded of it either
		return DeviceToken{}, devices.Refuse(devices.CodeRateLimited, "the device has had new tokens of late").After(wait)
	}
	opt := TokenOptions{Short: p.Short}
	if p.Life > 0 {
		opt.TTL = &p.Life
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.credential(id)
	if p.Gen < c.minGen(s.now().UnixMilli()) || p.Gen > c.GenIssued {
		return DeviceToken{}, devices.Refuse(devices.CodeTokenRevoked, "the token was revoked")
	}
	t, row, key, err := s.mint(id, p.Gen, opt)
	if err != nil {
		return DeviceToken{}, err
	}
	return t, s.storeOne(ctx, c, []IssuedToken{row}, key)
}

// refreshRate is how often a device gets a new token.
var refreshRate = quota.Rate{PerSecond: 1.0 / 600, Burst: 3}

// isEarly reports whether a token is so young that it needs no successor.
func (s *Service) isEarly(p Principal) bool {
	s.mu.RLock()
	signs := s.signing != nil && s.signing.KID == p.KID
	s.mu.RUnlock()
	if p.Expired || !signs {
		return false
	}
	return p.Exp.IsZero() || s.now().Before(p.Exp.Add(-p.Exp.Sub(p.IssuedAt)/5))
}

// expiresAt is when a principal's token expires, in ms since epoch; 0: never.
func expiresAt(p Principal) int64 {
	if p.Exp.IsZero() {
		return 0
	}
	return p.Exp.UnixMilli()
}

// issue changes the credential of id and mints a token of its then newest
// generation.
func (s *Service) issue(ctx context.Context, id devices.ID, opt TokenOptions, change func(*Credential)) (DeviceToken, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if _, ok := s.reg.Get(id); !ok {
		return DeviceToken{}, devices.NotFound("device")
	}
	c := s.credential(id)
	if err := opt.Expect.Check(c.GenIssued); err != nil {
		return DeviceToken{}, err
	}
	change(&c)
	t, row, key, err := s.mint(id, c.GenIssued, opt)
	if err != nil {
		return DeviceToken{}, err
	}
	return t, s.storeOne(ctx, c, []IssuedToken{row}, key)
}

// changeCredential changes the credential of id.
func (s *Service) changeCredential(ctx context.Context, id devices.ID, change func(*Credential) error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	c := s.credential(id)
	if err := change(&c); err != nil {
		return err
	}
	return s.storeOne(ctx, c, nil, nil)
}

// credential returns a copy of what is known of id.
func (s *Service) credential(id devices.ID) Credential {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if c := s.creds[id]; c != nil {
		return *c
	}
	return Credential{Device: id}
}

// storeOne writes one credential, its new tokens and the key that signed them,
// then makes them seen. It needs s.writing.
func (s *Service) storeOne(ctx context.Context, c Credential, rows []IssuedToken, key *Key) error {
	return s.storeAll(ctx, []Credential{c}, rows, key)
}

func (s *Service) storeAll(ctx context.Context, cs []Credential, rows []IssuedToken, key *Key) error {
	var keys []Key
	if key != nil {
		keys = []Key{*key}
	}
	if err := s.store.PutCredentials(ctx, cs, rows, keys); err != nil {
		return fmt.Errorf("store device credentials: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.learned()
	for i := range cs {
		c := cs[i]
		delete(s.dirty, c.Device)
		// Used may have changed it meanwhile: what died stays dead, what was
		// used stays used.
		if cur := s.creds[c.Device]; cur != nil {
			if cur.MinGen > c.MinGen {
				c.MinGen = cur.MinGen
				c.Graces = slices.DeleteFunc(slices.Clone(c.Graces), func(g Grace) bool { return g.Below <= c.MinGen })
				s.dirty[c.Device] = true
			}
			for _, g := range cur.Generations() {
				if c.use(g.Gen, g.LastUsedAt) {
					s.dirty[c.Device] = true
				}
			}
		}
		s.creds[c.Device] = &c
		if len(c.Graces) > 0 {
			s.graces[c.Device] = true
			for _, g := range c.Graces {
				s.nextGrace = min(s.nextGrace, g.Until)
			}
		} else {
			delete(s.graces, c.Device)
		}
	}
	if key != nil {
		s.keys[key.KID] = key
		if s.signing != nil && s.signing.KID == key.KID {
			s.signing = key
		}
	}
	return nil
}

// usedStep is how exactly the last use of a generation is known.
const usedStep = time.Second

// Used tells that a connection made with p was accepted, of the device's boot
// ("": unknown). It keeps when p's generation was last used; and when a new
// generation was used on two boots it has proven itself, and the older ones
// die. It never waits for a disk.
func (s *Service) Used(p Principal, boot string) {
	if p.Kind != devices.ActorDevice {
		return
	}
	id, now := devices.ID(p.Name), s.now().UnixMilli()
	s.mu.RLock()
	c := s.creds[id]
	quiet := c == nil || !c.proves(p.Gen, boot) && c.usedWithin(p.Gen, now)
	s.mu.RUnlock()
	if quiet {
		return
	}
	s.mu.Lock()
	if c = s.creds[id]; c == nil {
		s.mu.Unlock()
		return
	}
	next := *c
	news := next.use(p.Gen, now)
	proven := false
	if c.proves(p.Gen, boot) {
		news, proven = true, c.NewBoot != ""
		if proven {
			next.MinGen, next.Graces, next.NewBoot = c.GenIssued, nil, ""
			delete(s.graces, id)
		} else {
			next.NewBoot = boot
		}
	}
	if news {
		s.creds[id] = &next
		s.dirty[id] = true
		s.behind.Due(learnedAfter)
	}
	s.mu.Unlock()
	if proven {
		s.tell(Change{Devices: []devices.ID{id}, Reason: devices.CodeTokenRevoked})
	}
}

// proves says if a use of gen on boot brings the end of the graces nearer.
func (c *Credential) proves(gen int64, boot string) bool {
	return boot != "" && len(c.Graces) > 0 && gen == c.GenIssued && boot != c.NewBoot
}

// usedWithin says if there is nothing to keep of a use of gen at now.
func (c *Credential) usedWithin(gen, now int64) bool {
	kept := c.usedAt(gen)
	return kept == nil || *kept <= now && now-*kept < usedStep.Milliseconds()
}

// endGraces lets generations die whose grace is over.
func (s *Service) endGraces(ctx context.Context) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	now := s.now().UnixMilli()
	var over []Credential
	s.mu.RLock()
	if now < s.nextGrace { // nothing to do, with however many graces
		s.mu.RUnlock()
		return nil
	}
	for id := range s.graces {
		c := s.creds[id]
		if slices.ContainsFunc(c.Graces, func(g Grace) bool { return g.Until <= now }) {
			next := *c
			next.MinGen = c.minGen(now)
			next.Graces = slices.DeleteFunc(slices.Clone(c.Graces), func(g Grace) bool { return g.Below <= next.MinGen })
			over = append(over, next)
		}
	}
	s.mu.RUnlock()
	if len(over) > 0 {
		if err := s.storeAll(ctx, over, nil, nil); err != nil {
			return err // tried again with the next sweep
		}
	}
	s.setNextGrace()
	if len(over) == 0 {
		return nil
	}
	ids := make([]devices.ID, len(over))
	for i := range over {
		ids[i] = over[i].Device
	}
	s.tell(Change{Devices: ids, Reason: devices.CodeTokenRevoked})
	return nil
}

// setNextGrace finds when the next grace ends.
func (s *Service) setNextGrace() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextGrace = math.MaxInt64
	for id := range s.graces {
		for _, g := range s.creds[id].Graces {
			s.nextGrace = min(s.nextGrace, g.Until)
		}
	}
}

// deviceChanged follows the registry. It must not write: it runs inside the
// registry's change. The store raises the generation of a deleted device by
// itself.
func (s *Service) deviceChanged(c devices.Change) {
	switch {
	case c.After == nil:
		s.mu.Lock()
		if old := s.creds[c.Before.ID]; old != nil {
			next := Credential{Device: old.Device, GenIssued: old.GenIssued + 1, MinGen: old.GenIssued + 1}
			s.creds[old.Device] = &next
			delete(s.dirty, old.Device)
			delete(s.graces, old.Device)
		}
		s.mu.Unlock()
		s.tell(Change{Devices: []devices.ID{c.Before.ID}, Reason: devices.CodeTokenRevoked})
	case c.Before != nil && c.Before.Enabled && !c.After.Enabled:
		s.tell(Change{Devices: []devices.ID{c.After.ID}, Reason: devices.CodeDeviceDisabled})
	}
}

// Credential reports the generations of a device's tokens.
func (s *Service) Credential(id devices.ID) Credential {
	c := s.credential(id)
	c.MinGen = c.minGen(s.now().UnixMilli())
	return c
}

// Tokens lists what was issued to a device and is kept. Administrators only.
func (s *Service) Tokens(ctx context.Context, a devices.Actor, id devices.ID) ([]IssuedToken, error) {
	if _, err := s.mayAdminister(a, id); err != nil {
		return nil, err
	}
	return s.store.Tokens(ctx, id, 100)
}

func deviceTarget(id devices.ID) string { return "device:" + string(id) }

// facts is what the audit keeps of which tokens of a device are good.
func (c *Credential) facts() any {
	return map[string]int64{"gen": c.GenIssued, "min_gen": c.MinGen}
}

// tokenFacts is what the audit keeps of a token.
func tokenFacts(t DeviceToken) any {
	if t.Token == "" {
		return nil
	}
	return map[string]any{"jti": t.JTI, "gen": t.Gen, "last4": last4(t.Token), "expires_at": t.ExpiresAt}
}

func last4(token string) string { return token[max(0, len(token)-4):] }
