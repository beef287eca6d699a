package channels

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/fleet"
	"devicehub/devices/identity"
	"devicehub/devices/liveness"
	"devicehub/devices/quota"
	"devicehub/devices/readings"
	"devicehub/devices/session"
	"devicehub/devices/shadow"
	"devicehub/hub"
	"devicehub/hub/hubtest"
	"devicehub/hub/presence"
)

// house is a hub with everything behind its sockets, in memory.
type house struct {
	t    *testing.T
	disk *slowDisk // of the commands
	app  *App
	stop func()
}

var root = devices.CLI()

const password = "a password for everybody"

// newHouse starts a house. change may alter the App before it is mounted.
// slowDisk keeps commands, and takes its time.
type slowDisk struct {
	commands.Memory
	takes atomic.Int64 // a time.Duration
}

func (d *slowDisk) SaveCommands(ctx context.Context, rows []commands.Row) error {
	time.Sleep(time.Duration(d.takes.Load()))
	return d.Memory.SaveCommands(ctx, rows)
}

func newHouse(t *testing.T, change func(*App)) *house {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	registry, err := devices.OpenRegistry(ctx, new(devices.MemoryRegistry))
	must(err)
	bounds := quota.New(quota.Limits{})
	people, err := identity.Open(ctx, new(identity.Memory), registry, identity.Config{TokenTTL: 24 * time.Hour, HashMemory: 64, Strangers: bounds})
	must(err)
	_, err = people.Prepare(ctx, password)
	must(err)
	var feeds devices.Feeds
	feed := devices.FeedFunc(func(e devices.Event) { feeds.Publish(e) })
	var live *liveness.Tracker
	ingest := readings.New(readings.NewMemory(), readings.Config{Feed: feed, OnData: func(id devices.ID, _ int) { live.DataChanged(id) }})
	live, err = liveness.New(ctx, liveness.Config{Store: new(liveness.Memory), Registry: registry, Freshness: ingest.Freshness, Feed: feed})
	must(err)
	shadows, err := shadow.New(ctx, shadow.Config{Store: new(shadow.Memory), Registry: registry})
	must(err)
	disk := new(slowDisk)
	control, err := commands.New(ctx, commands.Config{Store: disk, Registry: registry, Shadows: shadows, Liveness: live, Feed: feed})
	must(err)
	rows := fleet.New(fleet.Config{Registry: registry, Status: live.Status, Latest: ingest.Latest, Light: shadows.Power, Logger: log})

	ep := hub.New(hub.WithLogger(log))
	tracker := presence.New(ep.PubSub())
	door := &session.Door{Registry: registry, Identity: people, Readings: ingest, Commands: control, Liveness: live, Presence: Presence{tracker}, Quota: bounds, Node: "n1", Log: log}
	door.SetLimits(session.Limits{FrameBytes: 65536, ReadingsPerPush: 500, PushesInFlight: 8, EventsPerSecond: 50})
	app := &App{Endpoint: ep, Presence: tracker, Registry: registry, Identity: people, Door: door, Readings: ingest, Commands: control, Shadows: shadows,
		Liveness: live, Fleet: rows, Log: log, AllowQueryToken: true, OfflineAfter: time.Minute, LongPollAfter: 15 * time.Second, Quota: bounds}
	if change != nil {
		change(app)
	}
	ep.Socket("/socket", app.Router(), hub.WithErrorHandler(RefuseUpgrade), hub.WithPollRefusal(RefusePoll))
	feeds = append(feeds, &Feed{Endpoint: ep, Log: log}, rows)
	registry.Watch(func(c devices.Change) {
		door.Watch(c)
		app.RegistryChanged(c)
	})
	people.Watch(app.IdentityChanged)

	running, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{people.Run, ingest.Run, live.Run, shadows.Run, control.Run, rows.Run, door.Run} {
		wg.Go(func() {
			if err := run(running); err != nil {
				t.Error(err)
			}
		})
	}
	return &house{t: t, app: app, disk: disk, stop: func() {
		if err := ep.Drain(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		wg.Wait()
	}}
}

// inHouse runs f in a house where time is virtual.
func inHouse(t *testing.T, f func(h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		f(h)
		h.stop()
	})
}

