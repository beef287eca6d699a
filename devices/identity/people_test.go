package identity_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/identity"
)

func (h *hub) user(t *testing.T, name string, role devices.Role, scope string) {
	t.Helper()
	sc, err := devices.ParseScope(scope)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.CreateUser(t.Context(), cli, origin, identity.NewUser{Username: name, Password: name + "-password", Role: role, Scope: sc}); err != nil {
		t.Fatal(err)
	}
}

func (h *hub) login(t *testing.T, name string) (identity.Principal, string) {
	t.Helper()
	in, err := h.Login(t.Context(), origin, name, name+"-password", "test")
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.Verify(in.Token)
	if err != nil {
		t.Fatal(err)
	}
	return p, in.Token
}

func TestFirstStart(t *testing.T) {
	h := &hub{store: &identity.Memory{}, audit: &identity.MemoryAudit{}}
	h.open(t)
	set, err := h.Prepare(t.Context(), "")
	if err != nil || !set.Created || len(set.Password) != 20 {
		t.Fatalf("got %+v %v", set, err)
	}
	if _, err := h.Login(t.Context(), origin, "admin", set.Password, ""); err != nil {
		t.Error(err)
	}
	if set, err := h.Prepare(t.Context(), ""); err != nil || set.Created {
		t.Errorf("second start: got %+v %v, want nothing made", set, err)
	}
	h = &hub{store: &identity.Memory{}, audit: &identity.MemoryAudit{}}
	h.open(t)
	if _, err := h.Prepare(t.Context(), "short"); devices.CodeOf(err) != devices.CodeInvalid {
		t.Errorf("a short preset password: got %v, want invalid", err)
	}
}

