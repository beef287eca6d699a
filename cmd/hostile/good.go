package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/gorilla/websocket"
)

// fleet are devices that send readings, half of them over WebSocket and half over MQTT, and count how
// long each acknowledgement takes.
type fleet struct {
	hub     *hub
	devices []*good
	took    atomic.Pointer[took]
	wg      sync.WaitGroup
	stop    context.CancelFunc
}

// took is how long acknowledgements took.
type took struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram // µs
}

func newTook() *took { return &took{h: hdrhistogram.New(1, 60_000_000, 3)} }

func (t *took) record(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.h.RecordValue(d.Microseconds())
}

func (t *took) quantile(q float64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Duration(t.h.ValueAtQuantile(q)) * time.Microsecond
}

// good is one of them. It connects once: one that is cut off stays away, and is found out.
type good struct {
	id, token string
	boot      string
	every     time.Duration
	sent      atomic.Int64
	acked     atomic.Int64
	trouble   atomic.Pointer[string] // the first
}

func (g *good) fail(format string, args ...any) {
	s := g.id + ": " + fmt.Sprintf(format, args...)
	g.trouble.CompareAndSwap(nil, &s)
}

// newFleet adds n devices to the hub and has each send a reading every so often.
func newFleet(ctx context.Context, h *hub, n int, every time.Duration) (*fleet, error) {
	f := &fleet{hub: h}
	ctx, f.stop = context.WithCancel(ctx)
	f.took.Store(newTook())
	var list []map[string]any
	for i := range n {
		list = append(list, map[string]any{"id": fmt.Sprint("good-", i), "kinds": []string{"sensor"}})
	}
	var made struct{ Devices []struct{ Token string } }
	if err := h.call("POST", "/api/v1/devices", h.admin, list, &made); err != nil {
		return nil, err
	}
	boot := strconv.FormatInt(time.Now().UnixNano(), 36)
	for i, d := range made.Devices {
		f.devices = append(f.devices, &good{id: fmt.Sprint("good-", i), token: d.Token, boot: boot, every: every})
	}
	start := make(chan error, n)
	for i, g := range f.devices {
		run := f.overWebSocket
		if i%2 == 1 {
			run = f.overMQTT
		}
		f.wg.Go(func() {
			time.Sleep(every * time.Duration(i) / time.Duration(n))
			run(ctx, g, start)
		})
	}
	for range n {
		if err := <-start; err != nil {
			f.end()
			return nil, err
		}
	}
	return f, nil
}

// end has the devices send no more and wait for what is not acknowledged.
func (f *fleet) end() {
	f.stop()
	f.wg.Wait()
}

// phase begins a new count and returns the one before.
func (f *fleet) phase() *took { return f.took.Swap(newTook()) }

// trouble is what went wrong, device by device.
func (f *fleet) trouble() (all []string) {
	for _, g := range f.devices {
		if s := g.trouble.Load(); s != nil {
			all = append(all, *s)
		} else if sent, acked := g.sent.Load(), g.acked.Load(); sent != acked {
			all = append(all, fmt.Sprintf("%s: %d of %d readings acknowledged", g.id, acked, sent))
		}
	}
	return all
}

// sent are the readings of all.
func (f *fleet) sent() (n int64) {
	for _, g := range f.devices {
		n += g.sent.Load()
	}
	return n
}

const (
	lastWait = 10 * time.Second // for what is not acknowledged at the end
	underWay = 8                // readings of a device that are not acknowledged yet, as the hub allows
)

// send calls write for every reading until ctx ends, and waits for those that are not acknowledged
// yet. sent holds when each was; the channel takes one per acknowledgement.
func (f *fleet) send(ctx context.Context, g *good, write func(n int64) error, acks <-chan error) {
	var waiting []time.Time
	tick := time.NewTicker(g.every)
	defer tick.Stop()
	done, deadline := ctx.Done(), (<-chan time.Time)(nil)
	for {
		select {
		case <-done:
			tick.Stop()
			done, deadline = nil, time.After(lastWait)
		case <-tick.C:
			if len(waiting) == underWay {
				continue
			}
			waiting = append(waiting, time.Now())
			if err := write(g.sent.Add(1)); err != nil {
				g.fail("%v", err)
				return
			}
		case err := <-acks:
			if err != nil {
				g.fail("%v", err)
				return
			}
			f.took.Load().record(time.Since(waiting[0]))
			waiting = waiting[1:]
			g.acked.Add(1)
		case <-deadline:
			return
		}
		if done == nil && len(waiting) == 0 {
			return
		}
	}
}

func (f *fleet) overWebSocket(ctx context.Context, g *good, start chan<- error) {
	s, _, err := f.hub.dial(g.token)
	if err == nil {
		defer s.ws.Close()
		_, err = s.ask("1", "sensor:"+g.id, "phx_join", fmt.Sprintf(`{"boot":%q}`, g.boot))
	}
	start <- err
	if err != nil {
		return
	}
	acks := make(chan error, 64)
	go func() {
		for {
			_, msg, err := s.ws.ReadMessage()
			switch {
			case err != nil:
				acks <- err
				return
			case strings.Contains(string(msg), `"phx_reply"`) && !strings.Contains(string(msg), `"status":"ok"`):
				acks <- fmt.Errorf("refused: %s", msg)
				return
			case strings.Contains(string(msg), `"phx_reply"`) && !strings.Contains(string(msg), `"heartbeat"`):
				acks <- nil
			}
		}
	}()
	f.send(ctx, g, func(n int64) error {
		return s.ws.WriteMessage(websocket.TextMessage, message(fmt.Sprint(n+1), "sensor:"+g.id, "reading", fmt.Sprintf(`{"m":"temperature","v":%d,"s":%d}`, n%50, n)))
	}, acks)
}

func (f *fleet) overMQTT(ctx context.Context, g *good, start chan<- error) {
	c, code, err := dialMQTT(f.hub.mqtt, sign{id: g.id, user: g.id, password: g.token})
	if err == nil && code != 0 {
		err = fmt.Errorf("CONNACK %#x", code)
	}
	start <- err
	if err != nil {
		return
	}
	defer c.conn.Close()
	acks := make(chan error, 64)
	go func() {
		for {
			typ, body, err := c.read()
			if err != nil {
				acks <- err
				return
			}
			if typ == 0x40 && len(body) >= 2 && binary.BigEndian.Uint16(body) > 0 {
				acks <- nil
			}
		}
	}()
	f.send(ctx, g, func(n int64) error {
		payload := fmt.Sprintf(`{"m":"temperature","v":%d,"s":%d,"boot":%q}`, n%50, n, g.boot)
		_, err := c.conn.Write(c.publish("hub/v1/"+g.id+"/r", payload, 1, false, uint16(n%60_000+1)))
		return err
	}, acks)
}

// kept counts the readings of all devices that the hub has.
func (f *fleet) kept() (n int64, err error) {
	for _, g := range f.devices {
		var s struct{ Buckets []struct{ Count int64 } }
		path := fmt.Sprintf("/api/v1/devices/%s/series?metric=temperature&from=%d&points=1000", g.id, time.Now().Add(-time.Hour).UnixMilli())
		if err := f.hub.call("GET", path, f.hub.admin, nil, &s); err != nil {
			return n, err
		}
		for _, b := range s.Buckets {
			n += b.Count
		}
	}
	return n, nil
}
