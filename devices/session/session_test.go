package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/identity"
	"devicehub/devices/liveness"
	"devicehub/devices/quota"
	"devicehub/devices/readings"
	"devicehub/devices/shadow"
	"devicehub/devices/trace"
)

// house is a door with everything behind it, in memory, in a synctest bubble.
type house struct {
	t        *testing.T
	registry *devices.Registry
	identity *identity.Service
	liveness *liveness.Tracker
	commands *commands.Dispatcher
	shadows  *shadow.Shadows
	door     *Door
	shown    *shown
	audit    *origins
}

// origins is an Auditor that remembers by which way and from where.
type origins struct {
	mu  sync.Mutex
	got []string
}

func (a *origins) Record(o devices.Origin, e devices.AuditEntry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = append(a.got, e.Action+" "+o.Via+" "+o.Addr)
}

// shown is a Presence that remembers who is there.
type shown struct {
	mu    sync.Mutex
	there map[string]int
}

func (s *shown) Track(owner Done, k devices.Kind, id devices.ID, _ map[string]any) error {
	topic := devices.Topic(k, id)
	s.add(topic, 1)
	context.AfterFunc(owner.(*Session).ctx, func() { s.add(topic, -1) })
	return nil
}

func (s *shown) add(topic string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.there[topic] += n
}

func (s *shown) count(topic string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.there[topic]
}

var limits = Limits{FrameBytes: 65536, ReadingsPerPush: 500, PushesInFlight: 8, EventsPerSecond: 50}

const burst = 200

// bounds are what devices may ask for.
func bounds() (l quota.Limits) {
	l.Device.Rates[quota.Events] = quota.Rate{PerSecond: limits.EventsPerSecond, Burst: burst}
	return l
}

func inHouse(t *testing.T, f func(h *house)) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		h := &house{t: t, shown: &shown{there: map[string]int{}}, audit: new(origins)}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		var err error
		h.registry, err = devices.OpenRegistry(ctx, new(devices.MemoryRegistry))
		must(err)
		h.identity, err = identity.Open(ctx, new(identity.Memory), h.registry, identity.Config{TokenTTL: time.Hour, Auditor: h.audit})
		must(err)
		_, err = h.identity.Prepare(ctx, "a password for the administrator")
		must(err)
		ingest := readings.New(readings.NewMemory(), readings.Config{})
		h.liveness, err = liveness.New(ctx, liveness.Config{Store: new(liveness.Memory), Registry: h.registry})
		must(err)
		h.shadows, err = shadow.New(ctx, shadow.Config{Store: new(shadow.Memory), Registry: h.registry})
		must(err)
		h.commands, err = commands.New(ctx, commands.Config{Store: new(commands.Memory), Registry: h.registry, Shadows: h.shadows, Liveness: h.liveness})
		must(err)
		h.door = &Door{Registry: h.registry, Identity: h.identity, Readings: ingest, Commands: h.commands, Liveness: h.liveness,
			Presence: h.shown, Quota: quota.New(bounds()), Node: "n1", Log: slog.New(slog.DiscardHandler)}
		h.door.SetLimits(limits)
		h.registry.Watch(h.door.Watch)
		h.identity.Watch(func(c identity.Change) { h.door.Recheck(c.Devices, c.All) })

		running, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		for _, run := range []func(context.Context) error{h.identity.Run, ingest.Run, h.liveness.Run, h.shadows.Run, h.commands.Run, h.door.Run} {
			wg.Go(func() { must(run(running)) })
		}
		f(h)
		stop()
		wg.Wait()
	})
}

func (h *house) add(id devices.ID, kinds ...devices.Kind) identity.Principal {
	h.t.Helper()
	made, err := h.identity.CreateDevices(context.Background(), devices.CLI(), devices.Origin{Via: "cli"},
		[]*devices.Device{{ID: id, Kinds: kinds, Enabled: true}}, identity.TokenOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return made[0].Token.Principal
}

// line is a Link that remembers.
type line struct {
	mu   sync.Mutex
	deaf bool // the device does not listen
	said []string
	envs []commands.Envelope
	end  devices.Code
}

func (l *line) Send(_ devices.Kind, event string, payload any) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deaf {
		return false
	}
	l.said = append(l.said, event)
	if e, ok := payload.(commands.Envelope); ok {
		l.envs = append(l.envs, e)
	}
	return true
}

