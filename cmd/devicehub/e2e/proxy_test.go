package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// The examples of configs/deploy for nginx and Caddy stand before a hub: people sign in,
// sockets stay, long-poll waits, and the hub sees who comes.
func TestReverseProxies(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join("../../../configs/deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, start := range map[string]func(t *testing.T, h *hub, cert, key, addr string){
		"nginx": func(t *testing.T, h *hub, cert, key, addr string) {
			conf := replaced(t, read("nginx.conf"), "127.0.0.1:4000", h.http, "listen 443 ssl", "listen "+addr+" ssl",
				"/etc/letsencrypt/live/hub.example.org/fullchain.pem", cert, "/etc/letsencrypt/live/hub.example.org/privkey.pem", key)
			dir := t.TempDir()
			user := ""
			if os.Getuid() == 0 {
				user = "user root;\n" // the folder is root's
			}
			temp := ""
			for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
				temp += fmt.Sprintf("%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
			}
			file := writeFile(t, dir, "nginx.conf", fmt.Sprintf("daemon off;\n%spid %s;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n%s%s}\n",
				user, filepath.Join(dir, "pid"), temp, conf))
			background(t, nil, "nginx", "-c", file, "-p", dir)
		},
		"caddy": func(t *testing.T, h *hub, cert, key, addr string) {
			host, port, _ := net.SplitHostPort(addr)
			conf := replaced(t, read("Caddyfile"), "127.0.0.1:4000", h.http,
				"\nhub.example.org {", fmt.Sprintf("\nhttps://hub.example.org:%s {\n\tbind %s\n\ttls %s %s", port, host, cert, key))
			dir := t.TempDir()
			file := writeFile(t, dir, "Caddyfile", "{\n\tadmin off\n\tauto_https off\n}\n"+conf)
			background(t, []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}, "caddy", "run", "--config", file, "--adapter", "caddyfile")
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			if err := h.stop(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(h.conf)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Dir(h.conf), filepath.Base(h.conf), replaced(t, string(b), "http:\n",
				"http:\n  public_url: https://hub.example.org\n  trusted_proxies: [127.0.0.1]\n"))
			h.start()
			dir, addr := t.TempDir(), freePort(t)
			cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
			certificate(t, cert, key, "hub.example.org")
			b, err = os.ReadFile(cert)
			if err != nil {
				t.Fatal(err)
			}
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(b)
			start(t, h, cert, key, addr)
			throughProxy(t, h, addr, pool)
		})
	}
}

// throughProxy is what people and devices do, from an address of their own.
func throughProxy(t *testing.T, h *hub, addr string, pool *x509.CertPool) {
	dial := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.5")}}).Dial
	secure := &tls.Config{RootCAs: pool, ServerName: "hub.example.org"}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: secure, DialContext: func(_ context.Context, network, _ string) (net.Conn, error) { return dial(network, addr) },
	}}
	defer client.CloseIdleConnections()
	ask := func(method, path, token, body string, header ...string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest(method, "https://hub.example.org"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(b)
	}
	eventually(t, 10*time.Second, func() error {
		res, err := client.Get("https://hub.example.org/readyz")
		if err == nil {
			res.Body.Close()
		}
		return err
	})
	res, body := ask("POST", "/api/v1/login", "", fmt.Sprintf(`{"username":"admin","password":%q}`, adminPassword), "X-Requested-With", "devicehub")
	if cookie := res.Header.Get("Set-Cookie"); res.StatusCode != 200 || !strings.HasPrefix(cookie, "__Host-") || !strings.Contains(cookie, "Secure") {
		t.Errorf("sign-in: got %s %s, cookie %q", res.Status, body, cookie)
	}
	if res, body := ask("GET", "/api/v1/me", "nonsense", ""); res.StatusCode != 401 {
		t.Errorf("a bad token: got %s %s", res.Status, body)
	}
	eventually(t, 5*time.Second, func() error {
		if !strings.Contains(h.log.String(), "127.0.0.5") {
			return fmt.Errorf("the log does not name the client's address")
		}
		return nil
	})
	token := h.mustCLI("device", "add", "kitchen-temp", "--kind", "sensor")
	d := websocket.Dialer{NetDialContext: func(_ context.Context, network, _ string) (net.Conn, error) { return dial(network, addr) }, TLSClientConfig: secure}
	ws, _, err := d.Dial("wss://hub.example.org/socket/websocket?vsn=2.0.0", http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`["1","1","sensor:kitchen-temp","phx_join",{}]`)); err != nil {
		t.Fatal(err)
	}
	if _, b, err := ws.ReadMessage(); err != nil || !strings.Contains(string(b), `"status":"ok"`) {
		t.Errorf("over WebSocket: got %s %v", b, err)
	}
	session, body := ask("GET", "/socket/longpoll?vsn=2.0.0", token, "")
	if session.StatusCode != 200 || !strings.Contains(body, `"status":410`) {
		t.Fatalf("long-poll: got %s %s", session.Status, body)
	}
	_, poll, _ := strings.Cut(body, `"token":"`)
	poll, _, _ = strings.Cut(poll, `"`)
	began := time.Now()
	if res, body := ask("GET", "/socket/longpoll?vsn=2.0.0&token="+poll, "", ""); res.StatusCode != 200 || !strings.Contains(body, `"status":204`) || time.Since(began) < 5*time.Second {
		t.Errorf("a poll of ten seconds: got %s %s after %v", res.Status, body, time.Since(began))
	}
}

// replaced puts each second text in the place of the one before it, which has to be there.
func replaced(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("the example has no %q", pairs[i])
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
