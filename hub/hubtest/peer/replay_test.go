package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"
)

// line is one line of a transcript.
type line struct {
	Seq       int
	T         int
	Client    string
	Dir       string
	Kind      string
	Raw       string
	Hex       string
	Len       int
	Truncated bool
	Fragments []string `json:"text_fragments"`
	Protocols []string
	Code      int
	Reason    string
	Clean     bool
	Status    int
	Headers   map[string]string
	Body      string
	Method    string
	Path      string
}

func readTranscript(t *testing.T, path string) []line {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var lines []line
	in := bufio.NewScanner(f)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		if l.Truncated && l.Dir != "note" {
			const tail = `"}]`
			l.Raw += strings.Repeat("x", l.Len-len(l.Raw)-len(tail)) + tail
		}
		lines = append(lines, l)
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestTranscripts replays the recordings. HUB_TRANSCRIPTS names a folder of others.
func TestTranscripts(t *testing.T) {
	dir := os.Getenv("HUB_TRANSCRIPTS")
	if dir == "" {
		dir = "../testdata/transcripts"
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts in %s: %v", dir, err)
	}
	sort.SliceStable(files, func(i, j int) bool { return timed(files[i]) && !timed(files[j]) }) // the long ones first
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".jsonl")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replay(t, name, readTranscript(t, file))
		})
		if script, ok := strings.CutPrefix(name, "v2_"); ok && twins[script] {
			t.Run("v1_"+script, func(t *testing.T) {
				t.Parallel()
				replay(t, "v1_"+script, inVersion1(t, readTranscript(t, file)))
			})
		}
	}
}

// twins are the scripts whose frames mean the same in both versions, and that were not recorded in both.
var twins = map[string]bool{
	"crashes_and_stops": true, "disconnect_broadcast": true, "intercept": true, "join_errors": true,
	"join_quiet_and_welcome": true, "join_twice": true, "presence": true, "slow_join_blocks_socket": true,
}

// inVersion1 rewrites a recording of version 2 for a client of version 1 that sends join_ref.
func inVersion1(t *testing.T, lines []line) []line {
	for i := range lines {
		l := &lines[i]
		switch l.Kind {
		case "ws_connect":
			l.Raw = strings.Replace(l.Raw, "vsn=2.0.0", "vsn=1.0.0", 1)
		case "text":
			var f []json.RawMessage
			if err := json.Unmarshal([]byte(l.Raw), &f); err != nil || len(f) != 5 {
				t.Fatalf("seq %d is no frame of version 2: %v", l.Seq, err)
			}
			m := map[string]json.RawMessage{"ref": f[1], "topic": f[2], "event": f[3], "payload": f[4]}
			if l.Dir == "c2s" {
				m["join_ref"] = f[0]
			}
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			l.Raw = string(text)
		}
	}
	return lines
}

