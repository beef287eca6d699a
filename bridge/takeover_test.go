package bridge

import (
	"crypto/tls"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"devicehub/bridge/packet"
	"devicehub/devices"
	"devicehub/devices/liveness"
)

// busy keeps every processor busy until the test ends.
func busy(t *testing.T) {
	var wg sync.WaitGroup
	var stop atomic.Bool
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !stop.Load() {
			}
		})
	}
	t.Cleanup(func() { stop.Store(true); wg.Wait() })
}

// ways are the ways to a listener, by which a client may come: over TCP, TLS and
// WebSocket.
type ways map[string]func(version byte) *raw

func waysTo(t *testing.T, s *Server) ways {
	client := func(v byte, nc net.Conn, err error) *raw {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return &raw{t: t, nc: nc, version: v}
	}
	insecure := &tls.Config{InsecureSkipVerify: true}
	return ways{
		"tcp": func(v byte) *raw { return dial(t, s.Addr("tcp").String(), v) },
		"tls": func(v byte) *raw {
			nc, err := tls.Dial("tcp", s.Addr("tls").String(), insecure)
			return client(v, nc, err)
		},
		"ws": func(v byte) *raw {
			d := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: insecure}
			ws, _, err := d.Dial("wss://"+s.Addr("ws").String(), nil)
			return client(v, &wsConn{Conn: ws}, err)
		},
	}
}

// everyWay runs f for each way to a hub of its own and each version.
func everyWay(t *testing.T, f func(t *testing.T, h *wholeHub, dial func() *raw)) {
	for _, name := range []string{"tcp", "tls", "ws"} {
		t.Run(name, func(t *testing.T) {
			versions(t, func(t *testing.T, v byte) {
				h := startHubWith(t, func(c *Config) { c.TLSListen, c.TLS = "127.0.0.1:0", certificate(t) })
				busy(t)
				dial := waysTo(t, h.srv)[name]
				f(t, h, func() *raw { return dial(v) })
			})
		})
	}
}

// in connects and wants to be let in.
func (c *raw) in(o connect) *raw {
	c.t.Helper()
	c.send(packet.Connect<<4, c.connectBody(o))
	if b := c.wantType(packet.Connack); b[1] != 0 {
		c.t.Fatalf("CONNACK %x", b)
	}
	return c
}

// speak sends packets in one segment.
func (c *raw) speak(packets ...[]byte) {
	c.t.Helper()
	if _, err := c.nc.Write(join(packets...)); err != nil {
		c.t.Fatal(err)
	}
}

var goodbye = []byte{packet.Disconnect << 4, 0}

// A device sends what it has and DISCONNECT, and is back before the hub has read a
// byte of it. Nothing is lost, and nothing was taken over.
func TestDeviceComesStraightBack(t *testing.T) {
	everyWay(t, func(t *testing.T, h *wholeHub, dial func() *raw) {
		token := h.add(t, &devices.Device{ID: "d", Kinds: []devices.Kind{devices.KindSensor}}, false)
		const rounds = 30
		now := time.Now().UnixMilli()
		for n := range rounds {
			c := dial().in(connect{id: "x", user: "d", password: token, clean: true, keepAlive: 60})
			var said [][]byte
			for i := range 5 {
				said = append(said, frame(packet.Publish<<4, c.publishBody("hub/v1/d/r", fmt.Sprintf(`{"m":"humidity","v":%d,"t":%d}`, i, now-9000+int64(n*10+i)), 0, 0)))
			}
			c.speak(append(said, goodbye)...)
			c.nc.Close()
			c = dial().in(connect{id: "x", user: "d", password: token, clean: true})
			c.speak(goodbye)
			c.nc.Close()
		}
		h.wantStored(t, rounds*5)
		h.wantState(t, "d", devices.Offline, "client_close")
		if st := h.liveness.Stats(); st.Replaced != 0 || st.Refused != 0 || h.liveness.Status("d").Flapping {
			t.Errorf("%d replaced, %d refused, shown %+v", st.Replaced, st.Refused, h.liveness.Status("d"))
		}
	})
}

