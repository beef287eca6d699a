package sqlite

import (
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
	if err := db.PutCredentials(ctx, []identity.Credential{{Device: "a", GenIssued: 7, MinGen: 6, Graces: []identity.Grace{{Below: 7, Until: 1}}}},
		[]identity.IssuedToken{{JTI: "1", Device: "a", Gen: 7}}, nil); err != nil {
		t.Fatal(err)
	}
	if err := db.DeleteDevice(ctx, "a", time.UnixMilli(1)); err != nil {
		t.Fatal(err)
	}
	st, err := db.LoadIdentity(ctx)
	if err != nil || len(st.Credentials) != 1 || st.Credentials[0].GenIssued != 8 || st.Credentials[0].MinGen != 8 || st.Credentials[0].Graces != nil {
		t.Errorf("got %+v %v, want generation 8 alone", st.Credentials, err)
	}
	if ts, err := db.Tokens(ctx, "a", 9); err != nil || len(ts) != 0 {
		t.Errorf("tokens: got %v %v, want none", ts, err)
	}
}
