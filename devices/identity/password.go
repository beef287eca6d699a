package identity

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// Passwords are kept as argon2id hashes in the PHC string form. The cost is
// RFC 9106's in shape and OWASP's in size (19 MiB, two passes, one lane): some
// 30 ms on one core ([Config.HashMemory] changes the size).
const (
	hashTime    = 2
	hashThreads = 1
	hashSalt    = 16
	hashKey     = 32

	// Bounds of what a stored hash may ask for, lest a damaged store stop the hub.
	maxHashTime   = 16
	maxHashMemory = 1 << 20
)

func (s *Service) hashPassword(p string) string {
	salt := make([]byte, hashSalt)
	rand.Read(salt) // never fails
	return s.hashText(salt, argon2.IDKey([]byte(p), salt, hashTime, s.cfg.HashMemory, hashThreads, hashKey))
}

// hashOfNothing is a hash that no password has and that costs as much to
// compare with as any.
func (s *Service) hashOfNothing() string {
	b := make([]byte, hashSalt+hashKey)
	rand.Read(b) // never fails
	return s.hashText(b[:hashSalt], b[hashSalt:])
}

func (s *Service) hashText(salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, s.cfg.HashMemory, hashTime, hashThreads, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// matches compares a password with a stored hash, in the hash's own cost.
func matches(hash, p string) bool {
	var version, memory, passes int
	var threads uint8
	var rest string
	if n, err := fmt.Sscanf(hash, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s", &version, &memory, &passes, &threads, &rest); n != 5 || err != nil {
		return false
	}
	if version != argon2.Version || memory < 8 || memory > maxHashMemory || passes < 1 || passes > maxHashTime || threads < 1 {
		return false
	}
	var salt64, key64 string
	for i := range rest {
		if rest[i] == '$' {
			salt64, key64 = rest[:i], rest[i+1:]
		}
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(salt64)
	want, err2 := base64.RawStdEncoding.DecodeString(key64)
	if err1 != nil || err2 != nil || len(want) < 16 || len(want) > 64 {
		return false
	}
	got := argon2.IDKey([]byte(p), salt, uint32(passes), uint32(memory), threads, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1
}
