// Command demo runs a hub and a small fleet of simulated devices on this
// machine, on loopback and in a folder of its own, and prints where to look at
// them and how to sign in. Ctrl-C ends all of it and leaves nothing behind.
//
// `make demo` builds what it needs and starts it.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"devicehub/firmware-sim/profile"
)

func main() {
	runtime.LockOSThread() // children end with the thread that started them
	d := demo{out: os.Stdout}
	flag.StringVar(&d.bin, "bin", "bin", "`folder` with devicehub and firmware-sim")
	flag.StringVar(&d.profile, "profile", "configs/fleet/demo.yaml", "the fleet, a `file`")
	flag.StringVar(&d.httpAddr, "http", "", "`address` of the dashboard (default 127.0.0.1:4000, or a free port where that is taken)")
	flag.StringVar(&d.mqttAddr, "mqtt", "", "`address` of the MQTT listener (default 127.0.0.1:1883, or a free port)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "demo: takes no arguments; see demo -help")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	if err := d.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

const (
	startWait = 60 * time.Second
	simWait   = 20 * time.Second // it takes its devices away again
	hubWait   = 20 * time.Second
)

type demo struct {
	bin, profile       string
	httpAddr, mqttAddr string
	out                io.Writer // and of the fleet

	hubURL, mqttURL string
}

// run plays until ctx ends.
func (d *demo) run(ctx context.Context) (err error) {
	for _, name := range []string{filepath.Join(d.bin, "devicehub"), filepath.Join(d.bin, "firmware-sim"), d.profile} {
		if _, err := os.Stat(name); err != nil {
			return fmt.Errorf("%w; run `make demo` in the checkout", err)
		}
	}
	bad, err := misbehaving(d.profile)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "devicehub-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	password := rand.Text()
	hub, err := d.startHub(ctx, dir, password)
	if err != nil {
		return err
	}
	defer hub.stop(hubWait)
	if err := d.waitReady(ctx, hub); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	fmt.Fprintf(d.out, "\n    dashboard   %s\n    user name   admin\n    password    %s\n\n    MQTT        %s\n"+
		"    the hub's log is %s\n%s    Ctrl-C ends everything\n\n",
		d.hubURL, password, d.mqttURL, hub.log, bad)

	sim, err := d.startSim(password)
	if err != nil {
		return err
	}
	defer sim.stop(simWait)
	select {
	case <-ctx.Done():
	case <-hub.done:
		return fmt.Errorf("the hub ended by itself: %w", hub.failure())
	case <-sim.done:
		fmt.Fprintln(d.out, "\nthe fleet has played to its end; the hub runs on, Ctrl-C ends it")
		select {
		case <-ctx.Done():
		case <-hub.done:
			return fmt.Errorf("the hub ended by itself: %w", hub.failure())
		}
	}
	fmt.Fprintln(d.out, "\nending the fleet and the hub")
	return errors.Join(sim.stop(simWait), hub.stop(hubWait))
}

// misbehaving is a line that says which devices of a fleet do wrong on purpose,
// so that nobody takes the errors that they cause for the hub's.
func misbehaving(path string) (string, error) {
	p, err := profile.Read(path)
	if err != nil {
		return "", err
	}
	var names []string
	for _, g := range p.Fleet {
		if g.Misbehave.Bad() {
			names = append(names, fmt.Sprintf("%q", g.Name))
		}
	}
	if len(names) == 0 {
		return "", nil
	}
	return fmt.Sprintf("    errors come from %s, which misbehaves on purpose\n", strings.Join(names, " and ")), nil
}

// startHub starts the hub with a configuration of its own. The variables of
// this shell that begin with DEVICEHUB_ are for another hub.
func (d *demo) startHub(ctx context.Context, dir, password string) (*child, error) {
	httpAddr, err := address(ctx, d.httpAddr, "127.0.0.1:4000")
	if err != nil {
		return nil, err
	}
	mqttAddr, err := address(ctx, d.mqttAddr, "127.0.0.1:1883")
	if err != nil {
		return nil, err
	}
	d.hubURL, d.mqttURL = "http://"+httpAddr, "mqtt://"+mqttAddr
	config := filepath.Join(dir, "demo.yaml")
	text := fmt.Sprintf("data_dir: %q\nhttp: {listen: %q}\nmqtt: {embedded: {listen: %q}}\nauth: {initial_admin_password: %q}\n", filepath.Join(dir, "data"), httpAddr, mqttAddr, password)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(d.bin, "devicehub"), "serve", "--config", config)
	cmd.Env = withoutHubVariables(os.Environ())
	return start(cmd, filepath.Join(dir, "hub.log"))
}

func withoutHubVariables(environ []string) []string {
	var out []string
	for _, kv := range environ {
		if !strings.HasPrefix(kv, "DEVICEHUB_") {
			out = append(out, kv)
		}
	}
	return out
}

// waitReady returns when the hub takes devices, has ended, or takes too long.
func (d *demo) waitReady(ctx context.Context, hub *child) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, "GET", d.hubURL+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-hub.done:
			return fmt.Errorf("the hub did not start: %w", hub.failure())
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("the hub was not ready after %s: %w", startWait, hub.failure())
			}
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (d *demo) startSim(password string) (*child, error) {
	cmd := exec.Command(filepath.Join(d.bin, "firmware-sim"), "run", d.profile,
		"--hub", d.hubURL, "--mqtt", d.mqttURL, "--username", "admin", "--password-stdin", "--settle", "5s")
	cmd.Stdin = strings.NewReader(password + "\n")
	cmd.Stdout, cmd.Stderr = d.out, d.out
	return start(cmd, "")
}

// address is the one that was asked for, if any, which must be free; else the usual one, or
// another where that is taken.
func address(ctx context.Context, asked, usual string) (string, error) {
	if asked == "" {
		return freeAddress(ctx, usual)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", asked)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// freeAddress is the wanted address if nobody listens there, else one that is
// free now.
func freeAddress(ctx context.Context, wanted string) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", wanted)
	if err != nil {
		if l, err = lc.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
			return "", err
		}
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// child is a process that the demo started.
type child struct {
	cmd  *exec.Cmd
	log  string        // file of its output, "" for none
	done chan struct{} // closed when it has ended
	err  error         // of its end, once done is closed

	stopping sync.Once
	stopErr  error
}

// start runs cmd in a process group of its own, so that Ctrl-C reaches the demo
// alone and the demo decides who ends first.
func start(cmd *exec.Cmd, log string) (*child, error) {
	c := &child{cmd: cmd, log: log, done: make(chan struct{})}
	if log != "" {
		f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		cmd.Stdout, cmd.Stderr = f, f
	}
	cmd.SysProcAttr = ownGroup()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process, which stop waits for
		c.err = cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// stop interrupts the process and waits; after that time it kills it. A
// process that ends by itself is no error here.
func (c *child) stop(wait time.Duration) error {
	c.stopping.Do(func() {
		_ = c.cmd.Process.Signal(os.Interrupt)
		select {
		case <-c.done:
		case <-time.After(wait):
			_ = c.cmd.Process.Kill()
			<-c.done
			c.stopErr = fmt.Errorf("%s did not end within %s and was killed", filepath.Base(c.cmd.Path), wait)
		}
	})
	return c.stopErr
}

// failure is the last line that the process wrote, which says what to do.
func (c *child) failure() error {
	if b, err := os.ReadFile(c.log); err == nil {
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		if last := lines[len(lines)-1]; last != "" {
			return errors.New(last)
		}
	}
	select {
	case <-c.done:
		if c.err != nil {
			return c.err
		}
	default:
	}
	return errors.New("it said nothing")
}
