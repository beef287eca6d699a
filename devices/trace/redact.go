package trace

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"unicode/utf8"
)

const (
	maxShown = 4096 // bytes of a payload that are shown
	redacted = "[redacted]"
)

// redact returns payload as JSON without secrets, cut to maxShown.
func redact(payload []byte) json.RawMessage {
	if len(payload) == 0 {
		return nil
	}
	var v any
	if err := json.Unmarshal(payload, &v); err != nil {
		switch {
		case !utf8.Valid(payload):
			clean := tokens.ReplaceAll(payload, []byte(redacted))
			v = "base64:" + base64.StdEncoding.EncodeToString(clean[:min(len(clean), maxShown)])
		default:
			v = secretFields.ReplaceAllString(string(payload), `$1"`+redacted+`"`)
		}
	}
	b, err := json.Marshal(withoutSecrets(v))
	if err != nil {
		return nil // what was just decoded
	}
	if len(b) > maxShown {
		b, _ = json.Marshal(strings.ToValidUTF8(string(b[:maxShown]), "") + "…")
	}
	return b
}

// withoutSecrets blanks fields that carry secrets, and tokens wherever they
// stand.
func withoutSecrets(v any) any {
	switch v := v.(type) {
	case map[string]any:
		clean := make(map[string]any, len(v))
		for k, e := range v {
			if _, isText := e.(string); isText && secretName(k) {
				e = redacted
			}
			clean[withoutTokens(k)] = withoutSecrets(e)
		}
		return clean
	case []any:
		for i, e := range v {
			v[i] = withoutSecrets(e)
		}
	case string:
		return withoutTokens(v)
	}
	return v
}

// secretName reports whether a field of this name is likely to hold a secret.
func secretName(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"token", "passw", "passphrase", "secret", "psk", "credential"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return strings.HasSuffix(name, "key")
}

// secretFields are those of JSON that broke off or is none.
var secretFields = regexp.MustCompile(`(?i)("[^"]*(?:token|passw|passphrase|secret|psk|credential|key)[^"]*"\s*:\s*)"(?:[^"\\]|\\.)*"?`)

// tokens are the forms of the hub's tokens: a JWT, or the short signed form.
// What merely begins like one is taken for one.
var tokens = regexp.MustCompile(`eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_.-]*|dh1\.[0-9]+\.[0-9A-Za-z]*\.?[A-Za-z0-9_-]*|dh1\.[A-Za-z0-9_.-]+`)

func withoutTokens(s string) string {
	if !strings.Contains(s, "eyJ") && !strings.Contains(s, "dh1.") {
		return s
	}
	return tokens.ReplaceAllString(s, redacted)
}

// name is a name that a stranger gave, fit to be shown.
func name(s string) string {
	const most = 128
	s = withoutTokens(s)
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
