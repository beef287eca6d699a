package channels

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"devicehub/devices"
	"devicehub/devices/connects"
	"devicehub/devices/quota"
)

// poll opens a long-poll session, or is refused: the body's status, and error.
func poll(t *testing.T, base string, query url.Values, header http.Header) (status int, refused devices.Error) {
	t.Helper()
	query.Set("vsn", "2.0.0")
	req, err := http.NewRequest("GET", base+"/socket/longpoll?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body struct {
		Status int
		Error  devices.Error
	}
	b, _ := io.ReadAll(res.Body)
	if err := json.Unmarshal(b, &body); err != nil || res.StatusCode != 200 {
		t.Fatalf("got %d %s, %v", res.StatusCode, b, err)
	}
	return body.Status, body.Error
}

// upgrade opens a WebSocket, or is refused: the HTTP status, and error.
func upgrade(t *testing.T, base string, query url.Values, header http.Header) (status int, refused devices.Error) {
	t.Helper()
	query.Set("vsn", "2.0.0")
	conn, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(base, "http")+"/socket/websocket?"+query.Encode(), header)
	if err == nil {
		defer conn.Close()
		if err := conn.WriteMessage(websocket.TextMessage, []byte(`[null,"1","phoenix","heartbeat",{}]`)); err != nil {
			t.Error(err)
		}
		if _, _, err := conn.ReadMessage(); err != nil {
			t.Errorf("let in, and then %v", err)
		}
		return res.StatusCode, refused
	}
	if res == nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	_ = json.Unmarshal(b, &refused)
	return res.StatusCode, refused
}

func serveHouse(t *testing.T, change func(*App)) (*house, string) {
	t.Helper()
	h := newHouse(t, change)
	srv := httptest.NewServer(h.app.Endpoint)
	t.Cleanup(func() {
		h.stop()
		srv.Close()
	})
	return h, srv.URL
}

func TestTokensAreCarriedInManyWays(t *testing.T) {
	h, base := serveHouse(t, nil)
	strict, strictBase := serveHouse(t, func(a *App) { a.AllowQueryToken = false })
	bearer := func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }
	phx := func(token string) http.Header { return http.Header{"X-Phoenix-Authtoken": {token}} }
	protocol := func(token string) http.Header {
		return http.Header{"Sec-Websocket-Protocol": {"phoenix, base64url.bearer.phx." + base64.RawURLEncoding.EncodeToString([]byte(token))}}
	}
	in := func(name string) func(string) url.Values {
		return func(token string) url.Values { return url.Values{name: {token}} }
	}
	for _, row := range []struct {
		name     string
		header   func(string) http.Header
		query    func(string) url.Values
		ws, poll bool // let in; and where the query may not carry tokens, only without a query
	}{
		{"bearer", bearer, nil, true, true},
		{"X-Phoenix-AuthToken", phx, nil, true, true},
		{"subprotocol", protocol, nil, true, false},
		{"token in the query", nil, in("token"), true, false}, // on long-poll it is the session's own
		{"access_token in the query", nil, in("access_token"), true, true},
		{"another name in the query", nil, in("auth"), false, false},
	} {
		for _, at := range []struct {
			house *house
			base  string
			query bool
		}{{h, base, true}, {strict, strictBase, false}} {
			token := at.house.device(devices.ID(strings.NewReplacer(" ", "-", "_", "-").Replace(strings.ToLower(row.name))), sensor)
			query, header := url.Values{}, http.Header{}
			if row.query != nil {
				query = row.query(token)
			}
			if row.header != nil {
				header = row.header(token)
			}
			allowed := at.query || row.query == nil
			want := http.StatusUnauthorized
			if row.ws && allowed {
				want = http.StatusSwitchingProtocols
			}
			if got, refused := upgrade(t, at.base, query, header); got != want || want == 401 && refused.Code != devices.CodeUnauthorized {
				t.Errorf("%s, WebSocket, query allowed %t: got %d %q, want %d", row.name, at.query, got, refused.Code, want)
			}
			query.Del("vsn")
			want = http.StatusForbidden
			if row.poll && allowed {
				want = http.StatusGone // a new session
			}
			if got, refused := poll(t, at.base, query, header); got != want || want == 403 && (refused.Code != devices.CodeUnauthorized || refused.Details["nonce"] == nil || refused.Details["server_time"] == nil) {
				t.Errorf("%s, long-poll, query allowed %t: got %d %+v, want %d", row.name, at.query, got, refused, want)
			}
		}
	}
}

