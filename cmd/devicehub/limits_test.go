package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// Every limit of the table is exceeded by one client, through the doors that
// clients come in by, while a neighbour is not disturbed.

// wsClient is a Phoenix client.
type wsClient struct {
	t    *testing.T
	conn *websocket.Conn
	done chan struct{} // the connection is over

	mu      sync.Mutex
	ref     int
	replies map[string]chan reply
	end     error
}

type reply struct {
	Status   string
	Response map[string]any
}

func (r reply) code() devices.Code {
	s, _ := r.Response["code"].(string)
	return devices.Code(s)
}

// dialFrom connects from an address of this machine.
func (r *running) dialFrom(addr, token string) (*websocket.Conn, *http.Response, error) {
	d := websocket.Dialer{HandshakeTimeout: 5 * time.Second, NetDial: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}).Dial}
	return d.Dial("ws"+strings.TrimPrefix(r.base, "http")+"/socket/websocket?vsn=2.0.0", http.Header{"Authorization": {"Bearer " + token}})
}

func (r *running) connect(token string) *wsClient {
	r.t.Helper()
	conn, _, err := r.dialFrom("127.0.0.1", token)
	if err != nil {
		r.t.Fatal(err)
	}
	c := &wsClient{t: r.t, conn: conn, done: make(chan struct{}), replies: map[string]chan reply{}}
	go c.read()
	r.t.Cleanup(func() {
		conn.Close()
		<-c.done
	})
	return c
}

func (c *wsClient) read() {
	defer close(c.done)
	for {
		_, data, err := c.conn.ReadMessage()
		if err != nil {
			c.mu.Lock()
			c.end = err
			c.mu.Unlock()
			return
		}
		var f [5]json.RawMessage
		var ref, event string
		var got reply
		if json.Unmarshal(data, &f) != nil || json.Unmarshal(f[3], &event) != nil || event != "phx_reply" {
			continue
		}
		_ = json.Unmarshal(f[1], &ref)
		_ = json.Unmarshal(f[4], &got)
		c.mu.Lock()
		to := c.replies[ref]
		delete(c.replies, ref)
		c.mu.Unlock()
		if to != nil {
			to <- got
		}
	}
}

// send sends an event; its reply comes on the channel.
func (c *wsClient) send(topic, event, payload string) <-chan reply {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ref++
	ref, to := fmt.Sprint(c.ref), make(chan reply, 1)
	c.replies[ref] = to
	if err := c.conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `[%q,%q,%q,%q,%s]`, topic, ref, topic, event, payload)); err != nil {
		c.t.Logf("send: %v", err)
	}
	return to
}

func (c *wsClient) ask(topic, event, payload string) reply {
	c.t.Helper()
	select {
	case r := <-c.send(topic, event, payload):
		return r
	case <-c.done:
		c.t.Fatalf("%s %s: the connection ended: %v", topic, event, c.end)
	case <-time.After(10 * time.Second):
		c.t.Fatalf("%s %s: no reply", topic, event)
	}
	return reply{}
}

func (c *wsClient) join(topic string) {
	c.t.Helper()
	if r := c.ask(topic, "phx_join", "{}"); r.Status != "ok" {
		c.t.Fatalf("join %s: got %+v", topic, r)
	}
}

// wantClosed waits for the close frame.
func (c *wsClient) wantClosed(code int) {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(15 * time.Second):
		c.t.Fatalf("still open, want closed with %d", code)
	}
	if !websocket.IsCloseError(c.end, code) {
		c.t.Errorf("ended with %v, want %d", c.end, code)
	}
}

// pair is a hub with a device that exceeds a limit and a neighbour.
type pair struct {
	*running
	loud, calm           *wsClient
	loudToken, calmToken string
}

func newPair(t *testing.T, limit func(*LimitsConfig)) *pair {
	t.Helper()
	r := runHub(t, func(c *Config) { limit(&c.Limits) })
	p := &pair{running: r}
	p.loudToken = r.device(map[string]any{"id": "loud", "kinds": []string{"sensor"}})
	p.calmToken = r.device(map[string]any{"id": "calm", "kinds": []string{"sensor"}})
	p.loud, p.calm = r.connect(p.loudToken), r.connect(p.calmToken)
	p.loud.join("sensor:loud")
	p.calm.join("sensor:calm")
	return p
}

