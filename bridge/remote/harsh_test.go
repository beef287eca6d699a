package remote

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"devicehub/bridge/adapter/adaptertest"
	"devicehub/devices"
	"devicehub/devices/readings"
)

// proxy passes connections on until they are cut.
type proxy struct {
	ln net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn
}

func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, to: to}
	t.Cleanup(func() { ln.Close(); p.cut() })
	go func() {
		for {
			a, err := ln.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				a.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, a, b)
			p.mu.Unlock()
			go func() { _, _ = io.Copy(a, b); a.Close() }()
			go func() { _, _ = io.Copy(b, a); b.Close() }()
		}
	}()
	return p
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// The connection is cut again and again under load: nothing that the broker took
// at QoS 1 is lost, and each device's order is kept.
func TestCutUnderLoad(t *testing.T) {
	m := startMosquitto(t)
	p := startProxy(t, m.addr())
	h := adaptertest.New(t, nil, device("k-1"), device("k-2"), device("k-3"))
	b, err := New(Config{Name: "house", URL: "mqtt://" + p.ln.Addr().String(), Trust: true}, h.Hub)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx) }()
	defer func() { cancel(); <-done }()
	h.WantThat(t, "bridge up", func() bool { return b.Status().Connected })
	c := m.client(t, "p")
	const n = 300
	for i := 1; i <= n; i++ {
		for k := 1; k <= 3; k++ {
			c.Publish(fmt.Sprintf("hub/v1/k-%d/r", k), 1, false, fmt.Sprintf(`{"boot":"b","s0":%d,"r":[["uptime",%d]]}`, i, i)).Wait()
		}
		if i%100 == 50 {
			p.cut()
		}
	}
	h.WantThat(t, "everything arrived", func() bool {
		for _, id := range []string{"k-1", "k-2", "k-3"} {
			a := h.Ingest.AckThrough(device(id).ID)
			if len(a) != 1 || a[0].S != n {
				return false
			}
		}
		return true
	})
	for _, id := range []devices.ID{"k-1", "k-2", "k-3"} {
		for i, v := range h.Sequence(t, id, "uptime") {
			if v != fmt.Sprint(i+1) {
				t.Fatalf("%s: reading %d is %s", id, i+1, v)
			}
		}
	}
	if downs := strings.Count(strings.Join(h.Log(), "\n"), "down house"); downs < 1 {
		t.Error("the bridge was never seen down")
	}
}

// A broker that hangs holds nobody up: readings of devices that are not behind it are
// decided as before.
func TestBrokerHangs(t *testing.T) {
	m := startMosquitto(t)
	h := adaptertest.New(t, nil, device("k-1"), device("k-2"), device("k-3"), device("near"))
	b, _ := bridge(t, m, h)
	c := m.client(t, "p")
	defer c.Disconnect(10)
	h.Refuse(devices.Refuse(devices.CodeOverloaded, "full").After(50 * time.Millisecond))
	for _, id := range []string{"k-1", "k-2", "k-3"} {
		c.Publish("hub/v1/"+id+"/r", 1, false, `{"m":"temperature","v":1}`).Wait()
	}
	h.WantThat(t, "the messages wait", func() bool { return b.Status().Waiting == 3 })
	if err := m.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.cmd.Process.Signal(syscall.SIGCONT) }()
	payload := make([]byte, 32<<10)
	for sent := int64(-1); sent != b.Status().Published; { // until the network holds no more
		sent = b.Status().Published
		for range outQueue {
			b.Publish("hub/v1/near/x", payload, 0, false)
		}
		time.Sleep(200 * time.Millisecond)
	}
	h.Refuse(nil)
	h.WantThat(t, "decided", func() bool { return b.Status().Waiting < 2 })
	batch, err := readings.ParseReading([]byte(`{"m":"temperature","v":2}`))
	if err != nil {
		t.Fatal(err)
	}
	dev, _ := h.Registry.Get("near")
	done := make(chan error, 1)
	h.Ingest.Submit(readings.Source{Device: dev}, batch, func(_ readings.Result, err error) { done <- err })
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * time.Second):
		t.Error("the broker holds up the readings of a device that is not behind it")
	}
}

// TLS with client certificates, as a broker in the open demands.
func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	caKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(name string, serial int64, use x509.ExtKeyUsage) (cert, key string) {
		k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{use}}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, ca, &k.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		kDER, _ := x509.MarshalECPrivateKey(k)
		return file(name+".pem", "CERTIFICATE", der), file(name+".key", "EC PRIVATE KEY", kDER)
	}
	caFile := file("ca.pem", "CERTIFICATE", caDER)
	serverCert, serverKey := issue("server", 2, x509.ExtKeyUsageServerAuth)
	clientCert, clientKey := issue("client", 3, x509.ExtKeyUsageClientAuth)

	m := startMosquitto(t)
	m.stop()
	conf, _ := os.ReadFile(m.conf)
	conf = append(conf, fmt.Sprintf("cafile %s\ncertfile %s\nkeyfile %s\nrequire_certificate true\n", caFile, serverCert, serverKey)...)
	if err := os.WriteFile(m.conf, conf, 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	h := adaptertest.New(t, nil, device("k-1"))
	try := func(cert, key string, want bool) {
		t.Helper()
		tc, err := TLS(caFile, cert, key)
		if err != nil {
			t.Fatal(err)
		}
		b, err := New(Config{Name: "house", URL: "mqtts://" + m.addr(), TLS: tc, Trust: true}, h.Hub)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = b.Run(ctx) }()
		h.WantThat(t, "an outcome", func() bool { s := b.Status(); return s.Connected || s.Error != "" })
		if s := b.Status(); s.Connected != want {
			t.Errorf("status %+v, want connected %v", s, want)
		}
		cancel()
		<-done
	}
	try("", "", false)
	try(clientCert, clientKey, true)
	if _, err := TLS(clientKey, "", ""); err == nil {
		t.Error("a key was taken for a certificate")
	}
}