// device makes a device and returns its token.
func (h *house) device(id devices.ID, kinds []devices.Kind, labels ...string) string {
	h.t.Helper()
	d := &devices.Device{ID: id, Kinds: kinds, Enabled: true, Labels: map[string]string{}}
	for i := 0; i+1 < len(labels); i += 2 {
		d.Labels[labels[i]] = labels[i+1]
	}
	made, err := h.app.Identity.CreateDevices(context.Background(), root, devices.Origin{}, []*devices.Device{d}, identity.TokenOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return made[0].Token.Token
}

var (
	sensor = []devices.Kind{devices.KindSensor}
	light  = []devices.Kind{devices.KindLight}
	both   = []devices.Kind{devices.KindSensor, devices.KindLight}
)

func scope(t *testing.T, s string) devices.Scope {
	t.Helper()
	sc, err := devices.ParseScope(s)
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

// person makes a person, signs them in and returns the session's token.
func (h *house) person(name string, role devices.Role, in string) string {
	h.t.Helper()
	ctx := context.Background()
	if _, err := h.app.Identity.CreateUser(ctx, root, devices.Origin{}, identity.NewUser{Username: name, Password: password, Role: role, Scope: scope(h.t, in)}); err != nil {
		h.t.Fatal(err)
	}
	got, err := h.app.Identity.Login(ctx, devices.Origin{Addr: "192.0.2.7"}, name, password, "test")
	if err != nil {
		h.t.Fatal(err)
	}
	return got.Token
}

// program makes a service account and returns its token.
func (h *house) program(name string, rights devices.Right, in string) string {
	h.t.Helper()
	_, token, err := h.app.Identity.CreateAccount(context.Background(), root, devices.Origin{}, identity.NewAccount{Name: name, Rights: rights, Scope: scope(h.t, in)})
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

func (h *house) update(name string, p identity.UserPatch) {
	h.t.Helper()
	if _, err := h.app.Identity.UpdateUser(context.Background(), root, devices.Origin{}, name, p); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) label(id devices.ID, key, value string) {
	h.t.Helper()
	if _, err := h.app.Registry.Update(context.Background(), id, func(d *devices.Device) error { d.Labels[key] = value; return nil }); err != nil {
		h.t.Fatal(err)
	}
}

// client is a connected client and its topics.
type client struct {
	*hubtest.Client
	t  *testing.T
	on map[string]*hubtest.Channel
}

func (h *house) dial(token string) (*client, error) {
	h.t.Helper()
	var opts []hubtest.Option
	if token != "" {
		opts = append(opts, hubtest.WithToken(token))
	}
	c, err := hubtest.Dial(h.t, h.app.Endpoint, "/socket", nil, opts...)
	return &client{c, h.t, map[string]*hubtest.Channel{}}, err
}

func (h *house) connect(token string) *client {
	h.t.Helper()
	c, err := h.dial(token)
	if err != nil {
		h.t.Fatalf("connect: %v", err)
	}
	return c
}

// object is the JSON object that a payload is.
func object(p hub.Payload) (o map[string]any) {
	_ = p.Decode(&o) // what is none has no fields
	return o
}

// ask sends an event, or joins with "phx_join", and returns the reply.
func (c *client) ask(topic, event, payload string) (status string, response map[string]any) {
	c.t.Helper()
	status, p := c.push(topic, event, payload).Reply()
	return status, object(p)
}

// push sends an event, or joins with "phx_join".
func (c *client) push(topic, event, payload string) *hubtest.Pushed {
	c.t.Helper()
	if event == "phx_join" {
		c.on[topic] = c.TryJoin(topic, json.RawMessage(payload))
		return c.on[topic].Joined
	}
	return c.topic(topic).Push(event, json.RawMessage(payload))
}

func (c *client) topic(topic string) *hubtest.Channel {
	c.t.Helper()
	if c.on[topic] == nil {
		c.t.Fatalf("%s was not joined", topic)
	}
	return c.on[topic]
}

// join joins a topic and returns the reply.
func (c *client) join(topic string) map[string]any {
	c.t.Helper()
	status, response := c.ask(topic, "phx_join", "{}")
	if status != "ok" {
		c.t.Fatalf("join %s: got %s %v", topic, status, response)
	}
	return response
}

// want waits for an event on a topic, among others.
func (c *client) want(topic, event string) map[string]any {
	c.t.Helper()
	return object(c.topic(topic).WantSoon(event, nil))
}

// never wants no such event to have come, after a second more.
func (c *client) never(topic, event string) {
	c.t.Helper()
	time.Sleep(time.Second)
	c.topic(topic).WantNo(event)
}

// wantClosed waits for the connection's end, for at most a second.
func (c *client) wantClosed(code int) {
	c.t.Helper()
	start := time.Now()
	c.WantClose(code)
	if took := time.Since(start); took > time.Second {
		c.t.Errorf("closed after %v, want it within a second", took)
	}
}

func (c *client) open() bool {
	synctest.Wait()
	return c.Conn().Context().Err() == nil
}