// undisturbed wants the neighbour to be answered.
func (p *pair) undisturbed() {
	p.t.Helper()
	if r := p.calm.ask("sensor:calm", "reading", `{"m":"temperature","v":20}`); r.Status != "ok" {
		p.t.Errorf("the neighbour: got %+v", r)
	}
}

// post sends readings over HTTP.
func (r *running) post(id, token, body string) (int, devices.Code) {
	r.t.Helper()
	req, err := http.NewRequest("POST", r.base+"/api/v1/devices/"+id+"/readings", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	var e devices.Error
	_ = json.Unmarshal(b, &e)
	return res.StatusCode, e.Code
}

func TestFrameBytes(t *testing.T) {
	p := newPair(t, func(l *LimitsConfig) { l.FrameBytes = 2048 })
	large := `{"r":[["temperature",20]]` + strings.Repeat(" ", 2048) + `}`
	if status, code := p.post("loud", p.loudToken, large); status != 413 || code != devices.CodeTooLarge {
		t.Errorf("HTTP: got %d %s", status, code)
	}
	if status, _ := p.post("loud", p.loudToken, `{"r":[["temperature",20]]}`); status != 200 {
		t.Errorf("HTTP, a small one after it: got %d", status)
	}
	p.loud.send("sensor:loud", "readings", large)
	p.loud.wantClosed(1009)
	addr := p.mqtt.Addr("tcp").String()
	c := dialMQTT(t, addr, "loud", p.loudToken)
	if tok := c.Publish("hub/v1/loud/r", 1, false, large); tok.WaitTimeout(5*time.Second) && tok.Error() == nil {
		t.Error("MQTT: a large packet was acknowledged")
	}
	p.wait("MQTT to be cut off", func() bool { return !c.IsConnected() })
	p.undisturbed()
}

func TestReadingsPerPush(t *testing.T) {
	p := newPair(t, func(l *LimitsConfig) { l.ReadingsPerPush = 3 })
	if r := p.loud.ask("sensor:loud", "readings", `{"r":[["temperature",1],["temperature",2],["temperature",3],["temperature",4]]}`); r.code() != devices.CodeTooLarge {
		t.Errorf("four: got %+v", r)
	}
	if r := p.loud.ask("sensor:loud", "readings", `{"r":[["temperature",1],["temperature",2],["temperature",3]]}`); r.Status != "ok" {
		t.Errorf("three: got %+v", r)
	}
	p.undisturbed()
}

func TestPushesInFlight(t *testing.T) {
	p := newPair(t, func(l *LimitsConfig) { l.PushesInFlight = 1 })
	var waiting []<-chan reply
	for i := range 100 {
		waiting = append(waiting, p.loud.send("sensor:loud", "reading", fmt.Sprintf(`{"m":"temperature","v":%d}`, i)))
	}
	p.undisturbed()
	counts := map[devices.Code]int{}
	for _, w := range waiting {
		r := <-w
		counts[r.code()]++
		if r.code() == devices.CodeRateLimited && r.Response["retry_after_ms"] == nil {
			t.Errorf("got %+v, want retry_after_ms", r)
		}
	}
	if counts[""] == 0 || counts[devices.CodeRateLimited] == 0 || counts[""]+counts[devices.CodeRateLimited] != 100 {
		t.Errorf("got %v, want some taken and the rest rate_limited", counts)
	}
	if r := p.loud.ask("sensor:loud", "reading", `{"m":"temperature","v":1}`); r.Status != "ok" {
		t.Errorf("after them: got %+v", r)
	}
}

func TestChannelsPerConnection(t *testing.T) {
	p := newPair(t, func(l *LimitsConfig) { l.ChannelsPerConnection = 2 })
	ana, other := p.connect(p.user), p.connect(p.user)
	ana.join("sensor:loud")
	ana.join("sensor:calm")
	if r := ana.ask("fleet:all", "phx_join", "{}"); r.Status != "error" || r.code() != devices.CodeRateLimited || r.Response["reason"] != "too many channels joined" {
		t.Errorf("a third: got %+v", r)
	}
	other.join("fleet:all")
	if r := ana.ask("sensor:calm", "phx_leave", "{}"); r.Status != "ok" {
		t.Errorf("leave: got %+v", r)
	}
	ana.join("fleet:all")
	p.undisturbed()
}

func TestInbox(t *testing.T) {
	p := newPair(t, func(l *LimitsConfig) { l.Inbox, l.DeviceBurst = 1, 100_000 })
	var waiting []<-chan reply
	for range 500 {
		waiting = append(waiting, p.loud.send("sensor:loud", "info", `{}`))
	}
	p.undisturbed()
	for i, w := range waiting {
		select {
		case r := <-w:
			if r.Status != "ok" {
				t.Fatalf("message %d: got %+v", i, r)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("message %d was lost", i)
		}
	}
}

func TestOutbound(t *testing.T) {
	p := newPair(t, func(l *LimitsConfig) {
		l.OutboundBytes, l.OutboundAge, l.ReadsPerS, l.ReadBurst = 4096, Duration(time.Second), 1_000_000, 1_000_000
	})
	watcher := p.connect(p.user)
	watcher.join("sensor:loud")
	conn, _, err := p.dialFrom("127.0.0.1", p.user)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// It asks and asks, and does not read what it is answered.
	go func() {
		if conn.WriteMessage(websocket.TextMessage, []byte(`["1","1","sensor:loud","phx_join",{}]`)) != nil {
			return
		}
		for {
			if conn.WriteMessage(websocket.TextMessage, []byte(`["1","2","sensor:loud","get",{}]`)) != nil {
				return
			}
		}
	}()
	p.wait("the client that does not read to be cut off", func() bool { return p.endpoint.Stats().SlowConsumers > 0 })
	if r := watcher.ask("sensor:loud", "get", "{}"); r.Status != "ok" {
		t.Errorf("a client that reads: got %+v", r)
	}
	p.undisturbed()
}

func TestDeviceEvents(t *testing.T) {
	p := newPair(t, func(l *LimitsConfig) {
		l.DeviceEventsPerS, l.DeviceBurst, l.PushesInFlight, l.ReadingsPerPush = 1, 10, 20, 100
	})
	batch := `{"r":[["temperature",1]` + strings.Repeat(`,["temperature",2]`, 99) + `]}`
	var replies []<-chan reply // at once, so that a slow machine refills nothing
	for range 20 {
		replies = append(replies, p.loud.send("sensor:loud", "readings", batch))
	}
	limited := 0
	for _, to := range replies {
		r := <-to
		if r.code() == devices.CodeRateLimited {
			limited++
			if ms, _ := r.Response["retry_after_ms"].(float64); ms <= 0 {
				t.Errorf("got %+v, want retry_after_ms", r)
			}
		} else if r.Status != "ok" {
			t.Fatalf("got %+v", r)
		}
	}
	if limited < 5 || limited > 10 {
		t.Errorf("%d of 20 batches were limited, want some 10: a batch is one event", limited)
	}
	// Its other ways in share the rate, its neighbour has one of its own.
	statuses := map[int]int{}
	for range 4 {
		status, code := p.post("loud", p.loudToken, `{"r":[["temperature",1]]}`)
		statuses[status]++
		if status == 429 && code != devices.CodeRateLimited {
			t.Errorf("HTTP: got %d %s", status, code)
		}
	}
	if statuses[429] < 1 {
		t.Errorf("over HTTP at the same time: got %v", statuses)
	}
	p.undisturbed()
	p.wait("an event to be taken again", func() bool { return p.loud.ask("sensor:loud", "info", "{}").Status == "ok" })
}

// refusedUpgrade is the status and error of a connection that is refused.
func (r *running) refusedUpgrade(addr, token string) (int, devices.Error) {
	r.t.Helper()
	conn, res, err := r.dialFrom(addr, token)
	if err == nil {
		conn.Close()
		return res.StatusCode, devices.Error{}
	}
	if res == nil {
		r.t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	var e devices.Error
	_ = json.Unmarshal(b, &e)
	return res.StatusCode, e
}

// refusedMQTT reports whether a sign-in over MQTT is refused.
func (r *running) refusedMQTT(user, password string) bool {
	o := mqtt.NewClientOptions().AddBroker("tcp://" + r.mqtt.Addr("tcp").String()).SetUsername(user).SetPassword(password).
		SetClientID(user).SetAutoReconnect(false).SetConnectRetry(false)
	c := mqtt.NewClient(o)
	tok := c.Connect()
	defer c.Disconnect(0)
	return !tok.WaitTimeout(5*time.Second) || tok.Error() != nil
}

// Tokens that were not seen before are judged so often for one address and no more; those that were
// are let in, and so is everybody from elsewhere.
func TestConnectsPerAddress(t *testing.T) {
	r := runHub(t, func(c *Config) { c.Limits.ConnectsPerSPerAddress = 5 })
	known := r.device(map[string]any{"id": "known", "kinds": []string{"sensor"}})
	var fresh []string
	for i := range 20 {
		fresh = append(fresh, r.device(map[string]any{"id": fmt.Sprint("d", i), "kinds": []string{"sensor"}}))
	}
	if status, e := r.refusedUpgrade("127.0.0.2", known); status != 101 {
		t.Fatalf("got %d %+v", status, e)
	}
	limited := 0
	for _, token := range fresh {
		status, e := r.refusedUpgrade("127.0.0.2", token)
		switch {
		case status == 429 && e.Code == devices.CodeRateLimited && e.RetryAfter > 0:
			limited++
		case status != 101:
			t.Fatalf("got %d %+v", status, e)
		}
	}
	if limited < 5 {
		t.Errorf("%d of 20 new tokens were limited, want most beyond 5", limited)
	}
	for range 20 {
		if status, e := r.refusedUpgrade("127.0.0.2", known); status != 101 {
			t.Errorf("one that is known there: got %d %+v", status, e)
		}
	}
	if status, e := r.refusedUpgrade("127.0.0.3", fresh[19]); status != 101 {
		t.Errorf("another address: got %d %+v", status, e)
	}
}

// One client at an address fails without end, by every way in. The others there are let in, every
// one of them: devices and people, over WebSocket, long-poll, MQTT and HTTP.
func TestOneBadClientAmongFortyGood(t *testing.T) {
	r := runHub(t, func(*Config) {})
	var tokens []string
	for i := range 40 {
		tokens = append(tokens, r.device(map[string]any{"id": fmt.Sprint("d", i), "kinds": []string{"sensor"}}))
	}
	revoked := r.device(map[string]any{"id": "revoked", "kinds": []string{"sensor"}})
	if err := r.identity.RevokeDevice(t.Context(), devices.CLI(), devices.Origin{Via: "cli"}, "revoked"); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var bad sync.WaitGroup
	var limited, tries atomic.Int64
	for _, token := range []string{"nonsense", revoked} {
		bad.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn, res, err := r.dialFrom("127.0.0.1", token)
				if err == nil {
					conn.Close()
				}
				tries.Add(1)
				if res != nil && res.StatusCode == 429 {
					limited.Add(1)
				}
			}
		})
	}
	bad.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				r.refusedMQTT("revoked", "nonsense")
			}
		}
	})
	r.wait("the bad client to be refused as too many", func() bool { return limited.Load() > 20 })
	for i, token := range tokens {
		id := fmt.Sprint("d", i)
		if status, e := r.refusedUpgrade("127.0.0.1", token); status != 101 {
			t.Errorf("%s over WebSocket: got %d %+v", id, status, e)
		}
		if r.refusedMQTT(id, token) {
			t.Errorf("%s over MQTT: refused", id)
		}
		if status, code := r.post(id, token, `{"r":[["temperature",1]]}`); status != 200 {
			t.Errorf("%s over HTTP: got %d %s", id, status, code)
		}
		if status := r.pollAnew(token); status != 410 {
			t.Errorf("%s over long-poll: got %d", id, status)
		}
		if status, e := r.refusedUpgrade("127.0.0.1", r.user); status != 101 {
			t.Errorf("a person: got %d %+v", status, e)
		}
	}
	close(stop)
	bad.Wait()
	t.Logf("%d tries of the bad client, %d refused as too many", tries.Load(), limited.Load())
}

