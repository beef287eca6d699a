package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// authority is an ACME server, the one that Let's Encrypt tests clients with,
// to whom every name is this machine.
type authority struct {
	directory string // its URL
	trust     string // file with the certificate that its own listener shows
}

// startAuthority validates names at the given address (tls-alpn-01).
func startAuthority(t *testing.T, validateAt string) authority {
	t.Helper()
	dir := t.TempDir()
	addr, dns := freePort(t), freePort(t)
	a := authority{directory: "https://" + addr + "/dir", trust: filepath.Join(dir, "cert.pem")}
	certificate(t, a.trust, filepath.Join(dir, "key.pem"))
	_, port, _ := net.SplitHostPort(validateAt)
	n, _ := strconv.Atoi(port)
	conf, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": addr, "certificate": a.trust, "privateKey": filepath.Join(dir, "key.pem"), "tlsPort": n, "httpPort": 1,
		"retryAfter": map[string]int{"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "the only one", "validityPeriod": 86400 * 90}},
	}})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "pebble.json"), conf, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	background(t, []string{}, "pebble-challtestsrv", "-dnsserver", dns, "-defaultIPv6", "", "-management", freePort(t), "-doh", "", "-http01", "", "-https01", "", "-tlsalpn01", "")
	background(t, []string{"PEBBLE_VA_NOSLEEP=1"}, "pebble", "-config", filepath.Join(dir, "pebble.json"), "-dnsserver", dns)
	eventually(t, 20*time.Second, func() error {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	})
	return a
}

// background runs a program until the test ends.
func background(t *testing.T, env []string, name string, args ...string) *logBuffer {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is not installed: run `make deps`", name)
	}
	cmd, log := exec.Command(name, args...), new(logBuffer)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, tail(log.String(), 4000))
		}
	})
	return log
}

// certificate writes a certificate for 127.0.0.1 and names.
func certificate(t *testing.T, certFile, keyFile string, names ...string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: names}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A hub gets its certificate from an authority by itself and shows it over
// HTTPS and MQTT, and after a restart without asking again.
func TestCertificateFromAnAuthority(t *testing.T) {
	web, mqtt, dir := freePort(t), freePort(t), t.TempDir()
	ca := startAuthority(t, web)
	conf := filepath.Join(dir, "devicehub.yaml")
	text := fmt.Sprintf(`data_dir: %s
http:
  listen: %s
  tls: {mode: acme, acme_domains: [hub.example.org], acme_directory: %q}
mqtt:
  embedded: {listen: "", tls_listen: %s}
`, filepath.Join(dir, "data"), web, ca.directory, mqtt)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	shown := func(addr, name string) (*x509.Certificate, error) {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 15 * time.Second}, "tcp", addr, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0], nil
	}
	var first *x509.Certificate
	for _, start := range []string{"first", "second"} {
		t.Run(start+" start", func(t *testing.T) {
			trust := ca.trust
			if first != nil {
				trust = conf // the authority is not trusted, nor asked
			}
			background(t, []string{"SSL_CERT_FILE=" + trust}, filepath.Join(bin, "devicehub"), "serve", "--config", conf)
			var got *x509.Certificate
			eventually(t, 30*time.Second, func() (err error) { got, err = shown(web, "hub.example.org"); return err })
			if err := got.VerifyHostname("hub.example.org"); err != nil || !strings.Contains(got.Issuer.CommonName, "Pebble") {
				t.Errorf("got a certificate of %q: %v", got.Issuer.CommonName, err)
			}
			if first != nil && !got.Equal(first) {
				t.Error("the certificate was not kept")
			}
			first = got
			for _, name := range []string{"hub.example.org", ""} {
				if got, err := shown(mqtt, name); err != nil || !got.Equal(first) {
					t.Errorf("MQTT, asked for %q: %v", name, err)
				}
			}
			if _, err := shown(web, "other.example.org"); err == nil {
				t.Error("a name that is not the hub's was served")
			}
		})
	}
}
