package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"devicehub/bridge/packet"
	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/identity"
	"devicehub/devices/liveness"
	"devicehub/devices/readings"
	"devicehub/devices/session"
	"devicehub/devices/shadow"
	"devicehub/devices/sqlite"
	"devicehub/devices/trace"
)

// wholeHub is the services behind the listener, real ones.
type wholeHub struct {
	srv      *Server
	addr     string
	registry *devices.Registry
	identity *identity.Service
	ingest   *readings.Ingest
	commands *commands.Dispatcher
	shadows  *shadow.Shadows
	liveness *liveness.Tracker
	store    *stoppable
	tracer   *trace.Tracer
}

// stoppable is a store of readings that can be out of order.
type stoppable struct {
	readings.Store
	fail atomic.Pointer[error]
}

func (s *stoppable) Append(g *readings.Group) error {
	if err := s.fail.Load(); err != nil {
		return *err
	}
	return s.Store.Append(g)
}

type nobody struct{}

func (nobody) Track(session.Done, devices.Kind, devices.ID, map[string]any) error { return nil }

func startHub(t *testing.T) *wholeHub { return startHubWith(t, nil) }

func startHubWith(t *testing.T, change func(*Config)) *wholeHub {
	return startHubOn(t, readings.NewMemory(), change)
}

func startHubOn(t *testing.T, store readings.Store, change func(*Config)) *wholeHub {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.DiscardHandler)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "hub.db"), log)
	must(err)
	h := &wholeHub{store: &stoppable{Store: store}, tracer: new(trace.Tracer)}
	h.registry, err = devices.OpenRegistry(ctx, db)
	must(err)
	h.identity, err = identity.Open(ctx, db, h.registry, identity.Config{Logger: log, HashMemory: 64})
	must(err)
	_, err = h.identity.Prepare(ctx, "correct horse battery")
	must(err)
	h.ingest = readings.New(h.store, readings.Config{Now: time.Now, Device: h.registry.Get, Logger: log, Feed: devices.Feeds{}})
	h.liveness, err = liveness.New(ctx, liveness.Config{Store: db, Registry: h.registry, Node: "n", Logger: log})
	must(err)
	h.shadows, err = shadow.New(ctx, shadow.Config{Store: db, Registry: h.registry, Logger: log})
	must(err)
	h.commands, err = commands.New(ctx, commands.Config{Store: db, Registry: h.registry, Shadows: h.shadows, Liveness: h.liveness, Logger: log})
	must(err)
	door := &session.Door{Registry: h.registry, Identity: h.identity, Readings: h.ingest, Commands: h.commands, Liveness: h.liveness, Presence: nobody{}, Node: "n", Log: log, Trace: h.tracer}
	door.SetLimits(session.Limits{FrameBytes: 65536, ReadingsPerPush: 500, PushesInFlight: 8, EventsPerSecond: 1e6})
	h.registry.Watch(door.Watch)
	h.identity.Watch(func(c identity.Change) { door.Recheck(c.Devices, c.All) })
	h.srv, h.addr = start(t, change, WithDoor(NewDoor(door, h.identity, h.registry)), WithAccounts(NewAccounts(h.identity, h.registry, nil)))
	h.identity.Watch(func(identity.Change) { h.srv.CheckAccounts() })
	done := make(chan struct{}, 5)
	for _, run := range []func(context.Context) error{h.ingest.Run, h.liveness.Run, h.commands.Run, h.identity.Run, door.Run} {
		go func() { _ = run(ctx); done <- struct{}{} }()
	}
	t.Cleanup(func() {
		cancel()
		for range 5 {
			<-done
		}
		_ = db.Close()
	})
	return h
}

// add makes a device and returns its token.
func (h *wholeHub) add(t *testing.T, d *devices.Device, short bool) string {
	t.Helper()
	d.Enabled, d.Via = true, devices.ViaDirect
	made, err := h.identity.CreateDevices(t.Context(), devices.CLI(), devices.Origin{Via: "cli"}, []*devices.Device{d}, identity.TokenOptions{Short: short})
	if err != nil {
		t.Fatal(err)
	}
	return made[0].Token.Token
}

func (h *wholeHub) connect(t *testing.T, v byte, id, token string) *raw {
	t.Helper()
	c := dial(t, h.addr, v)
	c.send(packet.Connect<<4, c.connectBody(connect{id: id, user: id, password: token, clean: true}))
	if b := c.wantType(packet.Connack); b[1] != 0 {
		t.Fatalf("CONNACK %x", b)
	}
	return c
}