// pollAnew opens a long-poll session and returns the status in its answer.
func (r *running) pollAnew(token string) int {
	r.t.Helper()
	req, err := http.NewRequest("GET", r.base+"/socket/longpoll?vsn=2.0.0", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	var body struct{ Status int }
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
		r.t.Fatal(err)
	}
	return body.Status
}

// A person has so many sockets and long-poll sessions, over all of the hub.
func TestSocketsAndLongPollsPerPerson(t *testing.T) {
	r := runHub(t, func(c *Config) { c.Limits.Sockets, c.Limits.Longpolls = 3, 2 })
	for range 3 {
		r.connect(r.user)
	}
	if status, e := r.refusedUpgrade("127.0.0.2", r.user); status != 429 || e.Code != devices.CodeRateLimited || e.RetryAfter <= 0 {
		t.Errorf("a fourth socket: got %d %+v", status, e)
	}
	statuses := map[int]int{}
	for range 10 {
		statuses[r.pollAnew(r.user)]++
	}
	if statuses[410] != 2 || statuses[403] != 8 {
		t.Errorf("long-poll sessions: got %v, want two", statuses)
	}
	if status, e := r.refusedUpgrade("127.0.0.1", r.device(map[string]any{"id": "d", "kinds": []string{"sensor"}})); status != 101 {
		t.Errorf("a device: got %d %+v", status, e)
	}
}