func (l *line) End(code devices.Code, _ string, _ int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = code
}

func (l *line) ended() devices.Code {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

func (l *line) heard(event string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.said {
		if s == event {
			n++
		}
	}
	return n
}

func (h *house) open(p identity.Principal, l *line) *Session {
	h.t.Helper()
	s, err := h.door.Open(context.Background(), Hello{Principal: p, Device: devices.ID(p.Name), Transport: "websocket", Addr: "192.0.2.1:5000", OfflineAfter: time.Minute}, l)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// say sends an event and returns the JSON of its reply.
func (h *house) say(s *Session, event, payload string) string {
	h.t.Helper()
	got := make(chan string, 2)
	s.Handle(event, []byte(payload), false, func(v any, err error) {
		var e *devices.Error
		switch {
		case errors.As(err, &e):
			var m json.Marshaler = e
			errors.As(err, &m)
			b, _ := m.MarshalJSON()
			got <- "error " + string(b)
		case err != nil:
			got <- "fault " + err.Error()
		default:
			b, _ := json.Marshal(v)
			got <- "ok " + string(b)
		}
	})
	return <-got
}

func code(reply string) devices.Code {
	var e devices.Error
	if len(reply) > 6 && reply[:6] == "error " {
		_ = json.Unmarshal([]byte(reply[6:]), &e)
	}
	return e.Code
}

func TestJoinSaysWhatTheDeviceShallBecome(t *testing.T) {
	inHouse(t, func(h *house) {
		lamp, dial := h.add("lamp", devices.KindSensor, devices.KindLight), h.add("dial", devices.KindSensor)
		want := func(p identity.Principal, k devices.Kind, fields string) {
			t.Helper()
			s := h.open(p, new(line))
			defer s.Close("client_close")
			reply, err := s.Join(k, JoinParams{})
			b, _ := json.Marshal(map[string]any{"delta": reply.Delta, "pending": reply.Pending})
			if err != nil || string(b) != fields {
				t.Errorf("%s on %s: got %s %v, want %s", p.Name, k, b, err, fields)
			}
		}
		for id, desired := range map[devices.ID]string{"lamp": "on", "dial": "setpoint"} {
			if _, err := h.shadows.Patch(context.Background(), devices.CLI(), devices.Origin{}, id, shadow.PatchRequest{Desired: map[string]any{desired: true}}); err != nil {
				t.Fatal(err)
			}
		}
		want(lamp, devices.KindLight, `{"delta":{"on":true},"pending":[]}`)
		want(lamp, devices.KindSensor, `{"delta":null,"pending":null}`)
		want(dial, devices.KindSensor, `{"delta":{"setpoint":true},"pending":[]}`)
	})
}

func TestDeviceIsLetInAndShown(t *testing.T) {
	inHouse(t, func(h *house) {
		p := h.add("lamp", devices.KindSensor, devices.KindLight)
		l := new(line)
		s := h.open(p, l)
		for _, k := range []devices.Kind{devices.KindSensor, devices.KindLight} {
			reply, err := s.Join(k, JoinParams{Boot: "b1", Firmware: "1.2"})
			if err != nil {
				t.Fatal(err)
			}
			if reply.Epoch != s.Epoch() || reply.Epoch == 0 || reply.Limits.PushesInFlight != 8 || reply.Config["ver"] == nil {
				t.Errorf("join reply: got %+v", reply)
			}
			if h.shown.count(devices.Topic(k, "lamp")) != 1 {
				t.Errorf("not shown on %s", k)
			}
		}
		if got := h.liveness.Status("lamp").State; got != devices.Online {
			t.Errorf("status: got %s, want online", got)
		}
		if d, _ := h.registry.Get("lamp"); d.Firmware != "1.2" {
			t.Errorf("firmware: got %q", d.Firmware)
		}
		s.Close("connection_lost")
		synctest.Wait()
		if st := h.liveness.Status("lamp"); st.State != devices.Offline || st.Reason != "connection_lost" || h.shown.count("light:lamp") != 0 {
			t.Errorf("after the end: got %+v", st)
		}
	})
}

func TestReadingsAreAnsweredWhenKept(t *testing.T) {
	inHouse(t, func(h *house) {
		s := h.open(h.add("temp", devices.KindSensor), new(line))
		_, _ = s.Join(devices.KindSensor, JoinParams{Boot: "b1"})
		for _, row := range []struct{ name, event, payload, want string }{
			{"one", "reading", `{"m":"temperature","v":21.4,"s":1}`, `ok {"ack":1,"accepted":1,"late":0,"dup":0,"rejected":[]}`},
			{"again", "reading", `{"m":"temperature","v":21.4,"s":1}`, `ok {"ack":1,"accepted":0,"late":0,"dup":1,"rejected":[]}`},
			{"several", "readings", `{"s0":2,"r":[["temperature",21.5],["humidity",40.2]]}`, `ok {"ack":3,"accepted":2,"late":0,"dup":0,"rejected":[]}`},
		} {
			if got := h.say(s, row.event, row.payload); got != row.want {
				t.Errorf("%s: got %s, want %s", row.name, got, row.want)
			}
		}
		for _, row := range []struct {
			name, event, payload string
			want                 devices.Code
		}{
			{"no JSON", "reading", `{"m":`, devices.CodeInvalid},
			{"unknown field", "reading", `{"m":"temperature","v":1,"w":2}`, devices.CodeInvalid},
			{"wrong unit", "reading", `{"m":"temperature","v":1,"u":"V"}`, devices.CodeUnitMismatch},
			{"wrong type", "reading", `{"m":"temperature","v":true}`, devices.CodeTypeConflict},
			{"unknown event", "dance", `{}`, devices.CodeInvalid},
			{"sleep in the past", "sleep", `{"awake_at":1}`, devices.CodeInvalid},
			{"state that is none", "state", `[]`, devices.CodeInvalid},
		} {
			if got := h.say(s, row.event, row.payload); code(got) != row.want {
				t.Errorf("%s: got %s, want %s", row.name, got, row.want)
			}
		}
		s.Close("client_close")
	})
}

func TestTheRateIsTheDevicesWhicheverWayItComes(t *testing.T) {
	inHouse(t, func(h *house) {
		p, other := h.add("noisy", devices.KindSensor), h.add("calm", devices.KindSensor)
		s, calm := h.open(p, new(line)), h.open(other, new(line))
		for range burst {
			if got := h.say(s, "info", `{}`); got != "ok null" {
				t.Fatal(got)
			}
		}
		if got := h.say(s, "info", `{}`); code(got) != devices.CodeRateLimited {
			t.Errorf("over the burst: got %s", got)
		}
		posted := make(chan error, 1)
		h.door.Post(p, "noisy", []byte(`{"r":[["temperature",1]]}`), func(_ any, err error) { posted <- err })
		if err := <-posted; devices.CodeOf(err) != devices.CodeRateLimited {
			t.Errorf("over HTTP at the same time: got %v", err)
		}
		if got := h.say(calm, "info", `{}`); got != "ok null" {
			t.Errorf("the neighbour: got %s", got)
		}
		time.Sleep(time.Second)
		if got := h.say(s, "info", `{}`); got != "ok null" {
			t.Errorf("a second later: got %s", got)
		}
		s.Close("client_close")
		calm.Close("client_close")
	})
}

// A device that keeps to what it is told is never sent away; one that floods is, whatever it
// sends, and its neighbour notices nothing.
func TestAFloodEndsTheConnection(t *testing.T) {
	inHouse(t, func(h *house) {
		for _, event := range []string{"dance", "info", "reading", "token_refresh"} {
			p, l := h.add(devices.ID("noisy-"+strings.ReplaceAll(event, "_", "-")), devices.KindSensor), new(line)
			s := h.open(p, l)
			n := 0
			for ; n < 5000 && l.ended() == ""; n++ {
				h.say(s, event, `{}`)
			}
			if l.ended() != devices.CodeRateLimited || n > 1500 {
				t.Errorf("%s: got %q after %d, want rate_limited after some 1200", event, l.ended(), n)
			}
			s.Close("client_close")
			if got := h.liveness.Status(devices.ID(p.Name)).Reason; got != "rate_limited" {
				t.Errorf("%s: offline for %q, want rate_limited", event, got)
			}
			// It may come back, but goes again as soon as it goes on.
			l = new(line)
			s = h.open(p, l)
			for n = 0; n < 5000 && l.ended() == ""; n++ {
				h.say(s, event, `{}`)
			}
			if n > 5 {
				t.Errorf("%s: sent %d before it was sent away again, want hardly any", event, n)
			}
			s.Close("client_close")
		}
		l := new(line)
		s := h.open(h.add("twice", devices.KindSensor), l)
		for range 20 * 100 {
			h.say(s, "info", `{}`)
			time.Sleep(10 * time.Millisecond)
		}
		if l.ended() != "" {
			t.Errorf("one that sends twice its rate: got %q, want no more than refusals", l.ended())
		}
		s.Close("client_close")
	})
}

func TestAccessEndsAtOnce(t *testing.T) {
	for name, row := range map[string]struct {
		change func(h *house) error
		want   devices.Code
	}{
		"revoked": {func(h *house) error {
			return h.identity.RevokeDevice(context.Background(), devices.CLI(), devices.Origin{}, "temp")
		}, devices.CodeTokenRevoked},
		"disabled": {func(h *house) error {
			_, err := h.registry.Update(context.Background(), "temp", func(d *devices.Device) error { d.Enabled = false; return nil })
			return err
		}, devices.CodeDeviceDisabled},
		"behind a bridge now": {func(h *house) error {
			_, err := h.registry.Update(context.Background(), "temp", func(d *devices.Device) error { d.Via = "shed"; return nil })
			return err
		}, devices.CodeForbidden},
		"deleted": {func(h *house) error { return h.registry.Delete(context.Background(), "temp", time.Now()) }, devices.CodeTokenRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			inHouse(t, func(h *house) {
				p := h.add("temp", devices.KindSensor)
				l := new(line)
				s := h.open(p, l)
				if err := row.change(h); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := l.ended(); got != row.want {
					t.Errorf("ended with %q, want %q", got, row.want)
				}
				if got := h.say(s, "reading", `{"m":"temperature","v":1}`); code(got) == "" {
					t.Errorf("an event after it: got %s", got)
				}
				s.Close("connection_lost")
				if _, err := h.door.Open(context.Background(), Hello{Principal: p, Device: "temp", Transport: "websocket"}, new(line)); devices.CodeOf(err) == "" {
					t.Errorf("a new connection: got %v", err)
				}
			})
		})
	}
}

func TestNewestConnectionWins(t *testing.T) {
	inHouse(t, func(h *house) {
		p := h.add("temp", devices.KindSensor)
		older, newer := new(line), new(line)
		first := h.open(p, older)
		second := h.open(p, newer)
		if older.ended() != devices.CodeReplaced || newer.ended() != "" || second.Epoch() <= first.Epoch() {
			t.Errorf("ends %q and %q, epochs %d and %d", older.ended(), newer.ended(), first.Epoch(), second.Epoch())
		}
		first.Close("connection_lost") // late news of the older one
		if got := h.liveness.Status("temp").State; got != devices.Online {
			t.Errorf("got %s, want online", got)
		}
		second.Close("client_close")
	})
}

// slowEnd holds up the end of a session until it is told to go on.
type slowEnd struct {
	Commands
	goOn chan struct{}
}

func (c slowEnd) Disconnected(id devices.ID, epoch int64) {
	<-c.goOn
	c.Commands.Disconnected(id, epoch)
}

// parted is a line whose device has said goodbye.
type parted struct{ line }

func (*parted) Settle(_, _ time.Duration) bool { return true }

// A connection that is being closed is waited for, and is not replaced.
func TestANewcomerWaitsForOneThatIsClosing(t *testing.T) {
	inHouse(t, func(h *house) {
		p := h.add("temp", devices.KindSensor)
		slow := slowEnd{h.commands, make(chan struct{})}
		h.door.Commands = slow
		older := new(parted)
		first, err := h.door.Open(context.Background(), Hello{Principal: p, Device: "temp", Transport: "mqtt"}, older)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { first.Close("client_close") })
		synctest.Wait()
		wg.Go(func() { h.open(p, new(line)) })
		synctest.Wait()
		close(slow.goOn)
		wg.Wait()
		if end := older.ended(); end != "" {
			t.Errorf("the older connection was told %q", end)
		}
		if got := h.liveness.Status("temp").State; got != devices.Online {
			t.Errorf("got %s, want online", got)
		}
	})
}

