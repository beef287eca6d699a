package main

import (
	"net/http"
	"testing"

	"devicehub/devices"
	"devicehub/devices/sqlite"
)

// When the disk is nearly full the audit gives way: refusals are counted, changes are written.
func TestAuditGivesWayToReadings(t *testing.T) {
	r := runHub(t, func(c *Config) { c.Readings.MinFree = 1 << 60 })
	r.wait("the look at the disk", func() bool {
		r.audit.Record(devices.Origin{}, devices.AuditEntry{Actor: "user:probe", Action: "probe", Target: "x", Outcome: "refused"})
		_, lost := r.audit.Waiting()
		return lost.Refusals > 0
	})
	_, before := r.audit.Waiting()
	r.call("POST", "/api/v1/users", map[string]string{"username": "vi", "password": "a viewer's own", "role": "viewer"}, 201, nil)
	for range 5 {
		if res := r.request("POST", "/api/v1/users", r.user, `{"username":"vi","password":"a viewer's own","role":"viewer"}`); res.StatusCode != http.StatusConflict {
			t.Fatalf("got %s", res.Status)
		}
	}
	if _, lost := r.audit.Waiting(); lost != (sqlite.AuditLost{Refusals: before.Refusals + 5}) {
		t.Errorf("lost: got %+v, want 5 refusals more than %+v", lost, before)
	}
	var got struct {
		Entries []devices.AuditEntry `json:"entries"`
	}
	r.call("GET", "/api/v1/audit?action=user.create", nil, 200, &got)
	if len(got.Entries) != 1 || !got.Entries[0].Changed() {
		t.Errorf("got %+v, want the change alone", got.Entries)
	}
	r.audit.SpaceIsShort(false)
	r.call("GET", "/api/v1/audit?action=audit.lost", nil, 200, &got)
	if len(got.Entries) != 1 {
		t.Errorf("with room again: got %+v, want an entry of what was lost", got.Entries)
	}
}
