package identity_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/identity"
)

func TestDeviceTokenIsAsDocumented(t *testing.T) {
	h := newHub(t)
	id := devices.ID(strings.Repeat("a", 63))
	token := h.device(t, id)
	if len(token) > identity.MaxToken {
		t.Errorf("got %d bytes, want at most %d", len(token), identity.MaxToken)
	}
	parts := strings.Split(token, ".")
	var header, claims map[string]any
	for i, v := range []*map[string]any{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(b, v) != nil {
			t.Fatal(err)
		}
	}
	if len(header) != 2 || header["alg"] != "EdDSA" || header["kid"] != h.now().UTC().Format("2006-01") {
		t.Errorf("header: got %v", header)
	}
	for k, want := range map[string]any{"iss": "devicehub", "aud": "devicehub", "sub": "device:" + string(id), "typ": "device", "gen": 1.0} {
		if claims[k] != want {
			t.Errorf("%s: got %v, want %v", k, claims[k], want)
		}
	}
	if life := claims["exp"].(float64) - claims["iat"].(float64); life != 8760*3600 {
		t.Errorf("life: got %v s, want 8760 h", life)
	}
	if len(claims) != 8 || len(claims["jti"].(string)) != 26 {
		t.Errorf("claims: got %v", claims)
	}
	p, err := h.Verify(token)
	if err != nil || p.Kind != devices.ActorDevice || p.Name != string(id) || p.Gen != 1 || p.Expired || p.Exp.Sub(p.IssuedAt) != p.Life {
		t.Errorf("principal: got %+v %v", p, err)
	}
}

func TestShortForm(t *testing.T) {
	h := newHub(t)
	h.device(t, "lamp")
	h.device(t, "other")
	short, err := h.IssueDevice(t.Context(), cli, origin, "lamp", identity.TokenOptions{Short: true})
	if err != nil || !strings.HasPrefix(short.Token, "dh1.1.") || len(short.Token) > 40 {
		t.Fatalf("got %q %v", short.Token, err)
	}
	p, err := h.From("").VerifyDevice("lamp", short.Token)
	if err != nil || p.Name != "lamp" || !p.Short || p.Gen != 1 {
		t.Errorf("got %+v %v", p, err)
	}
	if _, err := h.From("").VerifyDevice("other", short.Token); devices.CodeOf(err) != devices.CodeUnauthorized {
		t.Errorf("another device's: got %v, want unauthorized", err)
	}
	h.wantCode(t, short.Token, devices.CodeUnauthorized) // it names nobody
	h.pass(identity.DefaultTokenTTL * 9 / 10)
	refreshed, err := h.RefreshDevice(t.Context(), p, origin)
	if err != nil || !strings.HasPrefix(refreshed.Token, "dh1.1.") {
		t.Errorf("refresh: got %q %v, want the same form", refreshed.Token, err)
	}
	if _, err := h.RotateKey(t.Context(), cli, origin); err != nil {
		t.Fatal(err)
	}
	if _, err := h.From("").VerifyDevice("lamp", short.Token); err != nil {
		t.Errorf("after a key rotation: %v", err)
	}
	if err := h.RevokeDevice(t.Context(), cli, origin, "lamp"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.From("").VerifyDevice("lamp", short.Token); devices.CodeOf(err) != devices.CodeTokenRevoked {
		t.Errorf("after revoke: got %v, want token_revoked", err)
	}
	for _, bad := range []string{"dh1.", "dh1.1.0", "dh1.0.0.AAAAAAAAAAAAAAAAAAAAAA", "dh1.1.-1.AAAAAAAAAAAAAAAAAAAAAA", "dh1.2" + short.Token[5:], short.Token + "A", short.Token[:len(short.Token)-1]} {
		if _, err := h.From("").VerifyDevice("other", bad); devices.CodeOf(err) != devices.CodeUnauthorized {
			t.Errorf("%q: got %v, want unauthorized", bad, err)
		}
	}
}

func TestVerifyDeviceTakesOnlyItsOwn(t *testing.T) {
	h := newHub(t)
	a, b := h.device(t, "a"), h.device(t, "b")
	if _, err := h.From("").VerifyDevice("a", a); err != nil {
		t.Error(err)
	}
	in, err := h.Login(t.Context(), origin, "admin", "admin-password", "")
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"another device's": b, "a person's": in.Token, "nothing": "", "noise": "a.b.c"} {
		if _, err := h.From("").VerifyDevice("a", token); devices.CodeOf(err) != devices.CodeUnauthorized {
			t.Errorf("%s: got %v, want unauthorized", name, err)
		}
	}
}

func TestRotateWithGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.run(t)
		first := h.device(t, "a")
		second, err := h.RotateDevice(t.Context(), cli, origin, "a", identity.TokenOptions{Grace: ptr(10 * time.Minute)})
		if err != nil || second.Gen != 2 {
			t.Fatalf("got %+v %v, want generation 2", second, err)
		}
		h.wantCode(t, first, "")
		time.Sleep(5 * time.Minute)
		third, err := h.RotateDevice(t.Context(), cli, origin, "a", identity.TokenOptions{Grace: ptr(10 * time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		h.wantCode(t, first, "") // its own grace still runs
		h.told()
		time.Sleep(5*time.Minute + 2*time.Second)
		h.wantCode(t, first, devices.CodeTokenRevoked)
		h.wantCode(t, second.Token, "")
		if cs := h.told(); len(cs) != 1 || cs[0].Devices[0] != "a" || cs[0].Reason != devices.CodeTokenRevoked {
			t.Errorf("told %+v, want a", cs)
		}
		time.Sleep(5 * time.Minute)
		h.wantCode(t, second.Token, devices.CodeTokenRevoked)
		h.wantCode(t, third.Token, "")
	})
}

func TestRotateEndsWhenTheNewTokenIsProven(t *testing.T) {
	h := newHub(t)
	first := h.device(t, "a")
	old, _ := h.Verify(first)
	second, err := h.RotateDevice(t.Context(), cli, origin, "a", identity.TokenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.Used(old, "b0") // the old one proves nothing
	h.Used(old, "b1")
	h.Used(second.Principal, "b2")
	h.Used(second.Principal, "b2")
	h.Used(second.Principal, "")
	h.wantCode(t, first, "")
	h.told()
	h.Used(second.Principal, "b3")
	h.wantCode(t, first, devices.CodeTokenRevoked)
	h.wantCode(t, second.Token, "")
	if cs := h.told(); len(cs) != 1 || cs[0].Devices[0] != "a" {
		t.Errorf("told %+v, want a", cs)
	}
	if c := h.Credential("a"); c.MinGen != 2 || c.GenIssued != 2 {
		t.Errorf("got %+v, want 2..2", c)
	}
}

func TestLastUseOfGenerations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		puts := &countPuts{Store: h.store}
		h.openOver(t, puts)
		first, err := h.Verify(h.device(t, "a"))
		if err != nil {
			t.Fatal(err)
		}
		want := func(gs ...identity.Generation) {
			t.Helper()
			c := h.Credential("a")
			if got := c.Generations(); !slices.Equal(got, gs) {
				t.Errorf("got %+v, want %+v", got, gs)
			}
		}
		use := func(p identity.Principal, boot string) int64 {
			time.Sleep(time.Minute)
			h.Used(p, boot)
			return time.Now().UnixMilli()
		}
		want(identity.Generation{Gen: 1})
		puts.n = 0
		used1 := use(first, "") // a device that never names its boot
		for range 100 {
			used1 = use(first, "b1")
		}
		want(identity.Generation{Gen: 1, LastUsedAt: used1})
		if puts.n != 0 {
			t.Errorf("%d writes for 101 connections, want none yet", puts.n)
		}

		second, err := h.RotateDevice(t.Context(), cli, origin, "a", identity.TokenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want(identity.Generation{Gen: 2}, identity.Generation{Gen: 1, LastUsedAt: used1})
		used1 = use(first, "b2")
		used2 := use(second.Principal, "b3")
		want(identity.Generation{Gen: 2, LastUsedAt: used2}, identity.Generation{Gen: 1, LastUsedAt: used1})

		third, err := h.RotateDevice(t.Context(), cli, origin, "a", identity.TokenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		use(first, "b4") // still good, but neither the present nor the previous
		used3 := use(third.Principal, "b5")
		want(identity.Generation{Gen: 3, LastUsedAt: used3}, identity.Generation{Gen: 2, LastUsedAt: used2})

		// It is written when the service ends, and comes back.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		puts.n = 0
		if err := h.Run(ctx); err != nil || puts.n != 1 {
			t.Errorf("got %d writes and %v, want 1", puts.n, err)
		}
		h.open(t)
		want(identity.Generation{Gen: 3, LastUsedAt: used3}, identity.Generation{Gen: 2, LastUsedAt: used2})
	})
}

