package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"devicehub/hub/hubclient"
)

const topicsPerWatcher = 20

// watch plays the people who look on: each is signed in, joins some devices' topics, and checks what comes.
func (s *Sim) watch(ctx context.Context, wg *sync.WaitGroup) {
	r := rand.New(rand.NewPCG(s.profile.Seed, 0x3a7c))
	for i := range s.profile.Load.Watchers {
		if i%s.cfg.Shards != s.cfg.Shard {
			continue
		}
		w := &watcher{s: s, latest: map[string]int64{}}
		client, err := hubclient.New(hubclient.Config{
			URL: socketURL(s.cfg.Hub), AuthToken: func() string { return s.peopleToken(ctx) }, WriteBuffers: &s.buffers, Dial: s.cfg.Dial,
			OnClose: func(error) { s.stats.failed("watcher_disconnected") },
		})
		if err != nil {
			s.judge.unable("watcher: %v", err)
			return
		}
		for range min(topicsPerWatcher, len(s.units)) {
			w.join(client, s.units[r.IntN(len(s.units))])
		}
		wg.Go(func() { _ = client.Run(ctx) })
	}
}

func (s *Sim) peopleToken(ctx context.Context) string {
	tok, err := s.api.Token(ctx)
	if err != nil {
		s.stats.failed("watcher_sign_in")
	}
	return tok
}

type watcher struct {
	s      *Sim
	latest map[string]int64 // device/metric to t; used in callbacks only
}

func (w *watcher) join(client *hubclient.Client, u *unit) {
	client.Channel(u.topic(), hubclient.ChannelConfig{
		OnRefused: func(hubclient.Reply) { w.s.stats.failed("watcher_refused") },
		OnJoin:    func(hubclient.Reply) {},
		OnMessage: func(m hubclient.Message) {
			switch m.Event {
			case "reading":
				w.reading(u, m)
			case "command_status":
				w.command(m)
			}
		},
	}).Join()
}

// knows reports whether the device, or its double, can have sent a metric.
func (u *unit) knows(metric string) bool {
	return u.generator(metric) != nil || u.measured(metric) != nil
}

// command notes what those who look on are told of a command.
func (w *watcher) command(m hubclient.Message) {
	var rec CommandRecord
	if m.Decode(&rec) != nil {
		w.s.stats.failed("watcher_malformed")
		return
	}
	w.s.judge.commands.shown(rec)
}

// reading checks a live event: it is of the topic's device, and not older than the one before.
func (w *watcher) reading(u *unit, m hubclient.Message) {
	now := time.Now()
	var said struct {
		Device string `json:"device"`
		R      []struct {
			M string `json:"m"`
			T int64  `json:"t"`
		} `json:"r"`
	}
	if m.Decode(&said) != nil {
		w.s.stats.failed("watcher_malformed")
		return
	}
	w.s.judge.checked("leaked", 1)
	w.s.judge.checked("latest_backwards", len(said.R))
	if said.Device != "" && said.Device != u.id {
		w.s.stats.leaked.Add(1)
		w.s.judge.found("leaked", Finding{Device: said.Device, Text: "its reading came on the topic of " + u.id,
			Line: []string{stamp(now) + "  a reading of " + said.Device + " arrived on the topic of " + u.id}})
	}
	for _, r := range said.R {
		if !u.knows(r.M) {
			text := fmt.Sprintf("a live reading of %q, which the device never sent", r.M)
			lines := []string{fmt.Sprintf("%s  %s arrived", stamp(now), m.Payload)}
			w.s.judge.found("series_foreign", Finding{Device: u.id, Text: text, Line: lines})
		}
		key := u.id + "/" + r.M
		if r.T < w.latest[key] {
			w.s.stats.backwards.Add(1)
			w.s.judge.found("latest_backwards", Finding{Device: u.id, Text: r.M + " as a live reading went back in time",
				Line: []string{fmt.Sprintf("before  t=%d", w.latest[key]), fmt.Sprintf("%s  t=%d  <--", stamp(now), r.T)}})
		}
		w.latest[key] = r.T
		if at, ok := u.ledger.when(r.M, r.T); ok && u.group.BatchEvery == 0 && u.group.BatchMax == 1 {
			w.s.stats.record("watch_ms", now.Sub(at))
		}
	}
}
