package token_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"devicehub/hub/token"
)

// The key base of the recorded vectors: String.duplicate("abcdefgh", 8).
var keyBase = strings.Repeat("abcdefgh", 8)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

var signedAt = time.Unix(1700000000, 0)

func newSigner(t testing.TB, salt string, opts ...token.Option) *token.Signer {
	t.Helper()
	s, err := token.New(keyBase, salt, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// vector finds the line of the recorded vectors that begins with name, and returns what follows.
func vector(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/phoenix-token-vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			_, rest, _ = strings.Cut(rest, ": ")
			return strings.TrimSpace(rest)
		}
	}
	t.Fatalf("no vector %q", name)
	return ""
}

func TestSignEqualsPhoenix(t *testing.T) {
	tests := []struct {
		name string
		data any
		back any // nil: the same as data
	}{
		{"int 1 ", 1, int64(1)},
		{"int 300", 300, int64(300)},
		{"int -1", -1, int64(-1)},
		{"int 2^40", int64(1) << 40, nil},
		{"binary abc", "abc", nil},
		{"map id=>1", map[string]any{"id": 1}, map[any]any{"id": int64(1)}},
		{"map two", map[string]any{"id": 1, "a": "b"}, map[any]any{"id": int64(1), "a": "b"}},
		{"list", []any{"a", 1}, []any{"a", int64(1)}},
		{"nil", nil, nil},
		{"true", true, nil},
		{"float", 1.5, nil},
		{"empty list", []any{}, nil},
		{"empty map", map[string]any{}, map[any]any{}},
		{"atom key map", map[any]any{token.Atom("id"): 1}, map[any]any{token.Atom("id"): int64(1)}},
	}
	s := newSigner(t, "user auth", token.WithClock(at(signedAt.Add(time.Hour))))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := vector(t, "sign "+tt.name)
			got, err := s.Sign(tt.data, token.SignedAt(signedAt))
			if err != nil || got != want {
				t.Errorf("Sign(%v) = %s, %v, want %s", tt.data, got, err, want)
			}
			back := tt.back
			if back == nil {
				back = tt.data
			}
			if v, err := s.Verify(want); err != nil || !reflect.DeepEqual(v, back) {
				t.Errorf("Verify = %#v, %v, want %#v", v, err, back)
			}
		})
	}
}

func TestKeyOptions(t *testing.T) {
	clock := token.WithClock(at(signedAt.Add(time.Hour)))
	for name, opts := range map[string][]token.Option{
		"sign sha512 kd":        {token.WithDigest(token.SHA512), clock},
		"sign iter 2000 len 64": {token.WithIterations(2000), token.WithKeyLength(64), clock},
	} {
		s := newSigner(t, "user auth", opts...)
		if got, err := s.Sign(1, token.SignedAt(signedAt)); err != nil || got != vector(t, name) {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, vector(t, name))
		}
	}
	s := newSigner(t, "user auth", clock)
	if got, err := s.Sign(1, token.SignedAt(signedAt), token.MaxAge(token.Infinite)); err != nil || got != vector(t, "sign max_age infinity") {
		t.Errorf("infinity: got %s, %v", got, err)
	}
	if _, err := token.New("short", "salt"); err == nil {
		t.Error("New with a short key base: no error")
	}
	if _, err := token.New(keyBase, "salt", token.WithIterations(0)); err == nil {
		t.Error("New without iterations: no error")
	}
}

