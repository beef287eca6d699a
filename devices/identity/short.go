package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"devicehub/devices"
)

// The short signed form of a device token, for password fields that hold less
// than a JWT: dh1.<gen>.<exp>.<mac>, exp in seconds since epoch in base 36 ("0"
// for none), mac the base64url of the first 128 bits of an HMAC-SHA256 over the
// id, gen and exp. It does not name the device: the user name beside it does.
const shortPrefix = "dh1."

const shortMAC = 16

func shortSum(key []byte, id devices.ID, gen, exp int64) []byte {
	h := hmac.New(sha256.New, key)
	fmt.Fprintf(h, "dh1\x00%s\x00%d\x00%d", id, gen, exp)
	return h.Sum(nil)[:shortMAC]
}

func (s *Service) signShort(id devices.ID, gen, exp int64) (token, kid string, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.signing == nil {
		return "", "", errors.New("there is no signing key")
	}
	mac := base64.RawURLEncoding.EncodeToString(shortSum(s.signing.short, id, gen, exp))
	return shortPrefix + strconv.FormatInt(gen, 10) + "." + strconv.FormatInt(exp, 36) + "." + mac, s.signing.KID, nil
}

// parseShort reads a short token of the device id. It does not say which key
// it is under, so every key that verifies is tried, the newest first.
func (s *Service) parseShort(id devices.ID, token string) (*signed, error) {
	gen, exp, mac, ok := splitShort(token)
	if !ok {
		return nil, s.unauthorized("not a token of this hub")
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	keys := make([]*Key, 0, len(s.keys))
	for _, k := range s.keys {
		if k.RevokedAt == 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b *Key) int { return int(b.CreatedAt - a.CreatedAt) })
	for _, k := range keys {
		if hmac.Equal(mac, shortSum(k.short, id, gen, exp)) {
			return &signed{claims: claims{Issuer: s.cfg.Issuer, Audience: audience, Subject: deviceTarget(id), Typ: typDevice, Gen: gen, Expires: exp}, kid: k.KID}, nil
		}
	}
	return nil, s.unauthorized("not a token of this device")
}

func splitShort(token string) (gen, exp int64, mac []byte, ok bool) {
	rest, ok := strings.CutPrefix(token, shortPrefix)
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 3 || len(token) > 64 {
		return 0, 0, nil, false
	}
	gen, err1 := strconv.ParseInt(parts[0], 10, 64)
	exp, err2 := strconv.ParseInt(parts[1], 36, 64)
	mac, err3 := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err1 != nil || err2 != nil || err3 != nil || gen < 1 || exp < 0 || exp > NeverExpires || len(mac) != shortMAC {
		return 0, 0, nil, false
	}
	return gen, exp, mac, true
}
