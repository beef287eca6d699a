package main

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The first password does not get into the log: it is in a file, which goes when it is of no more use.
func TestFirstPassword(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, config, url, password string){
		"signing in": func(t *testing.T, _, url, password string) {
			res, err := http.Post(url+"/api/v1/login", "application/json", strings.NewReader(`{"username":"Admin","password":"`+password+`"}`))
			if err != nil {
				t.Fatal(err)
			}
			if res.Body.Close(); res.StatusCode != http.StatusOK {
				t.Fatalf("got %d for the password of the file", res.StatusCode)
			}
		},
		"another password": func(t *testing.T, config, _, _ string) {
			if r := cli(t, "maple-42-river\n", "user", "passwd", "admin", "--password-stdin", "--config", config); r.code != exitDone {
				t.Fatalf("got %+v", r)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			config, url := hubFolder(t)
			b, err := os.ReadFile(config)
			if err != nil {
				t.Fatal(err)
			}
			write(t, config, strings.ReplaceAll(string(b), `initial_admin_password: "first password"`, ""))
			file := filepath.Join(filepath.Dir(config), "data", "initial-admin-password")

			// A command before the first start makes it, too, and the start says again where it is.
			r := cli(t, "", "apitoken", "add", "early", "--rights", "read", "--config", config)
			if r.code != exitDone || !strings.Contains(r.err, file) {
				t.Fatalf("got %+v, want the file named", r)
			}
			_, log := serveHub(t, config, url)
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			password := strings.TrimSpace(string(got))
			if m := mode(t, file); m != 0o600 || len(password) < 20 {
				t.Errorf("mode %04o, %d characters", m, len(password))
			}
			if wrong, err := http.Post(url+"/api/v1/login", "application/json", strings.NewReader(`{"username":"admin","password":"wrong password"}`)); err != nil {
				t.Fatal(err)
			} else {
				wrong.Body.Close()
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("after a wrong password: %v", err)
			}
			use(t, config, url, password)
			if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the file is still there: %v", err)
			}
			if text := log.String(); strings.Contains(text+r.err, password) || !strings.Contains(text, file) {
				t.Errorf("want the file and not the password in\n%s", text)
			}
		})
	}
}

// On a terminal it is shown, and nothing is written.
func TestFirstPasswordOnATerminal(t *testing.T) {
	a := &assembly{Process: &Process{Data: openDir(t, filepath.Join(t.TempDir(), "data"))}}
	a.setup.Created, a.setup.Password = true, "shown-once"
	if got := a.firstPasswordIs(); !strings.Contains(got, "shown-once") {
		t.Errorf("got %q", got)
	}
	a.setup.Password = ""
	if got := a.firstPasswordIs(); got != "" {
		t.Errorf("when it is known: got %q", got)
	}
}
