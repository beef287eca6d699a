package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const patience = 5 * time.Second

// event is what a client got: a frame, or the end.
type event struct {
	kind string // text, binary, pong, close
	data string
	code int
}

// socket is one WebSocket client of a transcript.
type socket struct {
	p      *player
	client string
	ws     *websocket.Conn
	wmu    sync.Mutex
	events chan event
	gone   bool

	// presence_diff: what was expected and not yet seen, and the other way round
	diffs, expected map[string]int
}

func (p *player) serverAction(l line) {
	res, err := http.Get(p.url + l.Raw)
	if err != nil {
		p.fail("%v", err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		p.fail("got status %d, want 200", res.StatusCode)
	}
}

func (p *player) connect(l line) {
	if old := p.sockets[l.Client]; old != nil {
		old.quiet()
	}
	s := &socket{p: p, client: l.Client, events: make(chan event, 100000), diffs: map[string]int{}, expected: map[string]int{}}
	p.sockets[l.Client] = s
	header := http.Header{}
	for name, v := range l.Headers {
		header.Set(name, v)
	}
	d := websocket.Dialer{Subprotocols: l.Protocols, EnableCompression: strings.Contains(l.Raw, "compress")}
	ws, res, err := d.Dial("ws"+strings.TrimPrefix(p.url, "http")+l.Raw, header)
	if res == nil {
		p.fail("%v", err)
	}
	e := event{kind: "ws_upgrade", code: res.StatusCode}
	if err != nil {
		body, _ := io.ReadAll(res.Body)
		e.kind, e.data = "ws_rejected", string(body)
	}
	for name := range res.Header {
		e.data += "\n" + strings.ToLower(name) + ": " + res.Header.Get(name)
	}
	s.events <- e
	if err != nil {
		s.gone = true
		return
	}
	s.ws = ws
	ws.SetPongHandler(func(data string) error {
		s.events <- event{kind: "pong", data: data}
		return nil
	})
	ws.SetCloseHandler(func(int, string) error { return nil })
	p.t.Cleanup(func() { ws.Close() })
	go s.read()
}

func (s *socket) read() {
	defer close(s.events)
	for {
		kind, data, err := s.ws.ReadMessage()
		var ce *websocket.CloseError
		switch {
		case errors.As(err, &ce):
			if ce.Code != websocket.CloseAbnormalClosure {
				s.frame(8, binary.BigEndian.AppendUint16(nil, uint16(ce.Code)))
			}
			s.events <- event{kind: "close", code: ce.Code, data: ce.Text}
			s.ws.Close()
			return
		case err != nil:
			s.events <- event{kind: "close", code: websocket.CloseAbnormalClosure}
			return
		case kind == websocket.BinaryMessage:
			s.events <- event{kind: "binary", data: string(data)}
		default:
			s.events <- event{kind: "text", data: string(data)}
		}
	}
}

// giveUp drops a connection that the recorded client did not like.
func (s *socket) giveUp() {
	s.ws.Close()
	s.gone = true
}

// frame writes a masked frame as it is.
func (s *socket) frame(first byte, body []byte) error {
	b := []byte{first}
	if first&0x0F >= 8 || first == 1 || first == 2 {
		b[0] |= 0x80
	}
	return s.rawFrame(b[0], body)
}

func (s *socket) rawFrame(first byte, body []byte) error {
	b := []byte{first}
	switch n := len(body); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	key := [4]byte{1, 2, 3, 4}
	b = append(b, key[:]...)
	at := len(b)
	b = append(b, body...)
	for i := range body {
		b[at+i] ^= key[i%4]
	}
	s.wmu.Lock()
	defer s.wmu.Unlock()
	_, err := s.ws.NetConn().Write(b)
	return err
}

func (p *player) send(l line) {
	if l.Kind == "ws_connect" {
		p.connect(l)
		return
	}
	s := p.sockets[l.Client]
	if s.gone {
		p.fail("sends on a connection that was refused")
	}
	data, err := hex.DecodeString(l.Hex)
	if err != nil {
		p.fail("%v", err)
	}
	switch l.Kind {
	case "text":
		switch {
		case l.Fragments != nil:
			for i, f := range l.Fragments {
				first := byte(0)
				if i == 0 {
					first = 1
				}
				if i == len(l.Fragments)-1 {
					first |= 0x80
				}
				s.rawFrame(first, []byte(f))
			}
		case l.Hex != "":
			s.frame(1, data)
		default:
			s.frame(1, []byte(l.Raw)) // fails when the server has had enough
		}
	case "binary":
		s.frame(2, data)
	case "ping":
		s.frame(9, data)
	case "pong":
		s.frame(10, data)
	case "close":
		var body []byte
		if l.Code != 0 {
			body = append(binary.BigEndian.AppendUint16(nil, uint16(l.Code)), l.Reason...)
		}
		s.frame(8, body)
	default:
		p.fail("cannot send %q", l.Kind)
	}
}

// receive waits for what a line says. rest begins with that line.
func (p *player) receive(l line, rest []line) {
	s := p.sockets[l.Client]
	switch {
	case s.gone && l.Kind == "close":
		return
	case l.Kind == "text" && frameEvent(l.Raw) == "presence_diff":
		count(s.expected, l.Raw, 1)
		return
	}
	e, ok := s.next()
	if !ok {
		p.fail("got nothing, want %s %.300s", l.Kind, l.Raw+l.Hex)
	}
	switch l.Kind {
	case "ws_upgrade", "ws_rejected":
		p.wantHandshake(l, e)
	case "text":
		if e.kind == "text" && p.same(l.Raw, e.data) {
			return
		}
		if e.kind == "text" && s.later(e.data, rest) {
			return
		}
		p.fail("got %s %d %.300s\nwant %.300s", e.kind, e.code, e.data, l.Raw)
	case "binary":
		if e.kind != "binary" || hex.EncodeToString([]byte(e.data)) != l.Hex {
			p.fail("got %s %x\nwant %s", e.kind, e.data, l.Hex)
		}
	case "pong":
		if e.kind != "pong" || hex.EncodeToString([]byte(e.data)) != l.Hex {
			p.fail("got %s %x, want a pong %s", e.kind, e.data, l.Hex)
		}
	case "close":
		if e.kind != "close" || e.data != l.Reason {
			p.fail("got %s %d %q, want close %d %q", e.kind, e.code, e.data, l.Code, l.Reason)
		}
		// Whether a client that is still sending sees the close frame or the reset behind it
		// is a race in its own kernel.
		if e.code != l.Code && !(l.Code == 1006 && e.code == 1009) {
			p.fail("got close %d, want %d", e.code, l.Code)
		}
	}
}

// next returns the next event that is not a presence_diff.
func (s *socket) next() (event, bool) {
	timeout := time.After(patience)
	for {
		select {
		case e, ok := <-s.events:
			if ok && e.kind == "text" && frameEvent(e.data) == "presence_diff" {
				count(s.diffs, e.data, 1)
				continue
			}
			return e, ok
		case <-timeout:
			return event{}, false
		}
	}
}

// later accepts a frame that came before the one expected, if the order of the two is not
// asserted, by exchanging them in what is still to come.
func (s *socket) later(got string, rest []line) bool {
	want := rest[0]
	for i := 1; i < len(rest); i++ {
		l := &rest[i]
		if l.Client != want.Client || l.Kind != "text" {
			continue
		}
		if l.Dir == "c2s" {
			return false
		}
		if s.p.same(l.Raw, got) {
			// Everything between moves back by one.
			for j := i; j > 0; j-- {
				if rest[j].Client != want.Client || rest[j].Dir != "s2c" || rest[j].Kind != "text" {
					continue
				}
				k := j - 1
				for k >= 0 && (rest[k].Client != want.Client || rest[k].Dir != "s2c" || rest[k].Kind != "text") {
					k--
				}
				if k >= 0 {
					rest[j].Raw = rest[k].Raw
				}
			}
			return true
		}
		if !free(l.Raw, got) {
			return false
		}
	}
	return false
}

// free reports whether the order of two frames to one client is not asserted.
func free(a, b string) bool {
	intercepted := func(s string) bool {
		e := frameEvent(s)
		return e == "shout_intercepted" || e == "filtered"
	}
	broadcast := func(s string) bool { // version 1 has no join_ref
		jr := frameJoinRef(s)
		return (jr == "null" || jr == "") && !strings.HasPrefix(frameEvent(s), "phx_")
	}
	reply := func(s string) bool { return frameEvent(s) == "phx_reply" }
	return intercepted(a) && (reply(b) || broadcast(b)) || intercepted(b) && (reply(a) || broadcast(a))
}

func fields(raw string) (v2 []json.RawMessage, v1 map[string]json.RawMessage) {
	if json.Unmarshal([]byte(raw), &v2) != nil {
		json.Unmarshal([]byte(raw), &v1)
	}
	return v2, v1
}

func frameEvent(raw string) string {
	v2, v1 := fields(raw)
	text := v1["event"]
	if len(v2) == 5 {
		text = v2[3]
	}
	var s string
	json.Unmarshal(text, &s)
	return s
}

func frameJoinRef(raw string) string {
	if v2, _ := fields(raw); len(v2) == 5 {
		return string(v2[0])
	}
	return ""
}

func frameTopicAndPayload(raw string) (topic string, payload json.RawMessage) {
	v2, v1 := fields(raw)
	t := v1["topic"]
	payload = v1["payload"]
	if len(v2) == 5 {
		t, payload = v2[2], v2[4]
	}
	json.Unmarshal(t, &topic)
	return topic, payload
}

// count adds what a presence_diff says to a tally.
func count(tally map[string]int, raw string, n int) {
	topic, payload := frameTopicAndPayload(raw)
	var d map[string]map[string]struct{ Metas []any }
	json.Unmarshal(payload, &d)
	for side, keys := range d {
		for key, e := range keys {
			for _, m := range e.Metas {
				text, _ := json.Marshal(mask(m))
				tally[strings.Join([]string{topic, side, key, string(text)}, " ")] += n
			}
		}
	}
}

// mask hides what differs from run to run.
func mask(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			switch key {
			case "phx_ref", "phx_ref_prev":
				v[key] = "…"
			default:
				v[key] = mask(v[key])
			}
		}
	case []any:
		for i := range v {
			v[i] = mask(v[i])
		}
	case json.Number:
		// Elixir writes 1.10 as 1.1 and 1e2 as 100.0; integers are compared digit for digit.
		if f, err := v.Float64(); err == nil && (strings.ContainsAny(v.String(), ".eE") || f == 0 || f == float64(int64(f)) && math.Abs(f) < 1e15) {
			return f
		}
	}
	return v
}

