package identity_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"devicehub/devices"
	"devicehub/devices/identity"
)

func TestKeysRotateAndAreRevoked(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	a, b := h.device(t, "a"), h.device(t, "b")
	old := h.keyOf(t, a)
	info, err := h.RotateKey(ctx, cli, origin)
	if err != nil || info.KID == old || info.State != "active" {
		t.Fatalf("got %+v %v", info, err)
	}
	h.wantCode(t, a, "")
	newB, err := h.IssueDevice(ctx, cli, origin, "b", identity.TokenOptions{})
	if err != nil || h.keyOf(t, newB.Token) != info.KID {
		t.Fatalf("got %v, want a token under %s", err, info.KID)
	}
	keys, err := h.Keys(cli)
	if err != nil || len(keys) != 2 || keys[1].State != "verifying" || keys[1].UntilAt == 0 {
		t.Errorf("got %+v %v", keys, err)
	}
	h.told()
	stranded, err := h.RevokeKey(ctx, cli, origin, old)
	if err != nil || stranded != 1 {
		t.Errorf("got %d %v, want 1 stranded", stranded, err)
	}
	h.wantCode(t, a, devices.CodeTokenRevoked)
	h.wantCode(t, b, devices.CodeTokenRevoked)
	h.wantCode(t, newB.Token, "")
	if cs := h.told(); len(cs) != 1 || !cs[0].All {
		t.Errorf("told %+v, want all", cs)
	}
	if _, err := h.RevokeKey(ctx, cli, origin, old); devices.CodeOf(err) != devices.CodeConflict {
		t.Errorf("twice: got %v, want conflict", err)
	}
	if _, err := h.RevokeKey(ctx, cli, origin, "nope"); devices.CodeOf(err) != devices.CodeNotFound {
		t.Errorf("unknown: got %v, want not_found", err)
	}
	// The key that signs is replaced first.
	if _, err := h.RevokeKey(ctx, cli, origin, info.KID); err != nil {
		t.Fatal(err)
	}
	after, err := h.IssueDevice(ctx, cli, origin, "a", identity.TokenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.wantCode(t, after.Token, "")
}

func (h *hub) keyOf(t *testing.T, token string) string {
	t.Helper()
	p, err := h.Verify(token)
	if err != nil {
		t.Fatal(err)
	}
	return p.KID
}

// Forged tokens: another algorithm, another key, another issuer, claims that
// do not fit together.
func TestForgedTokens(t *testing.T) {
	h := newHub(t)
	real := h.device(t, "a")
	p, _ := h.Verify(real)
	parts := strings.Split(real, ".")
	body, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var claims jwt.MapClaims
	if err := json.Unmarshal(body, &claims); err != nil {
		t.Fatal(err)
	}
	_, stranger, _ := ed25519.GenerateKey(nil)
	sign := func(method jwt.SigningMethod, key any, kid string) string {
		tok := jwt.NewWithClaims(method, claims)
		tok.Header["kid"] = kid
		s, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, token := range map[string]string{
		"none":              sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, p.KID),
		"HS256":             sign(jwt.SigningMethodHS256, []byte("secret"), p.KID),
		"another's key":     sign(jwt.SigningMethodEdDSA, stranger, p.KID),
		"unknown kid":       sign(jwt.SigningMethodEdDSA, stranger, "2001-01"),
		"no kid":            sign(jwt.SigningMethodEdDSA, stranger, ""),
		"changed claims":    parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(body), `device:a`, `device:b`, 1))) + "." + parts[2],
		"two parts":         parts[0] + "." + parts[1],
		"bearer prefix":     "Bearer " + real,
		"too long":          real + strings.Repeat("A", 600),
		"empty":             "",
		"a trailing letter": real + "A",
	} {
		if _, err := h.Verify(token); devices.CodeOf(err) != devices.CodeUnauthorized {
			t.Errorf("%s: got %v, want unauthorized", name, err)
		}
	}
}

func TestUnauthorizedTellsTheTime(t *testing.T) {
	h := newHub(t)
	_, err := h.Verify("x")
	e, ok := err.(*devices.Error)
	if !ok || e.Details["server_time"] == nil || len(e.Details["nonce"].(string)) != 16 {
		t.Errorf("got %+v, want server_time and nonce", err)
	}
}

func TestOldKeysAreForgottenLast(t *testing.T) {
	h := newHub(t)
	token := h.device(t, "a")
	old := h.keyOf(t, token)
	if _, err := h.RotateKey(t.Context(), cli, origin); err != nil {
		t.Fatal(err)
	}
	keys, _ := h.Keys(cli)
	until := time.UnixMilli(keys[1].UntilAt)
	if want := h.now().Add(identity.DefaultTokenTTL + 180*24*time.Hour); until.Sub(want).Abs() > time.Minute || keys[1].KID != old {
		t.Errorf("got %v, want 180 days past the last token: %v", until, want)
	}
}

// FuzzVerify: a stranger's bytes are never a principal, and never a panic.
func FuzzVerify(f *testing.F) {
	f.Add("", "")
	f.Add("a", "dh1.1.0.AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("a", "eyJhbGciOiJFZERTQSIsImtpZCI6IjIwMjYtMTEifQ.eyJpc3MiOiJkZXZpY2VodWIifQ.AAAA")
	f.Add("a", "eyJhbGciOiJub25lIn0.e30.")
	reg, err := devices.OpenRegistry(f.Context(), &devices.MemoryRegistry{})
	if err != nil {
		f.Fatal(err)
	}
	s, err := identity.Open(f.Context(), &identity.Memory{}, reg, identity.Config{})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := s.Prepare(f.Context(), "maple-42-river"); err != nil {
		f.Fatal(err)
	}
	if err := reg.Create(f.Context(), time.Now(), &devices.Device{ID: "a", Kinds: devices.Kinds(), Enabled: true}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, id, token string) {
		if p, err := s.Verify(token); err == nil {
			t.Errorf("%q is %+v", token, p)
		}
		if p, err := s.From("").VerifyDevice(devices.ID(id), token); err == nil {
			t.Errorf("%q is %+v", token, p)
		}
	})
}
