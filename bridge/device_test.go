package bridge

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"devicehub/bridge/packet"
	"devicehub/devices"
)

// needMosquitto leaves a test out of the quick subset, and says what it needs.
func needMosquitto(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("uses Mosquitto's clients")
	}
	if _, err := exec.LookPath("mosquitto_pub"); err != nil {
		t.Fatal("install Mosquitto's clients: apt-get install mosquitto-clients")
	}
}

// The clients of the constrained world.
func TestMosquittoClients(t *testing.T) {
	needMosquitto(t)
	door := newDoor()
	_, addr := start(t, nil, WithDoor(door))
	host, port, _ := strings.Cut(addr, ":")
	for _, version := range []string{"311", "5"} {
		for _, qos := range []string{"0", "1", "2"} {
			m := fmt.Sprintf(`{"m":"temperature","v":21.4,"s":%s%s}`, version, qos)
			out, err := exec.Command("mosquitto_pub", "-V", "mqttv"+version, "-h", host, "-p", port, "-u", "k-1", "-P", "pw-k-1", "-i", "whatever",
				"-t", "hub/v1/k-1/r", "-q", qos, "-m", m).CombinedOutput()
			if err != nil {
				t.Fatalf("mosquitto_pub: %v: %s", err, out)
			}
			door.wantHeard(t, heard{"k-1", "reading", "", m, false})
		}
	}
	sub := exec.Command("mosquitto_sub", "-V", "mqttv5", "-h", host, "-p", port, "-u", "lamp", "-P", "pw-lamp", "-t", "hub/v1/lamp/cmd", "-q", "1", "-C", "2")
	var got strings.Builder
	sub.Stdout = &got
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	s := door.session(t, "lamp")
	<-s.listened
	for _, id := range []string{"c1", "c2"} {
		if !s.link.Command(command(id, time.Minute)) {
			t.Fatal("the command was not taken")
		}
	}
	if err := sub.Wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.String(), `"cmd_id":"c1"`) || !strings.Contains(got.String(), `"cmd_id":"c2"`) {
		t.Errorf("got %q, want both commands", got.String())
	}
	if out, err := exec.Command("mosquitto_pub", "-h", host, "-p", port, "-u", "k-1", "-P", "wrong", "-t", "x", "-m", "x").CombinedOutput(); err == nil {
		t.Errorf("a wrong password was let in: %s", out)
	}
}

func versions(t *testing.T, f func(t *testing.T, v byte)) {
	for _, v := range []byte{packet.V311, packet.V5} {
		t.Run(map[byte]string{packet.V311: "3.1.1", packet.V5: "5"}[v], func(t *testing.T) { f(t, v) })
	}
}

func TestTopics(t *testing.T) {
	versions(t, func(t *testing.T, v byte) {
		door := newDoor()
		_, addr := start(t, nil, WithDoor(door))
		c := dial(t, addr, v)
		c.device("d-1", connect{clean: true})
		for i, x := range []struct {
			last, payload string
			want          heard
		}{
			{"r", `{"m":"t","v":1}`, heard{"d-1", "reading", "", `{"m":"t","v":1}`, false}},
			{"r", `{"boot":"r","r":[["t",1]]}`, heard{"d-1", "readings", "", `{"boot":"r","r":[["t",1]]}`, false}},
			{"r/temperature", `21.5`, heard{"d-1", "reading", "temperature", `21.5`, false}},
			{"senml", `[{"n":"t","v":1}]`, heard{"d-1", "senml", "", `[{"n":"t","v":1}]`, false}},
			{"senml", "\x81\xa1", heard{"d-1", "senml", "", "\x81\xa1", true}},
			{"state", `{"on":true}`, heard{"d-1", "state", "", `{"on":true}`, false}},
			{"ack", `{"cmd_id":"x"}`, heard{"d-1", "ack", "", `{"cmd_id":"x"}`, false}},
			{"sys", `{"e":"pong","n":1}`, heard{"d-1", "pong", "", `{"n":1}`, false}},
			{"sys", `{"e":"sleep","awake_at":5}`, heard{"d-1", "sleep", "", `{"awake_at":5}`, false}},
		} {
			for qos := range byte(3) {
				id := uint16(i*3 + int(qos) + 1)
				c.publish("hub/v1/d-1/"+x.last, x.payload, qos, id)
				door.wantHeard(t, x.want)
				switch qos {
				case 1:
					c.want(packet.Puback<<4, byte(id>>8), byte(id))
				case 2:
					c.want(packet.Pubrec<<4, byte(id>>8), byte(id))
					c.send(packet.Pubrel<<4|2, []byte{byte(id >> 8), byte(id)})
					c.want(packet.Pubcomp<<4, byte(id>>8), byte(id))
				}
			}
		}
	})
}

