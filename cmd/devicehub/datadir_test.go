package main

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func openDir(t *testing.T, path string) *DataDir {
	t.Helper()
	d, err := OpenDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Mode().Perm()
}

func TestNewDataDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "data")
	d := openDir(t, path)
	if d.Path() != path {
		t.Errorf("got path %s, want %s", d.Path(), path)
	}
	if got := mode(t, path); got != 0o700 {
		t.Errorf("folder: got mode %04o, want 0700", got)
	}
	for _, name := range []string{"lock", "format"} {
		if got := mode(t, d.Join(name)); got != 0o600 {
			t.Errorf("%s: got mode %04o, want 0600", name, got)
		}
	}
	if err := os.WriteFile(d.Join("later"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := mode(t, d.Join("later")); got != 0o600 {
		t.Errorf("file made later: got mode %04o, want 0600", got)
	}
}

func TestDataDirHasOneOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d := openDir(t, path)
	_, err := OpenDataDir(path)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Fatalf("got %v, want a LockedError with this process", err)
	}
	if !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("got %q, want what to do", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	openDir(t, path)
}

func TestDataDirErrorsSayWhatToDo(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, path string)
		want    []string
	}{
		{"open to others", func(t *testing.T, path string) { chmod(t, path, 0o755) }, []string{"is open to other users (mode 0755)", "chmod 700 "}},
		{"key open to others", func(t *testing.T, path string) {
			write(t, filepath.Join(path, "hub.db"), "x")
			chmod(t, filepath.Join(path, "hub.db"), 0o644)
		}, []string{"hub.db is open to other users (mode 0644)", "chmod 600 "}},
		{"newer format", func(t *testing.T, path string) {
			write(t, filepath.Join(path, "format"), "devicehub data folder, format 99\n")
		}, []string{"has format 99", "knows formats up to 1", "install a newer devicehub"}},
		{"damaged format", func(t *testing.T, path string) { write(t, filepath.Join(path, "format"), "x") }, []string{"damaged", "backup"}},
		{"things of others", func(t *testing.T, path string) {
			if err := os.Remove(filepath.Join(path, "format")); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(path, "letters.txt"), "x")
		}, []string{"letters.txt", "no devicehub data", "--data-dir"}},
		{"a file", func(t *testing.T, path string) {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			write(t, path, "x")
		}, []string{"is a file", "--data-dir"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data")
			d, err := OpenDataDir(path)
			if err != nil {
				t.Fatal(err)
			}
			d.Close()
			tt.prepare(t, path)
			d, err = OpenDataDir(path)
			if err == nil {
				d.Close()
				t.Fatal("got no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %q, want %q in it", err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line", err)
			}
		})
	}
}

func TestForeignOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a folder away")
	}
	path := filepath.Join(t.TempDir(), "data")
	d, err := OpenDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := os.Chown(path, 4711, 4711); err != nil {
		t.Fatal(err)
	}
	_, err = OpenDataDir(path)
	if err == nil || !strings.Contains(err.Error(), "belongs to 4711") || !strings.Contains(err.Error(), "chown -R root") {
		t.Errorf("got %v, want the owner and the chown", err)
	}
}

// The socket works in a folder whose path is longer than a socket address.
func TestAdminSocket(t *testing.T) {
	for _, name := range []string{"data", strings.Repeat("deep/", 40) + "data"} {
		d := openDir(t, filepath.Join(t.TempDir(), name))
		write(t, d.Join("admin.sock"), "left over from a crash")
		l, err := d.ListenAdmin()
		if err != nil {
			t.Fatal(err)
		}
		if got := mode(t, d.Join("admin.sock")); got != 0o600 {
			t.Errorf("socket: got mode %04o, want 0600", got)
		}
		done := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if err == nil {
				_, err = io.WriteString(c, "hello")
				c.Close()
			}
			done <- err
		}()
		c, err := dialAdmin(d.Path())
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
			t.Errorf("got %q, %v, want hello", b, err)
		}
		c.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(d.Join("admin.sock")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Close: got %v, want the socket gone", err)
		}
		var ne net.Error
		if _, err := dialAdmin(d.Path()); err == nil || errors.As(err, &ne) && ne.Timeout() {
			t.Errorf("dial after Close: got %v, want an error at once", err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, m os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, m); err != nil {
		t.Fatal(err)
	}
}