// A device that has had its bytes of the day stored is refused until they come back; its neighbour
// is not.
func TestDeviceBytesPerDay(t *testing.T) {
	p := newPair(t, func(l *LimitsConfig) { l.DeviceBytesPerDay = 1 << 20 })
	text := strings.Repeat("x", 60)
	batch := `{"r":[["note","` + text + `-0"]`
	for i := range 499 {
		batch += fmt.Sprintf(`,["note","%s-%d"]`, text, i+1)
	}
	batch += "]}"
	sent := 0
	for range 100 {
		r := p.loud.ask("sensor:loud", "readings", batch)
		if r.code() == devices.CodeRateLimited {
			if ms, _ := r.Response["retry_after_ms"].(float64); ms < 60_000 {
				t.Errorf("got %+v, want a minute or more to wait", r)
			}
			break
		}
		if r.Status != "ok" {
			t.Fatalf("got %+v", r)
		}
		sent++
	}
	if sent < 20 || sent > 40 {
		t.Errorf("%d batches of some 33 kB were taken, want about a megabyte of them", sent)
	}
	if status, code := p.post("loud", p.loudToken, `{"r":[["temperature",1]]}`); status != 429 || code != devices.CodeRateLimited {
		t.Errorf("over HTTP: got %d %s", status, code)
	}
	if r := p.loud.ask("sensor:loud", "info", "{}"); r.Status != "ok" {
		t.Errorf("what is not stored: got %+v", r)
	}
	p.undisturbed()
}

