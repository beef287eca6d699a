package main

import (
	"bytes"
	"encoding/json"
	"os"
	"sync"
)

// Log keeps readings in a file. What comes while it writes is written together next.
type Log struct {
	file    *os.File
	waiting chan entry
	writer  sync.WaitGroup
}

type entry struct {
	line []byte
	done func(error)
}

const (
	maxWaiting  = 1000 // entries; what comes beyond them is refused
	maxTogether = 100
)

// OpenLog opens the file, or makes it.
func OpenLog(name string) (*Log, error) {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	l := &Log{file: f, waiting: make(chan entry, maxWaiting)}
	l.writer.Go(l.run)
	return l, nil
}

// Append has done called when the reading is on the disk, or is not to be. It reports false when
// too much is waiting.
func (l *Log) Append(topic string, r Reading, done func(error)) bool {
	line, err := json.Marshal(struct {
		Topic string `json:"topic"`
		Reading
	}{topic, r})
	if err != nil {
		return false
	}
	select {
	case l.waiting <- entry{append(line, '\n'), done}:
		return true
	default:
		return false
	}
}

// run writes what waits, until Close.
func (l *Log) run() {
	for first := range l.waiting {
		batch := []entry{first}
		for len(batch) < maxTogether && len(l.waiting) > 0 {
			batch = append(batch, <-l.waiting)
		}
		var text bytes.Buffer
		for _, e := range batch {
			text.Write(e.line)
		}
		_, err := l.file.Write(text.Bytes())
		if err == nil {
			err = l.file.Sync()
		}
		for _, e := range batch {
			e.done(err)
		}
	}
}

// Close writes what waits. Nothing may be appended any more.
func (l *Log) Close() error {
	close(l.waiting)
	l.writer.Wait()
	return l.file.Close()
}
