package main

import (
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// poller is one HTTP client of a transcript. Messages may land in another poll than in the
// recording, so those of all polls are compared as one sequence.
type poller struct {
	p      *player
	client string
	token  string // ours
	theirs string // the recorded one
	open   []*request

	got, want []string
}

type request struct {
	line line
	done chan *response
}

type response struct {
	status int
	header http.Header
	body   string
	err    error
}

func (p *player) http(l line) {
	c := p.polls[l.Client]
	if c == nil {
		c = &poller{p: p, client: l.Client}
		p.polls[l.Client] = c
	}
	if l.Dir == "c2s" {
		c.request(l)
	} else {
		c.response(l)
	}
}

func (c *poller) request(l line) {
	path := l.Path
	if c.theirs != "" {
		path = strings.ReplaceAll(path, c.theirs, c.token)
	}
	req, err := http.NewRequest(l.Method, c.p.url+path, strings.NewReader(l.Body))
	if err != nil {
		c.p.fail("%v", err)
	}
	for name, v := range l.Headers {
		if c.theirs != "" {
			v = strings.ReplaceAll(v, c.theirs, c.token)
		}
		req.Header.Set(name, v)
	}
	r := &request{line: l, done: make(chan *response, 1)}
	c.open = append(c.open, r)
	go func() {
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			r.done <- &response{err: err}
			return
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		r.done <- &response{res.StatusCode, res.Header, string(body), err}
	}()
	// The next request of the recording came later than this one.
	time.Sleep(20 * time.Millisecond)
}

type pollBody struct {
	Messages *[]string
	Status   int
	Token    string
}

// answerTo returns the request that a recorded response answers.
func (c *poller) answerTo(l line) *request {
	var body pollBody
	json.Unmarshal([]byte(l.Body), &body)
	for i, r := range c.open {
		if len(c.open) > 1 && (r.line.Method == "GET") != (body.Messages != nil) {
			continue
		}
		c.open = append(c.open[:i], c.open[i+1:]...)
		return r
	}
	c.p.fail("a response to nothing")
	return nil
}

func (c *poller) response(l line) {
	r := c.answerTo(l)
	var res *response
	select {
	case res = <-r.done:
	case <-time.After(15 * time.Second):
		c.p.fail("no response")
	}
	if res.err != nil {
		c.p.fail("%v", res.err)
	}
	if o, ok := oursHTTP[c.p.name][l.Seq]; ok {
		l.Status, l.Body = 200, strings.ReplaceAll(o, "TOKEN", c.theirs)
		l.Headers = nil
	}
	if res.status != l.Status {
		c.p.fail("got HTTP %d, want %d", res.status, l.Status)
	}
	loose := l.Status == 400 || l.Status == 404 || l.Status == 500
	for name, want := range l.Headers {
		if masked[name] && want != "no-store" || name == "connection" || name == "content-length" || loose && name == "content-type" {
			continue
		}
		if got := res.header.Get(name); got != want {
			c.p.fail("header %s: got %q, want %q", name, got, want)
		}
	}
	if !loose {
		c.compare(l.Body, res.body)
	}
}

func (c *poller) compare(want, got string) {
	if want == "" || got == "" {
		if want != got {
			c.p.fail("got body %q, want %q", got, want)
		}
		return
	}
	var w, g pollBody
	if json.Unmarshal([]byte(want), &w) != nil || json.Unmarshal([]byte(got), &g) != nil {
		c.p.fail("got body %q, want %q", got, want)
	}
	if w.Messages != nil && g.Messages != nil {
		c.want, c.got = append(c.want, *w.Messages...), append(c.got, *g.Messages...)
		// A 200 and a 204 may change places when a message lands in another poll.
		if w.Status+g.Status == 404 {
			w.Status = g.Status
		}
	}
	if w.Status != g.Status || (w.Messages == nil) != (g.Messages == nil) || (w.Token == "") != (g.Token == "") {
		c.p.fail("got body  %s\nwant body %s", got, want)
	}
	if w.Token != "" {
		if w.Token == c.theirs && g.Token != c.token {
			c.p.fail("got another token than before")
		}
		c.theirs, c.token = w.Token, g.Token
	}
}

// finish compares the messages of all polls.
func (c *poller) finish() {
	if len(c.got) != len(c.want) {
		c.p.t.Errorf("client %s: got %d messages, want %d\ngot  %q\nwant %q", c.client, len(c.got), len(c.want), c.got, c.want)
		return
	}
	for i := range c.want {
		if !c.p.same(c.want[i], c.got[i]) && !reflect.DeepEqual(c.want[i], c.got[i]) {
			c.p.t.Errorf("client %s: message %d: got %s, want %s", c.client, i, c.got[i], c.want[i])
		}
	}
}

// oursHTTP is what we answer where the recording shows what we do otherwise on purpose: a
// malformed line is status 400 and leaves the session alone, blank lines are skipped, a charset
// is let pass, and a binary reply becomes an error for a client that did not ask for base64.
var oursHTTP = map[string]map[int]string{
	"lp_malformed": {
		5:  `{"status":400}`, // malformed JSON
		12: `{"status":400}`, // bad base64
		19: `{"status":400}`, // malformed array
		21: `{"messages":[],"status":204,"token":"TOKEN"}`,
		26: `{"status":400}`, // short array
		28: `{"messages":[],"status":204,"token":"TOKEN"}`,
		33: `{"status":200}`, // empty body
		35: `{"messages":[],"status":204,"token":"TOKEN"}`,
		40: `{"status":200}`, // blank line first
		42: `{"messages":["[null,\"1\",\"phoenix\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}]"],"status":200,"token":"TOKEN"}`,
		47: `{"status":200}`, // newline at the end
		49: `{"messages":["[null,\"1\",\"phoenix\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}]"],"status":200,"token":"TOKEN"}`,
		61: `{"status":200}`, // charset
		63: `{"messages":["[null,\"1\",\"phoenix\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}]","[null,\"2\",\"phoenix\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}]"],"status":200,"token":"TOKEN"}`,
	},
	"lp_session": {
		47: `{"messages":["[\"1\",\"11\",\"room:lp\",\"phx_reply\",{\"response\":{\"reason\":\"a binary reply needs a WebSocket, or binary=base64\",\"code\":\"invalid\"},\"status\":\"error\"}]"],"status":200,"token":"TOKEN"}`,
		52: `{"messages":["[\"1\",\"12\",\"room:lp\",\"phx_reply\",{\"response\":{\"reason\":\"a binary reply needs a WebSocket, or binary=base64\",\"code\":\"invalid\"},\"status\":\"error\"}]"],"status":200,"token":"TOKEN"}`,
	},
}