func TestSysDown(t *testing.T) {
	door := newDoor()
	_, addr := start(t, nil, WithDoor(door))
	c := dial(t, addr, packet.V311)
	c.device("d-1", connect{clean: true})
	if got := c.subscribe(1, "hub/v1/d-1/sys/down"); got[0] != 1 {
		t.Fatalf("SUBACK %x, want QoS 1", got)
	}
	for _, x := range []struct{ send, want string }{
		{`{"e":"time_req"}`, `{"e":"time","server_time":1763682000000}`},
		{`{"e":"token_refresh"}`, `{"e":"token","gen":1,"token":"new"}`},
		{`{"e":"reboot"}`, `{"e":"error","code":"invalid","details":{"field":"e","want":"time_req, token_refresh, pong, sleep or info"},"reason":"e: want time_req, token_refresh, pong, sleep or info","topic":"hub/v1/d-1/sys"}`},
	} {
		c.publish("hub/v1/d-1/sys", x.send, 0, 0)
		m := c.message()
		if m.topic != "hub/v1/d-1/sys/down" || m.retain || m.qos != 1 {
			t.Errorf("got %+v", m)
		}
		var got, want any
		_ = json.Unmarshal([]byte(m.payload), &got)
		_ = json.Unmarshal([]byte(x.want), &want)
		if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
			t.Errorf("%s: got %s, want %s", x.send, m.payload, x.want)
		}
		c.puback(m.id)
	}
	s := door.session(t, "d-1")
	s.link.Tell("ping", map[string]int{"n": 7})
	if m := c.message(); m.payload != `{"e":"ping","n":7}` {
		t.Errorf("got %s", m.payload)
	}
}

// MQTT 5 §4.9: a client with Receive Maximum 1 gets every message, one by one,
// and commands go one by one to any client.
func TestEveryCommandArrives(t *testing.T) {
	for _, x := range []struct {
		name    string
		version byte
		max     byte
		burst   int
	}{{"3.1.1", packet.V311, 0, 50}, {"receive maximum 1", packet.V5, 1, 50}, {"receive maximum 5", packet.V5, 5, 60}, {"receive maximum 20", packet.V5, 20, 60}, {"none given", packet.V5, 0, 60}} {
		t.Run(x.name, func(t *testing.T) {
			door := newDoor()
			_, addr := start(t, nil, WithDoor(door))
			c := dial(t, addr, x.version)
			o := connect{clean: true}
			if x.max > 0 {
				o.props = []byte{33, 0, x.max}
			}
			c.device("lamp", o)
			c.subscribe(1, "hub/v1/lamp/cmd")
			s := door.session(t, "lamp")
			<-s.listened
			for i := range x.burst {
				if !s.link.Command(command(fmt.Sprint("c", i), time.Minute)) {
					t.Fatalf("command %d was not taken", i)
				}
			}
			for i := range x.burst {
				m := c.message()
				if want := fmt.Sprint(`"cmd_id":"c`, i, `"`); !strings.Contains(m.payload, want) || m.retain || m.dup || m.qos != 1 {
					t.Fatalf("got %+v, want %s", m, want)
				}
				if x.version == packet.V5 && (string(m.props.CorrelationData) != fmt.Sprint("c", i) || m.props.MessageExpiryInterval == 0 || m.props.MessageExpiryInterval > 60) {
					t.Errorf("properties %+v", m.props)
				}
				if i < 3 {
					c.wantQuiet(20 * time.Millisecond) // one unacknowledged command
				}
				c.puback(m.id)
			}
			for i := range 20 { // and none is stuck afterwards
				s.link.Command(command(fmt.Sprint("d", i), time.Minute))
				c.puback(c.message().id)
			}
		})
	}
}

func TestReceiveMaximumHoldsForAll(t *testing.T) {
	door := newDoor()
	_, addr := start(t, nil, WithDoor(door))
	c := dial(t, addr, packet.V5)
	c.device("lamp", connect{clean: true, props: []byte{33, 0, 1}})
	c.subscribe(1, "hub/v1/lamp/cmd", "hub/v1/lamp/sys/down")
	s := door.session(t, "lamp")
	<-s.listened
	s.link.Tell("ping", map[string]int{"n": 1})
	s.link.Command(command("c", time.Minute))
	m := c.message()
	c.wantQuiet(30 * time.Millisecond)
	c.puback(m.id)
	c.message()
}