func TestRightsChangeAtOnce(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	h.user(t, "ana", devices.RoleOperator, "area=kitchen")
	p, token := h.login(t, "ana")
	a, err := h.Actor(p)
	if err != nil || a.String() != "user:ana" || a.Role != devices.RoleOperator || a.Scope.String() != "area=kitchen" {
		t.Fatalf("got %+v %v", a, err)
	}
	h.told()
	if _, err := h.UpdateUser(ctx, cli, origin, "ana", identity.UserPatch{Role: ptr(devices.RoleViewer), Scope: ptr(devices.Scope{})}); err != nil {
		t.Fatal(err)
	}
	if a, err = h.Actor(p); err != nil || a.Role != devices.RoleViewer || !a.Scope.All() {
		t.Errorf("got %+v %v, want a viewer of all", a, err)
	}
	if cs := h.told(); len(cs) != 1 || cs[0].Name != "ana" || cs[0].Reason != "" {
		t.Errorf("told %+v, want ana's rights", cs)
	}
	if _, err := h.UpdateUser(ctx, cli, origin, "ana", identity.UserPatch{Enabled: ptr(false)}); err != nil {
		t.Fatal(err)
	}
	h.wantCode(t, token, devices.CodeTokenRevoked)
	if cs := h.told(); len(cs) != 2 || cs[0].SID != p.SID || cs[1].Name != "ana" {
		t.Errorf("told %+v, want the session, then ana", cs)
	}
	if _, err := h.Login(ctx, origin, "ana", "ana-password", ""); devices.CodeOf(err) != devices.CodeUnauthorized {
		t.Errorf("a disabled person: got %v, want unauthorized", err)
	}
	if err := h.DeleteUser(ctx, cli, origin, "ana"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.User(cli, "ana"); devices.CodeOf(err) != devices.CodeNotFound {
		t.Errorf("deleted: got %v, want not_found", err)
	}
}

func TestTheLastAdministratorStays(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	calls := map[string]func() error{
		"delete": func() error { return h.DeleteUser(ctx, cli, origin, "admin") },
		"demote": func() error {
			_, err := h.UpdateUser(ctx, cli, origin, "admin", identity.UserPatch{Role: ptr(devices.RoleViewer)})
			return err
		},
		"disable": func() error {
			_, err := h.UpdateUser(ctx, cli, origin, "admin", identity.UserPatch{Enabled: ptr(false)})
			return err
		},
	}
	for name, call := range calls {
		if err := call(); devices.CodeOf(err) != devices.CodeConflict {
			t.Errorf("%s: got %v, want conflict", name, err)
		}
	}
	h.user(t, "second", devices.RoleAdmin, "")
	if err := calls["delete"](); err != nil {
		t.Error(err)
	}
}

func TestSessions(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	h.user(t, "ana", devices.RoleViewer, "")
	h.user(t, "bob", devices.RoleViewer, "")
	ana, anaToken := h.login(t, "ana")
	ana2, ana2Token := h.login(t, "ana")
	bob, bobToken := h.login(t, "bob")
	actor := func(p identity.Principal) devices.Actor {
		a, err := h.Actor(p)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if list, _, err := h.Sessions(actor(ana), ana.SID, 10, ""); err != nil || len(list) != 2 || list[0].User != "ana" || list[0].Current || !list[1].Current {
		t.Errorf("ana's: got %+v %v", list, err)
	}
	list, next, err := h.Sessions(cli, "", 2, "")
	if err != nil || len(list) != 2 || next == "" {
		t.Fatalf("all: got %+v %q %v", list, next, err)
	}
	if rest, next, err := h.Sessions(cli, "", 2, next); err != nil || len(rest) != 1 || next != "" {
		t.Errorf("second page: got %+v %q %v", rest, next, err)
	}
	if err := h.EndSession(ctx, actor(ana), origin, bob.SID); devices.CodeOf(err) != devices.CodeNotFound {
		t.Errorf("another's session: got %v, want not_found", err)
	}
	if err := h.EndSession(ctx, actor(ana), origin, ana2.SID); err != nil {
		t.Fatal(err)
	}
	h.wantCode(t, ana2Token, devices.CodeTokenRevoked)
	h.wantCode(t, anaToken, "")
	acc, err := h.Refresh(ana)
	if err != nil || time.UnixMilli(acc.ExpiresAt).Sub(h.now()) > 15*time.Minute {
		t.Fatalf("refresh: got %+v %v", acc, err)
	}
	p, err := h.Verify(acc.Token)
	if err != nil || !p.Exp.Equal(ana.Exp) || p.SID != ana.SID {
		t.Errorf("the short token speaks for the session: got %+v %v", p, err)
	}
	if err := h.Logout(ctx, p, origin); err != nil {
		t.Fatal(err)
	}
	h.wantCode(t, anaToken, devices.CodeTokenRevoked)
	h.wantCode(t, acc.Token, devices.CodeTokenRevoked)
	if err := h.EndSession(ctx, cli, origin, bob.SID); err != nil {
		t.Fatal(err)
	}
	h.wantCode(t, bobToken, devices.CodeTokenRevoked)
}

func TestSessionsSurviveRestartsUntilIdle(t *testing.T) {
	h := newHub(t)
	p, token := func() (identity.Principal, string) {
		in, err := h.Login(t.Context(), origin, "admin", "admin-password", strings.Repeat("ü", 300))
		if err != nil {
			t.Fatal(err)
		}
		p, _ := h.Verify(in.Token)
		return p, in.Token
	}()
	h.open(t)
	h.wantCode(t, token, "")
	for range 3 { // used every five days: it stays
		h.pass(5 * 24 * time.Hour)
		h.wantCode(t, token, "")
	}
	h.pass(7*24*time.Hour + time.Second)
	h.wantCode(t, token, devices.CodeTokenExpired)
	h.pass(-7 * 24 * time.Hour)
	for range 4 {
		h.pass(4 * 24 * time.Hour)
		_, _ = h.Actor(p)
	}
	h.wantCode(t, token, devices.CodeTokenExpired) // 31 days old
}

func TestRunEndsSessionsAndWritesTheirUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.run(t)
		in, err := h.Login(t.Context(), origin, "admin", "admin-password", "")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * 24 * time.Hour)
		h.wantCode(t, in.Token, "")
		time.Sleep(time.Hour)
		st, _ := h.store.LoadIdentity(t.Context())
		if got := time.Since(time.UnixMilli(st.Sessions[0].LastUsedAt)); got < 59*time.Minute || got > 61*time.Minute {
			t.Errorf("last use is stored as %v ago, want an hour", got)
		}
		h.told()
		time.Sleep(7 * 24 * time.Hour)
		if cs := h.told(); len(cs) != 1 || cs[0].SID != in.SID {
			t.Errorf("told %+v, want the session's end", cs)
		}
		if st, _ := h.store.LoadIdentity(t.Context()); len(st.Sessions) != 0 {
			t.Errorf("still stored: %+v", st.Sessions)
		}
	})
}

