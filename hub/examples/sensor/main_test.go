package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/hub/hubtest"
)

// together is a writer for several goroutines.
type together struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *together) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func TestRun(t *testing.T) {
	var out together
	if err := run(t.Context(), &out, 3, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"thermometer: 21.0 °C is ok", "thermometer: 21.2 °C is ok", "watcher: 21.0 °C", "watcher: 21.1 °C"} {
		if !strings.Contains(out.text.String(), line+"\n") {
			t.Errorf("got %q, want %q in it", out.text.String(), line)
		}
	}
}

func TestSensor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "readings")
		log, err := OpenLog(file)
		if err != nil {
			t.Fatal(err)
		}
		ep := newEndpoint(log)
		thermometer := hubtest.Connect(t, ep, "/socket", map[string]string{"device": "t-1"}).Join("sensor:t-1", nil)
		watcher := hubtest.Connect(t, ep, "/socket", nil).Join("sensor:t-1", nil)
		reading := Reading{Celsius: 21.5, At: 1}
		thermometer.Push("reading", reading).WantReply("ok", nil)
		watcher.Want("reading", reading)
		thermometer.Want("reading", reading)
		watcher.Push("reading", reading).WantReply("error", map[string]string{"reason": "forbidden"})
		thermometer.Push("reading", []int{1}).WantReply("error", map[string]string{"reason": "malformed"})
		watcher.WantQuiet()
		if text, err := os.ReadFile(file); err != nil || string(text) != `{"topic":"sensor:t-1","celsius":21.5,"at":1}`+"\n" {
			t.Errorf("got %s, %v, want the reading", text, err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A disk that is full, and a queue that is, are the client's to hear of.
func TestLogRefuses(t *testing.T) {
	file, err := os.Open(os.DevNull) // for reading: writes fail
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		log := &Log{file: file, waiting: make(chan entry, 1)}
		ep := newEndpoint(log)
		thermometer := hubtest.Connect(t, ep, "/socket", map[string]string{"device": "t-1"}).Join("sensor:t-1", nil)
		first := thermometer.Push("reading", Reading{})
		first.WantNoReply()
		thermometer.Push("reading", Reading{}).WantReply("error", map[string]string{"reason": "busy"})
		log.writer.Go(log.run)
		first.WantReply("error", map[string]string{"reason": "platform_unavailable"})
		thermometer.WantQuiet()
		log.Close()
	})
}
