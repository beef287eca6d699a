package httpapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/session"
)

// lamp is a light that is connected, obeys and confirms.
type lamp struct {
	t       *testing.T
	session *session.Session
	obey    bool
}

func (l *lamp) Send(_ devices.Kind, event string, payload any) bool {
	e, isCommand := payload.(commands.Envelope)
	if !isCommand || event != "command" || !l.obey {
		return true
	}
	go func() {
		say := func(event, body string) {
			l.session.Handle(event, []byte(body), false, func(_ any, err error) {
				if err != nil {
					l.t.Errorf("%s: %v", event, err)
				}
			})
		}
		say("ack", fmt.Sprintf(`{"cmd_id":%q,"status":"acked"}`, e.CmdID))
		say("ack", fmt.Sprintf(`{"cmd_id":%q,"status":"done","exec_ms":3}`, e.CmdID))
		say("state", fmt.Sprintf(`{"on":true,"brightness":%v,"cmd":%q,"cause":"command"}`, e.Params["brightness"], e.CmdID))
	}()
	return true
}

func (l *lamp) End(code devices.Code, _ string, _ int64) { l.session.Close(string(code)) }

func (r *rig) connect(token string, obey bool) *lamp {
	r.t.Helper()
	p, err := r.ident.Verify(token)
	if err != nil {
		r.t.Fatal(err)
	}
	l := &lamp{t: r.t, obey: obey}
	l.session, err = r.door.Open(r.t.Context(), session.Hello{Principal: p, Device: devices.ID(p.Name), Transport: "websocket", Addr: "127.0.0.1:1", Boot: "b1", OfflineAfter: time.Minute}, l)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := l.session.Join(devices.KindLight, session.JoinParams{Boot: "b1"}); err != nil {
		r.t.Fatal(err)
	}
	l.session.Listen()
	return l
}

