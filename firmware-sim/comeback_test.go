package sim

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"devicehub/firmware-sim/device"
	"devicehub/firmware-sim/profile"
)

// A goodbye that a fault breaks off may be a lost connection to the hub; any other may not.
func TestGoodbyesThatBreak(t *testing.T) {
	left := time.Now()
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		lost := Turn{At: left.UnixMilli(), From: "online", To: "offline", Reason: "connection_lost"}
		json.NewEncoder(w).Encode(map[string]any{"events": []Turn{lost}})
	}))
	defer hub.Close()
	at, err := url.Parse(hub.URL)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		breaks func(u *unit)
		wrong  int64
	}{
		{"nothing breaks", func(*unit) {}, 1},
		{"a drop", func(u *unit) { u.drop(time.Second) }, 0},
		{"a power cycle", (*unit).restart, 0},
		{"a half-open connection", func(u *unit) { u.halfOpen(time.Second) }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dev, err := device.New(device.Config{ID: "d", Transport: device.MQTT, MQTT: at})
			if err != nil {
				t.Fatal(err)
			}
			u := &unit{id: "d", group: new(profile.Group), dev: dev, leaves: []time.Time{left}}
			s := &Sim{api: NewAPI(at, "", "", "token")}
			tt.breaks(u)
			s.judgeCloses(t.Context(), u)
			if got := s.judge.verdict("close_wrong").Count; got != tt.wrong || len(s.judge.failures) > 0 {
				t.Errorf("%d goodbyes were taken amiss, want %d; failures %v", got, tt.wrong, s.judge.failures)
			}
		})
	}
}
