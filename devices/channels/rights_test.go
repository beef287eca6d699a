package channels

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/identity"
)

func TestWhoMayJoin(t *testing.T) {
	inHouse(t, func(h *house) {
		lamp := h.device("lamp", light, "room", "kitchen")
		h.device("attic", sensor, "room", "attic")
		tokens := map[string]string{
			"lamp":     lamp,
			"viewer":   h.person("vic", devices.RoleViewer, "room=kitchen"),
			"admin":    h.person("ada", devices.RoleAdmin, ""),
			"reader":   h.program("reader", devices.RightRead, "room=kitchen"),
			"ingester": h.program("ingester", devices.RightIngest, ""),
		}
		for _, row := range []struct {
			name, who, topic string
			ok               bool
		}{
			{"a device its own topic", "lamp", "light:lamp", true},
			{"a device what it is not", "lamp", "sensor:lamp", false},
			{"a device another's topic", "lamp", "sensor:attic", false},
			{"a device a fleet", "lamp", "fleet:all", false},
			{"a viewer in scope", "viewer", "light:lamp", true},
			{"a viewer outside it", "viewer", "sensor:attic", false},
			{"a viewer what does not exist", "viewer", "sensor:ghost", false},
			{"a viewer a kind that it is not", "viewer", "sensor:lamp", false},
			{"a viewer a fleet", "viewer", "fleet:all", true},
			{"an administrator anything", "admin", "sensor:attic", true},
			{"a program in scope", "reader", "light:lamp", true},
			{"a program outside it", "reader", "sensor:attic", false},
			{"a program that may not read", "ingester", "light:lamp", false},
			{"a program that may not read a fleet", "ingester", "fleet:all", false},
		} {
			c := h.connect(tokens[row.who])
			status, got := c.ask(row.topic, "phx_join", "{}")
			switch {
			case row.ok && status != "ok":
				t.Errorf("%s: got %s %v, want ok", row.name, status, got)
			case !row.ok && (status != "error" || got["reason"] != "unauthorized" || got["code"] != "forbidden"):
				t.Errorf("%s: got %s %v, want unauthorized, forbidden", row.name, status, got)
			}
			c.Close()
		}
	})
}

