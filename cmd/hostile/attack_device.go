package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const stolen = "stolen"

// asDevice arms an attack with the token of one sensor.
func asDevice(run func(ctx context.Context, h *hub, token string, seen *tally)) means {
	return means{run: run, arm: func(h *hub) (string, error) { return h.device(stolen, "sensor") }}
}

func deviceAttacks() []attack {
	const who, topic = "a stolen sensor", "sensor:" + stolen
	return []attack{
		{"readings", who, "sends 50 batches a second of 500 texts of 95 bytes", asDevice(batches)},
		{"refreshes", who, "asks for new tokens, 40 times a second", asDevice(func(ctx context.Context, h *hub, token string, seen *tally) {
			h.paced(ctx, token, 25*time.Millisecond, seen, func(int) (string, string) { return "token_refresh", "{}" })
		})},
		{"events", who, "sends events that there are none, as fast as it can", asDevice(func(ctx context.Context, h *hub, token string, seen *tally) {
			h.flood(ctx, token, []string{topic}, message("2", topic, "dance", `{"`+strings.Repeat("d", 100)+`":1}`), seen)
		})},
		{"retained", who, "publishes its readings with the flag retain", asDevice(func(ctx context.Context, h *hub, token string, seen *tally) {
			h.publishing(ctx, token, seen, func(c *mqttClient) []byte {
				return c.publish("hub/v1/"+stolen+"/r", `{"m":"temperature","v":1}`, 0, true, 0)
			})
		})},
		{"foreign", who, "publishes on the topics of another", asDevice(func(ctx context.Context, h *hub, token string, seen *tally) {
			h.publishing(ctx, token, seen, func(c *mqttClient) []byte {
				return c.publish("hub/v1/good-0/r", `{"m":"temperature","v":1}`, 0, false, 0)
			})
		})},
		{"reconnects", who, "connects and goes as fast as it can", asDevice(func(ctx context.Context, h *hub, token string, seen *tally) {
			for ctx.Err() == nil {
				c, code, err := dialMQTT(h.mqtt, sign{id: stolen, user: stolen, password: token})
				if err == nil {
					seen.add(fmt.Sprintf("connack %02x", code), 1)
				}
				if c != nil {
					c.conn.Close()
				}
			}
		})},
	}
}

// paced sends an event at a time, answered or not, on one socket. One that is closed is opened again.
func (h *hub) paced(ctx context.Context, token string, every time.Duration, seen *tally, next func(i int) (event, payload string)) {
	const topic = "sensor:" + stolen
	for i := 0; ctx.Err() == nil; {
		s, status, err := h.dial(token)
		if err != nil {
			seen.add(fmt.Sprint("status ", status), 1)
			pause(ctx)
			continue
		}
		_ = s.join(topic)
		done := make(chan struct{})
		go func() { defer close(done); s.listen(seen) }()
		tick := time.NewTicker(every)
		for ctx.Err() == nil {
			event, payload := next(i)
			i++
			if s.ws.WriteMessage(1, message(fmt.Sprint(i+1), topic, event, payload)) != nil {
				break
			}
			seen.add("sent", 1)
			select {
			case <-tick.C:
			case <-done:
			case <-ctx.Done():
			}
		}
		tick.Stop()
		s.ws.Close()
		<-done
	}
}

func batches(ctx context.Context, h *hub, token string, seen *tally) {
	h.paced(ctx, token, 20*time.Millisecond, seen, func(i int) (string, string) {
		var b strings.Builder
		b.WriteString(`{"r":[`)
		for j := range 500 {
			if j > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `["note","%095d"]`, i*500+j)
		}
		b.WriteString(`]}`)
		return "readings", b.String()
	})
}

func (h *hub) publishing(ctx context.Context, token string, seen *tally, packet func(c *mqttClient) []byte) {
	for ctx.Err() == nil {
		c, code, err := dialMQTT(h.mqtt, sign{version: 5, id: stolen, user: stolen, password: token})
		if err != nil || c == nil {
			seen.add(fmt.Sprintf("connack %02x", code), 1)
			pause(ctx)
			continue
		}
		seen.add("connected", 1)
		c.pour(ctx, packet(c), seen)
	}
}