func TestVerifyJudges(t *testing.T) {
	old := vector(t, "sign int 1 ")
	forever := vector(t, "sign max_age infinity")
	late := newSigner(t, "user auth", token.WithClock(at(signedAt.AddDate(2, 0, 0))))
	fresh := newSigner(t, "user auth", token.WithClock(at(signedAt.Add(time.Second))))
	early := newSigner(t, "user auth", token.WithClock(at(signedAt.Add(-time.Second))))
	other := newSigner(t, "another salt", token.WithClock(at(signedAt.Add(time.Second))))
	parts := strings.Split(old, ".")
	tests := []struct {
		name string
		s    *token.Signer
		tok  string
		opts []token.VerifyOption
		want error
	}{
		{"fresh", fresh, old, nil, nil},
		{"old token", late, old, nil, token.ErrExpired},
		{"old token, any age", late, old, []token.VerifyOption{token.Within(token.Infinite)}, nil},
		{"infinite", late, forever, nil, nil},
		{"infinite, but judged", late, forever, []token.VerifyOption{token.Within(time.Hour)}, token.ErrExpired},
		{"age 0", fresh, old, []token.VerifyOption{token.Within(0)}, token.ErrExpired},
		{"age -1", fresh, old, []token.VerifyOption{token.Within(-time.Second)}, token.ErrExpired},
		{"signed in the future", early, old, nil, token.ErrInvalid},
		{"wrong salt", other, old, nil, token.ErrInvalid},
		{"empty", fresh, "", nil, token.ErrMissing},
		{"empty is invalid too", fresh, "", nil, token.ErrInvalid},
		{"garbage", fresh, "garbage", nil, token.ErrInvalid},
		{"dots", fresh, "..", nil, token.ErrInvalid},
		{"padding", fresh, old + "==", nil, nil},
		{"unknown header", fresh, "bm9uZQ." + parts[1] + "." + parts[2], nil, token.ErrInvalid},
		{"another hash's name", fresh, "SFM1MTI." + parts[1] + "." + parts[2], nil, token.ErrInvalid},
		{"no signature", fresh, parts[0] + "." + parts[1] + ".", nil, token.ErrInvalid},
		{"changed payload", fresh, parts[0] + "." + strings.Replace(parts[1], "gD", "gC", 1) + "." + parts[2], nil, token.ErrInvalid},
		{"encrypted", fresh, vector(t, "encrypt 1"), nil, token.ErrInvalid},
		{"huge", fresh, strings.Repeat("A", 2<<20), nil, token.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.s.Verify(tt.tok, tt.opts...)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err == nil && got != int64(1) {
				t.Errorf("got %v, want 1", got)
			}
		})
	}
}

func TestDecryptReadsPhoenix(t *testing.T) {
	s := newSigner(t, "user secret")
	got, err := s.Decrypt(vector(t, "encrypt 1"), token.Within(token.Infinite))
	if err != nil || got != int64(1) {
		t.Errorf("got %v, %v, want 1", got, err)
	}
}

func TestEncryptHides(t *testing.T) {
	s := newSigner(t, "user secret")
	data := map[string]any{"name": "kitchen-lamp"}
	one, err := s.Encrypt(data)
	if err != nil {
		t.Fatal(err)
	}
	two, _ := s.Encrypt(data)
	if one == two {
		t.Error("two encryptions are equal")
	}
	raw, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(one, "XCP."))
	if bytes.Contains(raw, []byte("kitchen-lamp")) {
		t.Error("data stands in the clear")
	}
	got, err := s.Decrypt(one)
	if want := (map[any]any{"name": "kitchen-lamp"}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := s.Decrypt(one[:len(one)-2] + "AA"); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("changed: got %v, want ErrInvalid", err)
	}
	if _, err := s.Decrypt(one, token.Within(0)); !errors.Is(err, token.ErrExpired) {
		t.Errorf("age 0: got %v, want ErrExpired", err)
	}
	if _, err := s.Decrypt(""); !errors.Is(err, token.ErrMissing) {
		t.Errorf("empty: got %v, want ErrMissing", err)
	}
	if _, err := newSigner(t, "s", token.WithKeyLength(16)).Encrypt(1); err == nil {
		t.Error("Encrypt with a key of 16 bytes: no error")
	}
}

