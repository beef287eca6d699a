package sim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"devicehub/firmware-sim/device"
	"devicehub/firmware-sim/profile"
)

// A Journal keeps on disk what a run has to remember, so that another process can take the run up when this one was killed:
// what each device measured and what it was told about it, which commands were given, arrived and ran, and the figures. It is
// written line by line and reaches the disk once a second, so its end may be missing. What is read back is a beginning of
// what happened, in its order; OpenJournal says how the judge allows for the rest.
//
// A line is a letter and fields between tabs. No token or password is in it: devices get new ones.
type Journal struct {
	head    head
	past    *past // until it is taken up
	resumed bool  // this is not the first process of the run

	mu    sync.Mutex
	file  *os.File
	w     *bufio.Writer
	quiet bool // the judge's findings at the end are found again when it is repeated
	err   error
}

// head is a journal's first line.
type head struct {
	Run      string        `json:"run"`
	Seed     uint64        `json:"seed"`
	Scale    float64       `json:"scale"`
	Duration time.Duration `json:"duration_ns"`
	Settle   time.Duration `json:"settle_ns"`
	Keep     bool          `json:"keep_devices"`
	Began    time.Time     `json:"began"`
}

const (
	journalFile = "journal"
	profileFile = "profile.yaml"

	lineHead     = 'H'
	lineResumed  = 'R'
	lineEnded    = 'E'
	lineMeasured = 'm' // unit, metric, t, true time, seq, boot, unit of measure, value, state, form
	lineSent     = 'o' // unit, metric, t, form; of readings without a time or an acknowledgement
	lineAcked    = 'a' // unit, metric, t, sent again
	lineRefused  = 'r' // unit, metric, t
	lineGiven    = 'c' // unit, command, op, time
	lineTold     = 'e' // command, status
	lineArrived  = 'w' // unit, command, time
	lineRan      = 'x' // unit, command, time
	lineReported = 'p' // unit, time, on, brightness, moving
	lineFound    = 'v' // verdict, finding
	lineEvent    = 't'
	lineSecond   = 's' // snapshot
	lineFigures  = 'f'
	lineHist     = 'h'
)

// ErrEnded is OpenJournal's error for a run that came to its end.
var ErrEnded = errors.New("the run has ended")

// CreateJournal begins one in a folder, which is made and must not hold a journal yet. yaml is the text of the profile, which
// is kept beside it.
func CreateJournal(dir string, cfg *Config, yaml []byte) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, journalFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%s holds a run already: --resume takes it up, or name another folder", dir)
	} else if err != nil {
		return nil, err
	}
	if cfg.Run == "" {
		cfg.Run = NewRun()
	}
	j := &Journal{file: file, w: bufio.NewWriterSize(file, 1<<16), head: head{Run: cfg.Run, Seed: cfg.Profile.Seed, Scale: cfg.Scale,
		Duration: cfg.Duration, Settle: cfg.Settle, Keep: cfg.Keep, Began: time.Now()}}
	if err := os.WriteFile(filepath.Join(dir, profileFile), yaml, 0o644); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	j.json(lineHead, "", j.head)
	return j, j.Flush()
}

// OpenJournal reads the journal of a run whose process was killed, to go on with it, and fills in what a configuration has to
// agree with: the profile and the rest of what it was begun with. Where to find the hub and how to sign in is not in it.
//
// Whatever happened after the last line that reached the disk is unknown: readings may be stored, and commands may have run,
// of which the journal has nothing. So the judge takes nothing amiss that could come from there. Rows with a time between
// the last reading that stands in the journal and the first one after it are none that the device never sent, and a command
// whose end is not known may be done without an execution to be seen. What was acknowledged in that time is not known to be,
// is sent again under its old boot and number, and so tests the hub rather than the judge.
func OpenJournal(dir string, cfg *Config) (*Journal, error) {
	file, err := os.OpenFile(filepath.Join(dir, journalFile), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no run: %w", dir, err)
	} else if err != nil {
		return nil, err
	}
	p, err := profile.Read(filepath.Join(dir, profileFile))
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	past, good, err := readJournal(file)
	if err == nil && past.ended {
		err = ErrEnded
	}
	if err == nil {
		err = file.Truncate(good) // a line that was being written
	}
	if err == nil {
		_, err = file.Seek(good, 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file.Name(), err), file.Close())
	}
	h := past.head
	p.Seed = h.Seed
	cfg.Profile, cfg.Run, cfg.Scale, cfg.Duration, cfg.Settle, cfg.Keep = p, h.Run, h.Scale, h.Duration, h.Settle, h.Keep
	j := &Journal{head: h, past: past, resumed: true, file: file, w: bufio.NewWriterSize(file, 1<<16)}
	now := time.Now()
	past.lost(now)
	j.line(lineResumed, func(b []byte) []byte { return strconv.AppendInt(b, now.UnixMilli(), 10) })
	return j, j.Flush()
}

// Flush brings what was written to the disk.
func (j *Journal) Flush() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.w.Flush(); j.err == nil {
		j.err = err
	}
	if err := j.file.Sync(); j.err == nil {
		j.err = err
	}
	return j.err
}

