package edge

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

var loopback = Trusted{netip.MustParsePrefix("127.0.0.0/8")}

// listen opens a listener that ends with the test.
func listen(t *testing.T, g *Gate, from Proxies) *Listener {
	t.Helper()
	l, err := g.Listen("127.0.0.1:0", from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// dial connects and sends what is given.
func dial(t *testing.T, l net.Listener, send ...string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if _, err := io.WriteString(nc, strings.Join(send, "")); err != nil {
		t.Fatal(err)
	}
	return nc
}

// accept wants the next connection within five seconds.
func accept(t *testing.T, l net.Listener) *Conn {
	t.Helper()
	got := make(chan net.Conn, 1)
	go func() {
		if nc, err := l.Accept(); err == nil {
			got <- nc
		}
	}()
	select {
	case nc := <-got:
		t.Cleanup(func() { nc.Close() })
		return nc.(*Conn)
	case <-time.After(5 * time.Second):
		t.Fatal("nothing was accepted")
		return nil
	}
}

// wantClosed wants the other side to end the connection.
func wantClosed(t *testing.T, what string, nc net.Conn, within time.Duration) {
	t.Helper()
	_ = nc.SetReadDeadline(time.Now().Add(within))
	if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: still open after %v", what, within)
	}
}

// A client that takes nothing loses its connection, also over TLS; one that is slow keeps it.
func TestWritesEndForWhoTakesNothing(t *testing.T) {
	secure := httptest.NewUnstartedServer(nil)
	secure.StartTLS()
	defer secure.Close()
	for _, row := range []struct {
		name string
		tls  bool
		slow bool
	}{{"takes nothing", false, false}, {"takes nothing by TLS", true, false}, {"is slow", false, true}, {"is slow by TLS", true, true}} {
		t.Run(row.name, func(t *testing.T) {
			l := listen(t, &Gate{TakeWithin: 200 * time.Millisecond}, Proxies{})
			client := dial(t, l)
			c := accept(t, l)
			nc := net.Conn(c)
			if row.tls {
				nc = tls.Server(c, secure.TLS)
				tc := tls.Client(client, &tls.Config{InsecureSkipVerify: true})
				client = tc
				go tc.Handshake()
				if err := nc.(*tls.Conn).Handshake(); err != nil {
					t.Fatal(err)
				}
			}
			_ = client.(interface{ SetReadDeadline(time.Time) error }).SetReadDeadline(time.Time{})
			const size = 24 << 20 // more than the kernel holds
			var read sync.WaitGroup
			var got int64
			if row.slow {
				read.Go(func() {
					b := make([]byte, 1<<20)
					for got < size {
						n, err := client.Read(b)
						if got += int64(n); err != nil {
							return
						}
						if got < size/2 {
							time.Sleep(5 * time.Millisecond)
						}
					}
				})
			}
			_, err := nc.Write(make([]byte, size))
			if !row.slow {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("got %v, want a deadline", err)
				}
				return
			}
			if read.Wait(); err != nil || got != size {
				t.Errorf("got %v and %d bytes, want all of them", err, got)
			}
		})
	}
}

// A deadline that is set from outside holds, and goes when it is taken away.
func TestOwnDeadlines(t *testing.T) {
	l := listen(t, &Gate{TakeWithin: 100 * time.Millisecond}, Proxies{})
	client := dial(t, l)
	c := accept(t, l)
	_ = c.SetWriteDeadline(time.Now().Add(400 * time.Millisecond))
	from := time.Now()
	if _, err := c.Write(make([]byte, 24<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(from) < 300*time.Millisecond {
		t.Errorf("got %v after %v, want the deadline that was set", err, time.Since(from))
	}
	_ = c.SetWriteDeadline(time.Time{})
	from = time.Now()
	if _, err := c.ReadFrom(bytes.NewReader(make([]byte, 24<<20))); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(from) > time.Second {
		t.Errorf("got %v after %v, want the gate's deadline", err, time.Since(from))
	}
	// What writes to the descriptor itself is not held to a deadline that has passed.
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Write(func(uintptr) bool { return true }); err != nil {
		t.Error(err)
	}
	go io.Copy(io.Discard, client)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if err := raw.Write(func(uintptr) bool { return true }); err != nil {
		t.Error(err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

// A server of HTTP gives up an answer that nobody reads.
func TestPipelinedRequestsThatNobodyReads(t *testing.T) {
	l := listen(t, &Gate{TakeWithin: 300 * time.Millisecond}, Proxies{})
	body := strings.Repeat("x", 256<<10)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) })}
	defer srv.Close()
	go srv.Serve(l)
	nc := dial(t, l, strings.Repeat("GET / HTTP/1.1\r\nHost: hub\r\n\r\n", 200))
	time.Sleep(time.Second)
	// The server has closed: it will not read what is sent now.
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := nc.Write([]byte("GET")); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the connection is still open")
		}
	}
}

