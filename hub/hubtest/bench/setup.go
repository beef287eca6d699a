package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// setup is what the benches share: the built peer.
type setup struct {
	dir   string
	peer  string
	self  string
	scale float64
}

func newSetup(scale float64) (*setup, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < limit.Max {
		limit.Cur = limit.Max
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hub-bench")
	if err != nil {
		return nil, err
	}
	s := &setup{dir: dir, peer: filepath.Join(dir, "peer"), self: self, scale: scale}
	build := exec.Command("go", "build", "-o", s.peer, "devicehub/hub/hubtest/peer")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		s.close()
		return nil, fmt.Errorf("build the peer: %w", err)
	}
	return s, nil
}

func (s *setup) close() { os.RemoveAll(s.dir) }

// n scales an amount of work.
func (s *setup) n(n int) int { return max(1, int(float64(n)*s.scale)) }

// server is a process under measurement.
type server struct {
	cmd  *exec.Cmd
	addr string
}

// hub starts the peer, raw the raw server, each on the first core.
func (s *setup) hub() (*server, error) { return s.hubOn(1) }
func (s *setup) raw() (*server, error) { return s.rawOn(1) }

// hubOn and rawOn start them on so many cores, the first ones.
func (s *setup) hubOn(cores int) (*server, error) { return start(cores, s.peer, "-quiet", "-listen") }
func (s *setup) rawOn(cores int) (*server, error) { return start(cores, s.self, "-raw") }

func start(cores int, program string, args ...string) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	args = append(args, addr)
	if taskset, err := exec.LookPath("taskset"); err == nil {
		program, args = taskset, append([]string{"-c", fmt.Sprintf("0-%d", cores-1), program}, args...)
	}
	sv := &server{cmd: exec.Command(program, args...), addr: addr}
	sv.cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", cores))
	sv.cmd.Stderr = os.Stderr
	if err := sv.cmd.Start(); err != nil {
		return nil, err
	}
	for range 200 {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			time.Sleep(50 * time.Millisecond)
			return sv, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	sv.stop()
	return nil, errors.New("the server does not answer")
}

func (sv *server) stop() {
	sv.cmd.Process.Kill()
	sv.cmd.Wait()
}

// cpu returns what the process has used so far.
func (sv *server) cpu() time.Duration {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", sv.cmd.Process.Pid))
	var sum time.Duration
	for _, file := range tasks {
		sum += schedstat(file)
	}
	return sum
}

// ksoftirqd returns what the kernel's threads for network packets have used so far, on all cores.
// Most packets on loopback are handled in the sender's time; these are the rest.
func ksoftirqd() time.Duration {
	var sum time.Duration
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, file := range names {
		if b, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(b), "ksoftirqd/") {
			sum += schedstat(filepath.Join(filepath.Dir(file), "schedstat"))
		}
	}
	return sum
}

// schedstat returns the CPU that a task has used.
func schedstat(file string) time.Duration {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	ns, _ := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
	return time.Duration(ns)
}

// rss returns the resident memory of the process in bytes.
func (sv *server) rss() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", sv.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// upgrade is the request of a WebSocket client.
func upgrade(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
}

// client is one connection of the load.
type client struct {
	net.Conn
	r *bufio.Reader
}

// dial connects from one of several loopback addresses, for there are more clients than ports.
func dial(addr string, i int) (*client, error) {
	var d net.Dialer
	if i >= 20000 {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i/20000))}
	}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &client{c, bufio.NewReaderSize(c, 512)}, nil
}

// connect makes a WebSocket connection to the peer.
func connect(addr string, i int) (*client, error) {
	c, err := dial(addr, i)
	if err != nil {
		return nil, err
	}
	if err := c.upgrade(i); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) upgrade(i int) error {
	if _, err := io.WriteString(c, upgrade(fmt.Sprintf("/socket/websocket?token=valid&vsn=2.0.0&device_id=d%d", i))); err != nil {
		return err
	}
	status, err := c.r.ReadString('\n')
	if err != nil || !strings.Contains(status, "101") {
		return fmt.Errorf("upgrade: %q, %v", status, err)
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return err
		}
		if line == "\r\n" {
			return nil
		}
	}
}

// masked returns a text frame as a client sends it.
func masked(text string) []byte {
	b := []byte{0x81}
	if n := len(text); n < 126 {
		b = append(b, 0x80|byte(n))
	} else {
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	}
	b = append(b, 0, 0, 0, 0)
	return append(b, text...)
}

// read returns the next frame's body.
func (c *client) read(buf []byte) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return nil, err
	}
	n := int(head[1])
	switch n {
	case 126:
		var b [2]byte
		if _, err := io.ReadFull(c.r, b[:]); err != nil {
			return nil, err
		}
		n = int(b[0])<<8 | int(b[1])
	case 127:
		var b [8]byte
		if _, err := io.ReadFull(c.r, b[:]); err != nil {
			return nil, err
		}
		n = int(b[4])<<24 | int(b[5])<<16 | int(b[6])<<8 | int(b[7])
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	_, err := io.ReadFull(c.r, buf[:n])
	return buf[:n], err
}

// join joins a topic and reads the reply.
func (c *client) join(topic string) error {
	if _, err := c.Write(masked(`["1","1","` + topic + `","phx_join",{}]`)); err != nil {
		return err
	}
	body, err := c.read(nil)
	if err == nil && !strings.Contains(string(body), `"status":"ok"`) {
		err = fmt.Errorf("join: %s", body)
	}
	return err
}
