package device

import (
	"encoding/json"
	"strconv"
	"time"
)

// store holds what the hub has not acknowledged, oldest first: batches that were sent at least once, then readings that
// wait. Its bound is kept by Measure.
type store struct {
	batches []*batch
	waiting []Reading
}

// batch is a run of readings of one boot with consecutive numbers; it is resent as it is, less what the hub has meanwhile.
type batch struct {
	readings []Reading
	flying   bool
	again    bool // was sent before
	due      time.Time
}

func (s *store) len() int {
	n := len(s.waiting)
	for _, b := range s.batches {
		n += len(b.readings)
	}
	return n
}

// cut moves up to n waiting readings of one boot into a batch. It was due when there were enough of them for a push.
func (s *store) cut(n, enough int) *batch {
	n = min(n, len(s.waiting))
	for i := 1; i < n; i++ {
		if s.waiting[i].Boot != s.waiting[0].Boot || s.waiting[i].Seq != s.waiting[0].Seq+uint64(i) {
			n = i
			break
		}
	}
	b := &batch{readings: append([]Reading(nil), s.waiting[:n]...), due: s.waiting[min(n, enough)-1].At}
	if s.waiting = s.waiting[n:]; len(s.waiting) == 0 {
		s.waiting = nil
	}
	s.batches = append(s.batches, b)
	return b
}

func (s *store) remove(gone *batch) {
	kept := s.batches[:0]
	for _, b := range s.batches {
		if b != gone {
			kept = append(kept, b)
		}
	}
	clear(s.batches[len(kept):])
	if s.batches = kept; len(kept) == 0 {
		s.batches = nil
	}
}

// rewind makes every batch ready to be sent again, and lets go of what the hub has: it returns those readings.
func (s *store) rewind(through map[string]uint64) (known []Reading) {
	kept := s.batches[:0]
	for _, b := range s.batches {
		b.flying = false
		upTo, ok := through[b.readings[0].Boot]
		n := 0
		for ok && n < len(b.readings) && b.readings[n].Seq <= upTo {
			n++
		}
		known = append(known, b.readings[:n]...)
		if b.readings = b.readings[n:]; len(b.readings) > 0 {
			kept = append(kept, b)
		}
	}
	clear(s.batches[len(kept):])
	if s.batches = kept; len(kept) == 0 {
		s.batches = nil
	}
	return known
}

// Measure records a value, measured at the given moment (which only the observer is told; the hub is told the device's own
// clock), and sends it as soon as a batch is full. It returns the reading, and false if the store is full.
func (d *Device) Measure(metric string, value any, unit string, at time.Time) (Reading, bool) {
	d.mu.Lock()
	defer d.unlock()
	if d.store.len() >= d.cfg.Store {
		return Reading{}, false
	}
	// Two values of a metric never share a millisecond, or one would replace the other.
	d.lastT = max(d.cfg.Clock().UnixMilli(), d.lastT+1)
	d.seq++
	r := Reading{Metric: metric, Value: value, Unit: unit, At: at, T: d.lastT, Boot: d.boot, Seq: d.seq}
	d.store.waiting = append(d.store.waiting, r)
	if len(d.store.waiting) >= d.cfg.Batch {
		d.send()
	}
	return r, true
}

// Flush sends what waits, full batch or not. It was due at the given moment.
func (d *Device) Flush(due time.Time) {
	d.mu.Lock()
	defer d.unlock()
	if d.mayPush() {
		for len(d.store.waiting) > 0 && d.flight < d.cfg.InFlight {
			b := d.store.cut(500, 500)
			b.due = due
			d.push(b)
		}
	}
}

// mayPush reports whether the device is connected, and does not hold back because the hub could not take its readings.
func (d *Device) mayPush() bool { return d.cfg.Sensor && d.up && !time.Now().Before(d.quietTill) }

// holdBack keeps the device quiet after a push that came to nothing: for as long as the hub says, else longer with each one
// in a row, up to 10 s. The lock is held.
func (d *Device) holdBack(asked time.Duration) {
	if asked <= 0 && time.Now().Before(d.quietTill) {
		return // of the same moment
	}
	d.failures = min(d.failures+1, 7)
	wait := max(asked, min(125*time.Millisecond<<d.failures, 10*time.Second))
	wait += time.Duration(d.rand.Int64N(int64(wait/2) + 1))
	till := time.Now().Add(wait)
	if till.Before(d.quietTill) {
		return
	}
	d.quietTill = till
	d.after(wait, func() {
		d.mu.Lock()
		defer d.unlock()
		d.send()
	})
}