func TestExpiredTokenRefreshesAndNothingElse(t *testing.T) {
	inHouse(t, func(h *house) {
		made, err := h.identity.CreateDevices(context.Background(), devices.CLI(), devices.Origin{}, []*devices.Device{{ID: "temp", Kinds: []devices.Kind{devices.KindSensor}, Enabled: true}}, identity.TokenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		p, err := h.identity.Verify(made[0].Token.Token)
		if err != nil || !p.Expired {
			t.Fatalf("got %+v, %v, want an expired principal", p, err)
		}
		s := h.open(p, new(line))
		_, _ = s.Join(devices.KindSensor, JoinParams{})
		if got := h.say(s, "reading", `{"m":"temperature","v":1}`); code(got) != devices.CodeTokenExpired {
			t.Errorf("a reading: got %s", got)
		}
		if got := h.liveness.Status("temp").State; got != devices.NeverSeen {
			t.Errorf("got %s, want never_seen", got)
		}
		if got := h.say(s, "token_refresh", `{}`); got[:3] != "ok " {
			t.Fatalf("refresh: got %s", got)
		}
		if want := "token.refresh ws 192.0.2.1"; !slices.Contains(h.audit.got, want) {
			t.Errorf("audit: got %q, want %q among them", h.audit.got, want)
		}
		if got := h.say(s, "reading", `{"m":"temperature","v":1}`); got[:3] != "ok " {
			t.Errorf("a reading after it: got %s", got)
		}
		if got := h.liveness.Status("temp").State; got != devices.Online || h.shown.count("sensor:temp") != 1 {
			t.Errorf("got %s, want online and shown", got)
		}
		s.Close("client_close")
	})
}

func TestTokenRunsOut(t *testing.T) {
	inHouse(t, func(h *house) {
		l := new(line)
		s := h.open(h.add("temp", devices.KindSensor), l)
		_, _ = s.Join(devices.KindSensor, JoinParams{})
		time.Sleep(50 * time.Minute)
		synctest.Wait()
		if l.heard("token_expiring") != 1 {
			t.Errorf("told %d times at four fifths, want once", l.heard("token_expiring"))
		}
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		if got := l.ended(); got != devices.CodeTokenExpired {
			t.Errorf("ended with %q, want token_expired", got)
		}
		s.Close("connection_lost")
	})
}

func TestAShortLifeIsWatchedBySeconds(t *testing.T) {
	inHouse(t, func(h *house) {
		h.add("temp", devices.KindSensor)
		ttl := 10 * time.Second
		token, err := h.identity.IssueDevice(context.Background(), devices.CLI(), devices.Origin{}, "temp", identity.TokenOptions{TTL: &ttl})
		if err != nil {
			t.Fatal(err)
		}
		l := new(line)
		s := h.open(token.Principal, l)
		_, _ = s.Join(devices.KindSensor, JoinParams{})
		at := func(age time.Duration, warned int, ended devices.Code) {
			t.Helper()
			time.Sleep(time.Until(token.Principal.IssuedAt.Add(age)))
			synctest.Wait()
			if got := l.heard("token_expiring"); got != warned || l.ended() != ended {
				t.Errorf("at %s: warned %d times and ended with %q, want %d and %q", age, got, l.ended(), warned, ended)
			}
		}
		at(7*time.Second, 0, "")
		at(9500*time.Millisecond, 1, "")
		at(68*time.Second, 1, "") // a minute of leeway
		at(72*time.Second, 1, devices.CodeTokenExpired)
		s.Close("connection_lost")
		if len(h.door.expiring) != 0 {
			t.Error("a session that is over is watched")
		}
	})
}

func TestCommandFlowsAndIsConfirmed(t *testing.T) {
	inHouse(t, func(h *house) {
		l := new(line)
		s := h.open(h.add("lamp", devices.KindLight), l)
		_, _ = s.Join(devices.KindLight, JoinParams{Boot: "b1"})
		s.Listen()
		if got := h.say(s, "state", `{"on":false,"brightness":128,"mode":"brightness","cause":"boot"}`); got[:3] != "ok " {
			t.Fatal(got)
		}
		operator := devices.Actor{Kind: devices.ActorUser, Name: "ana", Rights: devices.RoleOperator.Rights()}
		r, err := h.commands.Issue(context.Background(), operator, devices.Origin{Via: "ws"}, "lamp", commands.Request{Op: "set", Params: json.RawMessage(`{"on":true}`)})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		l.mu.Lock()
		n := len(l.envs)
		l.mu.Unlock()
		if n != 1 {
			t.Fatalf("got %d envelopes, want 1", n)
		}
		for _, status := range []string{"acked", "done"} {
			if got := h.say(s, "ack", fmt.Sprintf(`{"cmd_id":%q,"status":%q}`, r.CmdID, status)); got != "ok null" {
				t.Errorf("%s: got %s", status, got)
			}
		}
		if got := h.say(s, "state", fmt.Sprintf(`{"on":true,"cause":"command","cmd":%q}`, r.CmdID)); got[:3] != "ok " {
			t.Errorf("state: got %s", got)
		}
		rec, err := h.commands.Get(context.Background(), operator, "lamp", r.CmdID)
		if err != nil || rec.Status != commands.Confirmed {
			t.Errorf("got %s, %v, want confirmed", rec.Status, err)
		}
		s.Close("client_close")
	})
}

// The connection is cut while a command is under way. What the light says of itself
// when it joins again ends it, and the next command reaches it at once.
func TestABlipDuringACommand(t *testing.T) {
	for _, row := range []struct {
		name, reported string
		sent           int // over the new connection, before the next command
	}{{"it shows it", `{"on":true}`, 0}, {"it shows something else", `{"on":false}`, 1}, {"it says nothing", ``, 1}} {
		inHouse(t, func(h *house) {
			p := h.add("lamp", devices.KindLight)
			operator := devices.Actor{Kind: devices.ActorUser, Name: "ana", Rights: devices.RoleOperator.Rights()}
			set := func(params string) string {
				r, err := h.commands.Issue(context.Background(), operator, devices.Origin{Via: "ws"}, "lamp", commands.Request{Op: "set", Params: json.RawMessage(params)})
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				return r.CmdID
			}
			s := h.open(p, new(line))
			_, _ = s.Join(devices.KindLight, JoinParams{Boot: "b1", Reported: json.RawMessage(`{"on":false}`)})
			s.Listen()
			a := set(`{"on":true}`)
			time.Sleep(500 * time.Millisecond)
			s.Close("connection_lost")
			time.Sleep(500 * time.Millisecond)

			l := new(line)
			s = h.open(p, l)
			reply, err := s.Join(devices.KindLight, JoinParams{Boot: "b1", Reported: json.RawMessage(row.reported)})
			if err != nil || len(reply.Pending) != row.sent {
				t.Errorf("%s: join reply %+v %v, want %d pending", row.name, reply.Pending, err, row.sent)
			}
			s.Listen()
			synctest.Wait()
			if n := l.heard("command"); n != row.sent {
				t.Errorf("%s: sent %d times, want %d", row.name, n, row.sent)
			}
			if row.sent > 0 {
				h.say(s, "ack", fmt.Sprintf(`{"cmd_id":%q,"status":"done"}`, a)) // it knows the command
			}
			b := set(`{"brightness":9}`)
			l.mu.Lock()
			last := l.envs[len(l.envs)-1]
			l.mu.Unlock()
			if last.CmdID != b {
				t.Errorf("%s: the next command does not reach it at once", row.name)
			}
			h.say(s, "state", `{"on":true,"brightness":9}`)
			for _, id := range []string{a, b} {
				if r, err := h.commands.Get(context.Background(), operator, "lamp", id); err != nil || r.Status != commands.Confirmed {
					t.Errorf("%s: got %+v %v, want confirmed", row.name, r, err)
				}
			}
			s.Close("client_close")
		})
	}
}

func TestForeignTokenAndWayAreRefused(t *testing.T) {
	inHouse(t, func(h *house) {
		p := h.add("temp", devices.KindSensor)
		h.add("other", devices.KindSensor)
		if _, err := h.door.Open(context.Background(), Hello{Principal: p, Device: "other", Transport: "mqtt"}, new(line)); devices.CodeOf(err) != devices.CodeForbidden {
			t.Errorf("another id: got %v", err)
		}
		s := h.open(p, new(line))
		if _, err := s.Join(devices.KindLight, JoinParams{}); devices.CodeOf(err) != devices.CodeForbidden {
			t.Errorf("a kind that it is not: got %v", err)
		}
		s.Close("client_close")
	})
}

func TestFollowersSeeWhatADeviceSendsAndGets(t *testing.T) {
	inHouse(t, func(h *house) {
		h.door.Trace = new(trace.Tracer)
		p := h.add("lamp", devices.KindLight)
		other := h.open(h.add("other", devices.KindSensor), new(line))
		f, err := h.door.Trace.Follow("lamp")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Stop()
		l := new(line)
		s := h.open(p, l)
		_, _ = s.Join(devices.KindLight, JoinParams{Boot: "b1"})
		s.Listen()
		h.say(s, "reading", `{"m":"temperature","v":21.5}`)
		h.say(s, "reading", `{"m":"temperature","v":true}`)
		h.say(s, "dance", `{"token":"eyJhbGciOiJFZERTQSJ9.e30.AAAA"}`)
		h.say(s, "token_refresh", `{}`)
		h.say(other, "reading", `{"m":"temperature","v":1}`)
		s.HandleBare("humidity", []byte("40"), func(any, error) {})
		synctest.Wait()
		h.door.Post(p, "lamp", []byte(`{"r":[["temperature",1]]}`), func(any, error) {})
		synctest.Wait()
		s.End(devices.CodeTokenRevoked, "the token was revoked")
		s.Close("connection_lost")
		h.door.Refused("websocket", "192.0.2.1:5000", "lamp", devices.Refuse(devices.CodeTokenRevoked, "the token was revoked"))
		other.Close("client_close")

		var got []string
		for len(f.Lines()) > 0 {
			l := <-f.Lines()
			if strings.Contains(string(l.Payload), "eyJ") || l.At == 0 {
				t.Errorf("got %+v", l)
			}
			got = append(got, strings.TrimRight(strings.Join([]string{l.Dir, string(l.Transport), l.Event, l.About, l.Topic, l.Outcome}, " "), " "))
		}
		want := []string{
			"in websocket connect   ok",
			"in websocket join  light:lamp", "out websocket reply join  ok",
			"out websocket ping  light:lamp",
			"in websocket reading", "out websocket reply reading  ok",
			"in websocket reading", "out websocket reply reading  type_conflict",
			"in websocket dance", "out websocket reply dance  invalid",
			"in websocket token_refresh", "out websocket reply token_refresh  ok",
			"in websocket reading  r/humidity", "out websocket reply reading  ok",
			"in http readings", "out http reply readings  ok",
			"out websocket disconnect", "in websocket close",
			"in websocket connect   token_revoked",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestCommandsThatDoNotReachTheDeviceAreShown(t *testing.T) {
	inHouse(t, func(h *house) {
		h.door.Trace = new(trace.Tracer)
		l := new(deaf)
		s, err := h.door.Open(context.Background(), Hello{Principal: h.add("lamp", devices.KindLight), Device: "lamp", Transport: "mqtt"}, l)
		if err != nil {
			t.Fatal(err)
		}
		f, _ := h.door.Trace.Follow("lamp")
		defer f.Stop()
		_, _ = s.Join(devices.KindLight, JoinParams{})
		s.Listen()
		for _, want := range []string{"", "not_sent"} {
			if l := <-f.Lines(); l.Event != "ping" || l.Outcome != want || l.Topic != "" {
				t.Errorf("got %+v, want %q", l, want)
			}
		}
		s.Close("connection_lost")
	})
}

// deaf is a Link that takes nothing.
type deaf struct{ line }

func (*deaf) Send(devices.Kind, string, any) bool { return false }

// A device that does not listen yet is told what it has to know when it does: its
// settings, and that its token runs out.
func TestAttend(t *testing.T) {
	inHouse(t, func(h *house) {
		p := h.add("d", devices.KindSensor)
		set := func(interval int) {
			t.Helper()
			if _, err := h.registry.Update(context.Background(), "d", func(d *devices.Device) error {
				d.Config = fmt.Appendf(nil, `{"interval":%d}`, interval)
				d.ConfigVer++
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		open := func() (*Session, *line) {
			l := &line{deaf: true}
			s := h.open(p, l)
			if _, err := s.Join(devices.KindSensor, JoinParams{}); err != nil {
				t.Fatal(err)
			}
			return s, l
		}
		attend := func(s *Session, l *line) {
			l.mu.Lock()
			l.deaf = false
			l.mu.Unlock()
			s.Attend()
		}
		s, l := open()
		attend(s, l)
		if l.heard("config") != 0 || l.heard("token_expiring") != 0 {
			t.Errorf("told %v, and there is nothing to tell", l.said)
		}
		s.Close("client_close")

		time.Sleep(50 * time.Minute) // of the token's hour
		s, l = open()
		set(30)
		time.Sleep(2 * time.Minute)
		if len(l.said) != 0 {
			t.Fatalf("heard %v, and does not listen", l.said)
		}
		attend(s, l)
		if l.heard("config") != 1 || l.heard("token_expiring") != 1 {
			t.Errorf("heard %v, want its settings and the end of its token", l.said)
		}
		for range 3 {
			h.say(s, "info", `{"config_ver":0}`)
		}
		if n := l.heard("config"); n != 2 {
			t.Errorf("told its settings %d times, want once more, however often it names others", n)
		}
		time.Sleep(again)
		h.say(s, "info", `{"config_ver":0}`)
		h.say(s, "info", `{"config_ver":1}`)
		if n := l.heard("config"); n != 3 {
			t.Errorf("told its settings %d times, want once more after a while", n)
		}
		set(40)
		h.say(s, "info", `{"config_ver":1}`)
		if n := l.heard("config"); n != 5 {
			t.Errorf("told its settings %d times, want the change, and once more", n)
		}
		s.Close("client_close")
	})
}

// An answer that a device may not have got is of use to it until it has one that is
// as good.
func TestStale(t *testing.T) {
	inHouse(t, func(h *house) {
		p := h.add("d", devices.KindSensor)
		time.Sleep(50 * time.Minute) // of the token's hour
		fresh, err := h.identity.RefreshDevice(context.Background(), p, devices.Origin{})
		if err != nil {
			t.Fatal(err)
		}
		s := h.open(p, new(line))
		if s.Stale("token_refresh", fresh) {
			t.Error("a newer token is of no use")
		}
		if s.Stale("", nil) {
			t.Error("a refusal is of no use")
		}
		s.Close("client_close")
		s = h.open(fresh.Principal, new(line))
		if !s.Stale("token_refresh", fresh) {
			t.Error("the token that it came with is of use")
		}
		s.Close("client_close")
	})
}
