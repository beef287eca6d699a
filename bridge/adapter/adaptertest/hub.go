// Package adaptertest is a hub for the tests of adapters and bridges: a real
// registry and real readings in memory, and commands and links that are written
// down.
package adaptertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"devicehub/bridge/adapter"
	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/identity"
	"devicehub/devices/lights"
	"devicehub/devices/liveness"
	"devicehub/devices/readings"
)

// Hub is what adapters see, and what they did.
type Hub struct {
	adapter.Hub
	Ingest *readings.Ingest

	mu     sync.Mutex
	log    []string
	links  map[devices.ID]func(commands.Envelope) bool
	states map[devices.ID]lights.Fields
	refuse error
	// noCommands is why commands and reports are refused.
	noCommands error
	issueTakes time.Duration
	standing   devices.Status
	epoch      int64
	current    map[devices.ID]liveness.Conn
	changed    chan struct{}
}

// New returns a hub with devices. feed, if not nil, is told of readings.
func New(t testing.TB, feed devices.Feed, ds ...*devices.Device) *Hub {
	t.Helper()
	return NewOn(t, readings.NewMemory(), feed, ds...)
}

// NewOn is New with the store that readings are kept in.
func NewOn(t testing.TB, store readings.Store, feed devices.Feed, ds ...*devices.Device) *Hub {
	t.Helper()
	reg, err := devices.OpenRegistry(t.Context(), new(devices.MemoryRegistry))
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Create(t.Context(), time.Now(), ds...); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	h := &Hub{links: map[devices.ID]func(commands.Envelope) bool{}, states: map[devices.ID]lights.Fields{}, current: map[devices.ID]liveness.Conn{}, changed: make(chan struct{}, 1)}
	if feed == nil {
		feed = devices.Feeds{}
	}
	h.Ingest = readings.New(store, readings.Config{Now: time.Now, Device: reg.Get, Logger: log, Feed: feed})
	reg.Guard(h.Ingest.Guard)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = h.Ingest.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	h.Hub = adapter.Hub{Registry: reg, Readings: (*ingest)(h), Commands: (*control)(h), Liveness: (*links)(h), Tokens: tokens{}, Root: "hub/v1", Log: log, Audit: (*audit)(h),
		Issue: h.issue, State: h.state, Latest: h.Ingest.Latest, Status: h.status}
	h.SetStatus(devices.Status{State: devices.Online})
	return h
}

// Refuse makes pushes of readings fail with err until it is nil again.
func (h *Hub) Refuse(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuse = err
}

// SetState is what State answers for a light.
func (h *Hub) SetState(id devices.ID, f lights.Fields) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states[id] = f
}

// SetStatus is what Status answers for every device.
func (h *Hub) SetStatus(s devices.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.standing = s
}

func (h *Hub) status(devices.ID) devices.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.standing
}

// RefuseCommands makes commands and reports fail with err until it is nil again.
func (h *Hub) RefuseCommands(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noCommands = err
}

// IssueTakes is how long the command log takes.
func (h *Hub) IssueTakes(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.issueTakes = d
}

func (h *Hub) note(format string, a ...any) {
	h.mu.Lock()
	h.log = append(h.log, fmt.Sprintf(format, a...))
	h.mu.Unlock()
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// Log is what was done so far.
func (h *Hub) Log() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.log...)
}

// Want waits until a line of the log contains s.
func (h *Hub) Want(t testing.TB, s string) {
	t.Helper()
	h.WantThat(t, s, func() bool { return strings.Contains(strings.Join(h.Log(), "\n"), s) })
}

