package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// BenchmarkReadingsOverMQTT is the whole path for constrained devices: one
// reading a message, QoS 1, each PUBACK after the reading is durable. Mosquitto,
// which receives and acknowledges the same messages and keeps nothing, is
// measured in the same run.
func BenchmarkReadingsOverMQTT(b *testing.B) {
	h := newHub(b, "limits: {device_events_per_s: 1000000, device_burst: 1000000, device_bytes_per_min: 10GB, device_bytes_per_day: 1TB}")
	devices := make([]mqttBench, benchDevices)
	for i := range devices {
		id := fmt.Sprintf("bench-%d", i)
		devices[i] = mqttBench{addr: h.mqtt, id: id, token: h.mustCLI("device", "add", id, "--kind", "sensor")}
	}
	b.Run("hub", func(b *testing.B) { benchMQTT(b, h.cmd.Process.Pid, devices) })

	addr, pid := startMosquitto(b)
	for i := range devices {
		devices[i].addr = addr
	}
	b.Run("mosquitto", func(b *testing.B) { benchMQTT(b, pid, devices) })
}

func benchMQTT(b *testing.B, pid int, devices []mqttBench) {
	n := b.N/len(devices) + 1
	clients := make([]*mqttBench, len(devices))
	for i := range devices {
		c := devices[i]
		c.boot = fmt.Sprint(time.Now().UnixNano())
		if err := c.connect(); err != nil {
			b.Fatal(err)
		}
		defer c.conn.Close()
		clients[i] = &c
	}
	before := cpuSeconds(b, pid)
	b.ResetTimer()
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() { c.err = c.publish(n) })
	}
	wg.Wait()
	took := b.Elapsed().Seconds()
	var acks []time.Duration
	for _, c := range clients {
		if c.err != nil {
			b.Fatal(c.err)
		}
		acks = append(acks, c.acks...)
	}
	total := float64(n * len(clients))
	b.ReportMetric((cpuSeconds(b, pid)-before)/total*1e6, "server-CPU-µs")
	reportAcks(b, total/took, acks)
}

// mqttBench is a device of MQTT 3.1.1 that does as little as possible beside its
// packets.
type mqttBench struct {
	addr, id, token, boot string
	conn                  net.Conn
	r                     *bufio.Reader
	acks                  []time.Duration
	err                   error
}

// mqttInFlight is how many messages one device has unacknowledged.
const mqttInFlight = 100

func (c *mqttBench) connect() (err error) {
	if c.conn, err = net.Dial("tcp", c.addr); err != nil {
		return err
	}
	c.r = bufio.NewReader(c.conn)
	body := appendField(nil, "MQTT")
	body = append(body, 4, 0xC2, 0, 60) // level 4; user name, password, clean session; keep-alive 60 s
	for _, s := range []string{c.id, c.id, c.token} {
		body = appendField(body, s)
	}
	if _, err := c.conn.Write(appendPacket(nil, 0x10, body)); err != nil {
		return err
	}
	var connack [4]byte
	if _, err := io.ReadFull(c.r, connack[:]); err != nil || connack[3] != 0 {
		return fmt.Errorf("connect: % x, %v", connack, err)
	}
	return nil
}

func (c *mqttBench) publish(n int) error {
	sent := make([]time.Time, n)
	slots := make(chan struct{}, mqttInFlight)
	go func() {
		var packet, body []byte
		for i := range n {
			slots <- struct{}{}
			body = appendField(body[:0], "hub/v1/"+c.id+"/r")
			body = binary.BigEndian.AppendUint16(body, uint16(i%60000+1))
			body = fmt.Appendf(body, `{"m":"temperature","v":2%d.5,"s":%d,"boot":"%s"}`, i%10, i+1, c.boot)
			packet = appendPacket(packet[:0], 0x32, body)
			sent[i] = time.Now()
			if _, err := c.conn.Write(packet); err != nil {
				return // the reader says why
			}
		}
	}()
	var puback [4]byte
	for i := range n { // acknowledged in the order in which they were sent
		if _, err := io.ReadFull(c.r, puback[:]); err != nil {
			return err
		}
		if puback[0] != 0x40 || int(binary.BigEndian.Uint16(puback[2:])) != i%60000+1 {
			return fmt.Errorf("got % x for message %d", puback, i+1)
		}
		c.acks = append(c.acks, time.Since(sent[i]))
		<-slots
	}
	return nil
}

func appendField(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendPacket(b []byte, first byte, body []byte) []byte {
	b = append(b, first)
	n := len(body)
	for ; n > 127; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(append(b, byte(n)), body...)
}

// startMosquitto returns the address and the process of a broker that lets
// everybody in.
func startMosquitto(b *testing.B) (addr string, pid int) {
	b.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		program = "/usr/sbin/mosquitto"
	}
	addr = freePort(b)
	_, port, _ := net.SplitHostPort(addr)
	conf := filepath.Join(b.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\nmax_inflight_messages 0\n", port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "-c", conf)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 200 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr, cmd.Process.Pid
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.Fatal(errors.New("mosquitto does not answer"))
	return "", 0
}