func TestExpiredCommandIsNotSent(t *testing.T) {
	door := newDoor()
	srv, addr := start(t, nil, WithDoor(door))
	c := dial(t, addr, packet.V5)
	c.device("lamp", connect{clean: true})
	c.subscribe(1, "hub/v1/lamp/cmd")
	s := door.session(t, "lamp")
	<-s.listened
	s.link.Command(command("first", time.Minute))
	s.link.Command(command("short", 30*time.Millisecond))
	s.link.Command(command("last", time.Minute))
	m := c.message()
	time.Sleep(40 * time.Millisecond)
	c.puback(m.id)
	if m := c.message(); !strings.Contains(m.payload, "last") {
		t.Errorf("got %s, want the command that has not expired", m.payload)
	}
	if n := srv.Stats().Expired; n != 1 {
		t.Errorf("expired %d, want 1", n)
	}
}

func TestCommandsNeedASubscriber(t *testing.T) {
	door := newDoor()
	_, addr := start(t, nil, WithDoor(door))
	c := dial(t, addr, packet.V311)
	c.device("lamp", connect{clean: true})
	s := door.session(t, "lamp")
	if s.link.Command(command("c", time.Minute)) {
		t.Error("a command was taken for a device that does not listen")
	}
	if got := c.subscribe(0, "hub/v1/lamp/cmd"); got[0] != 0 {
		t.Fatalf("SUBACK %x", got)
	}
	<-s.listened
	for i := range 3 { // QoS 0: no window
		s.link.Command(command(fmt.Sprint(i), time.Minute))
		if m := c.message(); m.qos != 0 {
			t.Errorf("QoS %d, want 0", m.qos)
		}
	}
	c.send(packet.Unsubscribe<<4|2, str([]byte{0, 9}, "hub/v1/lamp/cmd"))
	c.want(packet.Unsuback<<4, 0, 9)
	if s.link.Command(command("c", time.Minute)) {
		t.Error("a command was taken after UNSUBSCRIBE")
	}
}

// What is not decided is not acknowledged, and one connection does not wait for
// the one decision before it asks for the next.
func TestAcknowledgedWhenDecided(t *testing.T) {
	versions(t, func(t *testing.T, v byte) {
		door := newDoor()
		waiting := make(chan func(any, error), 1000)
		door.decide = func(_ heard, reply func(any, error)) { waiting <- reply }
		_, addr := start(t, nil, WithDoor(door))
		c := dial(t, addr, v)
		c.device("d-1", connect{clean: true})
		const n = 400
		for i := range n {
			c.publish("hub/v1/d-1/r", `{"m":"t","v":1}`, 1+byte(i%2), uint16(i+1))
		}
		var replies []func(any, error)
		for range n {
			replies = append(replies, <-waiting)
		}
		c.wantQuiet(30 * time.Millisecond)
		for _, reply := range replies {
			go reply(nil, nil)
		}
		seen := map[uint16]bool{}
		for range n {
			h, b := c.read()
			id := uint16(b[0])<<8 | uint16(b[1])
			if want := []byte{packet.Puback << 4, packet.Pubrec << 4}[(id-1)%2]; h != want {
				t.Fatalf("packet %02x for %d", h, id)
			}
			seen[id] = true
		}
		if len(seen) != n {
			t.Errorf("%d acknowledged, want %d", len(seen), n)
		}
	})
}

