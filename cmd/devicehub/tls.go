package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// Certificates is where the hub's TLS listeners get their certificates.
type Certificates struct {
	cfg     TLSConfig
	log     *slog.Logger
	get     func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	refresh func() error // nil when there is nothing to look at again
	acme    *autocert.Manager
	files   *certFiles

	// Fingerprint is the SHA-256 of the self-signed certificate as people
	// compare it ("AB:CD:…"), "" in the other modes.
	Fingerprint string
}

const (
	selfSignedFor   = 5 * Year
	selfSignedRenew = 30 * Day // before the end
	certRecheck     = 10 * time.Second
)

// OpenCertificates prepares the mode of cfg; dir holds what the hub makes
// itself (self-signed certificate, ACME account and certificates) and is made
// with mode 0700. It returns nil in mode off. hosts are the names and
// addresses that a self-signed certificate is made for, beside localhost and
// the machine's own name.
func OpenCertificates(cfg TLSConfig, dir string, hosts []string, log *slog.Logger) (*Certificates, error) {
	c := &Certificates{cfg: cfg, log: log}
	switch cfg.Mode {
	case TLSOff:
		return nil, nil
	case TLSFiles:
		f := &certFiles{cert: cfg.Cert, key: cfg.Key}
		if err := f.load(); err != nil {
			return nil, fmt.Errorf("http.tls: %w; give readable PEM files that belong together", err)
		}
		c.get, c.refresh, c.files = f.get, f.reload, f
		return c, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	switch cfg.Mode {
	case TLSSelfSigned:
		return c, c.openSelfSigned(dir, hosts)
	case TLSACME:
		c.acme = &autocert.Manager{
			Prompt:     autocert.AcceptTOS,
			Cache:      autocert.DirCache(dir),
			HostPolicy: autocert.HostWhitelist(cfg.ACMEDomains...),
			Email:      cfg.ACMEEmail,
		}
		if cfg.ACMEDirectory != "" {
			c.acme.Client = &acme.Client{DirectoryURL: cfg.ACMEDirectory}
		}
		c.get = c.acmeCertificate
		return c, nil
	}
	return nil, fmt.Errorf("http.tls.mode: unknown mode %q", cfg.Mode)
}

// acmeCertificate is the certificate for the name that the client asks for.
// Small MQTT clients name none: they are shown that of the first domain.
func (c *Certificates) acmeCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName == "" {
		named := *hello
		named.ServerName = c.cfg.ACMEDomains[0]
		hello = &named
	}
	return c.acme.GetCertificate(hello)
}

// HTTP is the configuration of an HTTPS listener.
func (c *Certificates) HTTP() *tls.Config {
	t := c.MQTT()
	t.NextProtos = []string{"h2", "http/1.1"}
	if c.acme != nil {
		t.NextProtos = append(t.NextProtos, acme.ALPNProto)
	}
	return t
}

// MQTT is the configuration of a listener for MQTT over TLS.
func (c *Certificates) MQTT() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

// Public reports whether browsers anywhere take the certificate: one of Let's Encrypt, or from
// files that the machine's own list of authorities vouches for. A self-signed one, and one of the
// house's own authority, they take only where somebody has told them to.
func (c *Certificates) Public() bool {
	switch {
	case c == nil:
		return false
	case c.acme != nil:
		return c.cfg.ACMEDirectory == ""
	case c.files != nil:
		return c.files.public.Load()
	}
	return false
}

// ChallengeHandler answers ACME's requests over plain HTTP and hands everything
// else to next. In the other modes it is next.
func (c *Certificates) ChallengeHandler(next http.Handler) http.Handler {
	if c == nil || c.acme == nil {
		return next
	}
	return c.acme.HTTPHandler(next)
}

// Run looks at certificate files for changes until ctx ends. A pair that
// cannot be read or does not match is logged once and the old one stays.
func (c *Certificates) Run(ctx context.Context) error {
	if c == nil || c.refresh == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(certRecheck)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		switch err := c.refresh(); {
		case errors.Is(err, errCertReloaded):
			c.log.Info("certificate reloaded", "file", c.cfg.Cert)
			last = ""
		case err != nil && err.Error() != last:
			last = err.Error()
			c.log.Error("certificate not reloaded, the old one stays", "err", err)
		case err == nil:
			last = ""
		}
	}
}

