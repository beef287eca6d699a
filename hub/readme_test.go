package hub_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"devicehub/hub/hubtest/stranger"
)

// snippets are the blocks of code in a document, by language and in order.
func snippets(t *testing.T, name string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, m := range regexp.MustCompile("(?ms)^```([a-z0-9]+)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		found[m[1]] = append(found[m[1]], m[2])
	}
	return found
}

// freePort is an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// node is the program, and the folder in which npm has put phoenix.
func node(t *testing.T) (program, modules string) {
	t.Helper()
	modules, err := filepath.Abs("hubtest/js/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(modules, "phoenix")); err != nil {
		t.Fatalf("phoenix.js is not installed: run `npm ci` in hub/hubtest/js (`make node` does): %v", err)
	}
	program, err = exec.LookPath("node")
	if err != nil {
		t.Fatalf("these tests need Node.js 20 or newer: %v", err)
	}
	return program, modules
}

// lines is what a program prints, line by line.
type lines struct {
	t     *testing.T
	what  string
	lines chan string
}

// start starts a program in a module, and ends it with the test.
func start(t *testing.T, m *stranger.Module, what, name string, args ...string) (*exec.Cmd, *lines) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = m.Dir, m.Env()
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l := &lines{t, what, make(chan string, 100)}
	go func() {
		defer close(l.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			l.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		cancel()
		cmd.Wait()
		w.Close()
	})
	return cmd, l
}

// want waits for a line, among others.
func (l *lines) want(line string) {
	l.t.Helper()
	timeout := time.After(20 * time.Second)
	var others []string
	for {
		select {
		case got, ok := <-l.lines:
			if got == line {
				return
			}
			if others = append(others, got); ok {
				continue
			}
		case <-timeout:
		}
		l.t.Fatalf("%s: got %q, want %q among them", l.what, others, line)
	}
}

// The README gets from nothing to a chat with presence in 60 lines, and its test passes.
func TestReadme(t *testing.T) {
	t.Parallel()
	program, modules := node(t)
	found := snippets(t, "README.md")
	if len(found["sh"]) < 1 || len(found["js"]) < 1 || len(found["go"]) < 2 {
		t.Fatalf("got %d sh, %d js and %d go blocks", len(found["sh"]), len(found["js"]), len(found["go"]))
	}
	sh, server, client, test := found["sh"][0], found["go"][0], found["js"][0], found["go"][1]
	if n := strings.Count(sh+server+client, "\n"); n > 60 {
		t.Errorf("from nothing to a chat: %d lines, want 60 at most", n)
	}

	m := stranger.New(t)
	m.Run("sh", "-e", "-c", strings.ReplaceAll(sh, "devicehub=../devicehub", "devicehub="+m.Hub))
	m.Dir = filepath.Join(m.Dir, "chat")
	addr := freePort(t)
	for name, text := range map[string]string{"main.go": server, "main_test.go": test, "chat.mjs": client} {
		changed := strings.ReplaceAll(text, "localhost:4000", addr)
		if name != "main_test.go" && changed == text {
			t.Fatalf("%s does not name localhost:4000", name)
		}
		m.Write(name, changed)
	}
	m.Run("go", "mod", "tidy")
	if diff := m.Run("gofmt", "-d", "."); diff != "" {
		t.Errorf("gofmt: %s", diff)
	}
	m.Run("go", "vet", ".")
	m.Run("go", "test", ".")
	m.Run("go", "build", "-o", "chat", ".")

	chat, _ := start(t, m, "chat", "./chat")
	if err := os.Symlink(modules, filepath.Join(m.Dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	m.Write("bob.mjs", strings.ReplaceAll(strings.ReplaceAll(client, "localhost:4000", addr), `"ann"`, `"bob"`))
	m.Write("websocket.mjs", "import WebSocket from \"ws\"\nglobalThis.WebSocket = WebSocket\n") // as browsers and Node.js 22 have it
	_, ann := start(t, m, "ann", program, "--import", "./websocket.mjs", "chat.mjs")
	ann.want("here: ann")
	_, bob := start(t, m, "bob", program, "--import", "./websocket.mjs", "bob.mjs")
	bob.want("here: ann and bob")
	bob.want("bob: hello")
	ann.want("bob: hello")

	if err := chat.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := chat.Wait(); err != nil {
		t.Errorf("the chat ended with %v, want 0", err)
	}
}
