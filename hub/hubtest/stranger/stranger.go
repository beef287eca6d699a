// Package stranger makes modules beside this one, as somebody has who uses the hub: to test what
// documents and generators give them.
package stranger

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Module is a module of its own in a temporary folder.
type Module struct {
	t testing.TB
	// Dir is the module's folder, Hub that of the module which has the hub.
	Dir, Hub string
}

// New makes the folder. It fails the test outside the hub's module.
func New(t testing.TB) *Module {
	t.Helper()
	m := &Module{t: t, Dir: t.TempDir()}
	m.Hub = filepath.Dir(strings.TrimSpace(m.Run("go", "-C", here(t), "env", "GOMOD")))
	return m
}

func here(t testing.TB) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Init makes the module, with the hub's in the place of a version that could be fetched.
func (m *Module) Init(name string) {
	m.t.Helper()
	m.Run("go", "mod", "init", name)
	m.Run("go", "mod", "edit", "-require", "devicehub@v0.0.0", "-replace", "devicehub="+m.Hub)
}

// Write writes a file of the module.
func (m *Module) Write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.Dir, name), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// Env is the environment of its commands: nothing is fetched, since what the hub needs is here.
func (m *Module) Env() []string {
	return append(os.Environ(), "GOWORK=off", "GOPROXY=off", "GOSUMDB=off", "GOTOOLCHAIN=local")
}

// Run runs a command in the module's folder and returns what it prints. It fails the test if
// the command fails or takes more than five minutes.
func (m *Module) Run(name string, args ...string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = m.Dir, m.Env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