func TestRefusalsHaveTheirStatus(t *testing.T) {
	h, base := serveHouse(t, nil)
	lamp := h.device("lamp", light)
	if _, err := h.app.Registry.Update(t.Context(), "lamp", func(d *devices.Device) error { d.Enabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Authorization": {"Bearer " + lamp}}
	if got, refused := upgrade(t, base, url.Values{}, header); got != 403 || refused.Code != devices.CodeDeviceDisabled {
		t.Errorf("WebSocket: got %d %q", got, refused.Code)
	}
	if got, refused := poll(t, base, url.Values{}, header); got != 403 || refused.Code != devices.CodeDeviceDisabled {
		t.Errorf("long-poll: got %d %q", got, refused.Code)
	}
}

// Who was not let in, and why, stands in the log, by whichever way it came.
func TestRefusedConnectsAreLogged(t *testing.T) {
	var out bytes.Buffer // written to by the request alone that is waited for
	h, base := serveHouse(t, func(a *App) { a.Refusals = &connects.Log{Logger: slog.New(slog.NewTextHandler(&out, nil))} })
	lamp := h.device("lamp", light)
	if _, err := h.app.Registry.Update(t.Context(), "lamp", func(d *devices.Device) error { d.Enabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ token, want string }{{"nonsense", `code=unauthorized via=%s user=""`}, {lamp, "code=device_disabled via=%s user=device:lamp"}} {
		header := http.Header{"Authorization": {"Bearer " + x.token}}
		for transport, connect := range map[string]func(*testing.T, string, url.Values, http.Header) (int, devices.Error){"websocket": upgrade, "longpoll": poll} {
			out.Reset()
			connect(t, base, url.Values{}, header)
			if want := fmt.Sprintf(`msg="sign-in refused" addr=127.0.0.1 `+x.want, transport); !strings.Contains(out.String(), want) {
				t.Errorf("got %s, want %s", out.String(), want)
			}
		}
	}
}

// One client with a bad token is refused, and those at its address are let in, by whichever way
// they come and whether or not they were seen before.
func TestOneBadClientAmongMany(t *testing.T) {
	h, base := serveHouse(t, nil)
	h.app.Quota.SetLimits(quota.Limits{Checks: quota.Rate{PerSecond: 1000, Burst: 1000}, Failures: quota.Rate{PerSecond: 2, Burst: 2}})
	revoked := h.device("revoked", light)
	if err := h.app.Identity.RevokeDevice(t.Context(), devices.CLI(), devices.Origin{}, "revoked"); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"nonsense", revoked} {
		bad := http.Header{"Authorization": {"Bearer " + token}}
		limited := 0
		for range 20 {
			if got, refused := upgrade(t, base, url.Values{}, bad); got == 429 && refused.Code == devices.CodeRateLimited && refused.RetryAfter > 0 {
				limited++
			} else if got != 401 {
				t.Fatalf("got %d %+v", got, refused)
			}
		}
		if limited < 10 {
			t.Errorf("%d of 20 were refused as too many, want most", limited)
		}
		if got, refused := poll(t, base, url.Values{}, bad); got != 403 || refused.Code != devices.CodeRateLimited {
			t.Errorf("over long-poll: got %d %+v", got, refused)
		}
	}
	for i := range 20 {
		good := http.Header{"Authorization": {"Bearer " + h.device(devices.ID(fmt.Sprint("d", i)), light)}}
		if got, refused := upgrade(t, base, url.Values{}, good); got != 101 {
			t.Errorf("good device %d: got %d %+v", i, got, refused)
		}
		person := http.Header{"Authorization": {"Bearer " + h.person(fmt.Sprint("ana", i), devices.RoleViewer, "")}}
		if got, refused := poll(t, base, url.Values{}, person); got != 410 {
			t.Errorf("good person %d: got %d %+v", i, got, refused)
		}
	}
}

// A flood over long-poll ends the session.
func TestAFloodOverLongPollEndsTheSession(t *testing.T) {
	h, base := serveHouse(t, nil)
	h.bounded()
	h.device("lamp", light)
	auth := "Bearer " + h.person("ana", devices.RoleViewer, "")
	at := base + "/socket/longpoll?vsn=2.0.0"
	ask := func(method, session, body string) (status int, token string) {
		req, err := http.NewRequest(method, at, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", auth)
		req.Header.Set("Content-Type", "application/x-ndjson")
		req.Header.Set("X-Phoenix-Longpoll-Token", session)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var got struct {
			Status int
			Token  string
		}
		if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		return got.Status, got.Token
	}
	status, session := ask("GET", "", "")
	if status != 410 {
		t.Fatalf("got %d", status)
	}
	flood := strings.Repeat(`["1","2","light:lamp","command",`+refusedCommand+"]\n", 100)
	posts := 0
	for ; posts < 200; posts++ {
		if status, _ = ask("POST", session, flood); status == 410 {
			break
		}
	}
	if status != 410 || posts > 50 {
		t.Errorf("got %d after %d POSTs of 100 commands, want the session gone after some ten", status, posts)
	}
}
