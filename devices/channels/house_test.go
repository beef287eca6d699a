package channels

import (
	"context"
	"encoding/json"
	"fmt"
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

// client is a connected client that keeps everything it was sent.
type client struct {
	t    *testing.T
	pipe *hub.Pipe

	mu     sync.Mutex
	ref    int
	frames []frame
	closed *hub.PipeFrame
}

type frame struct {
	topic, event string
	ref          string
	payload      map[string]any
}

func (f frame) String() string {
	b, _ := json.Marshal(f.payload)
	return fmt.Sprintf("%s %s %s", f.topic, f.event, b)
}

func (h *house) dial(token string, params ...string) (*client, error) {
	c := &client{t: h.t}
	info := &hub.ConnectInfo{Params: hub.Params{"vsn": "2.0.0"}, RemoteAddr: "192.0.2.1:1234", AuthToken: token, HasAuthToken: token != ""}
	for i := 0; i+1 < len(params); i += 2 {
		info.Params[params[i]] = params[i+1]
	}
	var err error
	c.pipe, err = h.app.Endpoint.Dial("/socket", info, c.receive)
	return c, err
}

func (h *house) connect(token string) *client {
	h.t.Helper()
	c, err := h.dial(token)
	if err != nil {
		h.t.Fatalf("connect: %v", err)
	}
	return c
}

func (c *client) receive(f hub.PipeFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.Close {
		c.closed = &f
		return
	}
	var parts [5]json.RawMessage
	var got frame
	if err := json.Unmarshal(f.Data, &parts); err != nil {
		c.t.Errorf("%s: %v", f.Data, err)
		return
	}
	_ = json.Unmarshal(parts[1], &got.ref)
	_ = json.Unmarshal(parts[2], &got.topic)
	_ = json.Unmarshal(parts[3], &got.event)
	_ = json.Unmarshal(parts[4], &got.payload)
	c.frames = append(c.frames, got)
}

// ask sends an event, or joins with "phx_join", and returns the reply.
func (c *client) ask(topic, event, payload string) (status string, response map[string]any) {
	c.t.Helper()
	c.mu.Lock()
	c.ref++
	ref := fmt.Sprint(c.ref)
	c.mu.Unlock()
	join := `"` + topic + `"`
	c.pipe.Send(fmt.Appendf(nil, `[%s,%q,%q,%q,%s]`, join, ref, topic, event, payload), false)
	f, ok := c.next(func(f frame) bool { return f.event == "phx_reply" && f.ref == ref })
	if !ok {
		c.t.Fatalf("%s %s: no reply", topic, event)
	}
	status, _ = f.payload["status"].(string)
	response, _ = f.payload["response"].(map[string]any)
	return status, response
}

// next takes the first frame that fits, waiting for at most five seconds.
func (c *client) next(fits func(frame) bool) (frame, bool) {
	for range 50 {
		synctest.Wait()
		c.mu.Lock()
		for i, f := range c.frames {
			if fits(f) {
				c.frames = append(c.frames[:i], c.frames[i+1:]...)
				c.mu.Unlock()
				return f, true
			}
		}
		c.mu.Unlock()
		time.Sleep(100 * time.Millisecond)
	}
	return frame{}, false
}

// join joins a topic and forgets what came until now.
func (c *client) join(topic string) map[string]any {
	c.t.Helper()
	status, response := c.ask(topic, "phx_join", "{}")
	if status != "ok" {
		c.t.Fatalf("join %s: got %s %v", topic, status, response)
	}
	return response
}

// want waits for an event on a topic.
func (c *client) want(topic, event string) map[string]any {
	c.t.Helper()
	f, ok := c.next(func(f frame) bool { return f.topic == topic && f.event == event })
	if !ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.t.Fatalf("no %s on %s; got %v, closed %v", event, topic, c.frames, c.closed)
	}
	return f.payload
}

// never wants no such event to have come, after a second more.
func (c *client) never(topic, event string) {
	c.t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if f.topic == topic && (event == "" || f.event == event) {
			c.t.Errorf("got %s, want none", f)
		}
	}
}

// wantClosed waits for the connection's end, for at most a second.
func (c *client) wantClosed(code int) {
	c.t.Helper()
	start := time.Now()
	for {
		synctest.Wait()
		c.mu.Lock()
		closed := c.closed
		c.mu.Unlock()
		switch {
		case closed != nil && closed.Code != code:
			c.t.Fatalf("closed with %d %q, want %d", closed.Code, closed.Reason, code)
		case closed != nil:
			return
		case time.Since(start) > time.Second:
			c.t.Fatalf("still open after a second, want closed with %d", code)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (c *client) open() bool {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed == nil
}