// send pushes what is due: batches to be repeated first, then full ones. The lock is held.
func (d *Device) send() {
	if !d.mayPush() {
		return
	}
	for _, b := range d.store.batches {
		if d.flight >= d.cfg.InFlight {
			return
		}
		if !b.flying {
			d.push(b)
		}
	}
	// What has piled up goes in larger pushes than what comes in.
	size := d.cfg.Batch
	if len(d.store.waiting) > 4*size {
		size = min(max(size, 100), 500)
	}
	for d.flight < d.cfg.InFlight && len(d.store.waiting) >= d.cfg.Batch {
		d.push(d.store.cut(size, d.cfg.Batch))
	}
}

func (d *Device) push(b *batch) {
	b.flying = true
	d.flight++
	gen, again := d.gen, b.again
	b.again = true
	payload, n := encodeReadings(b.readings), len(b.readings)
	send := func() { d.link.readings(payload, n, func(v verdict) { d.answered(gen, b, again, v) }) }
	repeat := func() { d.link.readings(payload, n, func(verdict) {}) }
	d.jobs = append(d.jobs, d.disturbed(send, repeat))
}

// answered acts on what the hub says about a batch.
func (d *Device) answered(gen int, b *batch, again bool, v verdict) {
	d.failed(v.code)
	d.mu.Lock()
	if gen != d.gen {
		d.unlock()
		return
	}
	d.flight--
	b.flying = false
	var stored []Reading
	late := again || v.replayed > 0 || d.upAt.After(b.due)
	if v.decided {
		d.failures = 0
		d.store.remove(b)
		stored = b.readings
		if len(v.refused) > 0 {
			stored = nil
			for i, r := range b.readings {
				if v.refused[i] == "" {
					stored = append(stored, r)
				}
			}
		}
	} else {
		d.holdBack(v.retry)
	}
	d.send()
	d.unlock()
	if len(stored) > 0 && d.cfg.Hooks.Acked != nil {
		d.cfg.Hooks.Acked(Ack{Readings: stored, Due: b.due, Replayed: late})
	}
	if d.cfg.Hooks.Refused != nil {
		for i, code := range v.refused {
			if i < len(b.readings) {
				d.cfg.Hooks.Refused(b.readings[i], code)
			}
		}
	}
}

// encodeReadings writes a push: a "reading" for one, "readings" for more. Both are told apart by the key r.
func encodeReadings(rs []Reading) []byte {
	first := rs[0]
	if len(rs) == 1 {
		b := append([]byte(`{"m":`), jsonString(first.Metric)...)
		b = append(b, `,"v":`...)
		b = appendValue(b, first.Value)
		b = append(b, `,"t":`...)
		b = strconv.AppendInt(b, first.T, 10)
		b = append(b, `,"s":`...)
		b = strconv.AppendUint(b, first.Seq, 10)
		if first.Unit != "" {
			b = append(b, `,"u":`...)
			b = append(b, jsonString(first.Unit)...)
		}
		b = append(b, `,"boot":"`...)
		return append(append(b, first.Boot...), `"}`...)
	}
	b := append([]byte(`{"boot":"`), first.Boot...)
	b = append(b, `","s0":`...)
	b = strconv.AppendUint(b, first.Seq, 10)
	b = append(b, `,"t0":`...)
	b = strconv.AppendInt(b, first.T, 10)
	units := map[string]string{}
	for _, r := range rs {
		if r.Unit != "" {
			units[r.Metric] = r.Unit
		}
	}
	if len(units) > 0 {
		u, _ := json.Marshal(units) // strings always marshal
		b = append(append(b, `,"u":`...), u...)
	}
	b = append(b, `,"r":[`...)
	for i, r := range rs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, '['), jsonString(r.Metric)...)
		b = appendValue(append(b, ','), r.Value)
		b = strconv.AppendInt(append(b, ','), r.T-first.T, 10)
		b = append(b, ']')
	}
	return append(b, `]}`...)
}

func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case float64:
		return strconv.AppendFloat(b, v, 'g', -1, 64)
	case bool:
		return strconv.AppendBool(b, v)
	case string:
		return append(b, jsonString(v)...)
	}
	return append(b, "null"...)
}
