package token_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"devicehub/hub/token"
)

const sessionKeyBase = "x9Hk2mQeRtYuIoPaSdFgHjKlZxCvBnM1234567890abcdefghijklmnopqrstuvwxyz"

func newSessions(t *testing.T, signing, encryption string) *token.Sessions {
	t.Helper()
	s, err := token.NewSessions(sessionKeyBase, signing, encryption)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The cookie and the token were made with hashlib, after plug's source.
func TestReadsASignedCookie(t *testing.T) {
	const cookie = "SFMyNTY.g3QAAAACbQAAAAtfY3NyZl90b2tlbm0AAAAYQWJDZEVmR2hJaktsTW5PcFFyU3RVdld4bQAAAAd1c2VyX2lkYSo.U0DmxreZpEo5XS7t6DpTKdEP2r9G0dkVvAzMn_p30nI"
	const csrf = "cVNxV3FTcV9xUyoOLgoqFjYaOh4-GjoW0123456789abcdefghijklmn"
	s := newSessions(t, "signing", "")
	want := map[string]any{"_csrf_token": "AbCdEfGhIjKlMnOpQrStUvWx", "user_id": int64(42)}
	if got, err := s.Open(cookie, csrf); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, c := range []struct{ name, cookie, csrf string }{
		{"no token", cookie, ""},
		{"another mask", cookie, csrf[:32] + strings.ToUpper(csrf[32:])},
		{"token of another session", cookie, token.NewCSRF(map[string]any{})},
		{"changed", strings.Replace(cookie, "AAAC", "AAAD", 1), csrf},
		{"no cookie", "", csrf},
		{"junk", "SFMyNTY.x", csrf},
	} {
		if got, err := s.Open(c.cookie, c.csrf); !errors.Is(err, token.ErrInvalid) || got != nil {
			t.Errorf("%s: got %v, %v, want ErrInvalid", c.name, got, err)
		}
	}
	if _, err := newSessions(t, "another salt", "").Read(cookie); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("another salt: got %v, want ErrInvalid", err)
	}
}

func TestSessionsRoundTrip(t *testing.T) {
	for name, s := range map[string]*token.Sessions{"signed": newSessions(t, "a", ""), "encrypted": newSessions(t, "a", "b")} {
		session := map[string]any{"user": "tom", "roles": []any{token.Atom("admin")}}
		csrf := token.NewCSRF(session)
		if again := token.NewCSRF(session); again == csrf || !token.ValidCSRF(session, again) {
			t.Errorf("%s: a second token is the same, or not valid", name)
		}
		cookie, err := s.Write(session)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Open(cookie, csrf); err != nil || !reflect.DeepEqual(got, session) {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, session)
		}
		if _, err := s.Write(map[string]any{"f": func() {}}); err == nil {
			t.Errorf("%s: a function got no error", name)
		}
	}
}

func FuzzSession(f *testing.F) {
	s, err := token.NewSessions(sessionKeyBase, "a", "b")
	if err != nil {
		f.Fatal(err)
	}
	session := map[string]any{"user": "tom"}
	csrf := token.NewCSRF(session)
	cookie, err := s.Write(session)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cookie, csrf)
	f.Add("QTEyOEdDTQ.a.b.c.d", csrf)
	f.Fuzz(func(t *testing.T, cookie, csrf string) {
		got, err := s.Open(cookie, csrf)
		if err != nil && !errors.Is(err, token.ErrInvalid) || (got == nil) != (err != nil) {
			t.Fatalf("got %v, %v", got, err)
		}
	})
}
