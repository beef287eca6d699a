package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// byAnybody arms an attack that needs nothing.
func byAnybody(run func(ctx context.Context, h *hub, seen *tally)) means {
	return means{
		arm: func(*hub) (string, error) { return "", nil },
		run: func(ctx context.Context, h *hub, _ string, seen *tally) { run(ctx, h, seen) },
	}
}

func strangerAttacks() []attack {
	const who = "nobody"
	return []attack{
		{"origins", who, "names origins of 30 kB that may open no socket", byAnybody(func(ctx context.Context, h *hub, seen *tally) {
			h.pipeline(ctx, fmt.Sprintf("GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: %s\r\nOrigin: http://%s\r\n\r\n", h.http, strings.Repeat("a", 30_000)), seen)
		})},
		{"tokens", who, "connects with tokens that are none, over WebSocket, MQTT and HTTP", byAnybody(badTokens)},
		{"wills", who, "has wills in MQTT that devices may not have, and a wrong password", byAnybody(badWills)},
		{"passwords", who, "guesses passwords under many names, from 15,000 addresses", byAnybody(passwords)},
		{"assets", who, "asks for pages on 300 connections and does not read them", byAnybody(unread)},
		{"silence", who, "opens 2000 connections and says nothing", byAnybody(silence)},
	}
}

func badTokens(ctx context.Context, h *hub, seen *tally) {
	together(3, func(way int) {
		for ctx.Err() == nil {
			switch way {
			case 0:
				_, status, _ := h.dial("nonsense")
				seen.add(fmt.Sprint("status ", status), 1)
			case 1:
				_, code, err := dialMQTT(h.mqtt, sign{id: "old", user: "old", password: "nonsense"})
				if err == nil {
					seen.add(fmt.Sprintf("connack %02x", code), 1)
				}
			default:
				status, _ := h.try("GET", "/api/v1/devices", "nonsense", nil)
				seen.add(fmt.Sprint("status ", status), 1)
			}
		}
	})
}

func badWills(ctx context.Context, h *hub, seen *tally) {
	together(4, func(i int) {
		for n := 0; ctx.Err() == nil; n++ {
			name := fmt.Sprintf("ghost-%d-%d", i, n)
			_, code, err := dialMQTT(h.mqtt, sign{version: 5, id: name, user: name, password: "wrong", will: "hub/v1/" + name + "/lwt"})
			if err == nil {
				seen.add(fmt.Sprintf("connack %02x", code), 1)
			}
		}
	})
}

func passwords(ctx context.Context, h *hub, seen *tally) {
	together(60, func(i int) {
		for n := 0; ctx.Err() == nil; n++ {
			body := fmt.Sprintf(`{"username":"guess-%d-%d","password":"letmein-%d"}`, i, n, n)
			h.once(ctx, net.IPv4(127, 2, byte(i), byte(n)), fmt.Sprintf("POST /api/v1/login HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", h.http, len(body), body), seen)
		}
	})
}

// once sends a request on a connection of its own, from an address of this machine, and counts its
// status.
func (h *hub) once(ctx context.Context, from net.IP, request string, seen *tally) {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: from}}
	conn, err := d.DialContext(ctx, "tcp", h.http)
	if err != nil {
		seen.add("connect refused", 1)
		pause(ctx)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write([]byte(request)); err != nil {
		return
	}
	var b [64]byte
	if n, _ := conn.Read(b[:]); n > 12 {
		seen.add("status "+string(b[9:12]), 1)
	}
}

func unread(ctx context.Context, h *hub, seen *tally) {
	request := fmt.Sprintf("GET /api/openapi.json HTTP/1.1\r\nHost: %s\r\n\r\n", h.http)
	together(300, func(int) {
		for ctx.Err() == nil {
			conn, err := net.DialTimeout("tcp", h.http, 5*time.Second)
			if err != nil {
				seen.add("connect refused", 1)
				pause(ctx)
				continue
			}
			seen.add("connected", 1)
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			writeAll(conn, request) // until the buffers are full; then the hub has to end it
			conn.Close()
			stop()
		}
	})
}

func silence(ctx context.Context, h *hub, seen *tally) {
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for i := 0; i < 2000 && ctx.Err() == nil; i++ {
		addr := h.http
		if i%2 == 1 {
			addr = h.mqtt
		}
		conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			seen.add("connect refused", 1)
			continue
		}
		seen.add("connected", 1)
		open = append(open, conn)
	}
	<-ctx.Done()
}
