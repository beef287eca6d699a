package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/hub/hubclient"
)

// payload carries the moment at which it should have been sent, in ns.
func payload(at time.Time, padding string) json.RawMessage {
	b := append([]byte(`{"at":`), strconv.AppendInt(nil, at.UnixNano(), 10)...)
	return append(append(append(b, `,"pad":"`...), padding...), `"}`...)
}

// sentAt finds that moment again, wherever the server puts the payload.
func sentAt(b []byte) (time.Time, bool) {
	_, rest, ok := bytes.Cut(b, []byte(`"at":`))
	if !ok {
		return time.Time{}, false
	}
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	ns, err := strconv.ParseInt(string(rest[:n]), 10, 64)
	return time.Unix(0, ns), err == nil
}

func (m *member) message(msg hubclient.Message) {
	if msg.Event != m.b.cfg.Heard || !m.b.measuring.Load() {
		return
	}
	m.b.delivered.Add(1)
	if at, ok := sentAt(msg.Payload); ok {
		m.b.record(m.b.latency, time.Since(at))
	}
}

// fanout lets the first client push, at the rate or as fast as all copies come, and waits for the last copies.
func (b *bench) fanout(ctx context.Context) {
	padding := strings.Repeat("x", b.cfg.Size)
	publisher := b.members[0].ch
	end := time.Now().Add(b.cfg.Duration)
	pushed := int64(0)
	next := time.Now()
	for time.Now().Before(end) && ctx.Err() == nil {
		var due time.Time
		if b.cfg.Rate > 0 {
			due = next
			next = next.Add(time.Duration(float64(time.Second) / b.cfg.Rate))
			wait(ctx, time.Until(due))
		} else {
			// As many unfinished messages as the publisher may have in flight.
			for b.delivered.Load() < (pushed-int64(b.cfg.InFlight)+1)*int64(b.cfg.N) && time.Now().Before(end) && ctx.Err() == nil {
				time.Sleep(20 * time.Microsecond)
			}
			due = time.Now()
		}
		publisher.Push(b.cfg.Event, payload(due, padding), nil)
		pushed++
	}
	want := pushed * int64(b.cfg.N)
	for last := time.Now(); b.delivered.Load() < want && time.Since(last) < 3*time.Second && ctx.Err() == nil; {
		before := b.delivered.Load()
		time.Sleep(2 * time.Millisecond)
		if b.delivered.Load() != before {
			last = time.Now()
		}
	}
	b.res.Pushed = pushed
	b.res.Missing = max(0, want-b.delivered.Load())
}

// requestReply lets every client ask and wait, or all of them together ask at the rate.
func (b *bench) requestReply(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Duration)
	defer cancel()
	padding := strings.Repeat("x", b.cfg.Size)
	var pushed atomic.Int64
	var wg sync.WaitGroup
	ask := func(m *member, due time.Time, then func()) {
		pushed.Add(1)
		m.ch.Push(b.cfg.Event, payload(due, padding), func(_ hubclient.Reply, err error) {
			if err == nil {
				b.delivered.Add(1)
				b.record(b.latency, time.Since(due))
			}
			then()
		})
	}
	if b.cfg.Rate > 0 {
		gap := time.Duration(float64(time.Second) / b.cfg.Rate)
		due := time.Now()
		for i := 0; ctx.Err() == nil; i++ {
			wait(ctx, time.Until(due))
			wg.Add(1)
			ask(b.members[i%len(b.members)], due, wg.Done)
			due = due.Add(gap)
		}
	} else {
		for _, m := range b.members {
			for range b.cfg.InFlight {
				wg.Go(func() {
					answered := make(chan struct{}, 1)
					for ctx.Err() == nil {
						ask(m, time.Now(), func() { answered <- struct{}{} })
						<-answered
					}
				})
			}
		}
	}
	wg.Wait()
	b.res.Pushed = pushed.Load()
	b.res.Missing = b.res.Pushed - b.delivered.Load()
}