// Behind a bridge there is nobody to wait: what a device has stored beyond its day is dropped, and
// holds up nothing else.
func TestDeviceBytesPerDayBehindABridge(t *testing.T) {
	r := runHub(t, func(c *Config) { c.Limits.DeviceBytesPerDay = 1 << 20 })
	r.device(map[string]any{"id": "d", "kinds": []string{"sensor"}})
	dev, _ := r.registry.Get("d")
	push := func() error {
		b, err := readings.ParseReading([]byte(`{"m":"temperature","v":1}`))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		traced{r.assembly, "house"}.Submit(readings.Source{Device: dev, Transport: "bridge:house"}, b, func(_ readings.Result, err error) { done <- err })
		return <-done
	}
	if err := push(); err != nil {
		t.Fatal(err)
	}
	r.quota.Stored("d", 2<<20)
	var e *devices.Error
	if err := push(); !errors.As(err, &e) || e.Code != devices.CodeTooLarge || e.Retryable() {
		t.Errorf("got %v, want too_large for good", err)
	}
}

// login signs in from an address of this machine.
func (r *running) login(addr, name, password string) devices.Code {
	r.t.Helper()
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}).DialContext}}
	body, _ := json.Marshal(map[string]string{"username": name, "password": password})
	res, err := client.Post(r.base+"/api/v1/login", "application/json", strings.NewReader(string(body)))
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	if res.StatusCode == 200 {
		return ""
	}
	var e devices.Error
	_ = json.Unmarshal(b, &e)
	if e.Code == devices.CodeRateLimited && e.RetryAfter <= 0 {
		r.t.Errorf("got %s, want retry_after_ms", b)
	}
	return e.Code
}

