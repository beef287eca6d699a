package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// asAccount arms an attack of a service account that may use one topic filter.
func asAccount(run func(ctx context.Context, h *hub, as sign, seen *tally)) means {
	return means{
		arm: func(h *hub) (string, error) { return h.account("stray", "read", "b/#") },
		run: func(ctx context.Context, h *hub, token string, seen *tally) {
			run(ctx, h, sign{version: 5, id: "stray", user: "service:stray", password: token}, seen)
		},
	}
}

// long is as long as most of what MQTT has a length of two bytes for.
var long = strings.Repeat("v", 60_000)

func mqttAttacks() []attack {
	const who = "an account with one topic"
	return []attack{
		{"topics", who, "has messages of one byte retained whose topics are 60 kB long", asAccount(func(ctx context.Context, h *hub, as sign, seen *tally) {
			h.each(ctx, as, 10_000, seen, func(c *mqttClient, i int) []byte {
				return c.publish(fmt.Sprint("b/", i, "/", long), "x", 1, true, 1)
			})
		})},
		{"properties", who, "has messages of one byte retained with 900 kB of properties", asAccount(func(ctx context.Context, h *hub, as sign, seen *tally) {
			h.each(ctx, as, 1000, seen, func(c *mqttClient, i int) []byte {
				return c.publish(fmt.Sprint("b/", i), "x", 1, true, 1, many(long, 15)...)
			})
		})},
		{"queued", who, "sends them to 20 sessions of its own that are away", asAccount(queued)},
		{"filters", who, "subscribes to filters that are 60 kB long", asAccount(func(ctx context.Context, h *hub, as sign, seen *tally) {
			h.each(ctx, as, 10_000, seen, func(c *mqttClient, i int) []byte { return c.subscribe(fmt.Sprint("b/", i, "/", long, "/#"), 1) })
		})},
		{"sessions", who, "connects under ever new names and leaves its sessions behind", asAccount(sessions)},
		{"publishes", who, "publishes as fast as it can, to a subscriber that does not read", asAccount(publishes)},
	}
}

func many(s string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

// each sends n packets, one after the other, each when the one before is answered. A connection that
// ends is opened again.
func (h *hub) each(ctx context.Context, as sign, n int, seen *tally, packet func(c *mqttClient, i int) []byte) {
	i := 0
	for ctx.Err() == nil && i < n {
		c, code, err := dialMQTT(h.mqtt, as)
		if err != nil || code != 0 {
			seen.add(fmt.Sprintf("connack %02x", code), 1)
			pause(ctx)
			continue
		}
		stop := context.AfterFunc(ctx, func() { c.conn.Close() })
		for ; i < n; i++ {
			p := packet(c, i)
			answer := byte(0x40)
			if p[0] == 0x82 {
				answer = 0x90
			}
			got, err := c.ask(p, answer)
			if err != nil {
				break
			}
			seen.add(fmt.Sprintf("answered %02x", got), 1)
		}
		stop()
		c.conn.Close()
	}
}

func queued(ctx context.Context, h *hub, as sign, seen *tally) {
	for i := range 20 {
		away := as
		away.id, away.keep = fmt.Sprint("away-", i), true
		c, _, err := dialMQTT(h.mqtt, away)
		if err != nil || c == nil {
			seen.add("connect refused", 1)
			continue
		}
		_, _ = c.ask(c.subscribe("b/q", 1), 0x90)
		c.conn.Close()
	}
	h.each(ctx, as, 1000, seen, func(c *mqttClient, i int) []byte { return c.publish("b/q", "x", 1, false, 1, many(long, 15)...) })
}

func sessions(ctx context.Context, h *hub, as sign, seen *tally) {
	together(4, func(way int) {
		for i := 0; ctx.Err() == nil && i < 2500; i++ {
			mine := as
			mine.id, mine.keep = fmt.Sprintf("s-%d-%d", way, i), true
			c, code, err := dialMQTT(h.mqtt, mine)
			if err != nil {
				continue
			}
			seen.add(fmt.Sprintf("connack %02x", code), 1)
			if c != nil {
				_, _ = c.conn.Write([]byte{0xE0, 0})
				c.conn.Close()
			}
		}
	})
}

func publishes(ctx context.Context, h *hub, as sign, seen *tally) {
	deaf := as
	deaf.id = "deaf"
	if c, _, err := dialMQTT(h.mqtt, deaf); err == nil && c != nil {
		_, _ = c.ask(c.subscribe("b/#", 1), 0x90)
		defer c.conn.Close()
	}
	for ctx.Err() == nil {
		c, code, err := dialMQTT(h.mqtt, as)
		if err != nil || c == nil {
			seen.add(fmt.Sprintf("connack %02x", code), 1)
			pause(ctx)
			continue
		}
		c.pour(ctx, c.publish("b/loud", strings.Repeat("z", 200), 0, false, 0), seen)
	}
}

// pour sends a packet again and again and counts what comes, until the connection ends.
func (c *mqttClient) pour(ctx context.Context, packet []byte, seen *tally) {
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()
	done := make(chan struct{})
	go func() { defer close(done); c.listen(seen) }()
	b := []byte(strings.Repeat(string(packet), 50))
	for {
		if _, err := c.conn.Write(b); err != nil {
			break
		}
		seen.add("sent", 50)
	}
	select { // a DISCONNECT may be on its way
	case <-done:
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
	c.conn.Close()
	<-done
}