func TestRefusedConnects(t *testing.T) {
	inHouse(t, func(h *house) {
		lamp := h.device("lamp", light)
		h.device("off", sensor)
		gone := h.person("gone", devices.RoleViewer, "")
		off, err := h.app.Identity.IssueDevice(context.Background(), root, devices.Origin{}, "off", identity.TokenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.app.Registry.Update(context.Background(), "off", func(d *devices.Device) error { d.Enabled = false; return nil }); err != nil {
			t.Fatal(err)
		}
		if err := h.app.Identity.DeleteUser(context.Background(), root, devices.Origin{}, "gone"); err != nil {
			t.Fatal(err)
		}
		if err := h.app.Identity.RevokeDevice(context.Background(), root, devices.Origin{}, "lamp"); err != nil {
			t.Fatal(err)
		}
		for name, row := range map[string]struct {
			token string
			want  devices.Code
		}{
			"nothing":            {"", devices.CodeUnauthorized},
			"nonsense":           {"nonsense", devices.CodeUnauthorized},
			"a revoked token":    {lamp, devices.CodeTokenRevoked},
			"a disabled device":  {off.Token, devices.CodeDeviceDisabled},
			"a session that was": {gone, devices.CodeTokenRevoked},
		} {
			if _, err := h.dial(row.token); devices.CodeOf(err) != row.want {
				t.Errorf("%s: got %v, want %s", name, err, row.want)
			}
		}
	})
}

func TestEventsAreForThoseTheyAreMeantFor(t *testing.T) {
	inHouse(t, func(h *house) {
		lamp, ana := h.connect(h.device("lamp", both)), h.connect(h.person("ana", devices.RoleAdmin, ""))
		vic := h.connect(h.person("vic", devices.RoleViewer, ""))
		for _, topic := range []string{"sensor:lamp", "light:lamp"} {
			lamp.join(topic)
			ana.join(topic)
			vic.join(topic)
		}
		for _, event := range peopleEvents {
			if status, got := lamp.ask("light:lamp", event, "{}"); status != "error" || got["code"] != "forbidden" {
				t.Errorf("a device sends %s: got %s %v", event, status, got)
			}
		}
		for _, event := range deviceEvents {
			if status, got := ana.ask("light:lamp", event, "{}"); status != "error" || got["code"] != "forbidden" {
				t.Errorf("a person sends %s: got %s %v", event, status, got)
			}
		}
		for _, c := range []*client{lamp, ana} {
			if status, got := c.ask("light:lamp", "dance", "{}"); status != "error" || got["code"] != "invalid" {
				t.Errorf("an unknown event: got %s %v", status, got)
			}
		}
		for event, payload := range map[string]string{"command": `{"op":"set","params":{"on":true}}`, "cancel": `{"cmd_id":"01JD"}`, "shadow_update": `{"desired":{"on":true}}`} {
			if status, got := vic.ask("light:lamp", event, payload); status != "error" || got["code"] != "forbidden" {
				t.Errorf("a viewer sends %s: got %s %v", event, status, got)
			}
		}
		if status, got := vic.ask("light:lamp", "get", "{}"); status != "ok" || got["status"] == nil || got["shadow"] == nil && got["latest"] == nil {
			t.Errorf("a viewer's get: got %s %v", status, got)
		}

		// What one device says is heard by people and by no device, itself included.
		if status, got := lamp.ask("sensor:lamp", "reading", `{"m":"temperature","v":21.5}`); status != "ok" {
			t.Fatalf("reading: got %s %v", status, got)
		}
		if got := vic.want("sensor:lamp", "reading"); got["device"] != "lamp" {
			t.Errorf("got %v", got)
		}
		for _, event := range []string{"reading", "status", "state", "presence_state", "presence_diff", "device_changed"} {
			lamp.never("sensor:lamp", event)
			lamp.never("light:lamp", event)
		}
	})
}

// keys are who a presence state, or one side of a diff, is about.
func keys(v any) []string {
	m, _ := v.(map[string]any)
	return slices.Sorted(maps.Keys(m))
}

func TestPeopleArePresentToThoseWhoMaySeeThem(t *testing.T) {
	inHouse(t, func(h *house) {
		lamp := h.connect(h.device("lamp", light))
		lamp.join("light:lamp")
		olga, vic := h.connect(h.person("olga", devices.RoleOperator, "")), h.connect(h.person("vic", devices.RoleViewer, ""))
		vic.join("light:lamp")
		if got := keys(vic.want("light:lamp", "presence_state")); !slices.Equal(got, []string{"lamp"}) {
			t.Errorf("a viewer is shown %v, want the device alone", got)
		}
		time.Sleep(time.Second)
		olga.join("light:lamp")
		if got := keys(olga.want("light:lamp", "presence_state")); !slices.Equal(got, []string{"lamp", "user:olga", "user:vic"}) && !slices.Equal(got, []string{"lamp", "user:vic"}) {
			t.Errorf("an operator is shown %v", got)
		}
		if got := keys(olga.want("light:lamp", "presence_diff")["joins"]); !slices.Equal(got, []string{"user:olga"}) {
			t.Errorf("an operator is told that %v joined", got)
		}
		vic.never("light:lamp", "presence_diff")
		lamp.Close()
		for name, c := range map[string]*client{"operator": olga, "viewer": vic} {
			if got := keys(c.want("light:lamp", "presence_diff")["leaves"]); !slices.Equal(got, []string{"lamp"}) {
				t.Errorf("the %s is told that %v left, want lamp", name, got)
			}
		}

		// Who becomes a viewer no longer sees people, who becomes an operator does.
		viewer, operator := devices.RoleViewer, devices.RoleOperator
		h.update("olga", identity.UserPatch{Role: &viewer})
		if got := keys(olga.want("light:lamp", "presence_state")); len(got) != 0 {
			t.Errorf("once a viewer she is shown %v", got)
		}
		h.update("vic", identity.UserPatch{Role: &operator})
		if got := keys(vic.want("light:lamp", "presence_state")); !slices.Equal(got, []string{"user:olga", "user:vic"}) {
			t.Errorf("once an operator he is shown %v", got)
		}
		third := h.connect(h.person("third", devices.RoleViewer, ""))
		third.join("light:lamp")
		if got := keys(vic.want("light:lamp", "presence_diff")["joins"]); !slices.Equal(got, []string{"user:third"}) {
			t.Errorf("and told that %v joined", got)
		}
		olga.never("light:lamp", "presence_diff")
	})
}

func TestChangedRightsAreFeltAtOnce(t *testing.T) {
	inHouse(t, func(h *house) {
		h.device("lamp", light, "room", "kitchen")
		h.device("attic", sensor, "room", "attic")
		operator, viewer := devices.RoleOperator, devices.RoleViewer
		ana := h.connect(h.person("ana", operator, ""))
		for _, topic := range []string{"light:lamp", "sensor:attic", "fleet:all"} {
			ana.join(topic)
		}
		other := h.connect(h.person("other", operator, ""))
		other.join("sensor:attic")

		h.update("ana", identity.UserPatch{Role: &viewer})
		for _, topic := range []string{"light:lamp", "sensor:attic", "fleet:all"} {
			if got := ana.want(topic, "rights_changed"); got["role"] != "viewer" || got["scope"] != "" {
				t.Errorf("%s: got %v", topic, got)
			}
		}
		if status, got := ana.ask("light:lamp", "command", `{"op":"set","params":{"on":true}}`); status != "error" || got["code"] != "forbidden" {
			t.Errorf("a command of a viewer: got %s %v", status, got)
		}

		kitchen := scope(t, "room=kitchen")
		h.update("ana", identity.UserPatch{Scope: &kitchen})
		if got := ana.want("sensor:attic", "rights_changed"); got["scope"] != "room=kitchen" {
			t.Errorf("got %v", got)
		}
		ana.want("sensor:attic", "phx_close")
		ana.never("light:lamp", "phx_close")
		if status, got := ana.ask("sensor:attic", "phx_join", "{}"); status != "error" || got["reason"] != "unauthorized" {
			t.Errorf("joining again: got %s %v", status, got)
		}

		// The device leaves the scope, and comes back.
		h.label("lamp", "room", "cellar")
		ana.want("light:lamp", "phx_close")
		h.label("lamp", "room", "kitchen")
		ana.join("light:lamp")

		// A program that may no longer read loses what it read.
		panel := h.connect(h.program("panel", devices.RightRead|devices.RightCommand, ""))
		for _, topic := range []string{"light:lamp", "fleet:all"} {
			panel.join(topic)
		}
		kitchenOnly := scope(t, "room=kitchen")
		if _, err := h.app.Identity.UpdateAccount(context.Background(), root, devices.Origin{}, "panel", identity.AccountPatch{Scope: &kitchenOnly}); err != nil {
			t.Fatal(err)
		}
		for _, topic := range []string{"light:lamp", "fleet:all"} {
			got := panel.want(topic, "rights_changed")
			if _, hasRole := got["role"]; hasRole || fmt.Sprint(got["rights"]) != "[read command]" || got["scope"] != "room=kitchen" {
				t.Errorf("%s: got %v, want the rights of an account, which has no role", topic, got)
			}
		}
		command := devices.RightCommand
		if _, err := h.app.Identity.UpdateAccount(context.Background(), root, devices.Origin{}, "panel", identity.AccountPatch{Rights: &command}); err != nil {
			t.Fatal(err)
		}
		for _, topic := range []string{"light:lamp", "fleet:all"} {
			panel.want(topic, "phx_close")
		}

		// A deleted device's topics end for everybody.
		if err := h.app.Identity.DeleteDevice(context.Background(), root, devices.Origin{}, "attic"); err != nil {
			t.Fatal(err)
		}
		other.want("sensor:attic", "phx_close")
		if !ana.open() || !other.open() {
			t.Error("a connection was closed, want topics alone")
		}
	})
}

func TestAPersonsConnectionEndsWithTheirSession(t *testing.T) {
	ctx := context.Background()
	disabled, other := false, "another password"
	for name, end := range map[string]func(h *house, p identity.Principal) error{
		"signed out": func(h *house, p identity.Principal) error {
			return h.app.Identity.Logout(ctx, p, devices.Origin{})
		},
		"session ended by an administrator": func(h *house, p identity.Principal) error {
			return h.app.Identity.EndSession(ctx, root, devices.Origin{}, p.SID)
		},
		"password changed": func(h *house, _ identity.Principal) error {
			h.update("ana", identity.UserPatch{Password: &other})
			return nil
		},
		"disabled": func(h *house, _ identity.Principal) error {
			h.update("ana", identity.UserPatch{Enabled: &disabled})
			return nil
		},
		"deleted": func(h *house, _ identity.Principal) error {
			return h.app.Identity.DeleteUser(ctx, root, devices.Origin{}, "ana")
		},
		"signing key revoked": func(h *house, p identity.Principal) error {
			if _, err := h.app.Identity.RotateKey(ctx, root, devices.Origin{}); err != nil {
				return err
			}
			_, err := h.app.Identity.RevokeKey(ctx, root, devices.Origin{}, p.KID)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inHouse(t, func(h *house) {
				h.device("lamp", light)
				token := h.person("ana", devices.RoleAdmin, "")
				ana := h.connect(token)
				ana.join("light:lamp")
				p, err := h.app.Identity.Verify(token)
				if err != nil {
					t.Fatal(err)
				}
				if err := end(h, p); err != nil {
					t.Fatal(err)
				}
				ana.wantClosed(1008)
				if _, err := h.dial(token); err == nil {
					t.Error("the token still opens the socket")
				}
			})
		})
	}
}