func (h *wholeHub) wantStored(t *testing.T, want int64) {
	t.Helper()
	for range 1000 {
		if h.ingest.Stats().Accepted >= want {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got := h.ingest.Stats(); got.Accepted != want {
		t.Errorf("%d readings stored, want %d: %+v", got.Accepted, want, got)
	}
}

// Deep sleep: each wake-up is another boot. However often it wakes, it is one device.
func TestWakeUpsAreOneDevice(t *testing.T) {
	h := startHub(t)
	busy(t)
	token := h.add(t, &devices.Device{ID: "d", Kinds: []devices.Kind{devices.KindSensor}}, false)
	const rounds = 120
	for n := range rounds {
		c := dial(t, h.addr, packet.V311).in(connect{id: "x", user: "d", password: token, clean: true})
		body := c.publishBody("hub/v1/d/r", fmt.Sprintf(`{"boot":"b%d","s0":1,"r":[["humidity",50]]}`, n), 0, 0)
		c.speak(frame(packet.Publish<<4, body), goodbye)
		c.nc.Close()
	}
	h.wantStored(t, rounds)
	if st, s := h.liveness.Stats(), h.liveness.Status("d"); st.Replaced != 0 || st.Refused != 0 || s.Flapping || s.Reason == liveness.DuplicateIdentity {
		t.Errorf("%d replaced, %d refused, shown %+v", st.Replaced, st.Refused, s)
	}
}

// A client that does not wait for its acknowledgements before it goes has still
// said what it said: the hub, whose answers reach nobody, reads on.
func TestGoneWithoutItsAcknowledgements(t *testing.T) {
	everyWay(t, func(t *testing.T, h *wholeHub, dial func() *raw) {
		token := h.add(t, &devices.Device{ID: "d", Kinds: []devices.Kind{devices.KindSensor}}, false)
		const rounds = 6
		for n := range rounds {
			c := dial().in(connect{id: "x", user: "d", password: token, clean: true})
			var said [][]byte
			for i := range 40 {
				body := c.publishBody("hub/v1/d/r", fmt.Sprintf(`{"boot":"b","s0":%d,"r":[["humidity",50]]}`, n*40+i+1), 1, uint16(i+1))
				said = append(said, []byte{packet.Pingreq << 4, 0}, frame(packet.Publish<<4|2, body))
			}
			c.speak(append(said, goodbye)...)
			c.nc.Close() // with answers unread: the hub gets a reset
		}
		h.wantStored(t, rounds*40)
		h.wantState(t, "d", devices.Offline, "client_close")
		if n := h.liveness.Stats().Replaced; n != 0 {
			t.Errorf("%d replaced", n)
		}
	})
}

// The will of an account that says DISCONNECT is void, though its next connection is
// there before the hub has read it [MQTT-3.14.4-3].
func TestAccountComesStraightBack(t *testing.T) {
	everyWay(t, func(t *testing.T, h *wholeHub, dialWay func() *raw) {
		token := h.account(t, "suite", "", devices.RightRead|devices.RightCommand, "q/#")
		w := dial(t, h.addr, packet.V311).in(connect{id: "w", user: "service:suite", password: token, clean: true})
		w.subscribe(0, "q/#")
		const rounds = 30
		for n := range rounds {
			c := dialWay().in(connect{id: "sensor7", user: "service:suite", password: token, clean: n%2 == 0, will: "q/will", willPayload: "gone"})
			c.speak(frame(packet.Publish<<4, c.publishBody("q/msg", fmt.Sprint(n), 0, 0)), goodbye)
			c.nc.Close()
		}
		h.wantHeard(t, w, rounds)
	})
}

// wantHeard wants n messages on q/msg, in order, and none on q/will.
func (h *wholeHub) wantHeard(t *testing.T, w *raw, n int) {
	t.Helper()
	for i := range n {
		if m := w.message(); m.topic != "q/msg" || m.payload != fmt.Sprint(i) {
			t.Fatalf("message %d: got %s %s", i, m.topic, m.payload)
		}
	}
	w.wantQuiet(300 * time.Millisecond)
}

// The same with the client that shell scripts use.
func TestMosquittoPubInALoop(t *testing.T) {
	needMosquitto(t)
	h := startHub(t)
	token := h.account(t, "suite", "", devices.RightRead|devices.RightCommand, "q/#")
	host, port, _ := strings.Cut(h.addr, ":")
	w := dial(t, h.addr, packet.V311).in(connect{id: "w", user: "service:suite", password: token, clean: true, keepAlive: 0})
	w.subscribe(0, "q/#")
	busy(t)
	const rounds = 150
	for n := range rounds {
		out, err := exec.Command("mosquitto_pub", "-h", host, "-p", port, "-u", "service:suite", "-P", token, "-i", "sensor7", "-t", "q/msg", "-m", fmt.Sprint(n),
			"--will-topic", "q/will", "--will-payload", "gone").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	h.wantHeard(t, w, rounds)
}

// An older connection that does not move holds up the newcomer for a moment only,
// and nobody else.
func TestTakeoverIsNotHeldUp(t *testing.T) {
	door := newDoor()
	door.decide = func(heard, func(any, error)) {} // nothing is ever decided
	_, addr := start(t, func(c *Config) { c.InFlight = 2 }, WithDoor(door))
	old := dial(t, addr, packet.V311)
	old.device("d", connect{clean: true})
	for range 5 {
		old.publish("hub/v1/d/r", "{}", 0, 0)
	}
	door.want(t, "two publishes", func() bool { return len(door.heard) == 2 })
	began := time.Now()
	next := dial(t, addr, packet.V311)
	next.device("d", connect{clean: true})
	if d := time.Since(began); d > settleMost/2 {
		t.Errorf("let in after %v", d)
	}
	old.wantClosed()
}

// clone connects as often as it is sent away, until it is refused or stands.
func clone(t *testing.T, dial func() *raw, token, client string) {
	for range 20 {
		c := dial()
		c.send(packet.Connect<<4, c.connectBody(connect{id: client, user: "d", password: token, clean: true}))
		_, b, err := c.readErr(5 * time.Second)
		if err != nil || b[1] != 0 {
			c.nc.Close()
			return
		}
		for err == nil {
			_, _, err = c.readErr(5 * time.Second)
		}
		c.nc.Close()
		var ne net.Error
		if asNet(err, &ne) && ne.Timeout() {
			return // it stands
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func asNet(err error, ne *net.Error) (ok bool) { *ne, ok = err.(net.Error); return ok }

// Two clones behind one address, which tell no boot, are recognised: by their
// client ids, or because each was there when the other pushed it out.
func TestClonesAreRecognised(t *testing.T) {
	for _, way := range []string{"tcp", "tls", "ws"} {
		for _, ids := range [][2]string{{"same", "same"}, {"one", "two"}} {
			t.Run(way+"/"+strings.Join(ids[:], " "), func(t *testing.T) {
				versions(t, func(t *testing.T, v byte) {
					h := startHubWith(t, func(c *Config) { c.TLSListen, c.TLS = "127.0.0.1:0", certificate(t) })
					token := h.add(t, &devices.Device{ID: "d", Kinds: []devices.Kind{devices.KindSensor}}, false)
					dial := waysTo(t, h.srv)[way]
					var wg sync.WaitGroup
					for _, id := range ids {
						wg.Go(func() { clone(t, func() *raw { return dial(v) }, token, id) })
					}
					defer wg.Wait()
					h.wantStatus(t, "d", func(s devices.Status) bool { return s.Reason == liveness.DuplicateIdentity && s.Flapping })
					if err := h.registry.Delete(t.Context(), "d", time.Now()); err != nil { // ends the one that stands
						t.Error(err)
					}
				})
			})
		}
	}
}

// A device that loses its connections and never closes one of them stays one device.
func TestHalfOpenConnectionsAreOneDevice(t *testing.T) {
	versions(t, func(t *testing.T, v byte) {
		h := startHub(t)
		token := h.add(t, &devices.Device{ID: "d", Kinds: []devices.Kind{devices.KindSensor}}, false)
		for _, id := range []string{"d", "d-%d"} { // some have a new client id each time
			for n := range 10 {
				dial(t, h.addr, v).in(connect{id: strings.ReplaceAll(id, "%d", fmt.Sprint(n)), user: "d", password: token, clean: true})
			}
		}
		if st, s := h.liveness.Stats(), h.liveness.Status("d"); st.Refused != 0 || s.Reason == liveness.DuplicateIdentity {
			t.Errorf("%d refused, shown %+v", st.Refused, s)
		}
	})
}
