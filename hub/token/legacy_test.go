package token_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"devicehub/hub/token"
)

// The forms that Phoenix programs wrote before, made here by hand as plug_crypto 1 made them.

func derive(t *testing.T, salt string) []byte {
	t.Helper()
	key, err := pbkdf2.Key(sha256.New, keyBase, []byte(salt), 1000, 32)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func gcm(t *testing.T, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	box, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func TestVerifyReadsOlderPayloads(t *testing.T) {
	b64 := base64.RawURLEncoding.EncodeToString
	ms := signedAt.UnixMilli()
	payloads := map[string]any{
		"two elements": token.Tuple{"x", ms},
		"map":          map[any]any{token.Atom("data"): "x", token.Atom("signed"): ms},
	}
	for name, payload := range payloads {
		body, err := token.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		plain := "SFMyNTY." + b64(body)
		m := hmac.New(sha256.New, derive(t, "old"))
		m.Write([]byte(plain))
		tok := plain + "." + b64(m.Sum(nil))

		fresh := newSigner(t, "old", token.WithClock(at(signedAt.Add(86400*time.Second))))
		if got, err := fresh.Verify(tok); err != nil || got != "x" {
			t.Errorf("%s, a day old: got %v, %v, want x", name, got, err)
		}
		late := newSigner(t, "old", token.WithClock(at(signedAt.Add(86401*time.Second))))
		if _, err := late.Verify(tok); !errors.Is(err, token.ErrExpired) {
			t.Errorf("%s, older: got %v, want ErrExpired", name, err)
		}
	}
}

func TestDecryptReadsA128GCM(t *testing.T) {
	b64 := base64.RawURLEncoding.EncodeToString
	payload, err := token.Marshal(token.Tuple{"x", signedAt.UnixMilli(), int64(86400)})
	if err != nil {
		t.Fatal(err)
	}
	content, iv := []byte("0123456789abcdef"), []byte("twelve bytes")
	wrapped := append(gcm(t, derive(t, "old")).Seal(nil, iv, content, nil), iv...)
	sealed := gcm(t, content).Seal(nil, iv, payload, []byte("A128GCM"))
	text, tag := sealed[:len(payload)], sealed[len(payload):]
	tok := "QTEyOEdDTQ." + b64(wrapped) + "." + b64(iv) + "." + b64(text) + "." + b64(tag)

	s := newSigner(t, "old", token.WithClock(at(signedAt)))
	if got, err := s.Decrypt(tok); err != nil || got != "x" {
		t.Errorf("got %v, %v, want x", got, err)
	}
	for _, bad := range []string{"QTEyOEdDTQ." + b64(iv) + "." + b64(iv) + "." + b64(text) + "." + b64(tag), "QTEyOEdDTQ.a.b", tok + "AA"} {
		if _, err := s.Decrypt(bad); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("got %v, want ErrInvalid", err)
		}
	}
}