func TestADeviceIsToldBeforeItIsClosed(t *testing.T) {
	ctx := context.Background()
	change := func(h *house, f func(d *devices.Device)) error {
		_, err := h.app.Registry.Update(ctx, "lamp", func(d *devices.Device) error { f(d); return nil })
		return err
	}
	for name, row := range map[string]struct {
		end    func(h *house) error
		code   devices.Code
		close  int
		reason string // of the status
	}{
		"revoked": {func(h *house) error {
			return h.app.Identity.RevokeDevice(ctx, root, devices.Origin{}, "lamp")
		}, devices.CodeTokenRevoked, 1008, "token_revoked"},
		"disabled": {func(h *house) error {
			return change(h, func(d *devices.Device) { d.Enabled = false })
		}, devices.CodeDeviceDisabled, 1008, "device_disabled"},
		"deleted": {func(h *house) error {
			return h.app.Identity.DeleteDevice(ctx, root, devices.Origin{}, "lamp")
		}, devices.CodeTokenRevoked, 1008, ""},
		"behind a bridge now": {func(h *house) error {
			return change(h, func(d *devices.Device) { d.Via = "shed" })
		}, devices.CodeForbidden, 1008, ""},
		"its socket id is disconnected": {func(h *house) error {
			h.app.Endpoint.Disconnect("device:lamp")
			return nil
		}, "kicked", 1001, "kicked"},
		"its token ran out": {func(h *house) error {
			time.Sleep(24*time.Hour + 3*time.Minute)
			return nil
		}, devices.CodeTokenExpired, 1008, "token_expired"},
	} {
		t.Run(name, func(t *testing.T) {
			inHouse(t, func(h *house) {
				lamp := h.connect(h.device("lamp", both))
				lamp.join("sensor:lamp")
				lamp.join("light:lamp")
				beat := keepAlive(lamp)
				if err := row.end(h); err != nil {
					t.Fatal(err)
				}
				for _, topic := range []string{"sensor:lamp", "light:lamp"} {
					if got := lamp.want(topic, "disconnect"); got["code"] != string(row.code) || got["reason"] == "" {
						t.Errorf("%s: got %v, want code %s", topic, got, row.code)
					}
				}
				lamp.wantClosed(row.close)
				beat()
				synctest.Wait()
				if st := h.app.Liveness.Status("lamp"); row.reason != "" && (st.State != devices.Offline || st.Reason != row.reason) {
					t.Errorf("got %+v, want offline for %s", st, row.reason)
				}
			})
		})
	}
}

