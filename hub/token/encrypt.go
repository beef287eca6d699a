package token

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	chachaPrefix = "XCP"        // base64url("\\#"), what plug_crypto 2 writes
	gcmPrefix    = "QTEyOEdDTQ" // base64url("A128GCM"), what plug_crypto 1 wrote
	aad          = "A128GCM"    // of both
)

// Encrypt returns a token whose data only a holder of the key can read: XCP.<nonce, tag, ciphertext> with
// XChaCha20-Poly1305. The Signer's key must have 32 bytes, which is the default.
func (s *Signer) Encrypt(data any, opts ...SignOption) (string, error) {
	payload, err := s.payload(data, opts)
	if err != nil {
		return "", err
	}
	return s.encrypt(payload)
}

func (s *Signer) encrypt(payload []byte) (string, error) {
	box, err := chacha20poly1305.NewX(s.key)
	if err != nil {
		return "", fmt.Errorf("token: encrypt: %w", err)
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	rand.Read(nonce)
	sealed := box.Seal(nil, nonce, payload, []byte(aad))
	// Go puts the tag after the ciphertext, plug_crypto before it.
	body, tag := sealed[:len(payload)], sealed[len(payload):]
	out := append(append(nonce, tag...), body...)
	return chachaPrefix + "." + base64.RawURLEncoding.EncodeToString(out), nil
}

// Decrypt returns the data of an encrypted token, or ErrMissing, ErrInvalid or ErrExpired. It also reads the
// A128GCM tokens of older Phoenix programs.
func (s *Signer) Decrypt(tok string, opts ...VerifyOption) (any, error) {
	if tok == "" {
		return nil, ErrMissing
	}
	payload, err := s.decrypt(tok, nil)
	if err != nil {
		return nil, err
	}
	return s.open(payload, opts)
}

// decrypt returns what a token holds, or ErrInvalid. The wrap is what plug_crypto calls sign_secret.
func (s *Signer) decrypt(tok string, wrap []byte) ([]byte, error) {
	if len(tok) > maxToken {
		return nil, ErrInvalid
	}
	prefix, body, ok := strings.Cut(tok, ".")
	if !ok {
		return nil, ErrInvalid
	}
	var payload []byte
	var err error
	switch prefix {
	case chachaPrefix:
		payload, err = s.openChaCha(body)
	case gcmPrefix:
		payload, err = s.openGCM(body, wrap)
	default:
		return nil, ErrInvalid
	}
	if err != nil {
		return nil, ErrInvalid
	}
	return payload, nil
}

func (s *Signer) openChaCha(body string) ([]byte, error) {
	raw, err := decode64(body)
	if err != nil {
		return nil, err
	}
	const nonceLen, tagLen = chacha20poly1305.NonceSizeX, chacha20poly1305.Overhead
	if len(raw) < nonceLen+tagLen {
		return nil, ErrInvalid
	}
	box, err := chacha20poly1305.NewX(s.key)
	if err != nil {
		return nil, err
	}
	nonce, tag, text := raw[:nonceLen], raw[nonceLen:nonceLen+tagLen], raw[nonceLen+tagLen:]
	sealed := append(append(make([]byte, 0, len(text)+tagLen), text...), tag...)
	return box.Open(nil, nonce, sealed, []byte(aad))
}

// openGCM reads <wrapped key>.<iv>.<ciphertext>.<tag>: the content key is itself under AES-GCM with the Signer's key
// (RFC 7518 §4.7), with wrap as additional data.
func (s *Signer) openGCM(body string, wrap []byte) ([]byte, error) {
	var parts [4][]byte
	fields := strings.SplitN(body, ".", 4)
	if len(fields) != 4 {
		return nil, ErrInvalid
	}
	for i, f := range fields {
		raw, err := decode64(f)
		if err != nil {
			return nil, err
		}
		parts[i] = raw
	}
	const tagLen, ivLen = 16, 12
	wrapped := parts[0]
	if len(wrapped) <= tagLen+ivLen {
		return nil, ErrInvalid
	}
	at := len(wrapped) - ivLen
	content, err := gcmOpen(s.key[:min(len(s.key), 32)], wrapped[at:], wrapped[:at], wrap)
	if err != nil {
		return nil, err
	}
	return gcmOpen(content, parts[1], append(parts[2], parts[3]...), []byte(aad))
}

func gcmOpen(key, iv, sealed, additional []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	box, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	if len(iv) != box.NonceSize() {
		return nil, ErrInvalid
	}
	return box.Open(nil, iv, sealed, additional)
}
