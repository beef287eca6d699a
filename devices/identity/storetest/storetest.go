// Package storetest holds every identity.Store to the same rules.
package storetest

import (
	"cmp"
	"reflect"
	"slices"
	"testing"

	"devicehub/devices"
	"devicehub/devices/identity"
)

// Test runs the suite. open returns a fresh, empty store; reopen one that holds
// what was put in it (the same one, for a store without a disk).
func Test(t *testing.T, open func(t *testing.T) identity.Store, reopen func(t *testing.T, s identity.Store) identity.Store) {
	ctx := t.Context()
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	load := func(t *testing.T, s identity.Store) *identity.State {
		t.Helper()
		st, err := s.LoadIdentity(ctx)
		must(t, err)
		slices.SortFunc(st.Credentials, func(a, b identity.Credential) int { return cmp.Compare(a.Device, b.Device) })
		slices.SortFunc(st.Keys, func(a, b identity.Key) int { return cmp.Compare(a.KID, b.KID) })
		slices.SortFunc(st.Sessions, func(a, b identity.Session) int { return cmp.Compare(a.SID, b.SID) })
		return st
	}

	t.Run("everything put is loaded", func(t *testing.T) {
		s := open(t)
		scope, err := devices.ParseScope("area=kitchen,id in [a,b]")
		must(t, err)
		creds := []identity.Credential{
			{Device: "a", GenIssued: 3, MinGen: 1, Graces: []identity.Grace{{Below: 2, Until: 10}, {Below: 3, Until: 20}}, NewBoot: "b1", UsedAt: 30, PrevUsedAt: 20},
			{Device: "b", GenIssued: 1, MinGen: 1},
		}
		keys := []identity.Key{{KID: "2026-10", CreatedAt: 1, RetiredAt: 2, RevokedAt: 3, LastExpS: 4, Public: []byte("p1")}, {KID: "2026-11", CreatedAt: 2, LastExpS: identity.NeverExpires, Public: []byte("p2"), Seed: []byte("s2")}}
		must(t, s.PutCredentials(ctx, creds, nil, keys[1:]))
		must(t, s.PutKeys(ctx, keys[:1]))
		user := identity.User{Name: "ana", Ver: 3, Role: devices.RoleOperator, Scope: scope, Hash: "h", CreatedAt: 5, Disabled: true}
		must(t, s.PutUser(ctx, user))
		session := identity.Session{SID: "s1", User: "ana", CreatedAt: 6, LastUsedAt: 7, ExpiresAt: 8, UserAgent: "x"}
		must(t, s.PutSession(ctx, session))
		account := identity.Account{Name: "ha", Ver: 4, Rights: devices.RightRead | devices.RightIngest, Scope: scope, Topics: []string{"a/#"}, JTI: "j", Last4: "1234", CreatedAt: 9, ExpiresAt: 10}
		must(t, s.PutAccount(ctx, account))
		st := load(t, reopen(t, s))
		if !reflect.DeepEqual(st.Credentials, creds) {
			t.Errorf("credentials: got %+v, want %+v", st.Credentials, creds)
		}
		if !reflect.DeepEqual(st.Keys, keys) {
			t.Errorf("keys: got %+v, want %+v", st.Keys, keys)
		}
		if !reflect.DeepEqual(st.Users, []identity.User{user}) || !reflect.DeepEqual(st.Sessions, []identity.Session{session}) || !reflect.DeepEqual(st.Accounts, []identity.Account{account}) {
			t.Errorf("got %+v %+v %+v", st.Users, st.Sessions, st.Accounts)
		}
	})

	t.Run("people and their sessions go together", func(t *testing.T) {
		s := open(t)
		for _, name := range []string{"ana", "bob"} {
			must(t, s.PutUser(ctx, identity.User{Name: name, Role: devices.RoleViewer}))
			must(t, s.PutSession(ctx, identity.Session{SID: name + "-1", User: name}))
			must(t, s.PutSession(ctx, identity.Session{SID: name + "-2", User: name}))
		}
		must(t, s.TouchSessions(ctx, map[string]int64{"bob-1": 42, "unknown": 1}))
		must(t, s.DeleteSessions(ctx, []string{"bob-2", "unknown"}))
		must(t, s.DeleteUser(ctx, "ana"))
		st := load(t, s)
		if len(st.Users) != 1 || len(st.Sessions) != 1 || st.Sessions[0].SID != "bob-1" || st.Sessions[0].LastUsedAt != 42 {
			t.Errorf("got %+v %+v, want bob and bob-1 used at 42", st.Users, st.Sessions)
		}
		must(t, s.PutAccount(ctx, identity.Account{Name: "ha", Rights: devices.RightRead}))
		must(t, s.DeleteAccount(ctx, "ha"))
		must(t, s.PutKeys(ctx, []identity.Key{{KID: "k", Public: []byte("p")}}))
		must(t, s.DeleteKey(ctx, "k"))
		if st := load(t, s); len(st.Accounts) != 0 || len(st.Keys) != 0 {
			t.Errorf("got %+v %+v, want none", st.Accounts, st.Keys)
		}
	})

	t.Run("versions of the deleted are remembered", func(t *testing.T) {
		s := open(t)
		for i, name := range []string{"ana", "bob", "cy"} {
			must(t, s.PutUser(ctx, identity.User{Name: name, Ver: 7, Role: devices.RoleViewer}))
			must(t, s.PutUser(ctx, identity.User{Name: name, Ver: 9 - int64(i), Role: devices.RoleViewer}))
			must(t, s.PutAccount(ctx, identity.Account{Name: name, Ver: int64(i + 1), Rights: devices.RightRead}))
		}
		if st := load(t, s); st.UserFloor != 0 || st.AccountFloor != 0 {
			t.Errorf("nobody deleted: got %d and %d, want 0", st.UserFloor, st.AccountFloor)
		}
		must(t, s.DeleteUser(ctx, "bob"))
		must(t, s.DeleteUser(ctx, "cy"))
		must(t, s.DeleteUser(ctx, "unknown"))
		must(t, s.DeleteAccount(ctx, "bob"))
		if st := load(t, reopen(t, s)); st.UserFloor != 8 || st.AccountFloor != 2 {
			t.Errorf("got %d and %d, want 8 and 2", st.UserFloor, st.AccountFloor)
		}
	})

	t.Run("tokens", func(t *testing.T) {
		s := open(t)
		keys := []identity.Key{{KID: "k1", Public: []byte("p")}, {KID: "k2", Public: []byte("p")}, {KID: "dead", RevokedAt: 1, Public: []byte("p")}}
		creds := []identity.Credential{{Device: "both", GenIssued: 2, MinGen: 1}, {Device: "old", GenIssued: 1, MinGen: 1}, {Device: "lapsed", GenIssued: 1, MinGen: 1}, {Device: "ever", GenIssued: 1, MinGen: 1}}
		token := func(jti string, id devices.ID, gen int64, kid string, exp int64) identity.IssuedToken {
			return identity.IssuedToken{JTI: jti, Device: id, Gen: gen, KID: kid, Form: "jwt", At: gen, ExpS: exp, Last4: "abcd"}
		}
		must(t, s.PutCredentials(ctx, creds, []identity.IssuedToken{
			token("1", "both", 1, "k1", 100), token("2", "both", 2, "k2", 100),
			token("3", "old", 1, "k1", 100), token("4", "old", 1, "dead", 100),
			token("5", "lapsed", 1, "k1", 40), token("6", "ever", 1, "k1", 0),
		}, keys))
		if n, err := s.Stranded(ctx, "k1", 50); err != nil || n != 2 {
			t.Errorf("stranded by k1: got %d %v, want 2 (old, ever)", n, err)
		}
		if n, err := s.Stranded(ctx, "k2", 50); err != nil || n != 0 {
			t.Errorf("stranded by k2: got %d %v, want 0", n, err)
		}
		got, err := s.Tokens(ctx, "both", 10)
		if err != nil || len(got) != 2 || got[0].JTI != "2" || got[1] != token("1", "both", 1, "k1", 100) {
			t.Errorf("tokens: got %+v %v, want 2 then 1", got, err)
		}
		must(t, s.PutCredentials(ctx, []identity.Credential{{Device: "both", GenIssued: 2, MinGen: 2}}, nil, nil))
		if got, err := s.Tokens(ctx, "both", 10); err != nil || len(got) != 1 || got[0].JTI != "2" {
			t.Errorf("after generation 1 died: got %+v %v, want 2", got, err)
		}
		must(t, s.SweepTokens(ctx, 50))
		if got, err := s.Tokens(ctx, "lapsed", 10); err != nil || len(got) != 0 {
			t.Errorf("after the sweep: got %+v %v, want none", got, err)
		}
		if got, err := s.Tokens(ctx, "ever", 10); err != nil || len(got) != 1 {
			t.Errorf("a token without exp was swept: %+v %v", got, err)
		}
	})
}
