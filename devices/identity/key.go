package identity

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"devicehub/devices"
)

// Key is a signing key. One signs; older ones only verify.
type Key struct {
	KID       string
	CreatedAt int64
	RetiredAt int64 // when another took over; 0: it signs
	RevokedAt int64
	LastExpS  int64 // the greatest exp it has signed, seconds since epoch; NeverExpires for a token without
	Public    ed25519.PublicKey
	Seed      []byte // nil once revoked

	private ed25519.PrivateKey
	short   []byte // MAC key of the short form
}

// NeverExpires is the LastExpS of a key that signed a token without exp.
const NeverExpires = int64(1)<<62 - 1

// usableAfterExpiry is how long past its exp a device token still serves to
// refresh itself, and so how long a retired key is kept for it.
const usableAfterExpiry = 180 * 24 * time.Hour

// KeyInfo is a signing key as administrators see it.
type KeyInfo struct {
	KID       string `json:"kid"`
	State     string `json:"state"` // active, verifying, revoked
	CreatedAt int64  `json:"created_at"`
	RetiredAt int64  `json:"retired_at,omitempty"`
	RevokedAt int64  `json:"revoked_at,omitempty"`
	UntilAt   int64  `json:"used_until,omitempty"` // when a retired key stops verifying; absent when it never does
}

func newKey(kid string, now time.Time) (Key, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("make a signing key: %w", err)
	}
	k := Key{KID: kid, CreatedAt: now.UnixMilli(), Public: public, Seed: private.Seed()}
	return k, k.derive()
}

// derive computes what signs from the seed. A revoked key keeps nothing.
func (k *Key) derive() error {
	if len(k.Seed) == 0 {
		k.private, k.short = nil, nil
		return nil
	}
	if len(k.Seed) != ed25519.SeedSize {
		return fmt.Errorf("signing key %s is damaged", k.KID)
	}
	k.private = ed25519.NewKeyFromSeed(k.Seed)
	k.Public = k.private.Public().(ed25519.PublicKey)
	var err error
	k.short, err = hkdf.Key(sha256.New, k.Seed, nil, "devicehub dh1", sha256.Size)
	return err
}

// until is when a retired key verifies nothing any more, in seconds since
// epoch: 180 days after the last token under it expired. People's tokens are
// not counted one by one; none outlives sessionLife.
func (k *Key) until() int64 {
	if k.RetiredAt == 0 || k.LastExpS >= NeverExpires {
		return NeverExpires
	}
	last := max(k.LastExpS, k.RetiredAt/1000+int64(sessionLife.Seconds()))
	return last + int64(usableAfterExpiry.Seconds())
}

func (k *Key) info() KeyInfo {
	i := KeyInfo{KID: k.KID, State: "active", CreatedAt: k.CreatedAt, RetiredAt: k.RetiredAt, RevokedAt: k.RevokedAt}
	switch {
	case k.RevokedAt != 0:
		i.State = "revoked"
	case k.RetiredAt != 0:
		i.State = "verifying"
		if u := k.until(); u != NeverExpires {
			i.UntilAt = u * 1000
		}
	}
	return i
}

// Keys lists the signing keys, newest first. Administrators only.
func (s *Service) Keys(a devices.Actor) ([]KeyInfo, error) {
	if err := needAdmin(a); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	infos := make([]KeyInfo, 0, len(s.keys))
	for _, k := range s.keys {
		infos = append(infos, k.info())
	}
	slices.SortFunc(infos, func(x, y KeyInfo) int {
		return cmp.Or(cmp.Compare(y.CreatedAt, x.CreatedAt), cmp.Compare(y.KID, x.KID))
	})
	return infos, nil
}

