package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"devicehub/hub/hubtest/stranger"
)

// What is written for somebody who uses the hub is formatted, builds, and passes its tests.
func TestGenerates(t *testing.T) {
	m := stranger.New(t)
	m.Init("house")
	m.Write("main.go", "package main\n\nimport \"devicehub/hub\"\n\nfunc main() {\n\tr := hub.NewRouter(nil)\n\t_ = r\n}\n")
	m.Run("go", "mod", "tidy")
	for _, name := range []string{"sensor", "chat_room"} {
		said := m.Run("go", "run", "devicehub/hub/cmd/newchannel", name)
		line := said[strings.Index(said, "r.Channel("):]
		main, err := os.ReadFile(filepath.Join(m.Dir, "main.go"))
		if err != nil {
			t.Fatal(err)
		}
		m.Write("main.go", strings.Replace(string(main), "\t_ = r\n", "\t"+strings.TrimSpace(line)+"\n\t_ = r\n", 1))
	}
	if diff := m.Run("gofmt", "-d", "."); diff != "" {
		t.Errorf("gofmt: %s", diff)
	}
	m.Run("go", "vet", ".")
	ran := m.Run("go", "test", "-v", ".")
	for _, want := range []string{"TestSensorAnswersPing", "TestChatRoomHearsBroadcasts"} {
		if !strings.Contains(ran, "--- PASS: "+want) {
			t.Errorf("got %s, want %s to have passed", ran, want)
		}
	}
	main, err := os.ReadFile(filepath.Join(m.Dir, "main.go"))
	if err != nil || !strings.Contains(string(main), `r.Channel("chat_room:*", func() hub.Channel { return new(ChatRoom) })`) {
		t.Errorf("got %s, %v, want a route", main, err)
	}
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	generate := func(args ...string) error {
		return run(append([]string{"-dir", dir, "-package", "house"}, args...), io.Discard)
	}
	for _, name := range []string{"Sensor", "chat-room", "1st", "a__b", "_a", "a/b", "", "für"} {
		if err := generate(name); err == nil {
			t.Errorf("%q: got nil, want an error", name)
		}
	}
	if err := generate("sensor"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sensor_channel.go")
	if err := os.WriteFile(file, []byte("package house\n// mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := generate("sensor"); err == nil || !strings.Contains(err.Error(), "-force") {
		t.Errorf("again: got %v, want an error that names -force", err)
	}
	if text, _ := os.ReadFile(file); !strings.HasSuffix(string(text), "// mine") {
		t.Error("the file was overwritten")
	}
	if err := generate("-force", "sensor"); err != nil {
		t.Error(err)
	}
	if err := run([]string{"-dir", dir, "-package", "no-name", "lamp"}, io.Discard); err == nil {
		t.Error("a package no-name: got nil, want an error")
	}
}

func TestPackageOf(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "My-House")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := packageOf(dir); err != nil || got != "myhouse" {
		t.Errorf("an empty folder: got %q, %v, want myhouse", got, err)
	}
	for name, text := range map[string]string{"a_test.go": "package house_test", "b.go": "package house"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := packageOf(dir); err != nil || got != "house" {
		t.Errorf("got %q, %v, want house", got, err)
	}
}
