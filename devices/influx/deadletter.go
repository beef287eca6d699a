package influx

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"devicehub/devices"
)

const (
	deadLetterName = "dead-letter.ndjson"
	replayingName  = "dead-letter.replaying.ndjson" // what is being sent again
)

// ErrNotThrough is returned by Replay while the server takes nothing.
var ErrNotThrough = errors.New("the sink does not get through")

// dead is one point that the server will not have, as a line of the
// dead-letter file.
type dead struct {
	At     string `json:"at"`
	Reason string `json:"reason"`
	Line   string `json:"line"` // line protocol, times in ms
}

func appendDead(path, line string, cause error, now time.Time) error {
	b, err := json.Marshal(dead{now.UTC().Format(time.RFC3339), cause.Error(), line})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("the dead-letter file: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("the dead-letter file: %w", err)
	}
	return nil
}

// misnamed reports whether the point's measurement is no metric's name.
func (d *dead) misnamed() bool {
	measurement, _, _ := strings.Cut(d.Line, ",device=")
	return !devices.ValidMetricName(measurement)
}

// readDead returns the points of a dead-letter file, none when there is no file.
func readDead(path string) ([]dead, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []dead
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var d dead
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			return nil, fmt.Errorf("the dead-letter file: %w", err)
		}
		all = append(all, d)
	}
	return all, lines.Err()
}

// putAside appends a point to the dead-letter file.
func (s *Sink) putAside(line string, cause error) error {
	if err := appendDead(filepath.Join(s.cfg.Dir, deadLetterName), line, cause, s.cfg.Now()); err != nil {
		return err
	}
	s.count(func(st *Stats) { st.PutAside++ })
	return nil
}

// Replayed is what became of the points of the dead-letter file.
type Replayed struct {
	Taken  int `json:"taken"`  // the server has them now
	Left   int `json:"left"`   // refused again, and still put aside
	Erased int `json:"erased"` // under a name that is no metric's
}

type replayRequest struct {
	ctx  context.Context
	done chan<- replayAnswer
}

type replayAnswer struct {
	Replayed
	err error
}

// Replay has Run send what is in the dead-letter file again, once: what the
// server takes now leaves the file, the rest stays. What earlier builds put aside
// under a name that is no metric's is not sent; it leaves the file. It returns
// ErrNotThrough while the server takes nothing at all.
func (s *Sink) Replay(ctx context.Context) (Replayed, error) {
	if st := s.Stats(); st.State != StateRunning {
		return Replayed{}, fmt.Errorf("%w: %s", ErrNotThrough, st.Err)
	}
	done := make(chan replayAnswer, 1)
	select {
	case s.replays <- replayRequest{ctx, done}:
	case <-ctx.Done():
		return Replayed{}, context.Cause(ctx)
	case <-s.ended:
		return Replayed{}, fmt.Errorf("%w: it has ended", ErrNotThrough)
	}
	a := <-done
	return a.Replayed, a.err
}

// replay answers one request. The points leave the dead-letter file for
// another, so that a crash meanwhile leaves them to the next replay.
func (s *Sink) replay(run context.Context, r replayRequest) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	stop := context.AfterFunc(run, func() { cancel(context.Cause(run)) })
	defer stop()
	result, err := s.sendDead(ctx)
	r.done <- replayAnswer{result, err}
}

func (s *Sink) sendDead(ctx context.Context) (r Replayed, err error) {
	path, replaying := filepath.Join(s.cfg.Dir, deadLetterName), filepath.Join(s.cfg.Dir, replayingName)
	all, err := readDead(replaying)
	if err != nil {
		return r, err
	}
	if len(all) == 0 {
		if all, err = readDead(path); err != nil || len(all) == 0 {
			return r, err
		}
		if err := os.Rename(path, replaying); err != nil {
			return r, err
		}
	}
	for i, d := range all {
		if d.misnamed() {
			r.Erased++
			continue
		}
		before := s.Stats().PutAside
		if err := s.sendBatch(ctx, []string{d.Line}); err != nil {
			for _, d := range all[i:] { // back to where it was
				err = errors.Join(err, s.putAside(d.Line, errors.New(d.Reason)))
			}
			r.Left += len(all) - i
			s.count(func(st *Stats) { st.PutAside -= int64(len(all)) })
			return r, errors.Join(err, os.Remove(replaying))
		}
		if s.Stats().PutAside > before {
			r.Left++
		} else {
			r.Taken++
		}
	}
	s.count(func(st *Stats) { st.PutAside -= int64(len(all)) })
	return r, os.Remove(replaying)
}
