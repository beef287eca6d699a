package identity_test

import (
	"fmt"
	"strings"
	"testing"

	"devicehub/devices"
	"devicehub/devices/identity"
	"devicehub/devices/quota"
)

// forged is a token with another's signature.
func forged(token string) string {
	at := strings.LastIndex(token, ".") + 1
	c := byte('A')
	if token[at] == c {
		c = 'B'
	}
	return token[:at] + string(c) + token[at+1:]
}

// Whoever fails at an address does not keep the others there out, whether or not their tokens were
// seen before; and the signatures that are checked for it are bounded.
func TestOneBadTokenAmongMany(t *testing.T) {
	h := newHub(t)
	h.strangers = quota.New(quota.Limits{Checks: quota.Rate{PerSecond: 100, Burst: 100}, Failures: quota.Rate{PerSecond: 20, Burst: 20}})
	h.open(t)
	var good []string
	for i := range 41 {
		good = append(good, h.device(t, devices.ID(fmt.Sprint("d", i))))
	}
	h.user(t, "ana", devices.RoleViewer, "")
	_, login := h.login(t, "ana")
	_, service, err := h.CreateAccount(t.Context(), cli, origin, identity.NewAccount{Name: "ha", Rights: devices.RightRead})
	if err != nil {
		t.Fatal(err)
	}
	at := h.From("192.0.2.9:1234")
	for _, row := range []struct{ name, token string }{
		{"nonsense", "nonsense"}, {"forged, a device's", forged(good[0])}, {"forged, a person's", forged(login)},
	} {
		codes := map[devices.Code]int{}
		for range 1000 {
			_, err := at.Verify(row.token)
			codes[devices.CodeOf(err)]++
		}
		if codes[devices.CodeUnauthorized] < 20 || codes[devices.CodeUnauthorized]+codes[devices.CodeRateLimited] != 1000 || codes[devices.CodeRateLimited] < 900 {
			t.Errorf("%s: got %v, want some unauthorized and then rate_limited", row.name, codes)
		}
	}
	for i, token := range good[1:] {
		if _, err := at.Verify(token); err != nil {
			t.Errorf("good device %d: %v", i, err)
		}
		if _, err := at.VerifyDevice(devices.ID(fmt.Sprint("d", i+1)), token); err != nil {
			t.Errorf("good device %d, by password: %v", i, err)
		}
	}
	for name, token := range map[string]string{"a person": login, "an account": service} {
		if _, err := at.Verify(token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := at.VerifyService("service:ha", service); err != nil {
		t.Error(err)
	}
	if _, err := h.From("192.0.2.10:1").Verify(good[0]); err != nil {
		t.Errorf("the one whose name was used, from elsewhere: %v", err)
	}
	// Known from then on, it is let in where its name was abused, too.
	if _, err := at.Verify(good[0]); err != nil {
		t.Errorf("the one whose name was used: %v", err)
	}
}

// What is refused of a genuine token is charged to whom it names.
func TestARevokedTokenIsChargedToItsOwn(t *testing.T) {
	h := newHub(t)
	h.strangers = quota.New(quota.Limits{Failures: quota.Rate{PerSecond: 5, Burst: 5}})
	h.open(t)
	bad, good := h.device(t, "bad"), h.device(t, "good")
	if err := h.RevokeDevice(t.Context(), cli, origin, "bad"); err != nil {
		t.Fatal(err)
	}
	at := h.From("192.0.2.9:1234")
	codes := map[devices.Code]int{}
	for range 50 {
		_, err := at.Verify(bad)
		codes[devices.CodeOf(err)]++
	}
	if codes[devices.CodeTokenRevoked] < 5 || codes[devices.CodeRateLimited] < 40 {
		t.Errorf("got %v, want token_revoked and then rate_limited", codes)
	}
	if _, err := at.Verify("nonsense"); devices.CodeOf(err) != devices.CodeUnauthorized {
		t.Errorf("a stranger there: got %v, want unauthorized", err)
	}
	if _, err := at.Verify(good); err != nil {
		t.Error(err)
	}
}
