package sqlite

import (
	"fmt"
	"os"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/identity"
	"devicehub/devices/identity/storetest"
)

func TestIdentityStore(t *testing.T) {
	storetest.Test(t, func(t *testing.T) identity.Store { return open(t) }, func(t *testing.T, s identity.Store) identity.Store {
		db := s.(*DB)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		return openAt(t, db.Path())
	})
}

// A token of a deleted device must be no token of the device that gets its id
// later, whatever the hub remembers in memory.
func TestDeletedDeviceKeepsItsGenerations(t *testing.T) {
	db := open(t)
	ctx := t.Context()
	d := &devices.Device{ID: "a", Kinds: []devices.Kind{devices.KindSensor}}
	if err := db.PutDevices(ctx, []*devices.Device{d}); err != nil {
		t.Fatal(err)
	}
	if err := db.PutCredentials(ctx, []identity.Credential{{Device: "a", GenIssued: 7, MinGen: 6, Graces: []identity.Grace{{Below: 7, Until: 1}}, UsedAt: 4, PrevUsedAt: 3}},
		[]identity.IssuedToken{{JTI: "1", Device: "a", Gen: 7}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := db.DeleteDevice(ctx, "a", time.UnixMilli(1)); err != nil {
		t.Fatal(err)
	}
	// What was learned of it before is written late.
	if err := db.PutCredentials(ctx, []identity.Credential{{Device: "a", GenIssued: 7, MinGen: 6, UsedAt: 5}}, nil, nil); err != nil {
		t.Fatal(err)
	}
	st, err := db.LoadIdentity(ctx)
	if err != nil || len(st.Credentials) != 1 || st.Credentials[0].GenIssued != 8 || st.Credentials[0].MinGen != 8 || st.Credentials[0].Graces != nil || st.Credentials[0].UsedAt != 0 || st.Credentials[0].PrevUsedAt != 0 {
		t.Errorf("got %+v %v, want generation 8 alone, never used", st.Credentials, err)
	}
	if ts, err := db.Tokens(ctx, "a", 9); err != nil || len(ts) != 0 {
		t.Errorf("tokens: got %v %v, want none", ts, err)
	}
}

// A hub with many devices starts fast, and takes its fleet back in fast. With
// DEVICEHUB_SOAK set it is 100,000 devices.
func TestManyDevicesComeBack(t *testing.T) {
	n := 500
	if os.Getenv("DEVICEHUB_SOAK") != "" {
		n = 100_000
	}
	ctx := t.Context()
	start := func(db *DB) *identity.Service {
		t.Helper()
		begin := time.Now()
		reg, err := devices.OpenRegistry(ctx, db)
		if err != nil {
			t.Fatal(err)
		}
		s, err := identity.Open(ctx, db, reg, identity.Config{TokenTTL: identity.DefaultTokenTTL, HashMemory: 64})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Prepare(ctx, "admin-password"); err != nil {
			t.Fatal(err)
		}
		t.Logf("started with %d devices in %v", reg.Len(), time.Since(begin))
		return s
	}
	db := open(t)
	s := start(db)
	tokens := make([]string, 0, n)
	begin := time.Now()
	for len(tokens) < n {
		ds := make([]*devices.Device, min(n-len(tokens), identity.MaxCreate))
		for i := range ds {
			ds[i] = &devices.Device{ID: devices.ID(fmt.Sprintf("d-%06d", len(tokens)+i)), Kinds: []devices.Kind{devices.KindSensor}, Enabled: true}
		}
		made, err := s.CreateDevices(ctx, devices.CLI(), devices.Origin{}, ds, identity.TokenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range made {
			tokens = append(tokens, m.Token.Token)
		}
	}
	t.Logf("made %d devices in %v", n, time.Since(begin))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(openAt(t, db.Path()))
	for _, what := range []string{"first", "again"} {
		begin = time.Now()
		for _, tok := range tokens {
			if _, err := s.Verify(tok); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("verified %d tokens %s in %v", n, what, time.Since(begin))
	}
	if st := s.Stats(); st.TokensVerified != int64(n) || st.TokensCached != int64(n) {
		t.Errorf("got %+v, want each signature verified once", st)
	}
}