func (h *wholeHub) wantState(t *testing.T, id devices.ID, want devices.State, reason string) {
	t.Helper()
	var s devices.Status
	for range 300 {
		if s = h.liveness.Status(id); s.State == want && s.Reason == reason {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("status %+v, want %s %s", s, want, reason)
}

func TestWholeHub(t *testing.T) {
	needMosquitto(t)
	h := startHub(t)
	token := h.add(t, &devices.Device{ID: "kitchen-temp", Kinds: []devices.Kind{devices.KindSensor}}, false)
	short := h.add(t, &devices.Device{ID: "tiny", Kinds: []devices.Kind{devices.KindSensor}}, true)
	host, port, _ := strings.Cut(h.addr, ":")
	out, err := exec.Command("mosquitto_pub", "-h", host, "-p", port, "-u", "kitchen-temp", "-P", token, "-t", "hub/v1/kitchen-temp/r", "-q", "1", "-m", `{"m":"temperature","v":21.4}`).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if l := h.ingest.Latest("kitchen-temp")["temperature"]; l.V != 21.4 { // durable before mosquitto_pub ended
		t.Errorf("got %+v", l)
	}
	h.wantState(t, "kitchen-temp", devices.Offline, "client_close")
	out, err = exec.Command("mosquitto_pub", "-h", host, "-p", port, "-u", "tiny", "-P", short, "-t", "hub/v1/tiny/r/temperature", "-q", "1", "-m", `20.5`).CombinedOutput()
	if err != nil {
		t.Fatalf("the short token: %v: %s", err, out)
	}
	if out, err := exec.Command("mosquitto_pub", "-h", host, "-p", port, "-u", "tiny", "-P", token, "-t", "hub/v1/tiny/r", "-m", "{}").CombinedOutput(); err == nil {
		t.Errorf("another device's token was let in: %s", out)
	}
}

// devices/PROTOCOL.md#mqtt, with the real path behind it: the store out of order, then back.
func TestStoreStopped(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the hub to send devices away")
	}
	t.Parallel()
	h := startHub(t)
	token := h.add(t, &devices.Device{ID: "d", Kinds: []devices.Kind{devices.KindSensor}}, false)
	broken := errors.New("no space left on device")
	for _, qos := range []byte{1, 2} {
		ack := []byte{0, packet.Puback, packet.Pubrec}[qos]
		h.store.fail.Store(&broken)
		five := h.connect(t, packet.V5, "d", token)
		five.publish("hub/v1/d/r", `{"m":"temperature","v":1}`, qos, 1)
		if b := five.wantType(ack); len(b) < 3 || b[2] != packet.ImplementationError {
			t.Errorf("QoS %d: %x, want 83", qos, b)
		}
		five.nc.Close()
		three := h.connect(t, packet.V311, "d", token)
		three.publish("hub/v1/d/r", `{"m":"temperature","v":1}`, qos, 1)
		three.wantClosed() // and no acknowledgement before
		h.store.fail.Store(nil)
		three = h.connect(t, packet.V311, "d", token)
		three.send(packet.Publish<<4|qos<<1|8, three.publishBody("hub/v1/d/r", `{"m":"temperature","v":1}`, qos, 1)) // it comes again
		three.want(ack<<4, 0, 1)
		three.publish("hub/v1/d/r", `{"m":"temperature","v":"warm"}`, qos, 2) // refused for good is acknowledged
		three.want(ack<<4, 0, 2)
		five = h.connect(t, packet.V5, "d", token)
		five.publish("hub/v1/d/r", `{"m":"temperature","v":"warm"}`, qos, 3)
		if b := five.wantType(ack); b[2] != packet.PayloadInvalid {
			t.Errorf("QoS %d: %x, want 99", qos, b)
		}
		five.nc.Close()
	}
}

func TestRevocation(t *testing.T) {
	h := startHub(t)
	token := h.add(t, &devices.Device{ID: "d", Kinds: []devices.Kind{devices.KindSensor}}, false)
	c := h.connect(t, packet.V5, "d", token)
	begun := time.Now()
	if err := h.identity.RevokeDevice(t.Context(), devices.CLI(), devices.Origin{Via: "cli"}, "d"); err != nil {
		t.Fatal(err)
	}
	if b := c.wantType(packet.Disconnect); b[0] != packet.NotAuthorized {
		t.Errorf("DISCONNECT %02x", b[0])
	}
	if d := time.Since(begun); d > time.Second {
		t.Errorf("it took %v", d)
	}
	h.wantState(t, "d", devices.Offline, "token_revoked")
	c = dial(t, h.addr, packet.V5)
	c.send(packet.Connect<<4, c.connectBody(connect{id: "d", user: "d", password: token, clean: true}))
	if b := c.wantType(packet.Connack); b[1] != packet.NotAuthorized {
		t.Errorf("CONNACK %02x", b[1])
	}
	off := h.add(t, &devices.Device{ID: "off", Kinds: []devices.Kind{devices.KindSensor}}, false)
	c = h.connect(t, packet.V5, "off", off)
	if _, err := h.registry.Update(t.Context(), "off", func(d *devices.Device) error { d.Enabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	if b := c.wantType(packet.Disconnect); b[0] != packet.Banned {
		t.Errorf("DISCONNECT %02x", b[0])
	}
	c = dial(t, h.addr, packet.V5)
	c.send(packet.Connect<<4, c.connectBody(connect{id: "d", user: "off", password: off, clean: true}))
	if b := c.wantType(packet.Connack); b[1] != packet.Banned {
		t.Errorf("CONNACK %02x", b[1])
	}
}

// A light over MQTT: sent, acked, done, confirmed.
func TestLight(t *testing.T) {
	versions(t, func(t *testing.T, v byte) {
		h := startHub(t)
		token := h.add(t, &devices.Device{ID: "lamp", Kinds: []devices.Kind{devices.KindLight}, Light: &devices.Light{Modes: []devices.LightMode{devices.ModeRGB}}}, false)
		c := h.connect(t, v, "lamp", token)
		c.subscribe(1, "hub/v1/lamp/cmd")
		r, err := h.commands.Issue(t.Context(), devices.CLI(), devices.Origin{Via: "cli"}, "lamp", commands.Request{Op: "set", Params: []byte(`{"on":true,"brightness":200}`)})
		if err != nil {
			t.Fatal(err)
		}
		m := c.message()
		var e commands.Envelope
		if err := json.Unmarshal([]byte(m.payload), &e); err != nil || e.CmdID != r.CmdID || e.TTLMS <= 0 || m.retain || m.qos != 1 {
			t.Fatalf("got %+v %v", m, err)
		}
		if v == packet.V5 && (string(m.props.CorrelationData) != r.CmdID || m.props.MessageExpiryInterval == 0) {
			t.Errorf("properties %+v", m.props)
		}
		c.puback(m.id)
		for i, s := range []string{"acked", "done"} {
			c.publish("hub/v1/lamp/ack", fmt.Sprintf(`{"cmd_id":%q,"status":%q}`, r.CmdID, s), 1, uint16(i+1))
			c.wantType(packet.Puback)
		}
		c.publish("hub/v1/lamp/state", fmt.Sprintf(`{"on":true,"brightness":200,"mode":"rgb","rgb":[255,255,255],"cmd":%q}`, r.CmdID), 1, 9)
		c.wantType(packet.Puback)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		rec, err := h.commands.Wait(ctx, "lamp", r.CmdID, "confirmed")
		if err != nil || rec.Status != commands.Confirmed {
			t.Errorf("got %+v %v", rec, err)
		}
		c.nc.Close()
		h.wantState(t, "lamp", devices.Offline, "connection_lost")
		if _, err := h.commands.Issue(t.Context(), devices.CLI(), devices.Origin{Via: "cli"}, "lamp", commands.Request{Op: "set", Params: []byte(`{"on":false}`)}); devices.CodeOf(err) != devices.CodeDeviceOffline {
			t.Errorf("got %v", err)
		}
	})
}

func TestServiceAccount(t *testing.T) {
	h := startHub(t)
	scope, _ := devices.ParseScope("")
	_, token, err := h.identity.CreateAccount(t.Context(), devices.CLI(), devices.Origin{Via: "cli"}, identity.NewAccount{Name: "ha", Rights: devices.RightRead, Scope: scope, Topics: []string{"homeassistant/#", "hub/v1/+/ha/#"}})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, h.addr, packet.V5)
	c.send(packet.Connect<<4, c.connectBody(connect{id: "ha", user: "service:ha", password: token, clean: true}))
	if b := c.wantType(packet.Connack); b[1] != 0 {
		t.Fatalf("CONNACK %x", b)
	}
	c.publish("hub/v1/lamp/ha/light/set", `{"state":"ON"}`, 1, 1) // without the right to command
	if b := c.wantType(packet.Puback); len(b) < 3 || b[2] != packet.NotAuthorized {
		t.Errorf("PUBACK %x", b)
	}
	if err := h.identity.DeleteAccount(t.Context(), devices.CLI(), devices.Origin{Via: "cli"}, "ha"); err != nil {
		t.Fatal(err)
	}
	if b := c.wantType(packet.Disconnect); b[0] != packet.NotAuthorized {
		t.Errorf("DISCONNECT %02x", b[0])
	}
}