func TestFailedLogins(t *testing.T) {
	for name, row := range map[string]struct {
		limit func(*LimitsConfig)
		names func(i int) string
	}{
		"per address": {func(l *LimitsConfig) { l.FailedLoginsPerMinPerAddress = 3 }, func(i int) string { return fmt.Sprintf("user-%d", i) }},
		"per name":    {func(l *LimitsConfig) { l.FailedLoginsPerMinPerName = 3 }, func(int) string { return "admin" }},
	} {
		t.Run(name, func(t *testing.T) {
			r := runHub(t, func(c *Config) { row.limit(&c.Limits) })
			codes := map[devices.Code]int{}
			for i := range 6 {
				codes[r.login("127.0.0.2", row.names(i), "a wrong password")]++
			}
			if codes[devices.CodeUnauthorized] < 2 || codes[devices.CodeRateLimited] < 2 {
				t.Errorf("got %v, want some unauthorized, then rate_limited", codes)
			}
			// The right password from elsewhere is let in, at worst after a delay.
			if code := r.login("127.0.0.3", "admin", rootPassword); code != "" {
				t.Errorf("from another address: got %s", code)
			}
		})
	}
}

// A reload changes every limit of connections made from then on, and what
// devices are told of them.
func TestLimitsAreLive(t *testing.T) {
	p := newPair(t, func(*LimitsConfig) {})
	l := p.Config.Limits
	l.FrameBytes, l.ReadingsPerPush, l.PushesInFlight, l.ChannelsPerConnection, l.DeviceEventsPerS = 4096, 3, 2, 1, 7
	l.EventsPerS, l.EventBurst, l.Sockets = 1, 2, 3
	p.applyLimits(l)

	person := p.connect(p.user) // what a principal may ask for holds at once, for all
	person.join("sensor:loud")
	codes := map[devices.Code]int{}
	for range 5 {
		codes[person.ask("sensor:loud", "command", `{"op":"set","params":{"on":true}}`).code()]++
	}
	if codes[devices.CodeRateLimited] < 2 {
		t.Errorf("five commands, two at once allowed: got %v", codes)
	}
	p.connect(p.user)
	p.connect(p.user)
	if status, e := p.refusedUpgrade("127.0.0.1", p.user); status != 429 || e.Code != devices.CodeRateLimited {
		t.Errorf("a fourth socket: got %d %+v", status, e)
	}

	late := p.connect(p.loudToken)
	joined := late.ask("sensor:loud", "phx_join", "{}")
	got, _ := json.Marshal(joined.Response["limits"])
	if want := `{"events_per_s":7,"frame_bytes":4096,"pushes_in_flight":2,"readings_per_push":3}`; string(got) != want {
		t.Errorf("told %s, want %s", got, want)
	}
	if r := late.ask("light:loud", "phx_join", "{}"); r.code() != devices.CodeRateLimited {
		t.Errorf("a second channel: got %+v", r)
	}
	if r := late.ask("sensor:loud", "readings", `{"r":[["temperature",1],["temperature",2],["temperature",3],["temperature",4]]}`); r.code() != devices.CodeTooLarge {
		t.Errorf("four readings: got %+v", r)
	}
	late.send("sensor:loud", "reading", `{"m":"temperature","v":20}`+strings.Repeat(" ", 4096))
	late.wantClosed(1009)
	p.undisturbed()
	if r := p.calm.ask("sensor:calm", "reading", `{"m":"temperature","v":20}`+strings.Repeat(" ", 4096)); r.Status != "ok" {
		t.Errorf("a connection from before: got %+v", r)
	}
}