func TestPasswordChange(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	h.user(t, "ana", devices.RoleViewer, "")
	p, token := h.login(t, "ana")
	ana, _ := h.Actor(p)
	patch := func(current string) error {
		_, err := h.UpdateUser(ctx, ana, origin, "ana", identity.UserPatch{Password: ptr("new-password"), CurrentPassword: current})
		return err
	}
	if err := patch("wrong"); devices.CodeOf(err) != devices.CodeUnauthorized {
		t.Errorf("wrong current password: got %v, want unauthorized", err)
	}
	if _, err := h.UpdateUser(ctx, ana, origin, "ana", identity.UserPatch{Role: ptr(devices.RoleAdmin)}); devices.CodeOf(err) != devices.CodeForbidden {
		t.Errorf("own role: got %v, want forbidden", err)
	}
	if err := patch("ana-password"); err != nil {
		t.Fatal(err)
	}
	h.wantCode(t, token, devices.CodeTokenRevoked)
	if _, err := h.Login(ctx, origin, "ana", "ana-password", ""); devices.CodeOf(err) != devices.CodeUnauthorized {
		t.Errorf("the old password: got %v, want unauthorized", err)
	}
	if _, err := h.Login(ctx, origin, "ANA", "new-password", ""); err != nil {
		t.Errorf("the new one: %v", err)
	}
}