// RotateKey makes a new signing key. The one that signed until now verifies
// until the last token under it has expired 180 days ago.
func (s *Service) RotateKey(ctx context.Context, a devices.Actor, o devices.Origin) (info KeyInfo, err error) {
	defer func() { s.record(a, o, "key.rotate", "key:"+info.KID, nil, nil, err) }()
	if err := needAdmin(a); err != nil {
		return KeyInfo{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	k, err := s.rotateKey(ctx)
	if err != nil {
		return KeyInfo{}, err
	}
	return k.info(), nil
}

// rotateKey needs s.writing.
func (s *Service) rotateKey(ctx context.Context) (*Key, error) {
	now := s.now()
	k, err := newKey(s.freshKID(now), now)
	if err != nil {
		return nil, err
	}
	changed := []Key{k}
	s.mu.RLock()
	if s.signing != nil {
		old := *s.signing
		old.RetiredAt = now.UnixMilli()
		changed = append(changed, old)
	}
	s.mu.RUnlock()
	if err := s.store.PutKeys(ctx, changed); err != nil {
		return nil, fmt.Errorf("rotate the signing key: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range changed {
		s.keys[changed[i].KID] = &changed[i]
	}
	s.signing = &changed[0]
	return s.signing, nil
}

// freshKID names a key for the month it is made in: 2026-11, 2026-11-2, ...
func (s *Service) freshKID(now time.Time) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	month := now.UTC().Format("2006-01")
	kid := month
	for n := 2; s.keys[kid] != nil; n++ {
		kid = fmt.Sprintf("%s-%d", month, n)
	}
	return kid
}

// RevokeKey ends a signing key and every token under it at once; the key that
// signs is replaced first. stranded is how many devices have no usable token
// left and need a new one carried to them.
func (s *Service) RevokeKey(ctx context.Context, a devices.Actor, o devices.Origin, kid string) (stranded int, err error) {
	defer func() {
		s.record(a, o, "key.revoke", "key:"+kid, nil, map[string]int{"stranded": stranded}, err)
	}()
	if err := needAdmin(a); err != nil {
		return 0, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.RLock()
	k := s.keys[kid]
	signing := k != nil && k == s.signing
	s.mu.RUnlock()
	if k == nil {
		return 0, devices.NotFound("signing key")
	}
	if k.RevokedAt != 0 {
		return 0, devices.Refuse(devices.CodeConflict, "the signing key is already revoked")
	}
	now := s.now()
	if stranded, err = s.store.Stranded(ctx, kid, now.Unix()); err != nil {
		return 0, fmt.Errorf("count what depends on key %s: %w", kid, err)
	}
	if signing {
		if _, err := s.rotateKey(ctx); err != nil {
			return 0, err
		}
	}
	s.mu.RLock()
	dead := *s.keys[kid]
	s.mu.RUnlock()
	dead.RevokedAt, dead.Seed = now.UnixMilli(), nil
	if dead.RetiredAt == 0 {
		dead.RetiredAt = dead.RevokedAt
	}
	if err := dead.derive(); err != nil {
		return 0, err
	}
	if err := s.store.PutKeys(ctx, []Key{dead}); err != nil {
		return 0, fmt.Errorf("revoke key %s: %w", kid, err)
	}
	s.mu.Lock()
	s.keys[kid] = &dead
	s.mu.Unlock()
	s.tell(Change{All: true, Reason: devices.CodeTokenRevoked})
	return stranded, nil
}

// dropOldKeys forgets keys under which nothing can verify any more.
func (s *Service) dropOldKeys(ctx context.Context) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	nowS := s.now().Unix()
	var old []string
	s.mu.RLock()
	for kid, k := range s.keys {
		if k.until() < nowS {
			old = append(old, kid)
		}
	}
	s.mu.RUnlock()
	for _, kid := range old {
		if err := s.store.DeleteKey(ctx, kid); err != nil {
			return fmt.Errorf("forget key %s: %w", kid, err)
		}
		s.mu.Lock()
		delete(s.keys, kid)
		s.mu.Unlock()
	}
	return nil
}
