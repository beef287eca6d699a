package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// serialOf is what a client sees of a listener with this configuration.
func serialOf(t *testing.T, cfg *tls.Config) *x509.Certificate {
	t.Helper()
	a, b := net.Pipe()
	server := tls.Server(a, cfg)
	client := tls.Client(b, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	cert := client.ConnectionState().PeerCertificates[0]
	b.Close()
	a.Close()
	return cert
}

func TestTLSOff(t *testing.T) {
	c, err := OpenCertificates(TLSConfig{Mode: TLSOff}, t.TempDir(), nil, slog.New(slog.DiscardHandler))
	if c != nil || err != nil {
		t.Errorf("got %v, %v, want nothing", c, err)
	}
}

func TestSelfSignedStays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	open := func(hosts ...string) *Certificates {
		t.Helper()
		c, err := OpenCertificates(TLSConfig{Mode: TLSSelfSigned}, dir, hosts, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open("hub.lan", "192.168.1.9")
	cert := serialOf(t, c.HTTP())
	for _, h := range []string{"localhost", "127.0.0.1", "hub.lan", "192.168.1.9"} {
		if err := cert.VerifyHostname(h); err != nil {
			t.Error(err)
		}
	}
	if got := fingerprint(cert.Raw); got != c.Fingerprint || len(got) != 95 {
		t.Errorf("got fingerprint %s, want that of the certificate, %s", c.Fingerprint, got)
	}
	if got := mode(t, filepath.Join(dir, "self-signed.key")); got != 0o600 {
		t.Errorf("key: got mode %04o, want 0600", got)
	}
	if again := open("hub.lan"); again.Fingerprint != c.Fingerprint {
		t.Error("the certificate changed with the restart")
	}
	if other := open("other.lan"); other.Fingerprint == c.Fingerprint {
		t.Error("the certificate did not change for a new host")
	}
	if serialOf(t, c.MQTT()).SerialNumber.Cmp(cert.SerialNumber) != 0 {
		t.Error("MQTT shows another certificate than HTTP")
	}
	write(t, filepath.Join(dir, "self-signed.crt"), "no PEM")
	if _, err := OpenCertificates(TLSConfig{Mode: TLSSelfSigned}, dir, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "remove ") {
		t.Errorf("got %v, want what to remove", err)
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		cfg := TLSConfig{Mode: TLSFiles, Cert: filepath.Join(dir, "c.pem"), Key: filepath.Join(dir, "k.pem")}
		var log strings.Builder
		logger := slog.New(slog.NewTextHandler(&log, nil))
		if _, err := OpenCertificates(cfg, "", nil, logger); err == nil || !strings.Contains(err.Error(), "c.pem") {
			t.Fatalf("without files: got %v, want the file named", err)
		}
		if err := makeSelfSigned(cfg.Cert, cfg.Key, []string{"localhost"}, time.Now()); err != nil {
			t.Fatal(err)
		}
		c, err := OpenCertificates(cfg, "", nil, logger)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		first := serialOf(t, c.HTTP()).SerialNumber

		write(t, cfg.Cert, "half a file")
		time.Sleep(3 * certRecheck)
		synctest.Wait()
		if got := serialOf(t, c.HTTP()).SerialNumber; got.Cmp(first) != 0 {
			t.Error("a broken file replaced the certificate")
		}
		if got := strings.Count(log.String(), "the old one stays"); got != 1 {
			t.Errorf("got %d lines about the broken file, want 1", got)
		}
		if err := makeSelfSigned(cfg.Cert, cfg.Key, []string{"localhost"}, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(cfg.Cert, time.Now(), time.Now()); err != nil { // time stands still in here
			t.Fatal(err)
		}
		time.Sleep(2 * certRecheck)
		synctest.Wait()
		if got := serialOf(t, c.HTTP()).SerialNumber; got.Cmp(first) == 0 {
			t.Error("the new certificate was not taken")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestACMEOffersItsProtocol(t *testing.T) {
	c, err := OpenCertificates(TLSConfig{Mode: TLSACME, ACMEDomains: []string{"hub.example.org"}}, filepath.Join(t.TempDir(), "tls"), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.HTTP().NextProtos, " "); got != "h2 http/1.1 acme-tls/1" {
		t.Errorf("got protocols %q", got)
	}
	if _, err := c.HTTP().GetCertificate(&tls.ClientHelloInfo{ServerName: "other.example.org", SupportedProtos: []string{"h2"}}); err == nil || !strings.Contains(err.Error(), "not configured") {
		t.Errorf("another name: got %v, want it refused", err)
	}
}