func TestMarshalRefuses(t *testing.T) {
	deep := any(1)
	for range 100 {
		deep = []any{deep}
	}
	for name, v := range map[string]any{
		"struct": struct{}{}, "function": func() {}, "channel": make(chan int), "deep": deep,
		"long atom": token.Atom(strings.Repeat("a", 256)), "inside a map": map[string]any{"a": struct{}{}},
	} {
		if _, err := token.Marshal(v); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTermsRoundTrip(t *testing.T) {
	big40 := new(big.Int).Lsh(big.NewInt(-3), 4000)
	for _, v := range []any{
		int64(0), int64(255), int64(256), int64(-1 << 63), int64(1<<63 - 1), big40, "", "ü", 0.1, -0.5, nil, true, false,
		token.Atom("ok"), token.Atom("größe"), token.Atom("日本"), token.Tuple{}, []any{int64(1), []any{}, token.Tuple{nil}},
		map[any]any{nil: "a", true: "b", int64(3): "c", 1.5: "d", "e": []any{"f"}, token.Atom("g"): map[any]any{}},
	} {
		b, err := token.Marshal(v)
		if err != nil {
			t.Errorf("Marshal(%v): %v", v, err)
			continue
		}
		if got, err := token.Unmarshal(b); err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("got %#v, %v, want %#v", got, err, v)
		}
	}
}

func TestUnmarshalTerms(t *testing.T) {
	tests := []struct {
		name, hex string
		want      any // nil: an error
	}{
		{"small atom of OTP 26", "8377026f6b", token.Atom("ok")},
		{"small Latin-1 atom", "8373026f6b", token.Atom("ok")},
		{"charlist", "836b0003010203", []any{int64(1), int64(2), int64(3)}},
		{"large tuple", "8369000000016101", token.Tuple{int64(1)}},
		{"float in text", "8363" + hex.EncodeToString(append([]byte("1.5e+00"), make([]byte, 24)...)), 1.5},
		{"function", "837000000010", nil},
		{"export", "8371640001616400016261ff", nil},
		{"pid", "8358640001610000000000000000000000", nil},
		{"compressed", "835000000010789c", nil},
		{"bit string", "834d0000000104ff", nil},
		{"improper list", "836c0000000161016102", nil},
		{"map with a list for a key", "8374000000016a6101", nil},
		{"map with a key twice", "83740000000261016101" + "61016102", nil},
		{"infinity", "83467ff0000000000000", nil},
		{"list longer than its bytes", "836cffffffff6101", nil},
		{"binary longer than its bytes", "836d7fffffff61", nil},
		{"atom that is not UTF-8", "837701ff", nil},
		{"left over", "8361016101", nil},
		{"no version", "6101", nil},
		{"empty", "", nil},
		{"deep", "83" + strings.Repeat("6801", 100) + "6101", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := hex.DecodeString(tt.hex)
			if err != nil {
				t.Fatal(err)
			}
			got, err := token.Unmarshal(b)
			if tt.want == nil {
				if err == nil {
					t.Errorf("got %#v, want an error", got)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %#v, %v, want %#v", got, err, tt.want)
			}
		})
	}
}

// What Unmarshal takes, Marshal writes again, and it reads back the same.
func FuzzUnmarshal(f *testing.F) {
	b, err := os.ReadFile("testdata/phoenix-token-vectors.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if h, ok := strings.CutPrefix(strings.TrimSpace(line), "etf hex: "); ok {
			raw, _ := hex.DecodeString(h)
			f.Add(raw)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := token.Unmarshal(b)
		if err != nil {
			return
		}
		out, err := token.Marshal(v)
		if err != nil {
			t.Fatalf("Marshal(%#v): %v", v, err)
		}
		back, err := token.Unmarshal(out)
		if err != nil || !reflect.DeepEqual(back, v) {
			t.Fatalf("got %#v, %v, want %#v", back, err, v)
		}
	})
}

// Whatever is no token of ours is an error, and never a panic.
func FuzzVerify(f *testing.F) {
	s := newSigner(f, "user auth")
	f.Add(vector(f, "sign int 1 "))
	f.Add(vector(f, "encrypt 1"))
	f.Add("QTEyOEdDTQ.AAAA.AAAA.AAAA.AAAA")
	f.Add("XCP.")
	f.Fuzz(func(t *testing.T, tok string) {
		for _, read := range []func(string, ...token.VerifyOption) (any, error){s.Verify, s.Decrypt} {
			_, err := read(tok)
			if err != nil && !errors.Is(err, token.ErrInvalid) && !errors.Is(err, token.ErrExpired) {
				t.Errorf("got %v, want ErrInvalid or ErrExpired", err)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	s := newSigner(b, "user auth")
	tok, _ := s.Sign("device:kitchen-lamp")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Verify(tok); err != nil {
			b.Fatal(err)
		}
	}
}
