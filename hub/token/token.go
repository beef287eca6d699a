// Package token signs, verifies, encrypts and decrypts the tokens of Phoenix.Token, so that a Go hub and an
// Elixir program with the same secret key base can read each other's.
//
// A signed token can be read by anybody who holds it; it only cannot be changed. Encrypt hides its data too.
//
//	signer, err := token.New(secretKeyBase, "user auth")
//	tok, err := signer.Sign(map[string]any{"id": 42})
//	data, err := signer.Verify(tok)
//
// Sessions does the same for the session cookies of Plug.
//
// Data travels in Erlang's external term format; see Marshal and Unmarshal for what becomes what.
//
// Sources: plug_crypto 2.1 lib/plug/crypto.ex, message_verifier.ex, message_encryptor.ex, key_generator.ex.
package token

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"math"
	"strings"
	"time"
)

// What Verify and Decrypt return, as Phoenix names them.
var (
	// ErrInvalid: not a token of this key and salt, changed on the way, or signed in the future.
	ErrInvalid = errors.New("invalid token")
	// ErrMissing: the empty string. It is an ErrInvalid too.
	ErrMissing = fmt.Errorf("missing token: %w", ErrInvalid)
	// ErrExpired: genuine, but older than its greatest age.
	ErrExpired = errors.New("expired token")
)

const (
	// Infinite is the MaxAge of a token that never expires.
	Infinite = time.Duration(math.MaxInt64)
	// DefaultMaxAge is a token's life when neither side says otherwise.
	DefaultMaxAge = 86400 * time.Second

	minKeyBase = 20      // bytes, as plug_crypto asks
	maxToken   = 1 << 20 // bytes; no header carries more
)

// A Digest names the hash of the key derivation.
type Digest int

// The digests that Phoenix knows.
const (
	SHA256 Digest = iota
	SHA384
	SHA512
)

func (d Digest) hash() func() hash.Hash {
	switch d {
	case SHA384:
		return sha512.New384
	case SHA512:
		return sha512.New
	}
	return sha256.New
}

type options struct {
	iterations, length int
	digest             Digest
	now                func() time.Time
}

// An Option changes how New derives the key. Both programs must use the same.
type Option func(*options)

// WithIterations sets PBKDF2's rounds, 1000 by default (Phoenix: key_iterations).
func WithIterations(n int) Option { return func(o *options) { o.iterations = n } }

// WithKeyLength sets the key's length in bytes, 32 by default (Phoenix: key_length).
func WithKeyLength(n int) Option { return func(o *options) { o.length = n } }

// WithDigest sets the derivation's hash, SHA256 by default (Phoenix: key_digest).
func WithDigest(d Digest) Option { return func(o *options) { o.digest = d } }

// WithClock sets the clock that ages are judged by, time.Now by default.
func WithClock(now func() time.Time) Option { return func(o *options) { o.now = now } }

// A Signer makes and reads the tokens of one secret key base and one salt. It may be used by several goroutines.
type Signer struct {
	key []byte
	now func() time.Time
}

// New derives the key of a salt. The key base has at least 20 bytes; a Phoenix program calls it secret_key_base.
// The derivation takes a few hundred microseconds: keep the Signer.
func New(secretKeyBase, salt string, opts ...Option) (*Signer, error) {
	o := options{iterations: 1000, length: 32, now: time.Now}
	for _, opt := range opts {
		opt(&o)
	}
	if len(secretKeyBase) < minKeyBase {
		return nil, fmt.Errorf("token: the secret key base has %d bytes, want at least %d", len(secretKeyBase), minKeyBase)
	}
	if o.iterations < 1 || o.length < 1 {
		return nil, fmt.Errorf("token: %d iterations, %d bytes of key: both must be positive", o.iterations, o.length)
	}
	key, err := pbkdf2.Key(o.digest.hash(), secretKeyBase, []byte(salt), o.iterations, o.length)
	if err != nil {
		return nil, fmt.Errorf("token: derive key: %w", err)
	}
	return &Signer{key: key, now: o.now}, nil
}

type signOptions struct {
	at     time.Time
	maxAge time.Duration
}

// A SignOption changes what Sign and Encrypt write into a token.
type SignOption func(*signOptions)

// SignedAt dates the token, now by default. Phoenix keeps milliseconds.
func SignedAt(t time.Time) SignOption { return func(o *signOptions) { o.at = t } }

// MaxAge is how long the token holds where the verifier does not say otherwise: whole seconds, or Infinite.
func MaxAge(d time.Duration) SignOption { return func(o *signOptions) { o.maxAge = d } }

// Sign returns a token that carries data in the clear: SFMyNTY.<payload>.<HMAC-SHA256>.
// The error says what in data has no external term format.
func (s *Signer) Sign(data any, opts ...SignOption) (string, error) {
	payload, err := s.payload(data, opts)
	if err != nil {
		return "", err
	}
	return s.sign(payload), nil
}

