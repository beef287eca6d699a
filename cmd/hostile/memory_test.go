package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// metric is the value of a metric without labels.
func (h *hub) metric(t *testing.T, name string) int64 {
	t.Helper()
	res, err := http.Get("http://" + h.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	_, rest, found := strings.Cut(string(b), "\n"+name+" ")
	if !found {
		t.Fatalf("there is no metric %s", name)
	}
	v, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int64(v)
}

// Four accounts and eight people fill everything that the hub keeps in memory for them, each store in
// every shape: retained messages, sessions with what waits in them, wills, subscriptions; what waits to
// be handled and what waits to be read. The process then takes what the configuration allows them, as
// much again that is garbage between two collections, and a little.
func TestEveryStoreIsFilled(t *testing.T) {
	t.Parallel()
	two <- struct{}{}
	defer func() { <-two }()
	const brokerMB, peopleMB, people, slack = 64, 1 + 4, 8, 48
	h := siege(t, fmt.Sprintf("limits: {mqtt_bytes: %dMiB, mqtt_bytes_per_account: 24MiB, mqtt_kept_bytes_per_min: 10GB, reads_per_s: 100000, read_burst: 100000}", brokerMB))
	f, err := newFleet(t.Context(), h, 200, time.Second) // whose list makes long answers
	if err != nil {
		t.Fatal(err)
	}
	defer f.end()
	before := h.resident()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	var accounts [4]sign
	for i := range accounts {
		name := fmt.Sprint("hog-", i)
		accounts[i] = sign{version: 5, id: name, user: "service:" + name, password: newAccount(t, h, name, "read", name+"/#")}
	}
	var tokens [people]string
	for i := range tokens {
		if tokens[i], err = h.person(fmt.Sprint("vera-", i), "viewer"); err != nil {
			t.Fatal(err)
		}
	}
	var seen tally
	peak := h.watch(ctx, 40*time.Second, func(ctx context.Context) {
		defer cancel()
		var wg sync.WaitGroup
		for i, as := range accounts {
			wg.Go(func() { fill(ctx, h, as, i, &seen) })
		}
		wg.Wait()
		ctx, stop := context.WithTimeout(ctx, 5*time.Second)
		defer stop()
		together(4*people, func(i int) { deafen(ctx, h, tokens[i/4], i, &seen) })
	}, nil)
	kept := h.metric(t, "devicehub_mqtt_kept_bytes") >> 20
	t.Logf("the broker keeps %d MB, the process grew by %d MB; %s", kept, (peak-before)>>20, &seen)
	if kept < brokerMB*7/8 || kept > brokerMB {
		t.Errorf("the broker keeps %d MB, want it filled to %d", kept, brokerMB)
	}
	if grown, most := (peak-before)>>20, int64(2*(brokerMB+people*peopleMB)+slack); grown > most {
		t.Errorf("the hub grew by %d MB, want at most %d", grown, most)
	}
	f.end()
	for _, s := range f.trouble() {
		t.Error(s)
	}
}

// fill has everything kept that an account can have kept, its first shape first; each account begins
// with another.
func fill(ctx context.Context, h *hub, as sign, first int, seen *tally) {
	root := as.id
	for shape := range 4 {
		switch (first + shape) % 4 {
		case 0:
			h.each(ctx, as, 150, seen, func(c *mqttClient, i int) []byte {
				return c.publish(fmt.Sprint(root, "/", i, "/", long), "x", 1, true, 1)
			})
			h.each(ctx, as, 10, seen, func(c *mqttClient, i int) []byte {
				return c.publish(fmt.Sprint(root, "/p", i), "x", 1, true, 1, many(long, 15)...)
			})
		case 1:
			for i := range 10 {
				away := as
				away.id, away.keep = fmt.Sprint(root, "-away-", i), true
				if c, _, err := dialMQTT(h.mqtt, away); err == nil && c != nil {
					_, _ = c.ask(c.subscribe(root+"/q", 1), 0x90)
					c.conn.Close()
				}
			}
			h.each(ctx, as, 200, seen, func(c *mqttClient, i int) []byte { return c.publish(root+"/q", long, 1, false, 1) })
		case 2:
			h.each(ctx, as, 150, seen, func(c *mqttClient, i int) []byte { return c.subscribe(fmt.Sprint(root, "/", i, "/", long, "/#"), 1) })
		case 3:
			for i := range 60 {
				away := as
				away.id, away.keep, away.will = fmt.Sprint(root, "-will-", i), true, root+"/"+long[:50_000]
				if c, _, err := dialMQTT(h.mqtt, away); err == nil && c != nil {
					defer c.conn.Close() // it is kept as long as its client is there
					seen.add("wills", 1)
				}
			}
		}
	}
}

// deafen asks for long answers and reads none, or sends long frames on many topics.
func deafen(ctx context.Context, h *hub, token string, way int, seen *tally) {
	for ctx.Err() == nil {
		s, _, err := h.dial(token)
		if err != nil {
			pause(ctx)
			continue
		}
		b := frames(message("2", "fleet:all", "view", `{"limit":200}`+strings.Repeat(" ", 100)), 20)
		_ = s.join("fleet:all")
		if way%2 == 1 {
			b = nil
			for i := range 12 {
				topic := fmt.Sprint("sensor:good-", i)
				_ = s.join(topic)
				b = append(b, frames(message("2", topic, "view", `{"q":"`+long+`"}`), 1)...)
			}
		}
		s.pour(ctx, b, 20, seen)
		s.ws.Close()
	}
}
