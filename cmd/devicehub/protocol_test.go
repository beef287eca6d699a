package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"
)

// block is a fenced block of a page: its language and what stands behind it say how it
// is played.
type block struct {
	line int
	how  []string // json, say
	text string
}

func blocksOf(t *testing.T, page string) (blocks []block) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(checkout, page))
	if err != nil {
		t.Fatal(err)
	}
	var open *block
	for i, line := range strings.Split(string(b), "\n") {
		switch {
		case open == nil && strings.HasPrefix(line, "```"):
			open = &block{line: i + 1, how: strings.Fields(line[3:])}
		case open != nil && strings.HasPrefix(line, "```"):
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	return blocks
}

// TestProtocolPage plays every example of devices/PROTOCOL.md against a hub, in the order of
// the page: what a device says, and that it hears what stands there. What differs from
// run to run is compared by its type.
func TestProtocolPage(t *testing.T) {
	const page = "devices/PROTOCOL.md"
	p := &player{t: t, page: page, hub: runHub(t), vars: map[string]string{}}
	played := 0
	for _, b := range blocksOf(t, page) {
		if len(b.how) < 2 {
			t.Errorf("%s:%d: the block does not say how it is played", page, b.line)
			continue
		}
		p.play(b)
		played++
	}
	if played < 60 {
		t.Errorf("%s: %d examples were played, want all of them", page, played)
	}
}

// tokenLife is short, so that the example of its end can be played.
const tokenLife = 5 // seconds

// player plays the examples of a page.
type player struct {
	t      *testing.T
	page   string
	hub    *running
	vars   map[string]string // TOKEN and SESSION
	at     block
	answer []byte // of the last request

	ws     *websocket.Conn
	frames chan string
	kept   []string // frames that nothing was wanted of yet

	mq   mqtt.Client
	said chan mqtt.Message
	left []mqtt.Message
}

func (p *player) fatalf(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s:%d: %s", p.page, p.at.line, fmt.Sprintf(format, args...))
}

// play plays one block.
func (p *player) play(b block) {
	p.t.Helper()
	p.at = b
	switch b.how[1] {
	case "admin", "nobody", "device":
		p.request()
	case "answer":
		p.like(string(p.answer), b.text)
	case "say":
		p.say()
	case "hear":
		p.hear()
	case "publish":
		p.publish()
	case "heard":
		p.heard()
	default:
		p.fatalf("nobody knows how to play %q", b.how)
	}
}

// fill puts in what the page has names for.
func (p *player) fill(text string) string {
	now := time.Now().UnixMilli()
	pairs := []string{"NOW", strconv.FormatInt(now-2000, 10), "LATER", strconv.FormatInt(now+60_000, 10)}
	for name, value := range p.vars {
		pairs = append(pairs, name, value)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// request makes the request of an http block: who makes it, and the status that is wanted.
func (p *player) request() {
	p.t.Helper()
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(requestText(p.fill(p.at.text)))))
	if err != nil {
		p.fatalf("%v", err)
	}
	req.RequestURI, req.URL.Scheme, req.URL.Host = "", "http", strings.TrimPrefix(p.hub.base, "http://")
	if p.at.how[1] == "admin" {
		req.Header.Set("Authorization", "Bearer "+p.hub.user)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.fatalf("%v", err)
	}
	defer res.Body.Close()
	if p.answer, err = io.ReadAll(res.Body); err != nil || fmt.Sprint(res.StatusCode) != p.at.how[2] {
		p.fatalf("got %d %s %v, want %s", res.StatusCode, p.answer, err, p.at.how[2])
	}
	var got struct{ Token string }
	_ = json.Unmarshal(p.answer, &got)
	switch {
	case strings.HasPrefix(p.at.text, "POST /api/v1/devices\n"):
		p.issue(tokenLife)
	case strings.HasPrefix(p.at.text, "GET /socket/longpoll") && got.Token != "":
		p.vars["SESSION"] = got.Token
	}
}

// requestText is a request of the page as it is on the wire.
func requestText(text string) string {
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(strings.TrimSpace(head), "\n")
	lines[0] += " HTTP/1.1"
	body = strings.TrimSpace(body)
	if body != "" {
		lines = append(lines, "Content-Length: "+strconv.Itoa(len(body)))
		if !strings.Contains(head, "Content-Type") {
			lines = append(lines, "Content-Type: application/json")
		}
	}
	return strings.Join(append(lines, "Host: hub"), "\r\n") + "\r\n\r\n" + body
}

// connect opens the device's WebSocket, when it first has something to say.
func (p *player) connect() {
	p.t.Helper()
	if p.ws != nil {
		return
	}
	conn, _, err := p.hub.dialFrom("127.0.0.1", p.vars["TOKEN"])
	if err != nil {
		p.fatalf("%v", err)
	}
	p.ws, p.frames = conn, make(chan string, 100)
	go func() {
		defer close(p.frames)
		for {
			_, b, err := conn.ReadMessage()
			if err != nil {
				return
			}
			p.frames <- string(b)
		}
	}()
	p.t.Cleanup(func() { conn.Close() })
}

func (p *player) say() {
	p.t.Helper()
	p.connect()
	kind, b := websocket.TextMessage, []byte(p.fill(p.at.text))
	if p.at.how[0] == "hex" {
		kind, b = websocket.BinaryMessage, p.bytes()
	}
	if err := p.ws.WriteMessage(kind, b); err != nil {
		p.fatalf("%v", err)
	}
}

// bytes reads the pairs of hexadecimal digits at the beginning of each line.
func (p *player) bytes() (b []byte) {
	p.t.Helper()
	for _, line := range strings.Split(p.at.text, "\n") {
		digits := regexp.MustCompile(`^((?:[0-9a-f]{2} ?)*)`).FindString(line)
		some, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
		if err != nil {
			p.fatalf("%v", err)
		}
		b = append(b, some...)
	}
	return b
}

// hear waits for a frame, and keeps others for later.
func (p *player) hear() {
	p.t.Helper()
	for i, f := range p.kept {
		if unlike(f, p.at.text) == "" {
			p.kept = append(p.kept[:i], p.kept[i+1:]...)
			p.renew(f)
			return
		}
	}
	late := time.After(10 * time.Second)
	for {
		select {
		case f, open := <-p.frames:
			if !open {
				p.fatalf("the connection ended; not heard: %s", p.nearest(p.kept))
			}
			if unlike(f, p.at.text) == "" {
				p.renew(f)
				return
			}
			p.kept = append(p.kept, f)
		case <-late:
			p.fatalf("not heard: %s", p.nearest(p.kept))
		}
	}
}

// renew has a token that lasts, once the page has shown how a device gets another.
func (p *player) renew(frame string) {
	p.t.Helper()
	if strings.Contains(frame, `"token":"`) {
		p.issue(3600)
	}
}

// issue gives the device another token.
func (p *player) issue(seconds int) {
	p.t.Helper()
	var got struct{ Token string }
	p.hub.call("POST", "/api/v1/devices/kitchen-lamp/tokens", map[string]any{"mode": "issue", "ttl_s": seconds}, 201, &got)
	p.vars["TOKEN"] = got.Token
}

// nearest says what was heard in its place.
func (p *player) nearest(heard []string) string {
	s := ""
	for _, f := range heard {
		s += "\ngot " + f + " (" + unlike(f, p.at.text) + ")"
	}
	return s
}

func (p *player) like(got, want string) {
	p.t.Helper()
	if why := unlike(got, p.fill(want)); why != "" {
		p.fatalf("got %s: %s", got, why)
	}
}

const mqttDevice = "hub/v1/kitchen-lamp/"

// mqtt connects the device over MQTT, when it first has something to say there.
func (p *player) mqtt() {
	p.t.Helper()
	if p.mq != nil {
		return
	}
	p.said = make(chan mqtt.Message, 100)
	opt := mqtt.NewClientOptions().AddBroker("tcp://" + p.hub.server.mqtt.Addr("tcp").String()).SetUsername("kitchen-lamp").SetPassword(p.vars["TOKEN"]).
		SetClientID("kitchen-lamp").SetAutoReconnect(false)
	p.mq = mqtt.NewClient(opt)
	p.done(p.mq.Connect())
	hears := func(_ mqtt.Client, m mqtt.Message) { p.said <- m }
	p.done(p.mq.SubscribeMultiple(map[string]byte{mqttDevice + "cmd": 1, mqttDevice + "sys/down": 1}, hears))
	p.t.Cleanup(func() { p.mq.Disconnect(100) })
}

func (p *player) done(tok mqtt.Token) {
	p.t.Helper()
	if !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		p.fatalf("mqtt: %v", tok.Error())
	}
}

