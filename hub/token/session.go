package token

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
)

// Sessions reads and writes the cookies of a Plug.Session whose store is :cookie, so that a Go program knows the
// sessions of an Elixir one. It may be used by several goroutines.
//
// Sources: plug lib/plug/session/cookie.ex, csrf_protection.ex.
type Sessions struct {
	signing   *Signer
	encrypted *Signer // nil: signed only
}

// NewSessions derives the keys of a cookie store from its signing_salt and encryption_salt; without the latter, "",
// cookies are signed only. Options are as in New.
func NewSessions(secretKeyBase, signingSalt, encryptionSalt string, opts ...Option) (*Sessions, error) {
	s := new(Sessions)
	var err error
	if s.signing, err = New(secretKeyBase, signingSalt, opts...); err != nil {
		return nil, err
	}
	if encryptionSalt == "" {
		return s, nil
	}
	s.encrypted, err = New(secretKeyBase, encryptionSalt, opts...)
	return s, err
}

// Open returns the session in a cookie if csrf is a token that belongs to it, as a page of the same site knows one;
// a foreign page can make a browser send the cookie, but knows no token. It is what hub.WithSession takes. It returns
// ErrMissing or ErrInvalid.
func (s *Sessions) Open(cookie, csrf string) (map[string]any, error) {
	session, err := s.Read(cookie)
	if err != nil {
		return nil, err
	}
	if !ValidCSRF(session, csrf) {
		return nil, fmt.Errorf("%w: _csrf_token is not of this session", ErrInvalid)
	}
	return session, nil
}

// Read returns the session in a cookie, in the types of Unmarshal. Keys that are no strings are left out. It returns
// ErrMissing or ErrInvalid. Where a browser sends the cookie, Open is the one to call.
func (s *Sessions) Read(cookie string) (map[string]any, error) {
	if cookie == "" {
		return nil, ErrMissing
	}
	var payload []byte
	var err error
	if s.encrypted != nil {
		payload, err = s.encrypted.decrypt(cookie, s.signing.key)
	} else {
		payload, err = s.signing.authentic(cookie)
	}
	if err != nil {
		return nil, err
	}
	term, err := Unmarshal(payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	m, ok := term.(map[any]any)
	if !ok {
		return nil, fmt.Errorf("%w: a session is a map", ErrInvalid)
	}
	session := make(map[string]any, len(m))
	for k, v := range m {
		if name, ok := k.(string); ok {
			session[name] = v
		}
	}
	return session, nil
}

// Write returns the cookie that holds a session. The error says what in it has no external term format.
func (s *Sessions) Write(session map[string]any) (string, error) {
	payload, err := Marshal(session)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	if s.encrypted != nil {
		return s.encrypted.encrypt(payload)
	}
	return s.signing.sign(payload), nil
}

const (
	csrfKey    = "_csrf_token" // in the session
	csrfState  = 24            // characters in the session
	csrfMasked = 32            // and of them masked, in base64, before the mask
)

// NewCSRF returns a token for pages of the session, which it gives the state that the token is held against, if
// there is none yet: then the cookie has to be written again.
func NewCSRF(session map[string]any) string {
	state, _ := session[csrfKey].(string)
	if len(state) != csrfState {
		state = randomText()
		session[csrfKey] = state
	}
	mask := randomText()
	masked := make([]byte, csrfState)
	subtle.XORBytes(masked, []byte(state), []byte(mask))
	return base64.URLEncoding.EncodeToString(masked) + mask
}

func randomText() string {
	b := make([]byte, csrfState*3/4)
	rand.Read(b) // never fails
	return base64.URLEncoding.EncodeToString(b)
}

// ValidCSRF reports whether csrf is a token of the session.
func ValidCSRF(session map[string]any, csrf string) bool {
	state, _ := session[csrfKey].(string)
	if len(state) != csrfState || len(csrf) != csrfMasked+csrfState {
		return false
	}
	masked, err := base64.URLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(csrf[:csrfMasked]))
	if err != nil || len(masked) != csrfState {
		return false
	}
	subtle.XORBytes(masked, masked, []byte(csrf[csrfMasked:]))
	return subtle.ConstantTimeCompare(masked, []byte(state)) == 1
}