func (s *Signer) sign(payload []byte) string {
	plain := macs[0].prefix + "." + base64.RawURLEncoding.EncodeToString(payload)
	return plain + "." + base64.RawURLEncoding.EncodeToString(mac(macs[0].new, s.key, plain))
}

func (s *Signer) payload(data any, opts []SignOption) ([]byte, error) {
	o := signOptions{at: s.now(), maxAge: DefaultMaxAge}
	for _, opt := range opts {
		opt(&o)
	}
	var age any = int64(o.maxAge / time.Second)
	if o.maxAge == Infinite {
		age = Atom("infinity")
	}
	payload, err := Marshal(Tuple{data, o.at.UnixMilli(), age})
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return payload, nil
}

// The protected headers that MessageVerifier knows; it writes the first.
var macs = [...]struct {
	prefix string
	new    func() hash.Hash
}{
	{"SFMyNTY", sha256.New},
	{"SFMzODQ", sha512.New384},
	{"SFM1MTI", sha512.New},
}

func mac(h func() hash.Hash, key []byte, plain string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(plain))
	return m.Sum(nil)
}

type verifyOptions struct {
	maxAge time.Duration
	set    bool
}

// A VerifyOption changes how Verify and Decrypt judge a token.
type VerifyOption func(*verifyOptions)

// Within judges the token by this age instead of by its own. Zero or less refuses every token, Infinite none.
func Within(d time.Duration) VerifyOption {
	return func(o *verifyOptions) { o.maxAge, o.set = d, true }
}

// Verify returns the data of a signed token, in the types of Unmarshal, or ErrMissing, ErrInvalid or ErrExpired.
func (s *Signer) Verify(tok string, opts ...VerifyOption) (any, error) {
	if tok == "" {
		return nil, ErrMissing
	}
	payload, err := s.authentic(tok)
	if err != nil {
		return nil, err
	}
	return s.open(payload, opts)
}

// authentic returns what a signed token holds, or ErrInvalid.
func (s *Signer) authentic(tok string) ([]byte, error) {
	if len(tok) > maxToken {
		return nil, ErrInvalid
	}
	prefix, rest, _ := strings.Cut(tok, ".")
	body, sum, ok := strings.Cut(rest, ".")
	if !ok {
		return nil, ErrInvalid
	}
	for _, m := range macs {
		if m.prefix != prefix {
			continue
		}
		got, err := decode64(sum)
		if err != nil || !hmac.Equal(got, mac(m.new, s.key, prefix+"."+body)) {
			return nil, ErrInvalid
		}
		payload, err := decode64(body)
		if err != nil {
			return nil, ErrInvalid
		}
		return payload, nil
	}
	return nil, ErrInvalid
}

// open judges the age of a genuine payload: {data, signed_at_ms, max_age_s}, or the older forms {data, signed_at_ms}
// and %{data: _, signed: _}.
func (s *Signer) open(payload []byte, opts []VerifyOption) (any, error) {
	term, err := Unmarshal(payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	var data, signed any
	var age any = int64(DefaultMaxAge / time.Second)
	switch t := term.(type) {
	case Tuple:
		switch len(t) {
		case 3:
			age = t[2]
			fallthrough
		case 2:
			data, signed = t[0], t[1]
		}
	case map[any]any:
		data, signed = t[Atom("data")], t[Atom("signed")]
	}
	at, ok := signed.(int64)
	if !ok {
		return nil, ErrInvalid
	}
	var o verifyOptions
	for _, opt := range opts {
		opt(&o)
	}
	if !o.set {
		if o.maxAge, ok = duration(age); !ok {
			return nil, ErrInvalid
		}
	}
	now := s.now().UnixMilli()
	switch {
	case at > now:
		return nil, ErrInvalid
	case o.maxAge == Infinite:
		return data, nil
	case o.maxAge <= 0, now-at > o.maxAge.Milliseconds():
		return nil, ErrExpired
	}
	return data, nil
}

// duration reads a max_age: seconds, whole or not, or infinity.
func duration(age any) (time.Duration, bool) {
	switch a := age.(type) {
	case int64:
		if a > int64(Infinite/time.Second) {
			return Infinite, true
		}
		return time.Duration(max(a, 0)) * time.Second, true
	case float64:
		if a >= (Infinite / time.Second).Seconds() {
			return Infinite, true
		}
		return time.Duration(max(a, 0) * float64(time.Second)), true
	case Atom:
		return Infinite, a == "infinity"
	}
	return 0, false
}

// decode64 reads base64url whether or not it is padded, as Phoenix does.
func decode64(s string) ([]byte, error) {
	return base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(s, "="))
}