func TestProxyHeaders(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	g := &Gate{Logger: slog.New(slog.NewTextHandler(&lockedWriter{w: &log, mu: &mu}, nil)), Arrive: func(addr string, free bool, shut func()) Guest {
		return &guest{addr: addr, free: free}
	}}
	trusted := listen(t, g, Proxies{Trusted: loopback, Header: true})
	silent := dial(t, trusted) // holds up nobody
	for _, row := range []struct {
		name, send, addr string
		free, secure     bool
	}{
		{"a client", string(v2(0x21, 0x11, 20, tcp4+unhex("20 0005 01 00000000"))), "203.0.113.9:12345", false, true},
		{"the proxy itself", string(v2(0x20, 0, 0, "")), "127.0.0.1:", true, false},
		{"no address", string(v2(0x21, 0, 0, "")), "127.0.0.1:", true, false},
	} {
		client := dial(t, trusted, row.send, "hello")
		c := accept(t, trusted)
		b := make([]byte, 5)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
			t.Errorf("%s: got %q %v", row.name, b, err)
		}
		gst := c.counted().(*guest)
		if !strings.HasPrefix(c.RemoteAddr().String(), row.addr) || gst.addr != c.RemoteAddr().String() || gst.free != row.free || c.Secure() != row.secure {
			t.Errorf("%s: got %v, counted %+v, secure %t", row.name, c.RemoteAddr(), gst, c.Secure())
		}
		client.Close()
	}
	for _, send := range []string{"GET / HTTP/1.1\r\nHost: hub\r\n\r\n", "PROXY TCP4 203.0.113.9 192.0.2.1 12345 4000\r\n", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00\x00\x00"} {
		wantClosed(t, send, dial(t, trusted, send), 2*time.Second)
	}
	from := time.Now()
	wantClosed(t, "a silent proxy", silent, headerWithin+2*time.Second)
	if took := time.Since(from); took > headerWithin+time.Second {
		t.Errorf("a silent proxy was closed after %v", took)
	}
	mu.Lock()
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("got %d lines, want one a minute:\n%s", n, log.String())
	}
	mu.Unlock()

	// From elsewhere it is what the client says, and nothing that is taken for an address.
	strangers := listen(t, g, Proxies{Trusted: Trusted{netip.MustParsePrefix("192.0.2.0/24")}, Header: true})
	dial(t, strangers, string(v2(0x21, 0x11, 12, tcp4)))
	c := accept(t, strangers)
	b := make([]byte, len(signature))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != signature || !strings.HasPrefix(c.RemoteAddr().String(), "127.0.0.1:") {
		t.Errorf("got %q %v from %v", b, err, c.RemoteAddr())
	}
	// A listener that is closed takes the connections with it that wait for their header.
	waits := dial(t, trusted)
	time.Sleep(50 * time.Millisecond)
	trusted.Close()
	wantClosed(t, "a connection in waiting", waits, time.Second)
	if _, err := trusted.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
}

type lockedWriter struct {
	w  io.Writer
	mu *sync.Mutex
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

type guest struct {
	addr        string
	free        bool
	known, left bool
}

func (g *guest) Known() { g.known = true }
func (g *guest) Anew()  { g.known = false }
func (g *guest) Leave() { g.left = true }

func TestConnOfARequest(t *testing.T) {
	g := &Gate{Arrive: func(addr string, free bool, _ func()) Guest { return &guest{addr: addr, free: free} }}
	l := listen(t, g, Proxies{Trusted: loopback})
	seen := make(chan *Conn, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ConnOf(r).Known()
		if g := ConnOf(r).counted().(*guest); !g.known {
			t.Error("the request's connection is not known")
		}
		seen <- ConnOf(r)
	}))
	srv.Listener.Close()
	srv.Listener, srv.Config.ConnContext = l, WithConn
	idle := make(chan bool, 10)
	srv.Config.ConnState = func(nc net.Conn, state http.ConnState) {
		ConnState(nc, state)
		if state == http.StateIdle {
			idle <- Of(nc).counted().(*guest).known
		}
	}
	srv.StartTLS()
	defer srv.Close()
	res, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if c := (<-seen); c == nil || !c.counted().(*guest).free {
		t.Error("the request has not its connection")
	}
	if <-idle {
		t.Error("the connection is known after its request")
	}
	ConnOf(httptest.NewRequest("GET", "/", nil)).Known() // one that came in otherwise
}

// With few descriptors left a connection comes in for another, and for nothing only a few do.
func TestDescriptorsAreKeptBack(t *testing.T) {
	rooms := 0
	g := &Gate{Files: 400, Spare: 100, MakeRoom: func() bool { rooms++; return true }}
	for _, row := range []struct {
		fd   int
		want bool
	}{{299, true}, {300, true}, {340, false}, {300, true}, {315, true}, {316, false}, {10, true}} {
		if got := g.admit(row.fd); got != row.want {
			t.Errorf("descriptor %d: got %t, want %t", row.fd, got, row.want)
		}
	}
	if rooms != 5 {
		t.Errorf("room was made %d times, want 5", rooms)
	}
	if !(&Gate{}).admit(1 << 30) {
		t.Error("without a bound one was refused")
	}
}