func TestUsersAreChecked(t *testing.T) {
	h := newHub(t)
	long := strings.Repeat("x", 300)
	for name, n := range map[string]identity.NewUser{
		"no name":        {Password: "password", Role: devices.RoleViewer},
		"a colon":        {Username: "a:b", Password: "password", Role: devices.RoleViewer},
		"no role":        {Username: "a", Password: "password"},
		"unknown role":   {Username: "a", Password: "password", Role: "root"},
		"short password": {Username: "a", Password: "pass", Role: devices.RoleViewer},
		"long password":  {Username: "a", Password: long, Role: devices.RoleViewer},
		"bytes":          {Username: "a", Password: "passw\xffrd", Role: devices.RoleViewer},
	} {
		if _, err := h.CreateUser(t.Context(), cli, origin, n); devices.CodeOf(err) != devices.CodeInvalid {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
	if _, err := h.CreateUser(t.Context(), cli, origin, identity.NewUser{Username: "Admin", Password: "maple-42-river", Role: devices.RoleViewer}); devices.CodeOf(err) != devices.CodeConflict {
		t.Errorf("a taken name: got %v, want conflict", err)
	}
	h.user(t, "bob", devices.RoleViewer, "")
	us, next, err := h.Users(cli, 1, "")
	if err != nil || len(us) != 1 || us[0].Name != "admin" || next != "admin" {
		t.Errorf("first page: got %+v %q %v", us, next, err)
	}
	if us, next, err = h.Users(cli, 1, next); err != nil || len(us) != 1 || us[0].Name != "bob" || next != "" {
		t.Errorf("second page: got %+v %q %v", us, next, err)
	}
}

func TestServiceAccounts(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	scope, _ := devices.ParseScope("area=kitchen")
	info, token, err := h.CreateAccount(ctx, cli, origin, identity.NewAccount{Name: "ha", Rights: devices.RightRead, Scope: scope, Topics: []string{"homeassistant/#"}, TTL: time.Hour})
	if err != nil || len(token) > identity.MaxToken || info.Last4 != token[len(token)-4:] {
		t.Fatalf("got %+v %v", info, err)
	}
	p, err := h.From("").VerifyService("service:ha", token)
	if err != nil || p.Kind != devices.ActorService {
		t.Fatalf("got %+v %v", p, err)
	}
	if _, err := h.From("").VerifyService("service:other", token); devices.CodeOf(err) != devices.CodeUnauthorized {
		t.Errorf("another name: got %v, want unauthorized", err)
	}
	a, err := h.Actor(p)
	if err != nil || a.Rights != devices.RightRead || a.Scope.String() != "area=kitchen" || a.Role != "" {
		t.Errorf("got %+v %v", a, err)
	}
	h.told()
	if _, err := h.UpdateAccount(ctx, cli, origin, "ha", identity.AccountPatch{Rights: ptr(devices.RightRead | devices.RightCommand), Topics: &[]string{}}); err != nil {
		t.Fatal(err)
	}
	now, ok := h.ServiceAccount("ha", p.JTI)
	if a, _ = h.Actor(p); a.Rights&devices.RightCommand == 0 || !ok || len(now.Topics) != 0 {
		t.Errorf("after the change: got %+v %+v", a, now)
	}
	if _, ok := h.ServiceAccount("ha", "another's"); ok {
		t.Error("an account of the same name was taken for it")
	}
	if cs := h.told(); len(cs) != 1 || cs[0].Kind != devices.ActorService || cs[0].Name != "ha" {
		t.Errorf("told %+v", cs)
	}
	h.pass(time.Hour + 2*time.Minute)
	if _, err := h.Actor(p); devices.CodeOf(err) != devices.CodeTokenExpired {
		t.Errorf("past its time: got %v, want token_expired", err)
	}
	if err := h.DeleteAccount(ctx, cli, origin, "ha"); err != nil {
		t.Fatal(err)
	}
	_, again, err := h.CreateAccount(ctx, cli, origin, identity.NewAccount{Name: "ha", Rights: devices.RightAdmin})
	if err != nil {
		t.Fatal(err)
	}
	h.pass(-time.Hour)
	h.wantCode(t, token, devices.CodeTokenRevoked) // of the account that had the name before
	h.wantCode(t, again, "")
	for name, n := range map[string]identity.NewAccount{
		"no rights":  {Name: "x"},
		"bad filter": {Name: "x", Rights: devices.RightRead, Topics: []string{"a/#/b"}},
		"bad plus":   {Name: "x", Rights: devices.RightRead, Topics: []string{"a/b+"}},
		"bad name":   {Name: "x y", Rights: devices.RightRead},
	} {
		if _, _, err := h.CreateAccount(ctx, cli, origin, n); devices.CodeOf(err) != devices.CodeInvalid {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
	}
}

func TestFailedLoginsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.SetLoginLimits(5, 3)
		try := func(addr, name, password string) error {
			_, err := h.Login(t.Context(), devices.Origin{Addr: addr}, name, password, "")
			return err
		}
		want := func(err error, code devices.Code) {
			t.Helper()
			if devices.CodeOf(err) != code || (err == nil) != (code == "") {
				t.Errorf("got %v, want %q", err, code)
			}
		}
		for range 3 {
			want(try("192.0.2.1", "admin", "guess"), devices.CodeUnauthorized)
		}
		err := try("192.0.2.1", "admin", "admin-password") // even the right one
		want(err, devices.CodeRateLimited)
		var e *devices.Error
		if !errors.As(err, &e) || e.RetryAfter < time.Second || e.RetryAfter > 21*time.Second {
			t.Errorf("retry after: got %v, want about 20 s", e.RetryAfter)
		}
		// Another address is delayed, not locked out; and the first may try other names.
		start := time.Now()
		want(try("192.0.2.2", "admin", "admin-password"), "")
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("delayed %v, want 2 s", d)
		}
		want(try("192.0.2.1", "other", "guess"), devices.CodeUnauthorized)
		want(try("192.0.2.1", "third", "guess"), devices.CodeUnauthorized)
		want(try("192.0.2.1", "fourth", "guess"), devices.CodeRateLimited)
		// One customer's IPv6 addresses are one address.
		for i := range 5 {
			want(try(fmt.Sprintf("2001:db8::%d", i), fmt.Sprint("name", i), "guess"), devices.CodeUnauthorized)
		}
		want(try("2001:db8::ffff", "name9", "guess"), devices.CodeRateLimited)
		time.Sleep(time.Minute)
		want(try("192.0.2.1", "admin", "admin-password"), "")
		for range 20 { // success takes nothing
			want(try("192.0.2.1", "admin", "admin-password"), "")
		}
	})
}

