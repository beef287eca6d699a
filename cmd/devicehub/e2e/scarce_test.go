package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// crowd opens connections and keeps them, and opens another for each that the
// hub closes, until ctx ends.
func crowd(ctx context.Context, wg *sync.WaitGroup, n int, addr, send string, once bool) {
	for range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				hold(ctx, addr, send, once)
				select {
				case <-time.After(250 * time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
}

// hold is one connection: it sends without end and reads nothing, or sends once and is silent, until
// the hub closes it.
func hold(ctx context.Context, addr, send string, once bool) {
	d := net.Dialer{Timeout: time.Second}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	if once {
		_, _ = io.WriteString(nc, send)
		_, _ = io.Copy(io.Discard, nc)
		return
	}
	for {
		if _, err := io.WriteString(nc, send); err != nil {
			return
		}
	}
}

// descriptors is how many the hub's process has open.
func (h *hub) descriptors() int {
	h.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.cmd.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
	}
	return len(list)
}

// TestStrangersLeaveDescriptors has strangers take all connections that they can get of a hub with
// 400 descriptors, in each way that there is, and somebody with a token do the same: the owner's command line works, the hub says that it
// is well, a device that was there goes on being acknowledged and another comes in, and the log is
// not written full.
func TestStrangersLeaveDescriptors(t *testing.T) {
	h := scarceHub(t, 400)
	asset := regexp.MustCompile(`/assets/[^"]+\.js`).FindString(h.page("/"))
	if asset == "" {
		asset = "/" // not built: the page itself
	}
	get := "GET " + asset + " HTTP/1.1\r\nHost: " + h.http + "\r\n\r\n"
	token := h.sensor("there")
	late := h.sensor("late")
	there := h.reporter("there", token)
	before := len(h.log.String())

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer func() { stop(); wg.Wait() }()
	for _, c := range []struct {
		n          int
		addr, send string
		once       bool
	}{
		{40, h.http, "", true}, {40, h.mqtt, "", true}, {180, h.http, strings.Repeat(get, 50), false},
		{60, h.http, "GET /api/v1/me HTTP/1.1\r\nHost: " + h.http + "\r\nAuthorization: Bearer " + h.admin() + "\r\n\r\n", true},
		{40, h.http, "POST /api/v1/login HTTP/1.1\r\nHost: " + h.http + "\r\nContent-Length: 100000\r\n\r\n{", true}, {40, h.mqtt, "\x10\xff\x7f\x00\x04MQTT", true},
	} {
		crowd(ctx, &wg, c.n, c.addr, c.send, c.once)
	}
	time.Sleep(2 * time.Second)
	var slowest time.Duration
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if fds := h.descriptors(); fds > 360 {
			t.Fatalf("%d descriptors of 400 are taken", fds)
		}
		from := time.Now()
		there.report()
		slowest = max(slowest, time.Since(from))
		from = time.Now()
		h.mustCLI("device", "list")
		if took := time.Since(from); took > 5*time.Second {
			t.Errorf("the command line took %v", took)
		}
		if got := h.page("/healthz"); !strings.Contains(got, "ok") {
			t.Errorf("/healthz said %q", got)
		}
	}
	h.reporter("late", late).report()
	t.Logf("acknowledged within %v; %d bytes of log; %d descriptors", slowest, len(h.log.String())-before, h.descriptors())
	if slowest > 5*time.Second {
		t.Errorf("an acknowledgement took %v", slowest)
	}
	if wrote := len(h.log.String()) - before; wrote > 200_000 {
		t.Errorf("%d bytes were logged", wrote)
	}
}

// scarceHub is a hub that may have so many descriptors.
func scarceHub(t *testing.T, fds int, more ...string) *hub {
	t.Helper()
	h := newHub(t, more...)
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	h.fds = fds
	h.start()
	return h
}

// page is what a GET over a connection of its own answers.
func (h *hub) page(path string) string {
	h.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	var err error
	for range 5 { // the hub may need the connection's place for another
		var res *http.Response
		if res, err = client.Get("http://" + h.http + path); err == nil {
			defer res.Body.Close()
			b, _ := io.ReadAll(res.Body)
			return string(b)
		}
	}
	h.t.Errorf("%s: %v", path, err)
	return ""
}

// sensor makes a device and returns its token.
func (h *hub) sensor(id string) string {
	h.t.Helper()
	var made struct{ Token string }
	h.call("POST", "/api/v1/devices", h.admin(), map[string]any{"id": id, "kinds": []string{"sensor"}}, http.StatusCreated, &made)
	return made.Token
}

// reporter is a device that is connected over MQTT.
type reporter struct {
	t  *testing.T
	id string
	c  *paho.Client
	n  int
}

func (h *hub) reporter(id, token string) *reporter {
	h.t.Helper()
	var err error
	for range 20 { // among strangers a connection may have to give way before it is known
		var conn net.Conn
		if conn, err = net.Dial("tcp", h.mqtt); err != nil {
			continue
		}
		c := paho.NewClient(paho.ClientConfig{Conn: conn, PacketTimeout: 10 * time.Second})
		if _, err = c.Connect(h.t.Context(), &paho.Connect{ClientID: id, CleanStart: true, KeepAlive: 60, Username: id, UsernameFlag: true, Password: []byte(token), PasswordFlag: true}); err == nil {
			return &reporter{t: h.t.(*testing.T), id: id, c: c}
		}
		time.Sleep(100 * time.Millisecond)
	}
	h.t.Fatal(err)
	return nil
}

// report sends a reading and wants it acknowledged.
func (r *reporter) report() {
	r.t.Helper()
	r.n++
	ack, err := r.c.Publish(r.t.Context(), &paho.Publish{QoS: 1, Topic: "hub/v1/" + r.id + "/r/temperature", Payload: fmt.Append(nil, r.n%40)})
	if err != nil || ack.ReasonCode != 0 {
		r.t.Fatalf("a reading of %s: %v %v", r.id, ack, err)
	}
}