// Close ends the journal of a run that came to its end.
func (j *Journal) Close() error {
	if j == nil {
		return nil
	}
	j.line(lineEnded, func(b []byte) []byte { return b })
	return errors.Join(j.Flush(), j.file.Close())
}

// Abandon is for a run that did not begin to play: nothing of it is left, unless an earlier process played.
func (j *Journal) Abandon() error {
	if j == nil {
		return nil
	}
	err := errors.Join(j.Flush(), j.file.Close())
	if j.resumed {
		return err
	}
	return errors.Join(err, os.Remove(j.file.Name()), os.Remove(filepath.Join(filepath.Dir(j.file.Name()), profileFile)))
}

func (j *Journal) line(kind byte, fields func(b []byte) []byte) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.quiet && kind == lineFound {
		return
	}
	b := append(j.w.AvailableBuffer(), kind, '\t')
	if _, err := j.w.Write(append(fields(b), '\n')); j.err == nil {
		j.err = err
	}
}

func (j *Journal) json(kind byte, name string, v any) {
	if j == nil {
		return
	}
	text, err := json.Marshal(v)
	if err != nil {
		return // a number that JSON does not have, in a figure that nobody could read either
	}
	j.line(kind, func(b []byte) []byte {
		if name != "" {
			b = append(append(b, name...), '\t')
		}
		return append(b, text...)
	})
}

func (j *Journal) silence() {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.quiet = true
}

func tab(b []byte) []byte { return append(b, '\t') }

func unitField(b []byte, n int) []byte { return tab(strconv.AppendInt(b, int64(n), 10)) }

func (j *Journal) measured(n int, r device.Reading, state entryState) {
	j.line(lineMeasured, func(b []byte) []byte {
		b = tab(append(unitField(b, n), r.Metric...))
		b = tab(strconv.AppendInt(b, r.T, 10))
		b = tab(strconv.AppendInt(b, r.At.UnixMilli(), 10))
		b = tab(strconv.AppendUint(b, r.Seq, 10))
		b = tab(append(b, r.Boot...))
		b = tab(append(b, r.Unit...))
		value, _ := json.Marshal(r.Value) // a number, a bool or a string
		b = tab(append(b, value...))
		b = tab(strconv.AppendInt(b, int64(state), 10))
		return strconv.AppendInt(b, packForm(r.Form), 10)
	})
}

func (j *Journal) sent(n int, rs []device.Reading) {
	for _, r := range rs {
		j.line(lineSent, func(b []byte) []byte {
			b = tab(append(unitField(b, n), r.Metric...))
			return strconv.AppendInt(tab(strconv.AppendInt(b, r.T, 10)), packForm(r.Form), 10)
		})
	}
}

// packForm writes a form as a number; 0 is the zero Form.
func packForm(f device.Form) int64 {
	n := int64(f.Kind) | int64(f.Delivery)<<6
	if f.Untimed {
		n |= 1 << 4
	}
	if f.Plain {
		n |= 1 << 5
	}
	return n
}

func unpackForm(n int64) device.Form {
	delivery := device.Delivery(min(n>>6&3, int64(device.ExactlyOnce)))
	return device.Form{Kind: device.Kind(n & 0xf), Untimed: n&(1<<4) != 0, Plain: n&(1<<5) != 0, Delivery: delivery}
}

func (j *Journal) acked(n int, r device.Reading, late bool) {
	j.line(lineAcked, func(b []byte) []byte {
		b = tab(append(unitField(b, n), r.Metric...))
		b = tab(strconv.AppendInt(b, r.T, 10))
		return strconv.AppendBool(b, late)
	})
}

func (j *Journal) refused(n int, r device.Reading) {
	j.line(lineRefused, func(b []byte) []byte {
		return strconv.AppendInt(tab(append(unitField(b, n), r.Metric...)), r.T, 10)
	})
}

func (j *Journal) given(c *issued) {
	j.line(lineGiven, func(b []byte) []byte {
		b = tab(append(tab(append(unitField(b, c.unit.n), c.id...)), c.op...))
		return strconv.AppendInt(b, c.given.UnixMilli(), 10)
	})
}

func (j *Journal) told(c *issued, status string) {
	j.line(lineTold, func(b []byte) []byte { return append(tab(append(b, c.id...)), status...) })
}

// command is an envelope that arrived, or one that was executed.
func (j *Journal) command(n int, id string, ran bool) {
	kind := byte(lineArrived)
	if ran {
		kind = lineRan
	}
	j.line(kind, func(b []byte) []byte {
		return strconv.AppendInt(tab(append(unitField(b, n), id...)), time.Now().UnixMilli(), 10)
	})
}

func (j *Journal) reported(n int, s device.LightState) {
	j.line(lineReported, func(b []byte) []byte {
		b = tab(strconv.AppendInt(unitField(b, n), time.Now().UnixMilli(), 10))
		b = tab(strconv.AppendBool(b, s.On))
		b = tab(strconv.AppendInt(b, int64(s.Brightness), 10))
		return strconv.AppendBool(b, s.Transitioning)
	})
}

// Resumed reports whether an earlier process has played of the run.
func (j *Journal) Resumed() bool { return j != nil && j.resumed }
