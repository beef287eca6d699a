package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// someLight is a device that people may see and, as viewers, not switch.
const someLight = "attic-light"

// asViewer arms an attack of somebody who may only look.
func asViewer(run func(ctx context.Context, h *hub, token string, seen *tally)) means {
	return means{run: run, arm: func(h *hub) (string, error) {
		if _, err := h.device(someLight, "light"); err != nil {
			return "", err
		}
		return h.person("vera", "viewer")
	}}
}

func socketAttacks() []attack {
	event := func(event, payload string) means {
		return asViewer(func(ctx context.Context, h *hub, token string, seen *tally) {
			h.flood(ctx, token, []string{"light:" + someLight}, message("2", "light:"+someLight, event, payload), seen)
		})
	}
	return []attack{
		{"commands", "a viewer", "sends commands that are refused", event("command", `{"op":"set","params":{"on":true},"policy":"none"}`)},
		{"updates", "a viewer", "sends shadow updates that are refused", event("shadow_update", `{"desired":{"on":true}}`)},
		{"searches", "a viewer", "asks for views of the fleet with long searches, on four sockets", asViewer(searches)},
		{"joins", "a viewer", "joins topics of 50 kB that nothing serves", asViewer(func(ctx context.Context, h *hub, token string, seen *tally) {
			h.flood(ctx, token, nil, message("2", "nothing:"+strings.Repeat("x", 50_000), "phx_join", "{}"), seen)
		})},
		{"channels", "a viewer", "joins ever more topics", asViewer(channels)},
		{"questions", "a viewer", "asks on four sockets and does not read the answers", asViewer(questions)},
		{"sockets", "a viewer", "opens 1000 sockets and sends frames of 60 kB on 12 topics of each", asViewer(sockets)},
		{"long-polls", "a viewer", "opens long-poll sessions, asks 500 times in each and does not poll", asViewer(longPolls)},
	}
}

func searches(ctx context.Context, h *hub, token string, seen *tally) {
	q := strings.Repeat("name:a* ", 50)
	together(4, func(int) {
		h.flood(ctx, token, []string{"fleet:all"}, message("2", "fleet:all", "view", fmt.Sprintf(`{"q":%q,"limit":50}`, q)), seen)
	})
}

func channels(ctx context.Context, h *hub, token string, seen *tally) {
	var b []byte
	for i := range 500 {
		b = append(b, frames(message("2", fmt.Sprintf("sensor:good-%d-%s", i, strings.Repeat("x", 100)), "phx_join", "{}"), 1)...)
	}
	for ctx.Err() == nil {
		s, _, err := h.dial(token)
		if err != nil {
			seen.add("connect refused", 1)
			pause(ctx)
			continue
		}
		done := make(chan struct{})
		go func() { defer close(done); s.listen(seen) }()
		s.pour(ctx, b, 500, seen)
		s.ws.Close()
		<-done
	}
}

func questions(ctx context.Context, h *hub, token string, seen *tally) {
	b := frames(message("2", "light:"+someLight, "get", `{}`+strings.Repeat(" ", 130)), 50)
	together(4, func(int) {
		for ctx.Err() == nil {
			s, _, err := h.dial(token)
			if err != nil {
				seen.add("connect refused", 1)
				pause(ctx)
				continue
			}
			if s.join("light:"+someLight) == nil {
				s.pour(ctx, b, 50, seen)
			}
			s.ws.Close()
		}
	})
}

func sockets(ctx context.Context, h *hub, token string, seen *tally) {
	const topics = 12
	open := make(chan *socket, 1000)
	together(4, func(int) {
		for len(open) < 1000 && ctx.Err() == nil {
			s, status, err := h.dial(token)
			if err != nil {
				seen.add(fmt.Sprint("status ", status), 1)
				pause(ctx)
				continue
			}
			seen.add("connected", 1)
			select {
			case open <- s:
			default:
				s.ws.Close()
			}
			if n := len(open); n > 24 && n%50 != 0 {
				continue // the rest is only there
			}
			_ = s.join("light:" + someLight)
			go func() {
				s.pour(ctx, frames(message("2", "light:"+someLight, "view", `{"q":"`+strings.Repeat("y", 60_000)+`"}`), topics), topics, seen)
			}()
		}
	})
	<-ctx.Done()
	close(open)
	for s := range open {
		s.ws.Close()
	}
}

func longPolls(ctx context.Context, h *hub, token string, seen *tally) {
	asks := strings.Repeat(string(message("2", "light:"+someLight, "get", "{}"))+"\n", 100)
	together(8, func(int) {
		client := http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: 20 * time.Second}
		defer client.CloseIdleConnections()
		for ctx.Err() == nil {
			session, status := h.pollAnew(ctx, &client, token)
			if session == "" {
				seen.add(fmt.Sprint("status ", status), 1)
				pause(ctx)
				continue
			}
			seen.add("sessions", 1)
			h.pollPost(ctx, &client, session, string(message("1", "light:"+someLight, "phx_join", "{}"))+"\n")
			for range 5 {
				h.pollPost(ctx, &client, session, asks)
			}
		}
	})
}

// pollAnew opens a long-poll session; "" and its status where it is refused.
func (h *hub) pollAnew(ctx context.Context, client *http.Client, token string) (session string, status int) {
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+h.http+"/socket/longpoll?vsn=2.0.0", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	var body struct {
		Status int
		Token  string
	}
	res, err := client.Do(req)
	if err != nil || decode(res, &body) != nil {
		return "", 0
	}
	return body.Token, body.Status
}

func (h *hub) pollPost(ctx context.Context, client *http.Client, session, body string) {
	req, _ := http.NewRequestWithContext(ctx, "POST", "http://"+h.http+"/socket/longpoll?vsn=2.0.0&token="+session, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/x-ndjson")
	if res, err := client.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}
