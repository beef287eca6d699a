package identity_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/identity"
)

var (
	cli    = devices.CLI()
	origin = devices.Origin{Via: "cli", Addr: "192.0.2.1"}
)

// hub is a Service with what stands around it.
type hub struct {
	*identity.Service
	reg   *devices.Registry
	store *identity.Memory
	audit *identity.MemoryAudit
	logs  *bytes.Buffer

	mu        sync.Mutex
	changes   []identity.Change
	offset    time.Duration
	suspect   bool
	strangers identity.Strangers
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{store: &identity.Memory{}, audit: &identity.MemoryAudit{}, logs: &bytes.Buffer{}}
	h.open(t)
	if _, err := h.Prepare(t.Context(), "admin-password"); err != nil {
		t.Fatal(err)
	}
	return h
}

// open starts the service again over the same store, with an empty registry.
func (h *hub) open(t *testing.T) {
	t.Helper()
	h.openOver(t, h.store)
}

func (h *hub) openOver(t *testing.T, store identity.Store) {
	t.Helper()
	reg, err := devices.OpenRegistry(t.Context(), &devices.MemoryRegistry{})
	if err != nil {
		t.Fatal(err)
	}
	h.reg = reg
	h.Service, err = identity.Open(t.Context(), store, reg, identity.Config{
		TokenTTL: identity.DefaultTokenTTL, Now: h.now, Auditor: h.audit, Logger: slog.New(slog.NewTextHandler(h.logs, nil)),
		ClockSuspect: func() bool { return h.suspect }, HashMemory: 64, Strangers: h.strangers,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Watch(func(c identity.Change) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.changes = append(h.changes, c)
	})
}

func (h *hub) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Add(h.offset)
}

// pass lets time go by for the service's clock.
func (h *hub) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.offset += d
}

// told returns the changes since the last call.
func (h *hub) told() []identity.Change {
	h.mu.Lock()
	defer h.mu.Unlock()
	cs := h.changes
	h.changes = nil
	return cs
}

// device makes one and returns its token.
func (h *hub) device(t *testing.T, id devices.ID) string {
	t.Helper()
	d := &devices.Device{ID: id, Kinds: []devices.Kind{devices.KindSensor}, Enabled: true}
	made, err := h.CreateDevices(t.Context(), cli, origin, []*devices.Device{d}, identity.TokenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made[0].Token.Token
}

func (h *hub) wantCode(t *testing.T, token string, want devices.Code) {
	t.Helper()
	_, err := h.Verify(token)
	if devices.CodeOf(err) != want || (err == nil) != (want == "") {
		t.Errorf("verify: got %v, want %q", err, want)
	}
}

// run runs the service until the test ends.
func (h *hub) run(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func ptr[T any](v T) *T { return &v }
