package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The session's cookie is for TLS alone wherever it was opened over TLS, without public_url. Browsers
// are told to stay there when the certificate is one that the world knows; never of one that is
// self-signed.
func TestSecureWithoutPublicURL(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certificate(t, cert, key)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	for _, row := range []struct {
		name, mode, trust string
		strict            bool
	}{
		{"self-signed", "{mode: self_signed}", cert, false},
		{"files that nobody vouches for", fmt.Sprintf("{mode: files, cert: %s, key: %s}", cert, key), key, false},
		{"files of an authority that the machine knows", fmt.Sprintf("{mode: files, cert: %s, key: %s}", cert, key), cert, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			addr, conf := freePort(t), filepath.Join(t.TempDir(), "devicehub.yaml")
			text := fmt.Sprintf("data_dir: %s\nhttp:\n  listen: %s\n  tls: %s\nauth: {initial_admin_password: %q}\nmqtt:\n  embedded: {listen: \"\"}\n",
				filepath.Join(t.TempDir(), "data"), addr, row.mode, adminPassword)
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			background(t, []string{"SSL_CERT_FILE=" + row.trust, "SSL_CERT_DIR=" + t.TempDir()}, filepath.Join(bin, "devicehub"), "serve", "--config", conf)
			var res *http.Response
			eventually(t, 30*time.Second, func() error {
				req, err := http.NewRequest("POST", "https://"+addr+"/api/v1/login", strings.NewReader(fmt.Sprintf(`{"username":"admin","password":%q}`, adminPassword)))
				if err != nil {
					return err
				}
				req.Header.Set("X-Requested-With", "devicehub")
				if res, err = client.Do(req); err == nil {
					defer res.Body.Close()
					_, err = io.Copy(io.Discard, res.Body)
				}
				return err
			})
			cookies := res.Cookies()
			if len(cookies) != 1 || cookies[0].Name != "__Host-devicehub" || !cookies[0].Secure || !cookies[0].HttpOnly {
				t.Errorf("got %d and %v", res.StatusCode, cookies)
			}
			for _, path := range []string{"/", "/api/v1/me", "/metrics", "/healthz"} {
				res, err := client.Get("https://" + addr + path)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if got := res.Header.Get("Strict-Transport-Security"); (got != "") != row.strict || row.strict && !strings.HasPrefix(got, "max-age=") {
					t.Errorf("%s: got %q, want one %t", path, got, row.strict)
				}
			}
		})
	}
}
