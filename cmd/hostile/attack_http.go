package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

func decode(res *http.Response, v any) error {
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(v)
}

func httpAttacks() []attack {
	return []attack{
		{"calls", "a viewer", "asks for people to be made", asViewer(func(ctx context.Context, h *hub, token string, seen *tally) {
			const body = `{"username":"mallory","password":"a long road into the hills","role":"admin"}`
			h.pipeline(ctx, fmt.Sprintf("POST /api/v1/users HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", h.http, token, len(body), body), seen)
		})},
		{"charts", "a viewer", "asks for charts of all devices on 300 connections at once", asViewer(func(ctx context.Context, h *hub, token string, seen *tally) {
			request := fmt.Sprintf("GET /api/v1/series?metric=temperature&points=5000 HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", h.http, token)
			together(300, func(int) { h.pipeline(ctx, request, seen) })
		})},
	}
}

// pipeline sends a request again and again without waiting for the answers, which it reads and counts
// by their status. A connection that is closed is opened again.
func (h *hub) pipeline(ctx context.Context, request string, seen *tally) {
	for ctx.Err() == nil {
		conn, err := net.DialTimeout("tcp", h.http, 5*time.Second)
		if err != nil {
			seen.add("connect refused", 1)
			pause(ctx)
			continue
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		done := make(chan struct{})
		go func() {
			defer close(done)
			r := bufio.NewReader(conn)
			for {
				res, err := http.ReadResponse(r, nil)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				seen.add(fmt.Sprint("status ", res.StatusCode), 1)
			}
		}()
		writeAll(conn, request)
		conn.Close()
		<-done
		stop()
		pause(ctx)
	}
}

// writeAll writes a text again and again until the connection takes no more of it.
func writeAll(conn net.Conn, s string) {
	b := []byte(strings.Repeat(s, 1+4096/len(s)))
	for {
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}