func TestManySignInsAtOnce(t *testing.T) {
	h := newHub(t)
	h.SetLoginLimits(1000, 1000)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[devices.Code]int{}
	for range 45 {
		wg.Go(func() {
			_, err := h.Login(t.Context(), origin, "nobody", "x", "")
			mu.Lock()
			defer mu.Unlock()
			got[devices.CodeOf(err)]++
		})
	}
	wg.Wait()
	if got[devices.CodeUnauthorized] < 32 || got[devices.CodeUnauthorized]+got[devices.CodeOverloaded] != 45 {
		t.Errorf("got %v, want unauthorized and overloaded", got)
	}
}

func TestNoTokenOrPasswordIsRecorded(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	secrets := []string{h.device(t, "a")}
	rotated, _ := h.RotateDevice(ctx, cli, origin, "a", identity.TokenOptions{})
	h.pass(identity.DefaultTokenTTL * 9 / 10)
	refreshed, _ := h.RefreshDevice(ctx, rotated.Principal, origin)
	short, _ := h.IssueDevice(ctx, cli, origin, "a", identity.TokenOptions{Short: true})
	_, service, _ := h.CreateAccount(ctx, cli, origin, identity.NewAccount{Name: "ha", Rights: devices.RightRead})
	h.user(t, "ana", devices.RoleViewer, "")
	p, login := h.login(t, "ana")
	acc, _ := h.Refresh(p)
	_, _ = h.Login(ctx, origin, "typed-my-password-here", "x", "")
	_, _ = h.Verify(rotated.Token + "x")
	secrets = append(secrets, rotated.Token, refreshed.Token, short.Token, service, login, acc.Token, "ana-password", "typed-my-password-here")
	list, _, _ := h.audit.Audit(ctx, devices.AuditQuery{Limit: 1000})
	if len(list) < 7 {
		t.Errorf("audit: got %d entries", len(list))
	}
	all := h.logs.String() + fmt.Sprintf("%+v", list)
	st, _ := h.store.LoadIdentity(ctx)
	all += fmt.Sprintf("%+v", st)
	for _, s := range secrets {
		if s == "" || strings.Contains(all, s) {
			t.Errorf("%q is kept", s)
		}
	}
}