// A use while the credential is being written is not lost by that write.
func TestUseDuringAWriteIsKept(t *testing.T) {
	h := newHub(t)
	puts := &countPuts{Store: h.store}
	h.openOver(t, puts)
	first, err := h.Verify(h.device(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	puts.during = func() { h.Used(first, "b1") }
	if _, err := h.RotateDevice(t.Context(), cli, origin, "a", identity.TokenOptions{}); err != nil {
		t.Fatal(err)
	}
	puts.during = nil
	c := h.Credential("a")
	if gs := c.Generations(); len(gs) != 2 || gs[0].LastUsedAt != 0 || gs[1].LastUsedAt == 0 {
		t.Errorf("got %+v, want generation 1 used and 2 not", gs)
	}
}

// countPuts counts writes of credentials, and calls during within each.
type countPuts struct {
	identity.Store
	n      int
	during func()
}

func (c *countPuts) PutCredentials(ctx context.Context, cs []identity.Credential, issued []identity.IssuedToken, keys []identity.Key) error {
	c.n++
	if c.during != nil {
		c.during()
	}
	return c.Store.PutCredentials(ctx, cs, issued, keys)
}

func TestRevokeAndIssue(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	first := h.device(t, "a")
	more, err := h.IssueDevice(ctx, cli, origin, "a", identity.TokenOptions{TTL: ptr(time.Hour)})
	if err != nil || more.Gen != 1 {
		t.Fatalf("got %+v %v, want generation 1", more, err)
	}
	h.told()
	if err := h.RevokeDevice(ctx, cli, origin, "a"); err != nil {
		t.Fatal(err)
	}
	h.wantCode(t, first, devices.CodeTokenRevoked)
	h.wantCode(t, more.Token, devices.CodeTokenRevoked)
	if cs := h.told(); len(cs) != 1 || cs[0].Devices[0] != "a" || cs[0].Reason != devices.CodeTokenRevoked {
		t.Errorf("told %+v", cs)
	}
	now, err := h.IssueDevice(ctx, cli, origin, "a", identity.TokenOptions{})
	if err != nil || now.Gen != 2 {
		t.Fatalf("got %+v %v, want generation 2", now, err)
	}
	h.wantCode(t, now.Token, "")
	atOnce, err := h.RotateDevice(ctx, cli, origin, "a", identity.TokenOptions{Grace: ptr(time.Duration(0))})
	if err != nil {
		t.Fatal(err)
	}
	h.wantCode(t, now.Token, devices.CodeTokenRevoked)
	h.wantCode(t, atOnce.Token, "")
	ts, err := h.Tokens(ctx, cli, "a")
	if err != nil || len(ts) != 1 || ts[0].Last4 != atOnce.Token[len(atOnce.Token)-4:] {
		t.Errorf("tokens: got %+v %v, want the last one", ts, err)
	}
}

func TestDisabledAndDeletedDevices(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	token := h.device(t, "a")
	enable := func(on bool) {
		t.Helper()
		if _, err := h.UpdateDevice(ctx, cli, origin, "a", func(d *devices.Device) error { d.Enabled = on; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	enable(false)
	h.wantCode(t, token, devices.CodeDeviceDisabled)
	if cs := h.told(); len(cs) != 1 || cs[0].Reason != devices.CodeDeviceDisabled {
		t.Errorf("told %+v", cs)
	}
	enable(true)
	h.wantCode(t, token, "")
	if err := h.DeleteDevice(ctx, cli, origin, "a"); err != nil {
		t.Fatal(err)
	}
	h.wantCode(t, token, devices.CodeTokenRevoked)
	h.pass(devices.TombstoneFor + time.Hour)
	again := h.device(t, "a")
	h.wantCode(t, token, devices.CodeTokenRevoked)
	h.wantCode(t, again, "")
}

func TestExpiryAndRefresh(t *testing.T) {
	h := newHub(t)
	h.device(t, "a")
	short, err := h.IssueDevice(t.Context(), cli, origin, "a", identity.TokenOptions{TTL: ptr(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := h.Verify(short.Token)
	h.pass(time.Hour + 30*time.Second) // within the leeway
	if q, err := h.Verify(short.Token); err != nil || q.Expired {
		t.Errorf("within the leeway: got %+v %v", q, err)
	}
	h.pass(31 * time.Second)
	if err := h.Check(p); devices.CodeOf(err) != devices.CodeTokenExpired {
		t.Errorf("a live session past exp: got %v, want token_expired", err)
	}
	q, err := h.Verify(short.Token)
	if err != nil || !q.Expired {
		t.Fatalf("past exp: got %+v %v, want Expired", q, err)
	}
	fresh, err := h.RefreshDevice(t.Context(), q, origin)
	if err != nil || fresh.Gen != 1 || fresh.Principal.Life != time.Hour || fresh.Principal.Expired {
		t.Fatalf("refresh: got %+v %v, want another hour", fresh, err)
	}
	if err := h.Check(fresh.Principal); err != nil {
		t.Errorf("the session goes on: %v", err)
	}
	h.wantCode(t, fresh.Token, "")
	h.suspect = true
	if q, err := h.Verify(short.Token); err != nil || q.Expired {
		t.Errorf("with a suspect clock: got %+v %v, want exp not judged", q, err)
	}
	h.suspect = false
	h.pass(180*24*time.Hour + time.Minute)
	h.wantCode(t, short.Token, devices.CodeTokenExpired)
	if err := h.RevokeDevice(t.Context(), cli, origin, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.RefreshDevice(t.Context(), fresh.Principal, origin); devices.CodeOf(err) != devices.CodeTokenRevoked {
		t.Errorf("refresh after revoke: got %v, want token_revoked", err)
	}
}

// A device that asks early is told when its token expires. Nothing is made for it, and nothing
// recorded, however often it asks.
func TestRefreshBeforeItIsTime(t *testing.T) {
	h := newHub(t)
	h.device(t, "a")
	tok, err := h.IssueDevice(t.Context(), cli, origin, "a", identity.TokenOptions{TTL: ptr(10 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	kept := func() (tokens, entries int) {
		list, err := h.Tokens(t.Context(), cli, "a")
		if err != nil {
			t.Fatal(err)
		}
		audit, _, _ := h.audit.Audit(t.Context(), devices.AuditQuery{Limit: 1000})
		return len(list), len(audit)
	}
	tokens, entries := kept()
	h.pass(8*time.Hour - time.Minute)
	for range 600 {
		got, err := h.RefreshDevice(t.Context(), tok.Principal, origin)
		if err != nil || got.Token != "" || got.ExpiresAt != tok.ExpiresAt || got.Gen != tok.Gen {
			t.Fatalf("got %+v %v, want the expiry of its own token and no other", got, err)
		}
	}
	if n, m := kept(); n != tokens || m != entries {
		t.Errorf("got %d tokens and %d audit entries, want %d and %d as before", n, m, tokens, entries)
	}
	h.pass(2 * time.Minute)
	if got, err := h.RefreshDevice(t.Context(), tok.Principal, origin); err != nil || got.Token == "" {
		t.Errorf("at four fifths: got %+v %v, want a new token", got, err)
	}

	// One who goes on asking with the old token gets few.
	made, limited := 0, 0
	for range 600 {
		_, err := h.RefreshDevice(t.Context(), tok.Principal, origin)
		switch {
		case err == nil:
			made++
		case devices.CodeOf(err) == devices.CodeRateLimited && err.(*devices.Error).RetryAfter > 0:
			limited++
		default:
			t.Fatal(err)
		}
	}
	if made != 2 || limited != 598 {
		t.Errorf("got %d more tokens and %d refusals, want 2 and 598", made, limited)
	}
	if n, m := kept(); n != tokens+3 || m != entries+3 {
		t.Errorf("got %d tokens and %d audit entries, want three more than %d and %d", n, m, tokens, entries)
	}
	h.pass(11 * time.Minute)
	if got, err := h.RefreshDevice(t.Context(), tok.Principal, origin); err != nil || got.Token == "" {
		t.Errorf("later: got %+v %v, want a new token", got, err)
	}
}

// A token that never expires needs no successor; one of a retired key does.
func TestRefreshWithoutNeed(t *testing.T) {
	h := newHub(t)
	h.device(t, "a")
	tok, err := h.IssueDevice(t.Context(), cli, origin, "a", identity.TokenOptions{TTL: ptr(time.Duration(0))})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.RefreshDevice(t.Context(), tok.Principal, origin); err != nil || got.Token != "" || got.ExpiresAt != 0 {
		t.Errorf("got %+v %v, want no token and no expiry", got, err)
	}
	if _, err := h.RotateKey(t.Context(), cli, origin); err != nil {
		t.Fatal(err)
	}
	if got, err := h.RefreshDevice(t.Context(), tok.Principal, origin); err != nil || got.Token == "" {
		t.Errorf("after the key was rotated: got %+v %v, want a token of the new key", got, err)
	}
}

func TestTokensWithoutExpiry(t *testing.T) {
	h := newHub(t)
	h.device(t, "a")
	tok, err := h.IssueDevice(t.Context(), cli, origin, "a", identity.TokenOptions{TTL: ptr(time.Duration(0))})
	if err != nil || tok.ExpiresAt != 0 || !tok.Principal.Exp.IsZero() {
		t.Fatalf("got %+v %v", tok, err)
	}
	h.pass(50 * 365 * 24 * time.Hour)
	h.wantCode(t, tok.Token, "")
	for _, ttl := range []time.Duration{-1, time.Millisecond, 200 * 366 * 24 * time.Hour} {
		if _, err := h.IssueDevice(t.Context(), cli, origin, "a", identity.TokenOptions{TTL: &ttl}); devices.CodeOf(err) != devices.CodeRange {
			t.Errorf("ttl %v: got %v, want range", ttl, err)
		}
	}
}

func TestBridgeTokensAreGoodOnTheirBridgeOnly(t *testing.T) {
	h := newHub(t)
	h.device(t, "a")
	tok, err := h.IssueBridge(t.Context(), cli, origin, "a", "attic", identity.TokenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := h.VerifyBridge("attic", "a", tok.Token); err != nil || p.Bridge != "attic" || p.Name != "a" {
		t.Errorf("got %+v %v", p, err)
	}
	h.wantCode(t, tok.Token, devices.CodeUnauthorized)
	if _, err := h.From("").VerifyDevice("a", tok.Token); devices.CodeOf(err) != devices.CodeUnauthorized {
		t.Errorf("as a password: got %v, want unauthorized", err)
	}
	for _, c := range []struct {
		bridge string
		id     devices.ID
	}{{"cellar", "a"}, {"attic", "b"}} {
		if _, err := h.VerifyBridge(c.bridge, c.id, tok.Token); devices.CodeOf(err) != devices.CodeUnauthorized {
			t.Errorf("%+v: got %v, want unauthorized", c, err)
		}
	}
	own, _ := h.IssueDevice(t.Context(), cli, origin, "a", identity.TokenOptions{})
	if _, err := h.VerifyBridge("attic", "a", own.Token); devices.CodeOf(err) != devices.CodeUnauthorized {
		t.Errorf("a device token on a bridge: got %v, want unauthorized", err)
	}
	if _, err := h.RefreshDevice(t.Context(), tok.Principal, origin); devices.CodeOf(err) != devices.CodeForbidden {
		t.Errorf("refresh: got %v, want forbidden", err)
	}
	if err := h.RevokeDevice(t.Context(), cli, origin, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.VerifyBridge("attic", "a", tok.Token); devices.CodeOf(err) != devices.CodeTokenRevoked {
		t.Errorf("after revoke: got %v, want token_revoked", err)
	}
}

func TestOnlyAdministratorsOfADeviceAdministerIt(t *testing.T) {
	h := newHub(t)
	h.device(t, "a")
	kitchen, _ := devices.ParseScope("area=kitchen")
	actors := map[string]devices.Actor{
		"viewer":         {Kind: devices.ActorUser, Name: "v", Role: devices.RoleViewer, Rights: devices.RoleViewer.Rights()},
		"operator":       {Kind: devices.ActorUser, Name: "o", Role: devices.RoleOperator, Rights: devices.RoleOperator.Rights()},
		"device":         {Kind: devices.ActorDevice, Name: "a"},
		"scoped service": {Kind: devices.ActorService, Name: "s", Rights: devices.RightAdmin | devices.RightRead, Scope: kitchen},
	}
	ctx := t.Context()
	for name, a := range actors {
		_, err1 := h.IssueDevice(ctx, a, origin, "a", identity.TokenOptions{})
		_, err2 := h.RotateDevice(ctx, a, origin, "a", identity.TokenOptions{})
		err3 := h.RevokeDevice(ctx, a, origin, "a")
		err4 := h.DeleteDevice(ctx, a, origin, "a")
		_, err5 := h.UpdateDevice(ctx, a, origin, "a", func(*devices.Device) error { t.Error("called"); return nil })
		_, err6 := h.CreateDevices(ctx, a, origin, []*devices.Device{{ID: "b", Kinds: devices.Kinds()}}, identity.TokenOptions{})
		_, err7 := h.RotateKey(ctx, a, origin)
		_, _, err8 := h.Users(a, 10, "")
		// Whether a device exists outside one's scope, nobody is told.
		over := devices.CodeForbidden
		if a.Admin() {
			over = devices.CodeNotFound
		}
		for i, err := range []error{err1, err2, err3, err4, err5, err6, err7, err8} {
			want := devices.CodeForbidden
			if i < 5 {
				want = over
			}
			if devices.CodeOf(err) != want {
				t.Errorf("%s, call %d: got %v, want %s", name, i+1, err, want)
			}
		}
	}
	if _, err := h.RotateDevice(ctx, cli, origin, "ghost", identity.TokenOptions{}); devices.CodeOf(err) != devices.CodeNotFound {
		t.Errorf("an unknown device: got %v, want not_found", err)
	}
}

func TestGenerationsSurviveARestart(t *testing.T) {
	h := newHub(t)
	first := h.device(t, "a")
	second, err := h.RotateDevice(t.Context(), cli, origin, "a", identity.TokenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d, _ := h.reg.Get("a")
	h.open(t)
	h.wantCode(t, first, devices.CodeTokenRevoked) // the registry is empty
	if err := h.reg.Create(t.Context(), h.now(), d.Clone()); err != nil {
		t.Fatal(err)
	}
	h.wantCode(t, first, "")
	h.wantCode(t, second.Token, "")
	h.pass(8 * 24 * time.Hour)
	h.wantCode(t, first, devices.CodeTokenRevoked)
}