func TestCommandsOverHTTP(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"lamp","kinds":["light"]}`)
	r.wantCode(r.do("POST", "/api/v1/devices/lamp/commands", r.admin, `{"op":"set","params":{"on":true}}`), devices.CodeDeviceOffline)
	l := r.connect(token, true)
	res := r.do("POST", "/api/v1/devices/lamp/commands?wait=confirmed&timeout_ms=5000", r.admin, `{"op":"set","params":{"brightness":200}}`)
	if res.status != 200 || res.field("status") != "confirmed" || res.field("by") != "user:admin" {
		t.Fatalf("got %d %s", res.status, res.body)
	}
	id := res.field("cmd_id").(string)
	if one := r.get("/api/v1/devices/lamp/commands/"+id, r.admin); one.status != 200 || one.field("status") != "confirmed" {
		t.Errorf("one: got %d %s", one.status, one.body)
	}
	receipt := r.do("POST", "/api/v1/devices/lamp/commands", r.admin, `{"op":"set","params":{"brightness":100}}`, header("Idempotency-Key", "button 7"))
	again := r.do("POST", "/api/v1/devices/lamp/commands", r.admin, `{"op":"set","params":{"brightness":100}}`, header("Idempotency-Key", "button 7"))
	if receipt.status != 202 || again.status != 202 || receipt.field("cmd_id") != again.field("cmd_id") {
		t.Errorf("the same key: got %d %s, then %d %s", receipt.status, receipt.body, again.status, again.body)
	}
	r.wantCode(r.do("POST", "/api/v1/devices/lamp/commands", r.admin, `{"op":"set","params":{"brightness":1}}`, header("Idempotency-Key", "button 7")), devices.CodeConflict)
	r.wantCode(r.do("POST", "/api/v1/devices/lamp/commands", r.admin, `{"op":"explode"}`), devices.CodeInvalid)
	r.wantCode(r.do("POST", "/api/v1/devices/lamp/commands", r.admin, `{"op":"set","params":{"brightness":300}}`), devices.CodeRange)
	r.wantCode(r.do("POST", "/api/v1/devices/lamp/commands?wait=forever", r.admin, `{"op":"identify"}`), devices.CodeInvalid)
	r.wantCode(r.get("/api/v1/devices/lamp/commands/unknown", r.admin), devices.CodeNotFound)
	if state := r.get("/api/v1/devices/lamp/shadow", r.admin); state.status != 200 || state.field("reported.on") != true {
		t.Errorf("shadow: got %d %s", state.status, state.body)
	}

	r.wantCode(r.do("DELETE", "/api/v1/devices/lamp/commands/"+id, r.admin, nil), devices.CodeConflict)
	l.session.Close("client_close")
	queued := r.do("POST", "/api/v1/devices/lamp/commands", r.admin, `{"op":"set","params":{"brightness":5},"policy":"all","expires_in_ms":60000}`)
	if queued.status != 202 || queued.field("status") != "queued" {
		t.Fatalf("offline: got %d %s", queued.status, queued.body)
	}
	late := r.do("POST", "/api/v1/devices/lamp/commands?wait=done&timeout_ms=50", r.admin, `{"op":"set","params":{"effect":"none"},"policy":"all"}`)
	r.wantCode(late, devices.CodeTimeout)
	if late.field("details.cmd_id") == nil {
		t.Errorf("got %s, want the cmd_id", late.body)
	}
	if c := r.do("DELETE", "/api/v1/devices/lamp/commands/"+queued.field("cmd_id").(string), r.admin, nil); c.status != 200 || c.field("status") != "cancelled" {
		t.Errorf("cancel: got %d %s", c.status, c.body)
	}
	page := r.get("/api/v1/devices/lamp/commands?limit=2", r.admin)
	if len(page.field("commands").([]any)) != 2 || page.field("next_cursor") == "" {
		t.Fatalf("history: got %s", page.body)
	}
	rest := r.get("/api/v1/devices/lamp/commands?limit=2&cursor="+page.field("next_cursor").(string), r.admin)
	if n := len(rest.field("commands").([]any)); n != 2 {
		t.Errorf("second page: got %d in %s", n, rest.body)
	}
	all := r.get("/api/v1/commands?limit=2", r.admin)
	if !slices.EqualFunc(all.field("commands").([]any), page.field("commands").([]any), func(a, b any) bool { return a.(map[string]any)["cmd_id"] == b.(map[string]any)["cmd_id"] }) {
		t.Errorf("of all devices: got %s, want %s", all.body, page.body)
	}
	all = r.get("/api/v1/commands?limit=2&cursor="+all.field("next_cursor").(string), r.admin)
	if n := len(all.field("commands").([]any)); n != 2 {
		t.Errorf("of all devices, second page: got %d in %s", n, all.body)
	}
	r.wantCode(r.get("/api/v1/commands?cursor="+page.field("next_cursor").(string), r.admin), devices.CodeInvalid)
	elsewhere := r.user("ed", "viewer", "area=attic")
	if none := r.get("/api/v1/commands", elsewhere); none.status != 200 || len(none.field("commands").([]any)) != 0 {
		t.Errorf("out of scope: got %d %s", none.status, none.body)
	}
	events := r.get("/api/v1/devices/lamp/events", r.admin)
	if list := events.field("events").([]any); len(list) == 0 || list[0].(map[string]any)["to"] != "offline" {
		t.Errorf("events: got %s", events.body)
	}
}

func TestTheAuditTellsBeforeAndAfter(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"lamp","kinds":["light"],"area":"hall"}`)
	for _, tt := range []struct{ call, body, action, before, after string }{
		{"PATCH /api/v1/devices/lamp", `{"area":"attic"}`, "device.update", `{"area":"hall"}`, `{"area":"attic"}`},
		{"PATCH /api/v1/devices/lamp/shadow", `{"desired":{"on":true,"brightness":7}}`, "shadow.update", ``, `{"brightness":7,"on":true}`},
		{"PATCH /api/v1/devices/lamp/shadow", `{"desired":{"on":null,"brightness":7}}`, "shadow.update", `{"on":true}`, `{"brightness":7,"on":null}`},
		{"DELETE /api/v1/devices/lamp/tokens", ``, "token.revoke", `{"gen":1,"min_gen":1}`, `{"gen":2,"min_gen":2}`},
	} {
		method, path, _ := strings.Cut(tt.call, " ")
		var body any
		if tt.body != "" {
			body = tt.body
		}
		if got := r.do(method, path, r.admin, body); got.status/100 != 2 {
			t.Fatalf("%s: got %d %s", tt.call, got.status, got.body)
		}
		var audit struct {
			Entries []struct {
				Action        string
				Before, After json.RawMessage
			}
		}
		r.into(r.get("/api/v1/audit?device=lamp&limit=1", r.admin), 200, &audit)
		if e := audit.Entries[0]; e.Action != tt.action || string(e.Before) != tt.before || string(e.After) != tt.after {
			t.Errorf("%s %s: got %s, before %s, after %s", tt.call, tt.body, e.Action, e.Before, e.After)
		}
	}
}