// errCertReloaded says that reload took a new pair.
var errCertReloaded = errors.New("certificate reloaded")

// certFiles is a pair of PEM files.
type certFiles struct {
	cert, key string
	public    atomic.Bool // the machine's authorities vouch for it

	mu    sync.Mutex
	pair  *tls.Certificate
	state string // of the files the pair was read from
}

// stamp tells one state of the two files from another.
func (f *certFiles) stamp() (string, error) {
	var b strings.Builder
	for _, p := range []string{f.cert, f.key} {
		st, err := os.Stat(p) // follows links, as a renewed certificate swaps them
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%d %d;", st.ModTime().UnixNano(), st.Size())
	}
	return b.String(), nil
}

func (f *certFiles) load() error {
	state, err := f.stamp()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return err
	}
	f.public.Store(vouchedFor(pair))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pair, f.state = &pair, state
	return nil
}

// vouchedFor reports whether an authority that the machine knows has signed the certificate.
func vouchedFor(pair tls.Certificate) bool {
	if pair.Leaf == nil {
		return false
	}
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	_, err := pair.Leaf.Verify(x509.VerifyOptions{Intermediates: between})
	return err == nil
}

// reload loads the files again if they changed, and then returns
// errCertReloaded.
func (f *certFiles) reload() error {
	state, err := f.stamp()
	if err != nil {
		return err
	}
	f.mu.Lock()
	same := state == f.state
	f.mu.Unlock()
	if same {
		return nil
	}
	if err := f.load(); err != nil {
		return err
	}
	return errCertReloaded
}

func (f *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pair, nil
}

// openSelfSigned reads the certificate made before, or makes one: so that
// people who compared its fingerprint need not do so again, it changes only
// near its end or when it lacks a host.
func (c *Certificates) openSelfSigned(dir string, hosts []string) error {
	cert, key := filepath.Join(dir, "self-signed.crt"), filepath.Join(dir, "self-signed.key")
	hosts = selfSignedHosts(hosts)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("self-signed certificate: %w; remove %s to have a new one made", err, cert)
	}
	if err != nil || !covers(pair.Leaf, hosts, time.Now()) {
		if err := makeSelfSigned(cert, key, hosts, time.Now()); err != nil {
			return fmt.Errorf("self-signed certificate: %w", err)
		}
		if pair, err = tls.LoadX509KeyPair(cert, key); err != nil {
			return fmt.Errorf("self-signed certificate: %w", err)
		}
	}
	c.Fingerprint = fingerprint(pair.Certificate[0])
	c.get = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }
	return nil
}

func selfSignedHosts(hosts []string) []string {
	all := append([]string{"localhost", "127.0.0.1", "::1"}, hosts...)
	if name, err := os.Hostname(); err == nil && hostName(name) {
		all = append(all, name)
	}
	return all
}

// covers reports whether leaf is good for every host for some time yet.
func covers(leaf *x509.Certificate, hosts []string, now time.Time) bool {
	if now.Before(leaf.NotBefore) || now.Add(selfSignedRenew.Duration()).After(leaf.NotAfter) {
		return false
	}
	for _, h := range hosts {
		if leaf.VerifyHostname(h) != nil {
			return false
		}
	}
	return true
}

func makeSelfSigned(certFile, keyFile string, hosts []string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "devicehub"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(selfSignedFor.Duration()),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(keyFile, "PRIVATE KEY", private, 0o600); err != nil {
		return err
	}
	return writePEM(certFile, "CERTIFICATE", der, 0o600)
}

// writePEM replaces a file as a whole.
func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".pem-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	err = errors.Join(
		tmp.Chmod(mode),
		pem.Encode(tmp, &pem.Block{Type: kind, Bytes: der}),
		tmp.Sync(),
		tmp.Close(),
	)
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// fingerprint is the SHA-256 of a certificate in pairs of hex digits.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

// readCertPool reads the certificates of a PEM file.
func readCertPool(path string) (*x509.CertPool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}