func (p *player) same(want, got string) bool {
	if want == got {
		return true
	}
	var w, g any
	dec := func(s string, v *any) bool {
		d := json.NewDecoder(strings.NewReader(s))
		d.UseNumber()
		return d.Decode(v) == nil
	}
	if !dec(want, &w) || !dec(got, &g) {
		return false
	}
	// Compact: no space outside strings.
	var compact bytes.Buffer
	if json.Compact(&compact, []byte(got)); compact.Len() != len(got) {
		p.fail("%s is not compact", got)
	}
	return reflect.DeepEqual(mask(w), mask(g))
}

// masked are the headers that differ from run to run.
var masked = map[string]bool{"sec-websocket-accept": true, "cache-control": true, "vary": true, "server": true}

func (p *player) wantHandshake(l line, e event) {
	if e.kind != l.Kind || l.Kind == "ws_rejected" && e.code != l.Status {
		p.fail("got %s %d, want %s %d", e.kind, e.code, l.Kind, l.Status)
	}
	loose := l.Status == 400 || l.Status == 404 || l.Status == 500
	body, headers, _ := strings.Cut(e.data, "\n")
	if !loose && body != l.Body {
		p.fail("got body %q, want %q", body, l.Body)
	}
	for name, want := range l.Headers {
		if masked[name] || loose && (name == "content-type" || name == "content-length") {
			continue
		}
		if !strings.Contains("\n"+headers+"\n", "\n"+name+": "+want+"\n") {
			p.fail("header %s: want %q, got %s", name, want, url.QueryEscape(headers))
		}
	}
	if _, there := l.Headers["sec-websocket-protocol"]; !there && strings.Contains(headers, "sec-websocket-protocol") {
		p.fail("got a subprotocol, want none")
	}
}

// quiet checks that nothing came that was not expected.
func (s *socket) quiet() {
	if s.ws == nil {
		return
	}
	if !s.gone {
		settled := time.After(100 * time.Millisecond)
	loop:
		for {
			select {
			case e, ok := <-s.events:
				switch {
				case !ok:
					break loop
				case e.kind == "text" && frameEvent(e.data) == "presence_diff":
					count(s.diffs, e.data, 1)
				default:
					s.p.t.Errorf("client %s: got %s %d %.200s, want nothing more", s.client, e.kind, e.code, e.data)
				}
			case <-settled:
				break loop
			}
		}
	}
	for what, n := range s.expected {
		if s.diffs[what] != n {
			s.p.t.Errorf("client %s: presence_diff %s: got %d, want %d", s.client, what, s.diffs[what], n)
		}
	}
	for what, n := range s.diffs {
		if s.expected[what] != n {
			s.p.t.Errorf("client %s: presence_diff %s: got %d, want %d", s.client, what, n, s.expected[what])
		}
	}
	s.expected, s.diffs = nil, nil
}
