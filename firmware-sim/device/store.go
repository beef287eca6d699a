package device

import "time"

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

// cut moves up to n waiting readings that can go in one push into a batch. It was due when there
// were enough of them.
func (s *store) cut(n, enough int) *batch {
	n = min(n, len(s.waiting))
	first := s.waiting[0]
	if first.Form.Kind.single() {
		n = 1
	}
	for i := 1; i < n; i++ {
		r := s.waiting[i]
		if r.Form != first.Form || r.Boot != first.Boot || r.Form.numbered() && r.Seq != first.Seq+uint64(i) {
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
		for ok && n < len(b.readings) && b.readings[n].Seq > 0 && b.readings[n].Seq <= upTo {
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

// Measure records a value, measured at the given moment (which only the observer is told; the hub
// is told the device's own clock, if anything), and sends it as soon as a batch is full. It returns
// the reading, and false if the store is full.
func (d *Device) Measure(metric string, value any, unit string, at time.Time) (Reading, bool) {
	d.mu.Lock()
	defer d.unlock()
	if d.store.len() >= d.cfg.Store {
		return Reading{}, false
	}
	// Two values of a metric never share a millisecond, or one would replace the other.
	d.lastT = max(d.cfg.Clock().UnixMilli(), d.lastT+1)
	r := Reading{Metric: metric, Value: value, Unit: unit, At: at, T: d.lastT, Boot: d.boot, Form: d.nextForm()}
	if r.Form.numbered() {
		d.seq++
		r.Seq = d.seq
	}
	d.store.waiting = append(d.store.waiting, r)
	if len(d.store.waiting) >= d.cfg.Batch {
		d.send()
	}
	return r, true
}

// nextForm is the form of the next reading: that of the push that is being filled, or a new one.
// The lock is held.
func (d *Device) nextForm() Form {
	if d.formLeft == 0 || !d.up && d.form.Kind.single() {
		d.form, d.formLeft = d.cfg.Style.draw(d.rand, !d.up), d.cfg.Batch
	}
	d.formLeft--
	if d.parting && (d.cfg.Transport == MQTT || d.cfg.Transport == MQTT5) {
		d.form.Delivery = AtMostOnce
	}
	return d.form
}

// Flush sends what waits, full batch or not. It was due at the given moment.
func (d *Device) Flush(due time.Time) {
	d.mu.Lock()
	defer d.unlock()
	d.formLeft = 0
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
	first := b.readings[0]
	payload := encode(d.cfg.ID, first.Form, b.readings)
	p := push{payload: payload, n: len(b.readings), form: first.Form, metric: first.Metric}
	readings := b.readings
	send := func(answer func(verdict)) {
		if d.link.readings(p, answer) && d.cfg.Hooks.Sent != nil {
			d.cfg.Hooks.Sent(readings)
		}
	}
	d.disturbed(func() { send(func(v verdict) { d.answered(gen, b, again, v) }) }, func() { send(func(verdict) {}) })
}

// answered acts on what the hub says about a batch.
func (d *Device) answered(gen int, b *batch, again bool, v verdict) {
	if len(v.refused) == 0 { // else each of them says why
		d.failed(v.code)
	}
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
		switch {
		case v.unheard:
			stored = nil
		case len(v.refused) > 0:
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