func TestRefusals(t *testing.T) {
	final := devices.OutOfRange("v", -60, 150, "°C")
	for _, x := range []struct {
		name string
		err  error
		code byte // of MQTT 5
		keep bool // 3.1.1 gets no acknowledgement
	}{
		{"final", final, packet.PayloadInvalid, false},
		{"token expired", devices.Refuse(devices.CodeTokenExpired, "expired"), packet.NotAuthorized, false},
		{"too many", devices.Refuse(devices.CodeTooLarge, "501 readings"), packet.PayloadInvalid, false},
		{"overloaded", devices.Refuse(devices.CodeOverloaded, "full").After(time.Second), packet.QuotaExceeded, true},
		{"disk", devices.Refuse(devices.CodePlatformUnavailable, "disk"), packet.ImplementationError, true},
		{"rate", devices.Refuse(devices.CodeRateLimited, "slow down").After(20 * time.Millisecond), packet.QuotaExceeded, true},
		{"fault", fmt.Errorf("write log: no space"), packet.ImplementationError, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			for qos := byte(1); qos <= 2; qos++ {
				door := newDoor()
				_, addr := start(t, nil, WithDoor(door))
				ack := map[byte]byte{1: packet.Puback, 2: packet.Pubrec}[qos]
				door.decide = func(_ heard, reply func(any, error)) { go reply(nil, x.err) }
				c := dial(t, addr, packet.V5)
				c.device("five", connect{clean: true})
				c.publish("hub/v1/five/r", "{}", qos, 7)
				if b := c.wantType(ack); b[2] != x.code {
					t.Errorf("QoS %d: reason code %02x, want %02x", qos, b[2], x.code)
				}
				c.publish("hub/v1/five/r", "{}", qos, 7) // the identifier is free again
				c.wantType(ack)

				c = dial(t, addr, packet.V311)
				c.device("three", connect{clean: true})
				c.subscribe(0, "hub/v1/three/sys/down")
				c.publish("hub/v1/three/r", "{}", qos, 7)
				if m := c.message(); !strings.Contains(m.payload, `"e":"error"`) || !strings.Contains(m.payload, string(refusal(x.err).Code)) {
					t.Errorf("got %s, want the error", m.payload)
				}
				if !x.keep {
					c.want(ack<<4, 0, 7)
					continue
				}
				begun := time.Now()
				for { // perhaps another error, but no acknowledgement
					h, b, err := c.readErr(12 * time.Second)
					if err != nil {
						break
					}
					if h>>4 != packet.Publish {
						t.Fatalf("got %02x %x", h, b)
					}
				}
				if d := time.Since(begun); d > 10*time.Second {
					t.Errorf("sent away after %v, want at most 10 s", d)
				}
			}
		})
	}
}

// A QoS 2 publish is handed on once, however often it comes (§4.3.3).
func TestExactlyOnce(t *testing.T) {
	versions(t, func(t *testing.T, v byte) {
		door := newDoor()
		_, addr := start(t, nil, WithDoor(door))
		o := connect{}
		if v == packet.V5 {
			o.props = []byte{17, 0, 0, 0, 60}
		}
		c := dial(t, addr, v)
		c.device("d-1", o)
		c.publish("hub/v1/d-1/r", "{}", 2, 5)
		c.want(packet.Pubrec<<4, 0, 5)
		c.nc.Close()
		door.wantClosed(t, "d-1 connection_lost")
		c = dial(t, addr, v)
		if b := c.device("d-1", o); b[0] != 1 {
			t.Error("no session present")
		}
		c.send(packet.Publish<<4|2<<1|8, c.publishBody("hub/v1/d-1/r", "{}", 2, 5))
		c.want(packet.Pubrec<<4, 0, 5)
		c.send(packet.Pubrel<<4|2, []byte{0, 5})
		c.want(packet.Pubcomp<<4, 0, 5)
		c.publish("hub/v1/d-1/r", "{}", 2, 5)
		c.want(packet.Pubrec<<4, 0, 5)
		if n := len(door.heard); n != 2 {
			t.Errorf("handed on %d times, want 2", n)
		}
	})
}

// A session that is resumed has its subscriptions, and no old commands.
func TestResumedSessionRedeliversNothing(t *testing.T) {
	door := newDoor()
	_, addr := start(t, nil, WithDoor(door))
	c := dial(t, addr, packet.V311)
	c.device("lamp", connect{})
	c.subscribe(1, "hub/v1/lamp/cmd")
	s := door.session(t, "lamp")
	<-s.listened
	s.link.Command(command("old", time.Minute))
	s.link.Command(command("older", time.Minute))
	c.message() // and no PUBACK
	c.nc.Close()
	door.wantClosed(t, "lamp connection_lost")
	c = dial(t, addr, packet.V311)
	if b := c.device("lamp", connect{}); b[0] != 1 {
		t.Error("no session present")
	}
	s = door.session(t, "lamp")
	<-s.listened // the subscription stands
	c.wantQuiet(50 * time.Millisecond)
	s.link.Command(command("new", time.Minute))
	if m := c.message(); !strings.Contains(m.payload, "new") {
		t.Errorf("got %s", m.payload)
	}
	c.nc.Close()
	c = dial(t, addr, packet.V311)
	if b := c.device("lamp", connect{clean: true}); b[0] != 0 {
		t.Error("session present after a clean start")
	}
}