func (p *player) publish() {
	p.t.Helper()
	p.mqtt()
	p.done(p.mq.Publish(mqttDevice+p.at.how[2], 1, false, strings.TrimSpace(p.fill(p.at.text))))
}

// heard waits for a message on a topic of the device.
func (p *player) heard() {
	p.t.Helper()
	p.mqtt()
	fits := func(m mqtt.Message) bool {
		return m.Topic() == mqttDevice+p.at.how[2] && unlike(string(m.Payload()), p.at.text) == ""
	}
	for i, m := range p.left {
		if fits(m) {
			p.left = append(p.left[:i], p.left[i+1:]...)
			return
		}
	}
	late := time.After(10 * time.Second)
	for {
		select {
		case m := <-p.said:
			if fits(m) {
				return
			}
			p.left = append(p.left, m)
		case <-late:
			var got []string
			for _, m := range p.left {
				got = append(got, m.Topic()+" "+string(m.Payload()))
			}
			p.fatalf("not heard: %s", strings.Join(got, "\n"))
		}
	}
}

// varying are the fields whose values differ from run to run.
var varying = map[string]bool{
	"server_time": true, "epoch": true, "issued_at": true, "expires_at": true, "ttl_ms": true, "in_ms": true,
	"token": true, "nonce": true, "messages": true, "by_epoch": true,
}

// unlike says where JSON differs from what the page has, "" for nowhere. The version of a
// state is reserved in blocks, and differs too.
func unlike(got, want string) string {
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		return err.Error()
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		return "the page: " + err.Error()
	}
	return differs("", g, w)
}

func differs(path string, got, want any) string {
	name := path[strings.LastIndexByte(path, '.')+1:]
	if varying[name] || name == "ver" && strings.Contains(path, "response") && !strings.Contains(path, "config") {
		got, want = fmt.Sprintf("%T", got), fmt.Sprintf("%T", want)
	}
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return path + " is no object"
		}
		for k := range g {
			if _, there := w[k]; !there {
				return path + "." + k + " is not on the page"
			}
		}
		for k, v := range w {
			if _, there := g[k]; !there {
				return path + "." + k + " is missing"
			}
			if why := differs(path+"."+k, g[k], v); why != "" {
				return why
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return path + " is another list"
		}
		for i := range w {
			if why := differs(path+"["+strconv.Itoa(i)+"]", g[i], w[i]); why != "" {
				return why
			}
		}
		return ""
	}
	if got != want {
		return fmt.Sprintf("%s: got %v, the page has %v", path, got, want)
	}
	return ""
}
