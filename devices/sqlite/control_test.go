package sqlite

import (
	"path/filepath"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	commandstest "devicehub/devices/commands/storetest"
	"devicehub/devices/liveness"
	livenesstest "devicehub/devices/liveness/storetest"
	"devicehub/devices/shadow"
	shadowtest "devicehub/devices/shadow/storetest"
)

// reopener opens one file again and again, with the devices a, b and c.
func reopener[S any](t *testing.T, as func(*DB) S) func(t *testing.T) S {
	path := filepath.Join(t.TempDir(), "hub.db")
	var db *DB
	return func(t *testing.T) S {
		if db != nil {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		db = openAt(t, path)
		var ds []*devices.Device
		for _, id := range []devices.ID{"a", "b", "c"} {
			ds = append(ds, &devices.Device{ID: id, Kinds: []devices.Kind{devices.KindLight}})
		}
		if err := db.PutDevices(t.Context(), ds); err != nil {
			t.Fatal(err)
		}
		return as(db)
	}
}

func TestLivenessStore(t *testing.T) {
	livenesstest.Test(t, reopener(t, func(db *DB) liveness.Store { return db }))
}

func TestCommandsStore(t *testing.T) {
	commandstest.Test(t, reopener(t, func(db *DB) commands.Store { return db }))
}

func TestShadowStore(t *testing.T) {
	shadowtest.Test(t, reopener(t, func(db *DB) shadow.Store { return db }))
}

// TestDeletedDeviceLeavesNothing: what was kept under its id goes with it, and
// what is still on its way to the disk does not come back.
func TestDeletedDeviceLeavesNothing(t *testing.T) {
	open := reopener(t, func(db *DB) *DB { return db })
	db := open(t)
	ctx := t.Context()
	write := func() {
		t.Helper()
		if err := db.SavePresence(ctx, []liveness.Known{{Device: "a", State: devices.Online}}, []liveness.Transition{{Device: "a", At: 1}}); err != nil {
			t.Fatal(err)
		}
		if err := db.SaveCommands(ctx, []commands.Row{{Device: "a", CmdID: "c", IssuedAt: 1, Body: []byte("{}")}}); err != nil {
			t.Fatal(err)
		}
		if err := db.SaveShadows(ctx, []shadow.Row{{Device: "a", Limit: 1, Body: []byte("{}")}}); err != nil {
			t.Fatal(err)
		}
	}
	count := func() (n int) {
		t.Helper()
		err := db.r.QueryRow(`SELECT (SELECT count(*) FROM presence) + (SELECT count(*) FROM presence_history) + (SELECT count(*) FROM commands) + (SELECT count(*) FROM shadows)`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	write()
	if n := count(); n != 4 {
		t.Fatalf("got %d rows, want 4", n)
	}
	if err := db.DeleteDevice(ctx, "a", time.Now()); err != nil {
		t.Fatal(err)
	}
	write()
	if n := count(); n != 0 {
		t.Errorf("got %d rows, want none", n)
	}
}