func TestCommandsRefusedAreAudited(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"lamp","kinds":["light"]}`)
	vi := r.user("vi", "viewer", "")
	r.wantCode(r.do("POST", "/api/v1/devices/lamp/commands", vi, `{"op":"set","params":{"on":true}}`), devices.CodeForbidden)
	var audit struct{ Entries []devices.AuditEntry }
	r.into(r.get("/api/v1/audit?device=lamp&actor=user:vi", r.admin), 200, &audit)
	if len(audit.Entries) != 1 || audit.Entries[0].Outcome != "refused" || audit.Entries[0].Code != devices.CodeForbidden {
		t.Errorf("got %+v", audit.Entries)
	}
}

func TestShadowOverHTTP(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"lamp","kinds":["light"]}`)
	if empty := r.get("/api/v1/devices/lamp/shadow", r.admin); empty.status != 200 || empty.field("kind") != "light" {
		t.Errorf("never written: got %d %s", empty.status, empty.body)
	}
	doc := r.do("PATCH", "/api/v1/devices/lamp/shadow", r.admin, `{"desired":{"on":true}}`)
	if doc.status != 200 || doc.field("desired.on") != true || doc.field("desired_meta.on.by") != "user:admin" {
		t.Fatalf("got %d %s", doc.status, doc.body)
	}
	ver := int64(doc.field("ver").(float64))
	old := r.do("PATCH", "/api/v1/devices/lamp/shadow", r.admin, fmt.Sprintf(`{"desired":{"on":false},"if_ver":%d}`, ver-1))
	r.wantCode(old, devices.CodeVersionConflict)
	if old.field("details.current.desired.on") != true {
		t.Errorf("got %s, want the present document", old.body)
	}
	r.wantCode(r.do("PATCH", "/api/v1/devices/lamp/shadow", r.admin, `{"reported":{}}`), devices.CodeInvalid)
}

// A revoked, disabled or deleted device is off the hub at once.
func TestLiveSessionsEndWithTheirRights(t *testing.T) {
	r := newRig(t, false)
	r.ident.Watch(func(c identityChange) { r.door.Recheck(c.Devices, c.All) })
	r.reg.Watch(r.door.Watch)
	for name, end := range map[string]func(id string){
		"revoked":  func(id string) { r.into(r.do("DELETE", "/api/v1/devices/"+id+"/tokens", r.admin, nil), 204, nil) },
		"disabled": func(id string) { r.into(r.do("PATCH", "/api/v1/devices/"+id, r.admin, `{"enabled":false}`), 200, nil) },
		"deleted":  func(id string) { r.into(r.do("DELETE", "/api/v1/devices/"+id, r.admin, nil), 204, nil) },
		"rotated": func(id string) {
			r.into(r.do("POST", "/api/v1/devices/"+id+"/tokens", r.admin, `{"grace_s":0}`), 201, nil)
		},
	} {
		l := r.connect(r.device(`{"id":"`+name+`","kinds":["light"]}`), false)
		end(name)
		select {
		case <-l.session.Done():
		case <-time.After(time.Second):
			t.Errorf("%s: the session goes on", name)
		}
	}
}
