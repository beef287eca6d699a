package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const adminPassword = "correct horse battery staple"

// hub is a devicehub process with its defaults, on a folder and ports of its own.
type hub struct {
	program    string
	dir        string
	http, mqtt string // host:port
	admin      string // an administrator's token
	cmd        *exec.Cmd
	done       chan error
	log        *os.File
}

// startHub starts a program on a folder below dir; more are lines for the configuration file, which
// ends within mqtt.
func startHub(ctx context.Context, program, dir string, more ...string) (_ *hub, err error) {
	h := &hub{program: program, dir: dir}
	if h.http, err = freePort(); err != nil {
		return nil, err
	}
	if h.mqtt, err = freePort(); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("data_dir: %s\nhttp:\n  listen: %s\nauth:\n  initial_admin_password: %q\nmqtt:\n  embedded:\n    listen: %s\n%s\n",
		h.data(), h.http, adminPassword, h.mqtt, strings.Join(more, "\n"))
	if err := os.WriteFile(h.conf(), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	if h.log, err = os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	h.cmd = exec.Command(program, "serve", "--config", h.conf())
	h.cmd.Stdout, h.cmd.Stderr, h.cmd.SysProcAttr = h.log, h.log, ownGroup()
	if err := h.run(); err != nil {
		return nil, err
	}
	if err := h.ready(ctx); err != nil {
		return nil, errors.Join(err, h.stop())
	}
	h.admin, err = h.login("admin", adminPassword)
	if err != nil {
		return nil, errors.Join(err, h.stop())
	}
	return h, nil
}

// run starts the process on a thread that lives as long: it ends with the thread that it came from.
func (h *hub) run() error {
	started := make(chan error)
	h.done = make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := h.cmd.Start()
		started <- err
		if err == nil {
			h.done <- h.cmd.Wait()
		}
	}()
	return <-started
}

func (h *hub) data() string { return filepath.Join(h.dir, "data") }
func (h *hub) conf() string { return filepath.Join(h.dir, "devicehub.yaml") }

// freePort returns a loopback address that nobody listens on, below those that the system gives to
// clients.
func freePort() (string, error) {
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 15_000+rand.N(17_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String(), nil
		}
	}
	return "", errors.New("no port is free")
}

func (h *hub) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if resp, err := http.Get("http://" + h.http + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-h.done:
			h.done <- err
			return fmt.Errorf("the hub ended: %v: %s", err, h.tail(4000))
		case <-ctx.Done():
			return fmt.Errorf("the hub is not ready: %s", h.tail(4000))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the hub, by force when it does not go.
func (h *hub) stop() error {
	_ = h.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-h.done:
	case <-time.After(10 * time.Second):
		_ = h.cmd.Process.Kill()
		<-h.done
	}
	return h.log.Close()
}

// tail is the end of the hub's log.
func (h *hub) tail(n int64) string {
	size := h.logged()
	b := make([]byte, min(n, size))
	_, _ = h.log.ReadAt(b, size-int64(len(b)))
	return string(b)
}

// logged are the bytes in the hub's log.
func (h *hub) logged() int64 {
	info, err := h.log.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// stored are the bytes that the hub has written into the data folder and not removed. What it makes
// room for beforehand, at the end of its logs, does not count, nor does the database's own log, which is
// written over from its beginning.
func (h *hub) stored() (n int64) {
	_ = filepath.WalkDir(h.data(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // a file that went away in between
		}
		if strings.HasSuffix(path, "-wal") || strings.HasSuffix(path, "-shm") {
			return nil
		}
		if strings.HasSuffix(path, ".log") {
			n += written(path)
		} else if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

// written is the length of a file without the zeros at its end.
func written(path string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	end, _ := f.Seek(0, io.SeekEnd)
	var b [64 << 10]byte
	for end > 0 {
		from := max(0, end-int64(len(b)))
		n, _ := f.ReadAt(b[:end-from], from)
		if rest := bytes.TrimRight(b[:n], "\x00"); len(rest) > 0 {
			return from + int64(len(rest))
		}
		end = from
	}
	return 0
}

// try makes an API call. Status 0 is a call that had no answer.
func (h *hub) try(method, path, token string, body any) (int, []byte) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, []byte(err.Error())
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://"+h.http+path, r)
	if err != nil {
		return 0, []byte(err.Error())
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, b
}

// call makes an API call that has to succeed.
func (h *hub) call(method, path, token string, body, out any) error {
	status, b := h.try(method, path, token, body)
	if status < 200 || status > 299 {
		return fmt.Errorf("%s %s: %d %s", method, path, status, b)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

const password = "a long road into the hills" // of everybody but the administrator

func (h *hub) login(name, password string) (string, error) {
	var out struct{ Token string }
	err := h.call("POST", "/api/v1/login", "", map[string]string{"username": name, "password": password}, &out)
	return out.Token, err
}

// person adds one and returns a token.
func (h *hub) person(name, role string) (string, error) {
	if err := h.call("POST", "/api/v1/users", h.admin, map[string]string{"username": name, "password": password, "role": role}, nil); err != nil {
		return "", err
	}
	return h.login(name, password)
}

// account adds a service account and returns its token.
func (h *hub) account(name, rights string, topics ...string) (string, error) {
	var out struct{ Token string }
	err := h.call("POST", "/api/v1/apitokens", h.admin, map[string]any{"name": name, "rights": strings.Split(rights, ","), "topics": topics}, &out)
	return out.Token, err
}

// device adds one and returns its token.
func (h *hub) device(id string, kinds ...string) (string, error) {
	var out struct{ Token string }
	err := h.call("POST", "/api/v1/devices", h.admin, map[string]any{"id": id, "kinds": kinds}, &out)
	return out.Token, err
}

// audited counts the entries of the audit since a moment, up to a thousand.
func (h *hub) audited(since time.Time) (int, error) {
	n, cursor := 0, ""
	for n < 1000 {
		var page struct {
			Entries []json.RawMessage
			Next    string `json:"next_cursor"`
		}
		path := fmt.Sprintf("/api/v1/audit?limit=500&from=%d", since.UnixMilli())
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		if err := h.call("GET", path, h.admin, nil, &page); err != nil {
			return n, err
		}
		n += len(page.Entries)
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	return n, nil
}
