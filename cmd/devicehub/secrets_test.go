package main

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"devicehub/devices"
)

// secrets are the tokens and passwords of a run, with what each is.
type secrets map[string]string

// found are those that stand in b: whole, or their signature alone.
func (s secrets) found(b []byte) (what []string) {
	for token, name := range s {
		parts := strings.Split(token, ".")
		if last := parts[len(parts)-1]; bytes.Contains(b, []byte(token)) || len(last) > 20 && bytes.Contains(b, []byte(last)) {
			what = append(what, name)
		}
	}
	return what
}

// Every token of a run is searched for in everything that the run leaves
// behind, after each was also put where it does not belong.
func TestNoSecretIsWrittenDown(t *testing.T) {
	r := runHub(t, func(c *Config) {
		c.Limits.FailedConnectsPerSPerAddress, c.Limits.FailedLoginsPerMinPerAddress, c.Limits.FailedLoginsPerMinPerName = 100_000, 100_000, 100_000
		c.Limits.DeviceBurst = 100_000
	})
	keep := secrets{r.user: "the administrator's token", rootPassword: "the administrator's password"}
	var tok struct{ Token string }
	var me struct {
		SocketToken string `json:"socket_token"`
	}
	lamp := r.device(map[string]any{"id": "lamp", "kinds": []string{"light", "sensor"}})
	keep[lamp] = "a device's token"
	for name, body := range map[string]map[string]any{
		"a short token":     {"mode": "issue", "form": "short"},
		"a bridge token":    {"mode": "issue", "bridge": "embedded"},
		"a rotated token":   {"mode": "rotate"},
		"a token of a year": {"mode": "issue", "ttl_s": 31536000},
	} {
		r.call("POST", "/api/v1/devices/lamp/tokens", body, 201, &tok)
		keep[tok.Token] = name
	}
	r.call("POST", "/api/v1/apitokens", map[string]any{"name": "ha", "rights": []string{"read", "command"}, "topics": []string{"homeassistant/#"}}, 201, &tok)
	account := tok.Token
	keep[account] = "a service account's token"
	r.call("GET", "/api/v1/me", nil, 200, &me)
	keep[me.SocketToken] = "a socket token"
	keep["hunter2-hunter2"] = "a person's password"
	r.call("POST", "/api/v1/users", map[string]any{"username": "ana", "password": "hunter2-hunter2", "role": "operator"}, 201, nil)
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	req, _ := http.NewRequest("POST", r.base+"/api/v1/login", strings.NewReader(`{"username":"ana","password":"hunter2-hunter2"}`))
	req.Header.Set("X-Requested-With", "devicehub")
	res, err := browser.Do(req)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	res.Body.Close()
	u, _ := url.Parse(r.base)
	for _, c := range jar.Cookies(u) {
		keep[c.Value] = "a session cookie"
	}

	follow, err := r.tracer.Follow("lamp")
	if err != nil {
		t.Fatal(err)
	}
	defer follow.Stop()
	if keep.found([]byte("x"+lamp)) == nil {
		t.Fatal("the search finds nothing")
	}
	// A session in which the device is given a fresh token, as the key of its own has retired.
	if _, err := r.identity.RotateKey(t.Context(), devices.CLI(), devices.Origin{Via: "cli"}); err != nil {
		t.Fatal(err)
	}
	c := r.connect(lamp)
	c.join("light:lamp")
	got := c.ask("light:lamp", "token_refresh", "{}")
	fresh, _ := got.Response["token"].(string)
	if fresh == "" {
		t.Fatalf("got %+v", got)
	}
	keep[fresh] = "a refreshed token"

	// Now each token everywhere that clients put things.
	var said bytes.Buffer
	ask := func(method, path, auth, body string) {
		req, err := http.NewRequest(method, r.base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if auth != "" {
			req.Header.Set("Authorization", auth)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		_, _ = io.Copy(&said, res.Body)
	}
	addr := r.mqtt.Addr("tcp").String()
	for token := range keep {
		esc := url.QueryEscape(token)
		for _, auth := range []string{"", "Bearer " + token, "Basic " + token, token} {
			ask("GET", "/api/v1/devices?token="+esc, auth, "")
			ask("GET", "/api/v1/devices/lamp", auth+"x", "")
		}
		ask("GET", "/socket/websocket?vsn=2.0.0&token="+esc, "", "")
		ask("GET", "/socket/longpoll?vsn=2.0.0&token="+esc+"&access_token="+esc+"x", "", "")
		ask("GET", "/"+url.PathEscape(token), "", "")
		ask("POST", "/api/v1/login", "", `{"username":"admin","token":"`+token+`"}`)
		ask("POST", "/api/v1/login", "", `{"username":"`+token+`","password":"`+token+`"}`)
		ask("POST", "/api/v1/devices/lamp/readings", "Bearer "+lamp, `{"r":[["temperature",1]],"token":"`+token+`"}`)
		c.ask("light:lamp", "state", `{"on":true,"token":"`+token+`"}`)
		c.ask("sensor:"+token, "phx_join", `{}`)
		for _, userPass := range [][2]string{{"lamp", token + "x"}, {token, token}} {
			o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(token).SetUsername(userPass[0]).SetPassword(userPass[1]).SetConnectRetry(false)
			mqtt.NewClient(o).Connect().WaitTimeout(2 * time.Second)
		}
	}
	r.call("DELETE", "/api/v1/devices/lamp/tokens", nil, 204, nil)
	ask("GET", "/api/v1/devices/lamp/latest", "Bearer "+lamp, "")

	if what := keep.found(said.Bytes()); what != nil {
		t.Errorf("answers hold %q", what)
	}
	if what := keep.found([]byte(r.log.String())); what != nil {
		t.Errorf("the log holds %q", what)
	}
	if what := keep.found([]byte(r.text("/metrics"))); what != nil {
		t.Errorf("the metrics hold %q", what)
	}
	var audit json.RawMessage
	r.call("GET", "/api/v1/audit?limit=500", nil, 200, &audit)
	if what := keep.found(audit); what != nil || !bytes.Contains(audit, []byte("token.refresh")) {
		t.Errorf("the audit holds %q", what)
	}
	for len(follow.Lines()) > 0 {
		l := <-follow.Lines()
		b, _ := json.Marshal(l)
		if what := keep.found(b); what != nil {
			t.Errorf("the trace holds %q: %s", what, b)
		}
	}
	// Nor does the disk: what is there signs tokens, and is none.
	err = filepath.WalkDir(r.Data.Path(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if what := keep.found(b); what != nil {
			t.Errorf("%s holds %q", filepath.Base(path), what)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Revoked sessions are gone within a second, on every transport.
func TestRevokedWithinASecond(t *testing.T) {
	r := runHub(t)
	tokens := map[string]string{}
	for _, id := range []string{"by-socket", "by-poll", "by-mqtt"} {
		tokens[id] = r.device(map[string]any{"id": id, "kinds": []string{"sensor"}})
	}
	socket := r.connect(tokens["by-socket"])
	socket.join("sensor:by-socket")

	poll := func(session string) (status int, token string) {
		req, _ := http.NewRequest("GET", r.base+"/socket/longpoll?vsn=2.0.0", nil)
		req.Header.Set("Authorization", "Bearer "+tokens["by-poll"])
		req.Header.Set("X-Phoenix-Longpoll-Token", session)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer res.Body.Close()
		var body struct {
			Status int
			Token  string
		}
		_ = json.NewDecoder(res.Body).Decode(&body)
		return body.Status, body.Token
	}
	_, session := poll("")
	polled := make(chan time.Time, 1)
	go func() {
		for {
			if status, _ := poll(session); status == http.StatusForbidden || status == http.StatusGone || status == 0 {
				polled <- time.Now()
				return
			}
		}
	}()

	gone := make(chan time.Time, 1)
	o := mqtt.NewClientOptions().AddBroker("tcp://" + r.mqtt.Addr("tcp").String()).SetClientID("x").SetUsername("by-mqtt").SetPassword(tokens["by-mqtt"]).
		SetAutoReconnect(false).SetConnectionLostHandler(func(mqtt.Client, error) { gone <- time.Now() })
	client := mqtt.NewClient(o)
	if tok := client.Connect(); !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	for id := range tokens {
		r.wait(id, func() bool { return r.state(id) == "online" })
	}

	revoked := map[string]time.Time{}
	for id := range tokens {
		revoked[id] = time.Now()
		r.call("DELETE", "/api/v1/devices/"+id+"/tokens", nil, 204, nil)
	}
	socket.wantClosed(1008)
	ended := map[string]time.Time{"by-socket": time.Now(), "by-mqtt": <-gone, "by-poll": <-polled}
	for id, at := range ended {
		if took := at.Sub(revoked[id]); took > time.Second {
			t.Errorf("%s: gone after %v, want within a second", id, took)
		}
		var d struct {
			Status struct{ State, Reason string }
		}
		r.wait(id+" to be offline", func() bool {
			r.call("GET", "/api/v1/devices/"+id, nil, 200, &d)
			return d.Status.State == "offline"
		})
		if d.Status.Reason != "token_revoked" {
			t.Errorf("%s: got %+v, want offline for token_revoked", id, d.Status)
		}
	}
}
