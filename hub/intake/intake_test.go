package intake

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pair is a connection over loopback: what its client writes, and a reader that
// counts what it handled.
type pair struct {
	client  net.Conn
	in      *Intake
	handled atomic.Int64
	end     chan error // why the reader ended
	slow    time.Duration
}

func newPair(t *testing.T, secure *tls.Config, wrapped bool, slow time.Duration) *pair {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := &pair{end: make(chan error, 1), slow: slow}
	if p.client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if secure != nil {
		c, s := tls.Client(p.client, &tls.Config{InsecureSkipVerify: true}), tls.Server(nc, secure)
		p.client, nc = c, s
		go func() { _ = c.Handshake() }()
		if err := s.Handshake(); err != nil {
			t.Fatal(err)
		}
	}
	if wrapped {
		w := Wrap(nc)
		p.in, nc = w.Intake, w
	} else {
		p.in = New(nc)
	}
	go p.read(nc, wrapped)
	t.Cleanup(func() { p.client.Close(); nc.Close(); <-p.end })
	return p
}

func (p *pair) read(nc net.Conn, wrapped bool) {
	b := make([]byte, 100)
	for {
		n, err := p.once(nc, b, wrapped)
		if n == 0 && err != nil {
			p.in.Close()
			p.end <- err
			p.end <- err
			return
		}
		p.in.Hold(p.slow > time.Millisecond)
		time.Sleep(p.slow)
		p.in.Hold(false)
		p.handled.Add(int64(n))
	}
}

func (p *pair) once(nc net.Conn, b []byte, wrapped bool) (n int, err error) {
	if wrapped {
		return nc.Read(b)
	}
	for {
		p.in.Aim()
		n, err = nc.Read(b)
		if n == 0 && err != nil && p.in.Again(err) {
			continue
		}
		p.in.Took(n)
		return n, err
	}
}

func certificate(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// busy keeps every processor busy until the test ends.
func busy(t *testing.T) {
	var wg sync.WaitGroup
	var stop atomic.Bool
	for range 4 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !stop.Load() {
			}
		})
	}
	t.Cleanup(func() { stop.Store(true); wg.Wait() })
}

// Whoever asks finds everything handled that had arrived, however busy the machine.
func TestAllThatArrivedIsTaken(t *testing.T) {
	busy(t)
	secure := certificate(t)
	for name, x := range map[string]struct {
		secure  *tls.Config
		wrapped bool
	}{"tcp": {nil, false}, "tls": {secure, false}, "tcp, wrapped": {nil, true}, "tls, wrapped": {secure, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, x.secure, x.wrapped, 0)
			sent := int64(0)
			for i := range 40 {
				for range i % 4 { // several records, or nothing
					if _, err := p.client.Write(make([]byte, 77)); err != nil {
						t.Fatal(err)
					}
					sent += 77
				}
				p.in.Settle(nil, time.Minute, time.Minute)
				if got := p.handled.Load(); got != sent {
					t.Fatalf("round %d: handled %d bytes, want %d", i, got, sent)
				}
			}
		})
	}
}

func TestTheDeadlineStands(t *testing.T) {
	p := newPair(t, nil, false, 0)
	due := time.Now().Add(300 * time.Millisecond)
	_ = p.in.SetReadDeadline(time.Now().Add(time.Hour))
	asked := p.in.ask()
	_ = p.in.SetReadDeadline(due)
	<-asked
	p.in.Settle(nil, time.Minute, time.Minute)
	if err := <-p.end; !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().Before(due) {
		t.Errorf("ended with %v, %v too early", err, time.Until(due))
	}
	p.in.Settle(nil, time.Minute, time.Minute) // nobody reads any more
}

func TestTheEndIsAnAnswer(t *testing.T) {
	p := newPair(t, nil, true, 0)
	_, _ = p.client.Write([]byte("last words"))
	_ = p.client.Close()
	p.in.Settle(nil, time.Minute, time.Minute)
	if err := <-p.end; err != io.EOF || p.handled.Load() != 10 {
		t.Errorf("ended with %v and %d bytes", err, p.handled.Load())
	}
}

// A reader that is not done within the time, or whose client sends without pause,
// is not waited for any longer.
func TestWaitingIsBounded(t *testing.T) {
	slow := newPair(t, nil, false, 20*time.Millisecond)
	_, _ = slow.client.Write(make([]byte, 100*100))
	began := time.Now()
	slow.in.Settle(nil, 100*time.Millisecond, 300*time.Millisecond)
	if got := slow.handled.Load(); got == 0 || got == 100*100 {
		t.Errorf("handled %d bytes of 10000 in 300 milliseconds", got)
	}
	stuck := newPair(t, nil, false, time.Second)
	_, _ = stuck.client.Write(make([]byte, 100))
	time.Sleep(50 * time.Millisecond)
	asked := time.Now()
	stuck.in.Settle(nil, 20*time.Millisecond, time.Minute)
	if d := time.Since(asked); d > 900*time.Millisecond {
		t.Errorf("a reader that does not move was waited for for %v", d)
	}
	flood := newPair(t, nil, false, 0)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if _, err := flood.client.Write(make([]byte, 8<<10)); err != nil {
				return
			}
		}
	})
	flood.in.Settle(nil, time.Minute, time.Minute)
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("a flood was taken in for %v", d)
	}
	flood.client.Close()
	wg.Wait()
}