func TestAuditIsReadAsFarAsOneMay(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	for id, area := range map[devices.ID]string{"k": "kitchen", "h": "hall"} {
		d := &devices.Device{ID: id, Kinds: devices.Kinds(), Area: area}
		if _, err := h.CreateDevices(ctx, cli, origin, []*devices.Device{d}, identity.TokenOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	h.user(t, "op", devices.RoleOperator, "area=kitchen")
	h.user(t, "vi", devices.RoleViewer, "")
	read := func(a devices.Actor, q devices.AuditQuery) string {
		q.Limit = 100
		list, _, err := identity.ReadAudit(ctx, h.audit, h.reg, a, q)
		if err != nil {
			return string(devices.CodeOf(err))
		}
		var s []string
		for _, e := range list {
			s = append(s, e.Action+" "+e.Target)
		}
		return strings.Join(s, ", ")
	}
	p, _ := h.login(t, "op")
	op, _ := h.Actor(p)
	p, _ = h.login(t, "vi")
	vi, _ := h.Actor(p)
	for _, tt := range []struct {
		name string
		a    devices.Actor
		q    devices.AuditQuery
		want string
	}{
		{"operator", op, devices.AuditQuery{}, "login user:op, device.create device:k"},
		{"operator, a device outside the scope", op, devices.AuditQuery{Device: "h"}, ""},
		{"viewer", vi, devices.AuditQuery{}, "login user:vi"},
		{"viewer asking for another", vi, devices.AuditQuery{Actor: "user:op"}, "forbidden"},
		{"service", devices.Actor{Kind: devices.ActorService, Name: "s", Rights: devices.RightRead}, devices.AuditQuery{}, "forbidden"},
		{"service with every right", devices.Actor{Kind: devices.ActorService, Name: "s", Rights: devices.RightRead | devices.RightAdmin}, devices.AuditQuery{}, "forbidden"},
		{"admin", cli, devices.AuditQuery{Actor: "user:op"}, "login user:op"},
	} {
		if got := read(tt.a, tt.q); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Passwords are hashed at the documented cost unless told otherwise, and a hash
// keeps the cost it was made with.
func TestPasswordHashes(t *testing.T) {
	store := &identity.Memory{}
	reg, err := devices.OpenRegistry(t.Context(), &devices.MemoryRegistry{})
	if err != nil {
		t.Fatal(err)
	}
	for _, memory := range []uint32{0, 64} {
		s, err := identity.Open(t.Context(), store, reg, identity.Config{HashMemory: memory})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Prepare(t.Context(), "admin-password"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Login(t.Context(), origin, "admin", "admin-password", ""); err != nil {
			t.Errorf("with %d KiB: %v", memory, err)
		}
	}
	st, err := store.LoadIdentity(t.Context())
	if err != nil || !strings.HasPrefix(st.Users[0].Hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("got %q %v", st.Users[0].Hash, err)
	}
}

func TestEditsOfPeopleAndAccountsHaveVersions(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	h.user(t, "ana", devices.RoleViewer, "")
	if _, _, err := h.CreateAccount(ctx, cli, origin, identity.NewAccount{Name: "ha", Rights: devices.RightRead}); err != nil {
		t.Fatal(err)
	}
	user := func(p identity.UserPatch) (int64, error) {
		u, err := h.UpdateUser(ctx, cli, origin, "ana", p)
		return u.Ver, err
	}
	account := func(p identity.AccountPatch) (int64, error) {
		acc, err := h.UpdateAccount(ctx, cli, origin, "ha", p)
		return acc.Ver, err
	}
	for _, tt := range []struct {
		name string
		edit func() (int64, error)
		ver  int64
		code devices.Code
	}{
		{"a role", func() (int64, error) { return user(identity.UserPatch{Role: ptr(devices.RoleOperator)}) }, 2, ""},
		{"the same role", func() (int64, error) { return user(identity.UserPatch{Role: ptr(devices.RoleOperator)}) }, 2, ""},
		{"a password", func() (int64, error) { return user(identity.UserPatch{Password: ptr("new-password")}) }, 3, ""},
		{"an old version", func() (int64, error) {
			return user(identity.UserPatch{Enabled: ptr(false), Expect: devices.IfVer(ptr(int64(2)))})
		}, 0, devices.CodeVersionConflict},
		{"the present version", func() (int64, error) {
			return user(identity.UserPatch{Enabled: ptr(false), Expect: devices.IfVer(ptr(int64(3)))})
		}, 4, ""},
		{"an account's rights", func() (int64, error) {
			return account(identity.AccountPatch{Rights: ptr(devices.RightCommand), Expect: devices.IfVer(ptr(int64(1)))})
		}, 2, ""},
		{"an account's topics", func() (int64, error) { return account(identity.AccountPatch{Topics: &[]string{"a/#"}}) }, 3, ""},
		{"the same topics", func() (int64, error) { return account(identity.AccountPatch{Topics: &[]string{"a/#"}}) }, 3, ""},
		{"an account's old version", func() (int64, error) {
			return account(identity.AccountPatch{Topics: &[]string{}, Expect: devices.IfVer(ptr(int64(2)))})
		}, 0, devices.CodeVersionConflict},
		{"deleting an old version", func() (int64, error) {
			return 0, h.DeleteUser(ctx, cli, origin, "ana", devices.IfVer(ptr(int64(3))))
		}, 0, devices.CodeVersionConflict},
		{"deleting an account's old version", func() (int64, error) {
			return 0, h.DeleteAccount(ctx, cli, origin, "ha", devices.IfVer(ptr(int64(1))))
		}, 0, devices.CodeVersionConflict},
	} {
		if ver, err := tt.edit(); ver != tt.ver || devices.CodeOf(err) != tt.code {
			t.Errorf("%s: got version %d, %v; want %d, %q", tt.name, ver, err, tt.ver, tt.code)
		}
	}
	// Somebody who comes back is not taken for who was there, after a restart either.
	if err := errors.Join(h.DeleteUser(ctx, cli, origin, "ana", devices.IfVer(ptr(int64(4)))), h.DeleteAccount(ctx, cli, origin, "ha")); err != nil {
		t.Fatal(err)
	}
	h.open(t)
	h.user(t, "ana", devices.RoleViewer, "")
	if u, err := h.User(cli, "ana"); err != nil || u.Ver != 5 {
		t.Errorf("a person who is back: got version %d, %v, want 5", u.Ver, err)
	}
	if acc, _, err := h.CreateAccount(ctx, cli, origin, identity.NewAccount{Name: "ha", Rights: devices.RightRead}); err != nil || acc.Ver != 4 {
		t.Errorf("an account that is back: got version %d, %v, want 4", acc.Ver, err)
	}
}

// Of many who edit one version at the same time, one wins.
func TestOneEditOfAPersonWins(t *testing.T) {
	h := newHub(t)
	h.user(t, "ana", devices.RoleViewer, "")
	for ver := int64(1); ver <= 20; ver++ {
		var mu sync.Mutex
		var won []string
		var wg sync.WaitGroup
		for e := range 16 {
			scope := devices.Scope{}
			if err := scope.UnmarshalJSON([]byte(fmt.Sprintf(`"area=v%d-%d"`, ver, e))); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				_, err := h.UpdateUser(t.Context(), cli, origin, "ana", identity.UserPatch{Scope: &scope, Expect: devices.IfVer(&ver)})
				if err == nil {
					mu.Lock()
					won = append(won, scope.String())
					mu.Unlock()
				} else if devices.CodeOf(err) != devices.CodeVersionConflict {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if u, _ := h.User(cli, "ana"); len(won) != 1 || u.Scope.String() != won[0] || u.Ver != ver+1 {
			t.Fatalf("version %d: %q won, and it is %+v", ver, won, u)
		}
	}
}

func TestAnAdministratorHasNoScope(t *testing.T) {
	h := newHub(t)
	ctx := t.Context()
	kitchen, err := devices.ParseScope("area=kitchen")
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.CreateUser(ctx, cli, origin, identity.NewUser{Username: "x", Password: "x-password", Role: devices.RoleAdmin, Scope: kitchen})
	h.wantInvalidScope(t, "made so", err)
	h.user(t, "ana", devices.RoleOperator, "area=kitchen")
	_, err = h.UpdateUser(ctx, cli, origin, "ana", identity.UserPatch{Role: ptr(devices.RoleAdmin)})
	h.wantInvalidScope(t, "promoted with a scope", err)
	_, err = h.UpdateUser(ctx, cli, origin, "admin", identity.UserPatch{Scope: &kitchen})
	h.wantInvalidScope(t, "given one", err)
	if _, err = h.UpdateUser(ctx, cli, origin, "ana", identity.UserPatch{Role: ptr(devices.RoleAdmin), Scope: &devices.Scope{}}); err != nil {
		t.Errorf("promoted without it: %v", err)
	}
}

func (h *hub) wantInvalidScope(t *testing.T, name string, err error) {
	t.Helper()
	var e *devices.Error
	if !errors.As(err, &e) || e.Code != devices.CodeInvalid || e.Details["field"] != "scope" {
		t.Errorf("%s: got %v, want invalid about scope", name, err)
	}
}

// Administrators prune the audit, and nobody else does.
func TestAuditIsPrunedByAdministrators(t *testing.T) {
	h := newHub(t)
	h.user(t, "ad", devices.RoleAdmin, "")
	h.user(t, "op", devices.RoleOperator, "")
	before := time.Now().Add(time.Hour).UnixMilli()
	for _, row := range []struct {
		who  devices.Actor
		code devices.Code
	}{
		{devices.Actor{Kind: devices.ActorUser, Name: "op", Role: devices.RoleOperator, Rights: devices.RoleOperator.Rights()}, devices.CodeForbidden},
		{devices.Actor{Kind: devices.ActorService, Name: "panel", Rights: devices.RightAdmin | devices.RightRead}, devices.CodeForbidden},
		{devices.Actor{Kind: devices.ActorDevice, Name: "lamp"}, devices.CodeForbidden},
		{devices.Actor{Kind: devices.ActorUser, Name: "ad", Role: devices.RoleAdmin, Rights: devices.RoleAdmin.Rights()}, ""},
	} {
		p, err := identity.PruneAudit(t.Context(), h.audit, row.who, origin, before)
		if devices.CodeOf(err) != row.code || (p == devices.Pruned{}) == (row.code == "") {
			t.Errorf("%s: got %+v %v, want %q", row.who, p, err, row.code)
		}
		list, _, _ := h.audit.Audit(t.Context(), devices.AuditQuery{Actor: row.who.String(), Action: "audit.prune", Limit: 9})
		if len(list) != 1 || list[0].Code != row.code {
			t.Errorf("%s: the audit has %+v", row.who, list)
		}
	}
}