// WantThat waits until cond holds.
func (h *Hub) WantThat(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not seen: %s; the log is\n%s", what, strings.Join(h.Log(), "\n"))
		}
		select {
		case <-h.changed:
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Values are the latest of a device, as JSON of {metric: value}.
func (h *Hub) Values(id devices.ID) string {
	m := map[string]string{}
	for name, l := range h.Ingest.Latest(id) {
		m[name] = strings.TrimSpace(fmt.Sprint(l.V, " ", l.U))
	}
	b, _ := json.Marshal(m)
	return string(b)
}

// Sequence is what is stored of a metric of a device, in the order of its times.
func (h *Hub) Sequence(t testing.TB, id devices.ID, metric string) (list []string) {
	t.Helper()
	var out bytes.Buffer
	if err := h.Ingest.Export(t.Context(), &out, readings.ExportQuery{Device: id, To: 1 << 47}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if cells := strings.Split(line, ","); cells[1] == metric {
			list = append(list, cells[3])
		}
	}
	return list
}

// Send sends a command c-1 as the dispatcher does; false when the device is not linked.
func (h *Hub) Send(id devices.ID, op string, params map[string]any) bool {
	return h.SendAs(id, "c-1", op, params)
}

// SendAs is Send under another id.
func (h *Hub) SendAs(id devices.ID, cmd, op string, params map[string]any) bool {
	h.mu.Lock()
	send := h.links[id]
	h.mu.Unlock()
	now := time.Now().UnixMilli()
	return send != nil && send(commands.Envelope{CmdID: cmd, Op: op, Params: params, IssuedAt: now, ExpiresAt: now + 10_000, TTLMS: 10_000, Attempt: 1, By: "user:ana"})
}

func (h *Hub) issue(_ context.Context, a devices.Actor, _ devices.Origin, id devices.ID, r commands.Request) (commands.Receipt, error) {
	h.mu.Lock()
	err, takes := h.noCommands, h.issueTakes
	h.mu.Unlock()
	time.Sleep(takes)
	if err == nil {
		h.note("issue %s %s %s %s", a, id, r.Op, r.Params)
	}
	return commands.Receipt{}, err
}

func (h *Hub) state(id devices.ID) (lights.Fields, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, ok := h.states[id]
	return f, ok
}

type ingest Hub

func (i *ingest) Submit(src readings.Source, b readings.Batch, done func(readings.Result, error)) {
	h := (*Hub)(i)
	h.mu.Lock()
	refuse := h.refuse
	h.mu.Unlock()
	if refuse != nil {
		h.note("refused %s", src.Device.ID)
		done(readings.Result{}, refuse)
		return
	}
	h.Ingest.Submit(src, b, func(r readings.Result, err error) {
		h.note("readings %s accepted=%d dup=%d err=%v", src.Device.ID, r.Accepted, r.Dup, err)
		done(r, err)
	})
}

type control Hub

func (c *control) Connected(id devices.ID, epoch int64, transport devices.Transport, window int, send func(commands.Envelope) bool) {
	h := (*Hub)(c)
	h.mu.Lock()
	h.links[id] = send
	h.mu.Unlock()
	h.note("connected %s epoch=%d %s window=%d", id, epoch, transport, window)
}

func (c *control) Disconnected(id devices.ID, epoch int64) {
	h := (*Hub)(c)
	h.mu.Lock()
	delete(h.links, id)
	h.mu.Unlock()
	h.note("disconnected %s epoch=%d", id, epoch)
}

func (c *control) Answer(id devices.ID, _ int64, payload []byte) error {
	(*Hub)(c).note("answer %s %s", id, payload)
	return nil
}

func (c *control) Forwarded(id devices.ID, _ int64, cmdID string) {
	(*Hub)(c).note("forwarded %s %s", id, cmdID)
}

func (c *control) Report(id devices.ID, _ int64, _ time.Time, payload []byte) (int64, error) {
	h := (*Hub)(c)
	h.mu.Lock()
	err := h.noCommands
	h.mu.Unlock()
	if err == nil {
		h.note("state %s %s", id, payload)
	}
	return 1, err
}

type links Hub

func (l *links) BridgeUp(name string)   { (*Hub)(l).note("up %s", name) }
func (l *links) BridgeDown(name string) { (*Hub)(l).note("down %s", name) }

func (l *links) BridgeHeard(id devices.ID, name string, can liveness.Availability) int64 {
	h := (*Hub)(l)
	h.mu.Lock()
	defer h.mu.Unlock()
	if can == liveness.NoAvailability {
		return 0
	}
	if _, ok := h.current[id]; !ok {
		h.epoch++
		h.current[id] = liveness.Conn{Transport: devices.OverBridge(name)}
	}
	return h.epoch
}

func (l *links) BridgeAvailable(id devices.ID, name string, online bool, reason string) int64 {
	h := (*Hub)(l)
	if online {
		h.note("online %s", id)
		return l.BridgeHeard(id, name, liveness.Announced)
	}
	h.note("offline %s %s", id, reason)
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.current, id)
	return 0
}

func (l *links) BridgeUnknown(id devices.ID, _ string) { (*Hub)(l).note("unknown %s", id) }

func (l *links) Current(id devices.ID) (int64, liveness.Conn, bool) {
	h := (*Hub)(l)
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.current[id]
	return h.epoch, c, ok
}

// tokens takes "bridge-<id>" for a device's token.
type tokens struct{}

func (tokens) VerifyBridge(_ string, id devices.ID, token string) (identity.Principal, error) {
	if token != "bridge-"+string(id) {
		return identity.Principal{}, devices.Refuse(devices.CodeUnauthorized, "wrong token")
	}
	return identity.Principal{}, nil
}

type audit Hub

func (a *audit) Record(_ devices.Origin, e devices.AuditEntry) {
	(*Hub)(a).note("audit %s %s %s %s", e.Actor, e.Action, e.Target, e.Code)
}
