package hub_test

import (
	"crypto/rand"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"devicehub/hub"
	"devicehub/hub/hubtest"
)

// A newer message takes the place of an older one of its key, and is never told before
// what was said on its topic in between.
func TestLatestKeepsTheOrderOfATopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := hub.New()
		r := hub.NewRouter(nil)
		r.Channel("lamp:*", func() hub.Channel { return &script{} }, hub.WithPolicy(hub.Latest))
		ep.Socket("/socket", r, hub.WithOutbound(10_000, time.Minute))
		c := hubtest.Connect(t, ep, "/socket", nil)
		a, b := c.Join("lamp:a", nil), c.Join("lamp:b", nil)
		c.Pause()
		say := func(topic, key, what string) {
			ep.BroadcastKeyed("lamp:"+topic, "state", key, map[string]any{"s": what})
		}
		say("a", "", "first") // leaves at once
		say("a", "fade", "10 %")
		say("b", "fade", "10 %")
		say("a", "fade", "20 %")
		say("a", "", "off")
		say("a", "value", "1")
		say("a", "fade", "30 %")
		say("b", "fade", "20 %")
		if err := a.Socket().Push("state", map[string]any{"s": "pushed"}); err != nil {
			t.Error(err)
		}
		say("a", "value", "2")
		c.Resume()
		a.Want("state", map[string]any{"s": "first"})
		a.Want("state", map[string]any{"s": "off"})
		a.Want("state", map[string]any{"s": "30 %", "skipped": 2})
		a.Want("state", map[string]any{"s": "pushed"})
		a.Want("state", map[string]any{"s": "2", "skipped": 1})
		b.Want("state", map[string]any{"s": "20 %", "skipped": 1})
		c.WantQuiet()
		ep.Drain(t.Context())
	})
}

// What was skipped is told to clients whose messages are compressed, too.
func TestSkippedIsToldCompressed(t *testing.T) {
	ep := hub.New()
	r := hub.NewRouter(nil)
	r.Channel("room:*", func() hub.Channel { return &script{} }, hub.WithPolicy(hub.Latest))
	ep.Socket("/socket", r, hub.WithCompression(), hub.WithOutbound(256<<20, time.Minute))
	srv := httptest.NewServer(ep)
	t.Cleanup(srv.Close)
	dialer := websocket.Dialer{EnableCompression: true}
	ws, _, err := dialer.Dial("ws"+strings.TrimPrefix(srv.URL, "http")+"/socket/websocket?vsn=2.0.0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteMessage(1, []byte(`["1","1","room:a","phx_join",{}]`)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 4<<10) // what does not shrink
	rand.Read(noise)
	for n := 0; ep.Stats().Conflated == 0; n++ { // until the kernel takes no more
		ep.Broadcast("room:a", "noise", map[string]any{"n": n, "noise": noise})
		ep.BroadcastKeyed("room:a", "e", "k", map[string]any{"n": n, "noise": noise})
	}
	ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		_, data, err := ws.ReadMessage()
		if err != nil {
			t.Fatal("never told: ", err)
		}
		if strings.HasSuffix(string(data), `"skipped":1}]`) {
			return
		}
	}
}
