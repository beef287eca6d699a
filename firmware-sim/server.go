package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// Process is a Server that runs as a process of its own: a hub, which is ready when GET /readyz says so, or a broker, which
// is when it listens.
type Process struct {
	what   string
	where  string // host:port
	ready  func(ctx context.Context) bool
	argv   []string
	env    []string
	output io.Writer

	mu  sync.Mutex
	cmd *exec.Cmd
	end chan struct{} // closed when cmd has ended
}

// NewProcess returns a hub that is started with argv, listens at hub, and writes to output. It is not started.
func NewProcess(hub *url.URL, argv, env []string, output io.Writer) (*Process, error) {
	u := *hub
	u.Path += "/readyz"
	return newProcess("hub", hostPort(hub, "80"), func(ctx context.Context) bool { return answersOK(ctx, u.String()) }, argv, env, output)
}

// NewBroker returns a broker that is started with argv and listens at broker. It is not started.
func NewBroker(broker *url.URL, argv []string, output io.Writer) (*Process, error) {
	where := hostPort(broker, "1883")
	return newProcess("broker", where, func(ctx context.Context) bool { return listens(ctx, where) }, argv, nil, output)
}

func hostPort(u *url.URL, port string) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func listens(ctx context.Context, where string) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", where)
	return err == nil && conn.Close() == nil
}

func newProcess(what, where string, ready func(context.Context) bool, argv, env []string, output io.Writer) (*Process, error) {
	if len(argv) == 0 {
		return nil, errors.New("no command that starts the " + what)
	}
	return &Process{what: what, where: where, ready: ready, argv: argv, env: env, output: output}, nil
}

func answersOK(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// readyWithin is how long a hub may take to replay its logs.
const readyWithin = 2 * time.Minute

// Start starts the process and returns when it is ready, or has ended instead.
func (p *Process) Start(ctx context.Context) error {
	if listens(ctx, p.where) {
		return fmt.Errorf("start the %s: something listens at %s already", p.what, p.where)
	}
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Env = append(cmd.Environ(), p.env...)
	said := &lastLine{}
	out := io.MultiWriter(said, p.output)
	cmd.Stdout, cmd.Stderr = out, out
	Apart(cmd)
	started, end := make(chan error), make(chan struct{})
	go func() {
		defer close(end)
		runtime.LockOSThread() // Apart: a process may end with the thread that started it
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is seen by those who wait for it
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start the %s: %w", p.what, err)
	}
	p.mu.Lock()
	p.cmd, p.end = cmd, end
	p.mu.Unlock()
	if err := p.await(ctx, end); err != nil {
		err = errors.Join(err, p.Kill())
		if text := said.String(); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return err
	}
	return nil
}

// lastLine keeps the last line that was written to it.
type lastLine struct {
	mu   sync.Mutex
	line []byte
}

func (l *lastLine) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = append(l.line, b...)
	text := bytes.TrimRight(l.line, "\n")
	if i := bytes.LastIndexByte(text, '\n'); i >= 0 {
		l.line = append([]byte(nil), l.line[i+1:]...)
	}
	l.line = l.line[max(0, len(l.line)-1000):]
	return len(b), nil
}

func (l *lastLine) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.TrimSpace(l.line))
}

func (p *Process) await(ctx context.Context, end <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		if p.ready(ctx) {
			return nil
		}
		select {
		case <-end:
			return errors.New("the " + p.what + " ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("the %s is not ready at %s: %w", p.what, p.where, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Kill ends the process at once, as kill -9 does, and waits until it is gone.
func (p *Process) Kill() error {
	p.mu.Lock()
	cmd, end := p.cmd, p.end
	p.cmd = nil
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	err := cmd.Process.Kill()
	<-end
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Stop asks the process to end, and ends it after a while.
func (p *Process) Stop() error {
	p.mu.Lock()
	cmd, end := p.cmd, p.end
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := terminate(cmd.Process); err != nil {
		return p.Kill()
	}
	select {
	case <-end:
		return nil
	case <-time.After(30 * time.Second):
		return p.Kill()
	}
}

// Pid returns the process id, 0 when there is none.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}
