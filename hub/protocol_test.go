package hub_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/hub"
)

// told is the program that PROTOCOL.md tells of.
type told struct{}

func (told) Join(_ context.Context, s *hub.Socket, _ hub.Payload) (hub.Reply, error) {
	if s.Topic() == "room:locked" {
		return hub.Refuse("unauthorized"), nil
	}
	return hub.OK(nil), nil
}

func (told) HandleIn(_ context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	switch event {
	case "echo":
		return hub.OK(p), nil
	case "shout":
		return hub.Reply{}, s.Broadcast("shout", p)
	case "greet":
		return hub.Reply{}, s.Push("hello", struct{}{})
	case "stop":
		return hub.OK(nil), hub.ErrStop
	case "crash":
		return hub.Reply{}, errors.New("asked to")
	}
	return hub.Reply{}, hub.Unhandled(event)
}

func newTold() *hub.Endpoint {
	ep := hub.New()
	r := hub.NewRouter(nil)
	r.Channel("room:*", func() hub.Channel { return told{} })
	ep.Socket("/socket", r)
	return ep
}

// The conversations in PROTOCOL.md are true to the letter.
func TestProtocolConversations(t *testing.T) {
	found := snippets(t, "PROTOCOL.md")
	for language, n := range map[string]int{"v1": 1, "v2": 4, "longpoll": 1} {
		if len(found[language]) < n {
			t.Errorf("got %d conversations in %s, want %d at least", len(found[language]), language, n)
		}
		for i, talk := range found[language] {
			t.Run(language+"/"+strconv.Itoa(i), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ep := newTold()
					defer ep.Drain(context.Background())
					say := overPipe(t, ep, map[string]string{"v1": "1.0.0", "v2": "2.0.0"}[language])
					if language == "longpoll" {
						say = overPolls(t, ep)
					}
					play(t, talk, say)
				})
			})
		}
	}
}

// play says what a client says, and holds what it hears against the conversation.
func play(t *testing.T, talk string, say func(line string) (heard []string)) {
	var want, got []string
	check := func(before string) {
		t.Helper()
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("before %q:\ngot\n%s\nwant\n%s", before, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		want, got = nil, nil
	}
	for line := range strings.Lines(talk) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "> "):
			check(line)
			got = say(line[2:])
		case strings.HasPrefix(line, "< "):
			want = append(want, line[2:])
		default:
			t.Fatalf("%q is neither said nor heard", line)
		}
	}
	check("the end")
}

func overPipe(t *testing.T, ep *hub.Endpoint, vsn string) func(string) []string {
	var heard []string
	if vsn == "" {
		return nil
	}
	pipe, err := ep.Dial("/socket", &hub.ConnectInfo{Params: hub.Params{"vsn": vsn}}, func(f hub.PipeFrame) {
		if f.Close {
			heard = append(heard, "close "+strconv.Itoa(f.Code))
			return
		}
		heard = append(heard, string(f.Data))
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(line string) []string {
		heard = nil
		pipe.Send([]byte(line), false)
		time.Sleep(10 * time.Millisecond) // a phx_close waits for 5 ms
		synctest.Wait()
		return heard
	}
}

func overPolls(t *testing.T, ep *hub.Endpoint) func(string) []string {
	token := "none yet"
	return func(line string) []string {
		method, rest, _ := strings.Cut(line, " ")
		target, body, _ := strings.Cut(rest, " ")
		w := httptest.NewRecorder()
		ep.ServeHTTP(w, httptest.NewRequest(method, strings.ReplaceAll(target, "TOKEN", token), strings.NewReader(body)))
		synctest.Wait()
		text, err := io.ReadAll(w.Body)
		if err != nil || w.Code != http.StatusOK {
			t.Fatalf("%s: got %d, %v", line, w.Code, err)
		}
		if m := regexp.MustCompile(`"status":410,"token":"([^"]+)"`).FindSubmatch(text); m != nil {
			token = string(m[1])
		}
		return []string{strings.ReplaceAll(strings.TrimSpace(string(text)), token, "TOKEN")}
	}
}

// The document tells of every code that the hub closes with, and names no option that is not there.
func TestProtocolIsWhole(t *testing.T) {
	b, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, code := range []int{hub.CloseGoingAway, hub.CloseProtocolError, hub.CloseInvalidPayload, hub.ClosePolicy,
		hub.CloseTooLarge, hub.CloseInternal, hub.CloseRestart, hub.CloseTryAgainLater} {
		if !strings.Contains(text, "\n| "+strconv.Itoa(code)+" |") {
			t.Errorf("close code %d has no row", code)
		}
	}
	for _, file := range []string{"PROTOCOL.md", "README.md"} {
		namesOptions(t, file)
	}
}

// namesOptions holds the options that a document names against the package's source.
func namesOptions(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, name := range []string{"options.go", "origin.go", "endpoint.go", "router.go", "serve.go"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(b)
	}
	for _, m := range regexp.MustCompile(`\bWith[A-Z]\w+`).FindAllString(string(text), -1) {
		if !strings.Contains(source.String(), "func "+m+"(") && !strings.Contains(source.String(), "func "+m+"[") {
			t.Errorf("%s names %s, which is not there", file, m)
		}
	}
}
