package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/hub"
	"devicehub/hub/hubtest"
	"devicehub/hub/presence"
)

func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := newEndpoint(slog.New(slog.DiscardHandler))
		enter := func(name string) *hubtest.Channel {
			return hubtest.Connect(t, ep, "/socket", map[string]string{"name": name}).Join("room:lobby", nil)
		}
		ann := enter("ann")
		meta := map[string]any{"metas": []any{map[string]any{"phx_ref": hubtest.Any}}}
		ann.WantSoon(presence.EventState, map[string]any{"ann": meta})
		bob := enter(" bob ")
		bob.WantSoon(presence.EventState, map[string]any{"ann": meta, "bob": meta})
		ann.WantSoon(presence.EventDiff, map[string]any{"joins": map[string]any{"bob": meta}, "leaves": map[string]any{}})
		ann.Ignore(presence.EventDiff)
		bob.Ignore(presence.EventDiff)

		bob.Push("typing", nil).WantNoReply()
		ann.Want("typing", map[string]string{"by": "bob"})
		bob.Push("say", map[string]string{"text": "hello"}).WantReply("ok", nil)
		for _, room := range []*hubtest.Channel{ann, bob} {
			room.Want("said", map[string]string{"by": "bob", "text": "hello"})
			room.WantQuiet()
		}
		for _, wrong := range []any{nil, map[string]int{"text": 1}, map[string]string{"text": strings.Repeat("x", 2001)}} {
			bob.Push("say", wrong).WantReply("error", map[string]string{"reason": "malformed"})
		}
		bob.Push("dance", nil).WantReply("error", map[string]string{"reason": "unknown event", "code": "invalid"})

		bob.Leave()
		time.Sleep(100 * time.Millisecond)
		ann.WantQuiet()
		for _, name := range []string{"", "  ", strings.Repeat("é", 41)} {
			if err := hubtest.Refused(t, ep, "/socket", map[string]string{"name": name}); err != hub.ErrRefused {
				t.Errorf("the name %q: got %v, want ErrRefused", name, err)
			}
		}
	})
}

// The program serves its page, and phoenix.js as npm has it.
func TestPage(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- newEndpoint(slog.New(slog.DiscardHandler)).Serve(ctx, l) }()
	get := func(path string) string {
		t.Helper()
		res, err := http.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: got %d, %v", path, res.StatusCode, err)
		}
		return string(body)
	}
	page := get("/")
	for _, script := range []string{"phoenix.min.js", "chat.js"} {
		if !strings.Contains(page, `src="`+script+`"`) || get("/"+script) == "" {
			t.Errorf("the page does without %s", script)
		}
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}

	const npm = "../../hubtest/js/node_modules/phoenix/"
	for ours, theirs := range map[string]string{"phoenix.min.js": npm + "priv/static/phoenix.min.js", "phoenix.LICENSE.md": npm + "LICENSE.md"} {
		want, err := os.ReadFile(theirs)
		if err != nil {
			t.Fatalf("phoenix.js is not installed: run `npm ci` in hub/hubtest/js (`make node` does): %v", err)
		}
		if got, err := static.ReadFile("static/" + ours); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not npm's: %v", ours, err)
		}
	}
}