// keepAlive sends heartbeats until stopped.
func keepAlive(c *client) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			c.Send(`[null,"h","phoenix","heartbeat",{}]`)
			select {
			case <-ctx.Done():
			case <-time.After(30 * time.Second):
			}
		}
	}()
	return func() { cancel(); <-done }
}

func TestANewerConnectionReplacesAnOlder(t *testing.T) {
	inHouse(t, func(h *house) {
		token := h.device("lamp", light)
		older := h.connect(token)
		older.join("light:lamp")
		newer := h.connect(token)
		epoch := newer.join("light:lamp")["epoch"]
		if got := older.want("light:lamp", "disconnect"); got["code"] != "replaced" || got["by_epoch"] != epoch {
			t.Errorf("got %v, want replaced by epoch %v", got, epoch)
		}
		older.wantClosed(4409)
		if !newer.open() || h.app.Liveness.Status("lamp").State != devices.Online {
			t.Error("the newer connection does not stand")
		}
	})
}

func TestTwoDevicesOfOneIdentity(t *testing.T) {
	inHouse(t, func(h *house) {
		token := h.device("lamp", light)
		var standing *client
		for i := range 12 {
			boot := string(rune('a' + i%2))
			c, err := h.dial(token)
			if err != nil {
				var e *devices.Error
				if !errors.As(err, &e) || e.Code != devices.CodeRateLimited || e.RetryAfter != 5*time.Second {
					t.Errorf("got %v, want rate_limited for 5 s", err)
				}
				if _, err := h.dial(token); !errors.As(err, &e) || e.RetryAfter != 10*time.Second {
					t.Errorf("again: got %v, want twice as long", err)
				}
				if st := h.app.Liveness.Status("lamp"); !st.Flapping {
					t.Errorf("got %+v, want flapping", st)
				}
				if standing == nil || !standing.open() {
					t.Error("the standing connection was closed too")
				}
				return
			}
			if status, got := c.ask("light:lamp", "phx_join", `{"boot":"`+boot+`"}`); status != "ok" {
				t.Fatalf("got %s %v", status, got)
			}
			standing = c
			time.Sleep(100 * time.Millisecond)
		}
		t.Error("twelve connections in turn, and none was turned away")
	})
}

func TestDevicesAreToldThatTheHubStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		lamp := h.connect(h.device("lamp", light))
		lamp.join("light:lamp")
		h.app.Door.Goodbye()
		h.stop()
		if got := lamp.want("light:lamp", "disconnect"); got["code"] != "server_drain" {
			t.Errorf("got %v", got)
		}
		lamp.wantClosed(1012)
	})
}

func TestRefreshOverTheChannel(t *testing.T) {
	inHouse(t, func(h *house) {
		token := h.device("lamp", both)
		time.Sleep(25 * time.Hour)
		lamp := h.connect(token)
		lamp.join("light:lamp")
		lamp.join("sensor:lamp")
		if status, got := lamp.ask("sensor:lamp", "reading", `{"m":"temperature","v":1}`); status != "error" || got["code"] != "token_expired" {
			t.Errorf("before it: got %s %v", status, got)
		}
		status, got := lamp.ask("light:lamp", "token_refresh", "{}")
		if status != "ok" || got["token"] == "" || got["gen"] != 1.0 || got["expires_at"] == nil {
			t.Fatalf("got %s %v", status, got)
		}
		if status, got := lamp.ask("sensor:lamp", "reading", `{"m":"temperature","v":1}`); status != "ok" {
			t.Errorf("after it: got %s %v", status, got)
		}
		if !lamp.open() || h.app.Liveness.Status("lamp").State != devices.Online {
			t.Error("the device is not online on the same connection")
		}
	})
}

