package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fenced returns the code blocks of a language in a section of a document.
func fenced(t *testing.T, path, section, language string) (blocks []string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(b), "\n## "+section+"\n")
	if !found {
		t.Fatalf("%s has no section %q", path, section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for {
		_, rest, found := strings.Cut(text, "```"+language+"\n")
		if !found {
			return blocks
		}
		block, rest, _ := strings.Cut(rest, "```")
		blocks, text = append(blocks, block), rest
	}
}

// neighbour is a Mosquitto with a bridge to the hub, as bridge/README.md has it.
type neighbour struct {
	t    *testing.T
	addr string
	conf string
	cmd  *exec.Cmd
}

// newNeighbour takes the commands and the configuration out of the document: what
// differs is where things are.
func newNeighbour(t *testing.T, h *hub) *neighbour {
	t.Helper()
	const document, section = "../../../bridge/README.md", "Mosquitto beside the hub"
	command, conf := fenced(t, document, section, "sh"), fenced(t, document, section, "conf")
	if len(command) != 1 || len(conf) != 1 {
		t.Fatalf("%d commands and %d configurations", len(command), len(conf))
	}
	words := strings.Fields(strings.ReplaceAll(command[0], "'", ""))
	token := h.mustCLI(words[1:]...)
	n := &neighbour{t: t, addr: freePort(t)}
	_, port, _ := net.SplitHostPort(n.addr)
	dir := t.TempDir()
	text := conf[0]
	for there, here := range map[string]string{
		"listener 1883": "listener " + port + " 127.0.0.1", "192.168.1.10:1883": h.mqtt, "TOKEN": token, "/var/lib/mosquitto/": dir + "/",
	} {
		if strings.Count(text, there) != 1 {
			t.Fatalf("%q stands in %q %d times", there, text, strings.Count(text, there))
		}
		text = strings.Replace(text, there, here, 1)
	}
	if os.Geteuid() == 0 {
		text += "user root\n" // else it cannot write to the test's folder
	}
	n.conf = write(t, dir, "mosquitto.conf", text)
	t.Cleanup(n.stop)
	n.start()
	return n
}

func (n *neighbour) start() {
	n.t.Helper()
	n.cmd = exec.Command("mosquitto", "-c", n.conf)
	n.cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin")
	if path, err := exec.LookPath("/usr/sbin/mosquitto"); err == nil {
		n.cmd.Path = path
	}
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	for range 500 {
		if c, err := net.Dial("tcp", n.addr); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	n.t.Fatal("mosquitto does not listen")
}

func (n *neighbour) stop() {
	if n.cmd != nil {
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
		_ = n.cmd.Wait()
		n.cmd = nil
	}
}

// hearer is a mosquitto_sub that counts what it hears, through restarts of its
// broker.
type hearer struct {
	mu    sync.Mutex
	part  []byte
	heard map[string]int // by topic and payload
}

func (s *hearer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part = append(s.part, b...)
	for {
		line, rest, found := bytes.Cut(s.part, []byte("\n"))
		if !found {
			return len(b), nil
		}
		s.heard[string(line)]++
		s.part = rest
	}
}

func hear(t *testing.T, addr string, args ...string) *hearer {
	t.Helper()
	s := &hearer{heard: map[string]int{}}
	host, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command("mosquitto_sub", append([]string{"-h", host, "-p", port, "-c", "-i", "hearer", "-q", "2", "-t", "house/#", "-v"}, args...)...)
	cmd.Stdout = s
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return s
}

// probe is the topic on which is seen whether the bridge is there.
const probe = "house/probe"

func (s *hearer) met() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard[probe+" ?"] > 0
}

// want waits until every message was heard, and wants none twice.
func (s *hearer) want(t *testing.T, side string, messages map[string]bool) {
	t.Helper()
	missing := 0
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		s.mu.Lock()
		missing = 0
		for m := range messages {
			if s.heard[m] == 0 {
				missing++
			}
		}
		s.mu.Unlock()
		if missing == 0 {
			break
		}
	}
	time.Sleep(300 * time.Millisecond) // for what comes again
	s.mu.Lock()
	defer s.mu.Unlock()
	if missing > 0 {
		some := ""
		for m := range messages {
			if s.heard[m] == 0 && len(some) < 500 {
				some += ", " + m
			}
		}
		t.Fatalf("%s: %d of %d messages missing%s", side, missing, len(messages), some)
	}
	for m, n := range s.heard {
		if n != 1 && !strings.HasPrefix(m, probe) {
			t.Errorf("%s: %q heard %d times", side, m, n)
		}
	}
}

// TestMosquittoBesideTheHub runs the configuration of the document: both ways, at
// every QoS, each message once, and through restarts of either side.
func TestMosquittoBesideTheHub(t *testing.T) {
	h := newHub(t)
	n := newNeighbour(t, h)
	token := h.account("suite", "house/#")
	atHub := hear(t, h.mqtt, "-u", "service:suite", "-P", token)
	beside := hear(t, n.addr)
	expected := map[string]bool{}
	round := 0
	// say publishes at one side, or both.
	say := func(hub, mosquitto bool, qos ...int) {
		t.Helper()
		round++
		for _, q := range qos {
			for side, args := range map[string][]string{"hub": {"-u", "service:suite", "-P", token}, "mosquitto": nil} {
				addr := h.mqtt
				if side == "mosquitto" {
					addr = n.addr
				}
				if side == "hub" && !hub || side == "mosquitto" && !mosquitto {
					continue
				}
				topic := fmt.Sprintf("house/%s/%d", side, q)
				var lines strings.Builder
				for i := range 50 {
					line := fmt.Sprintf("%d-%d", round, i)
					fmt.Fprintln(&lines, line)
					expected[topic+" "+line] = true
				}
				host, port, _ := net.SplitHostPort(addr)
				cmd := exec.Command("mosquitto_pub", append([]string{"-h", host, "-p", port, "-t", topic, "-q", fmt.Sprint(q), "-l"}, args...)...)
				cmd.Stdin = strings.NewReader(lines.String())
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
		}
	}
	both := func() {
		t.Helper()
		atHub.want(t, "at the hub", expected)
		beside.want(t, "at Mosquitto", expected)
	}
	meet := func(addr string, far *hearer, args ...string) {
		t.Helper()
		host, port, _ := net.SplitHostPort(addr)
		for deadline := time.Now().Add(60 * time.Second); !far.met(); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the bridge does not connect")
			}
			if out, err := exec.Command("mosquitto_pub", append([]string{"-h", host, "-p", port, "-t", probe, "-m", "?"}, args...)...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	meet(h.mqtt, beside, "-u", "service:suite", "-P", token)
	meet(n.addr, atHub)
	say(true, true, 0, 1, 2)
	both()

	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	say(false, true, 1, 2) // while the hub is away
	h.start()
	both()
	say(true, true, 0, 1, 2)
	both()

	n.stop()
	say(true, false, 1, 2) // while Mosquitto is away
	n.start()
	both()
	say(true, true, 0, 1, 2)
	both()
	if strings.Contains(h.log.String(), "sign-in refused") {
		t.Error("the bridge was refused in between")
	}
}