func newServer(t *testing.T) *httptest.Server {
	a := newApp(slog.New(slog.DiscardHandler))
	srv := httptest.NewServer(a)
	t.Cleanup(func() {
		if err := a.ep.Drain(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error("drain:", err)
		}
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv
}

// timed reports whether the pauses of a recording are part of what it shows.
func timed(name string) bool {
	return strings.Contains(name, "idle") || strings.Contains(name, "presence")
}

// player replays one transcript.
type player struct {
	t       *testing.T
	name    string
	url     string
	sockets map[string]*socket
	polls   map[string]*poller
	known   map[string]bool // clients that the file connects
	timed   bool            // pauses are part of the scenario
	at      line
}

func replay(t *testing.T, name string, lines []line) {
	p := &player{
		t: t, name: name, url: newServer(t).URL, timed: timed(name),
		sockets: make(map[string]*socket), polls: make(map[string]*poller), known: make(map[string]bool),
	}
	lines = ours(name, lines)
	for _, l := range lines {
		if l.Kind == "ws_connect" || l.Kind == "http_req" {
			p.known[l.Client] = true
		}
	}
	start := time.Now()
	for i, l := range lines {
		p.at = l
		if p.timed && l.Dir != "s2c" {
			time.Sleep(time.Until(start.Add(time.Duration(l.T) * time.Millisecond)))
		}
		switch {
		case l.Kind == "server_action":
			p.serverAction(l)
		case l.Kind == "client_error":
			p.sockets[l.Client].giveUp()
		case l.Dir == "note" || !p.known[l.Client]:
		case l.Kind == "http_req" || l.Kind == "http_res":
			p.http(l)
		case l.Dir == "c2s":
			p.send(l)
		default:
			p.receive(l, lines[i:])
		}
	}
	for _, s := range p.sockets {
		s.quiet()
	}
	for _, s := range p.polls {
		s.finish()
	}
}

func (p *player) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("seq %d, client %s: %s", p.at.Seq, p.at.Client, fmt.Sprintf(format, args...))
}

// ours changes a recording where we differ from Phoenix on purpose, as listed at the end of the
// recordings' own README.
func ours(name string, lines []line) []line {
	switch {
	case strings.HasSuffix(name, "slow_join_blocks_socket"):
		return lastReplyLast(lines)
	case strings.HasSuffix(name, "_binary"):
		return binaryReachesOthers(lines)
	case strings.HasSuffix(name, "_bad_frames"):
		return malformedIsAnswered(lastKeyCounts(lines))
	}
	return lines
}

// lastReplyLast: a slow join holds up its own topic alone, so its reply comes behind those
// to what was sent after it.
func lastReplyLast(lines []line) []line {
	var out []line
	var slow []line
	for _, l := range lines {
		if l.Dir == "s2c" && strings.Contains(l.Raw, "room:slow") {
			slow = append(slow, l)
			continue
		}
		if l.Dir == "c2s" && l.Kind == "close" {
			out = append(out, slow...)
			slow = nil
		}
		out = append(out, l)
	}
	return out
}

// binaryReachesOthers: a binary broadcast that a V1 client cannot get neither crashes its
// sender nor is lost for others. And an empty join_ref means null, so that its push is answered.
func binaryReachesOthers(lines []line) []line {
	out := make([]line, 0, len(lines))
	v1 := ""
	for i, l := range lines {
		if l.Kind == "ws_connect" && strings.Contains(l.Raw, "vsn=1.") {
			v1 = l.Client
		}
		if v1 != "" && l.Dir == "s2c" && l.Client != v1 && strings.Contains(l.Raw, `"phx_error"`) && lines[i-1].Kind == "binary" && strings.HasPrefix(lines[i-1].Hex, "02") {
			l.Raw = `["1","12","room:b","phx_reply",{"response":{},"status":"ok"}]`
		}
		out = append(out, l)
		if l.Dir == "c2s" && strings.HasPrefix(l.Hex, "00000106083") && l.Kind == "binary" {
			reply := l
			reply.Dir, reply.Hex = "s2c", "0101010602313"+l.Hex[11:12]+"726f6f6d3a626f6b"+l.Hex[len("000001060837726f6f6d3a6262696e5f6563686f"):]
			out = append(out, reply)
		}
	}
	return out
}

// malformedIsAnswered: a malformed frame whose topic and ref can be read is answered, and the
// connection goes on.
func malformedIsAnswered(lines []line) []line {
	answers := map[string]string{
		"array of 3":     `["1","1","room:a","phx_reply",{"response":{"reason":"malformed frame: no event","code":"invalid"},"status":"error"}]`,
		"array of 4":     `["1","1","room:a","phx_reply",{"response":{"reason":"malformed frame: no payload","code":"invalid"},"status":"error"}]`,
		"two json docs":  `[null,"1","phoenix","phx_reply",{"response":{"reason":"malformed frame: text after the array","code":"invalid"},"status":"error"}]`,
		"lone surrogate": `["1","1","room:a","phx_reply",{"response":{"reason":"malformed frame: payload, byte 41","code":"invalid"},"status":"error"}]`,
		"big number":     `["1","1","room:a","phx_reply",{"response":{"reason":"malformed frame: payload, byte 98","code":"invalid"},"status":"error"}]`,
	}
	out := make([]line, 0, len(lines))
	note := ""
	for _, l := range lines {
		if l.Kind == "note" {
			note = l.Raw
		}
		want, answered := answers[note]
		if !answered || l.Dir != "s2c" || l.Kind != "close" || l.Code != 1011 {
			out = append(out, l)
			continue
		}
		reply, bye := l, l
		reply.Kind, reply.Raw = "text", want
		bye.Dir, bye.Code = "c2s", 1000
		l.Code = 1000
		out = append(out, reply, bye, l)
	}
	return out
}

// lastKeyCounts: of a key that comes twice, the last value counts.
func lastKeyCounts(lines []line) []line {
	for i, l := range lines {
		if l.Dir == "s2c" && i > 0 && strings.Contains(lines[i-1].Raw, `{"a":1,"a":2}`) {
			lines[i].Raw = strings.Replace(l.Raw, `{"a":1}`, `{"a":2}`, 1)
		}
	}
	return lines
}