func TestAtMostFourLiveViews(t *testing.T) {
	inHouse(t, func(h *house) {
		token := h.person("ana", devices.RoleAdmin, "")
		ana, neighbour := h.connect(token), h.connect(token)
		for _, name := range []string{"a", "b", "c", "d"} {
			ana.join("fleet:" + name)
		}
		if status, got := ana.ask("fleet:e", "phx_join", "{}"); status != "error" || got["code"] != "rate_limited" {
			t.Errorf("a fifth: got %s %v", status, got)
		}
		neighbour.join("fleet:a")
		if status, _ := ana.ask("fleet:d", "phx_leave", "{}"); status != "ok" {
			t.Error("leave")
		}
		ana.join("fleet:e")
		if status, got := ana.ask("fleet:e", "view", `{"q":"x:y:z:","sort":"nonsense"}`); status != "error" || got["code"] != "invalid" {
			t.Errorf("a bad view: got %s %v", status, got)
		}
		if status, got := ana.ask("fleet:e", "get", "{}"); status != "error" || got["code"] != "invalid" {
			t.Errorf("an unknown event: got %s %v", status, got)
		}
	})
}

// A change between the judgement of a token and the start of the connection is
// seen.
func TestNothingFallsBetween(t *testing.T) {
	inHouse(t, func(h *house) {
		token := h.person("ana", devices.RoleAdmin, "")
		ana := h.connect(token)
		p, _ := h.app.Identity.Verify(token)
		who := &caller{principal: p}
		ctx := callers.Assign(context.Background(), who)
		if err := h.app.Identity.EndSession(context.Background(), root, devices.Origin{}, p.SID); err != nil {
			t.Fatal(err)
		}
		if _, err := h.app.opened(ctx, ana.Conn()); devices.CodeOf(err) != devices.CodeTokenRevoked {
			t.Errorf("got %v, want token_revoked", err)
		}
		h.app.visitors.remove(who.visitor)
	})
}

// A changed record is told as far as each may see it: a configuration may hold
// secrets, and so may notes.
func TestAChangedRecordIsToldAsFarAsItMayBeSeen(t *testing.T) {
	inHouse(t, func(h *house) {
		h.device("lamp", light)
		feed := &Feed{Endpoint: h.app.Endpoint, Log: h.app.Log}
		h.app.Registry.Watch(func(c devices.Change) {
			feed.Publish(devices.Event{Device: c.ID(), Kinds: c.After.Kinds, Name: "device_changed", Payload: c.After, Key: "device"})
		})
		people := map[string]*client{}
		for name, role := range map[string]devices.Role{"ada": devices.RoleAdmin, "olga": devices.RoleOperator, "vic": devices.RoleViewer} {
			people[name] = h.connect(h.person(name, role, ""))
			people[name].join("light:lamp")
		}
		lat := 48.1
		if _, err := h.app.Registry.Update(context.Background(), "lamp", func(d *devices.Device) error {
			d.Name, d.Config, d.Notes, d.Lat = "Lamp", []byte(`{"key":"secret"}`), "under the mat", &lat
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]struct{ config, others bool }{"ada": {true, true}, "olga": {false, true}, "vic": {false, false}} {
			got := people[name].want("light:lamp", "device_changed")
			if got["name"] != "Lamp" || got["ver"] != 2.0 || (got["config"] != nil) != want.config || (got["notes"] != nil) != want.others || (got["lat"] != nil) != want.others {
				t.Errorf("%s is told %v", name, got)
			}
		}
	})
}
