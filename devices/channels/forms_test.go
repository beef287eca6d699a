package channels

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/gorilla/websocket"

	"devicehub/devices"
	"devicehub/devices/identity"
	"devicehub/devices/readings"
	"devicehub/devices/session"
	"devicehub/devices/trace"
	"devicehub/hub/wire"
)

// line is one connection on which several frames go out at once.
type line interface {
	send(frames []outFrame) error
	// receive returns frames that came: at least one.
	receive() ([][]byte, error)
}

type outFrame struct {
	binary bool
	data   []byte
}

// socketLine is a WebSocket whose frames are written together, in one segment.
type socketLine struct{ ws *websocket.Conn }

func (l socketLine) send(frames []outFrame) error {
	var b []byte
	for _, f := range frames {
		b = appendMasked(b, f)
	}
	_, err := l.ws.NetConn().Write(b)
	return err
}

// appendMasked appends a frame as a client sends it (RFC 6455 §5.2).
func appendMasked(b []byte, f outFrame) []byte {
	op := byte(0x81)
	if f.binary {
		op = 0x82
	}
	key := [4]byte{byte(rand.Uint32()), byte(rand.Uint32()), 7, 9}
	if n := len(f.data); n < 126 {
		b = append(b, op, 0x80|byte(n))
	} else {
		b = append(b, op, 0x80|126, byte(n>>8), byte(n))
	}
	b = append(b, key[:]...)
	for i, x := range f.data {
		b = append(b, x^key[i%4])
	}
	return b
}

func (l socketLine) receive() ([][]byte, error) {
	_ = l.ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, data, err := l.ws.ReadMessage()
	return [][]byte{data}, err
}

// pollLine is a long-poll session: the frames are the lines of one POST.
type pollLine struct{ url, token, auth string }

func (l *pollLine) do(method string, body []byte) (messages []string, err error) {
	req, err := http.NewRequest(method, l.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Phoenix-AuthToken", l.auth)
	req.Header.Set("X-Phoenix-Longpoll-Token", l.token)
	req.Header.Set("Content-Type", "application/x-ndjson")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	var a struct {
		Status   int
		Token    string
		Messages []string
	}
	if err := json.Unmarshal(b, &a); err != nil || a.Status != 200 && a.Status != 204 && l.token != "" {
		return nil, fmt.Errorf("%s: %s %w", method, b, err)
	}
	l.token = a.Token
	return a.Messages, nil
}

func (l *pollLine) send(frames []outFrame) error {
	var b []byte
	for _, f := range frames {
		if f.binary {
			b = base64.StdEncoding.AppendEncode(b, f.data)
		} else {
			b = append(b, f.data...)
		}
		b = append(b, '\n')
	}
	poll := *l // the answer to a POST has no token
	_, err := poll.do("POST", b)
	return err
}

func (l *pollLine) receive() (frames [][]byte, err error) {
	for len(frames) == 0 {
		messages, err := l.do("GET", nil)
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			frames = append(frames, []byte(m))
		}
	}
	return frames, nil
}

// talker is a device that says what it measures, and what it is, in every form
// that there is on a channel.
type talker struct {
	k       int // its number, which is in all that it says
	id      devices.ID
	version wire.Version
	line    line
	boot    string
	seq     int64
	at      int64 // of the last round
	sent    map[string][]string

	ref  int
	out  []outFrame
	open map[string]string // by ref, what is not answered: its event
}

func (d *talker) name(what string) string { return fmt.Sprintf("%s_%02d", what, d.k) }

// push puts an event into the segment.
func (d *talker) push(kind devices.Kind, event, payload string, binary bool) {
	d.ref++
	ref := fmt.Sprint(d.ref)
	topic := string(kind) + ":" + string(d.id)
	m := wire.Message{JoinRef: wire.Str("j-" + topic), Ref: wire.Str(ref), Topic: wire.Str(topic), Event: wire.Str(event), Payload: []byte(payload), Binary: binary}
	data, bin, err := d.version.AppendMessage(nil, &m)
	if err != nil {
		panic(err) // of a test that builds what there is not
	}
	d.out = append(d.out, outFrame{bin, data})
	d.open[ref] = event
}

func (d *talker) value(metric string, v any) json.RawMessage {
	b, _ := json.Marshal(v)
	d.sent[metric] = append(d.sent[metric], string(b))
	return b
}

func (d *talker) numbered(n int64) (first int64) {
	first = d.seq + 1
	d.seq += n
	return first
}

// round says everything once, in one segment.
func (d *talker) round(i int) error {
	d.at = max(d.at+1, time.Now().UnixMilli()) // a reading of the same moment would replace the one before
	n, now := d.k*1000+i, d.at
	d.push(devices.KindSensor, "reading", fmt.Sprintf(`{"m":"illuminance","v":%s,"t":%d,"s":%d,"u":"lx"}`, d.value("illuminance", n), now, d.numbered(1)), false)
	d.push(devices.KindSensor, "reading", fmt.Sprintf(`{"m":%q,"v":%s,"t":%d}`, d.name("words"), d.value(d.name("words"), fmt.Sprintf("word %d", n)), now), false)
	d.push(devices.KindSensor, "readings", fmt.Sprintf(`{"s0":%d,"t0":%d,"r":[["co2",%s,0],[%q,%s,1],["motion",%s,2]]}`,
		d.numbered(3), now, d.value("co2", n+1), d.name("other"), d.value(d.name("other"), n+2), d.value("motion", i%2 == 0)), false)
	d.push(devices.KindSensor, "senml", fmt.Sprintf(`[{"bn":"urn:dev:hub:%s:","n":"voc","v":%s},{"n":%q,"vs":%s}]`,
		d.id, d.value("voc", n), d.name("named"), d.value(d.name("named"), fmt.Sprintf("senml %d", n))), false)
	if d.version == wire.V2 { // version 1 has no binary frames
		pack, err := cbor.Marshal([]map[int]any{{0: "weight", 2: n}, {0: d.name("bytes"), 4: i%4 == 0}})
		if err != nil {
			return err
		}
		d.value("weight", n)
		d.value(d.name("bytes"), i%4 == 0)
		d.push(devices.KindSensor, "senml", string(pack), true)
	}
	d.push(devices.KindLight, "state", fmt.Sprintf(`{"on":true,"brightness":%d,"mode":"rgb","rgb":[%d,%d,7]}`, 1+i, d.k, i), false)
	d.push(devices.KindLight, "ack", fmt.Sprintf(`{"cmd_id":"nobody-sent-%02d-%04d","status":"acked"}`, d.k, i), false)
	d.push(devices.KindSensor, "info", fmt.Sprintf(`{"fw":"fw-%02d-%04d"}`, d.k, i), false)
	return d.flush()
}

// flush sends the segment and waits until all of it is answered.
func (d *talker) flush() error {
	if err := d.line.send(d.out); err != nil {
		return err
	}
	d.out = nil
	for len(d.open) > 0 {
		frames, err := d.line.receive()
		if err != nil {
			return err
		}
		for _, b := range frames {
			if err := d.answered(b); err != nil {
				return fmt.Errorf("%s: %w", b, err)
			}
		}
	}
	return nil
}

func (d *talker) answered(b []byte) error {
	var m wire.Message
	if err := d.version.DecodeText(&m, b); err != nil {
		return err
	}
	event, waits := d.open[m.Ref.String()]
	if !m.Event.Is(wire.EventReply) || !waits {
		return nil // a ping, or a state
	}
	delete(d.open, m.Ref.String())
	var said struct{ Status string }
	if err := json.Unmarshal(m.Payload, &said); err != nil {
		return err
	}
	if !strings.HasSuffix(m.Topic.String(), ":"+string(d.id)) || said.Status != "ok" && event != "ack" {
		return fmt.Errorf("the answer to %s", event)
	}
	return nil
}

// newTalker is a device that has joined both its topics.
func newTalker(t *testing.T, h *house, base string, k int, version wire.Version, poll bool) *talker {
	t.Helper()
	d := &talker{k: k, id: devices.ID(fmt.Sprintf("talker-%02d", k)), version: version, boot: fmt.Sprintf("boot-%02d", k), sent: map[string][]string{}, open: map[string]string{}}
	made, err := h.app.Identity.CreateDevices(t.Context(), root, devices.Origin{}, []*devices.Device{{ID: d.id, Kinds: both, Enabled: true,
		Light: &devices.Light{Modes: []devices.LightMode{devices.ModeRGB}}}}, identity.TokenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	token := made[0].Token.Token
	vsn := fmt.Sprintf("vsn=%d.0.0", version)
	if poll {
		l := &pollLine{url: base + "/socket/longpoll?binary=base64&" + vsn, auth: token}
		if _, err := l.do("GET", nil); err != nil {
			t.Fatal(err)
		}
		d.line = l
	} else {
		header := http.Header{"X-Phoenix-AuthToken": {token}}
		ws, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(base, "http")+"/socket/websocket?"+vsn, header)
		if err != nil {
			t.Fatalf("%v: %v", err, res)
		}
		t.Cleanup(func() { ws.Close() })
		d.line = socketLine{ws}
	}
	for _, kind := range both {
		d.push(kind, "phx_join", fmt.Sprintf(`{"boot":%q}`, d.boot), false)
	}
	if err := d.flush(); err != nil {
		t.Fatal(err)
	}
	return d
}

// Devices on many connections say everything in every form, text and binary
// frames, both versions, WebSocket and long polling, many frames a segment,
// names and ids of one length: each has in the end what it said itself.
func TestEveryFormIsKeptAsSent(t *testing.T) {
	tracer := new(trace.Tracer)
	h := newHouse(t, func(a *App) { a.Door.Trace = tracer })
	defer h.stop()
	h.app.Door.SetLimits(session.Limits{FrameBytes: 65536, ReadingsPerPush: 500, PushesInFlight: 8, EventsPerSecond: 1e6})
	srv := httptest.NewServer(h.app.Endpoint)
	defer srv.Close()
	defer srv.CloseClientConnections()
	var talkers []*talker
	for k, way := range []struct {
		version wire.Version
		poll    bool
	}{{wire.V2, false}, {wire.V2, false}, {wire.V1, false}, {wire.V2, true}, {wire.V2, true}, {wire.V1, true}} {
		talkers = append(talkers, newTalker(t, h, srv.URL, k+1, way.version, way.poll))
	}
	follower, err := tracer.Follow(talkers[0].id)
	if err != nil {
		t.Fatal(err)
	}
	defer follower.Stop()
	const rounds = 40
	var wg sync.WaitGroup
	for _, d := range talkers {
		wg.Go(func() {
			for i := range rounds {
				if err := d.round(i); err != nil {
					t.Errorf("%s, round %d: %v", d.id, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, d := range talkers {
		d.check(t, h, rounds-1)
	}
	events := []string{"reading", "readings", "senml", "state", "ack", "info", "reply", "ping", "config", "command"}
	for range len(follower.Lines()) {
		if l := <-follower.Lines(); !slices.Contains(events, l.Event) || l.Event == "reply" && !slices.Contains(events, l.About) {
			t.Errorf("the trace shows the event %q about %q", l.Event, l.About)
		}
	}
}

// check wants the hub to have what the device said, neither more nor less.
func (d *talker) check(t *testing.T, h *house, last int) {
	t.Helper()
	in := h.app.Readings
	var out bytes.Buffer
	if err := in.Export(context.Background(), &out, readings.ExportQuery{Device: d.id, Format: readings.NDJSON, To: time.Now().Add(time.Hour).UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		var r struct {
			Device devices.ID
			Metric string
			V      json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil || r.Device != d.id {
			t.Fatalf("%s: %q is no reading of its own: %v", d.id, lines.Bytes(), err)
		}
		got[r.Metric] = append(got[r.Metric], string(r.V))
	}
	if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(d.sent))) {
		t.Errorf("%s: got the metrics %q, want %q", d.id, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(d.sent)))
	}
	for metric, want := range d.sent {
		if !slices.Equal(got[metric], want) {
			t.Errorf("%s: %s: got %d readings %.300v, want %d %.300v", d.id, metric, len(got[metric]), got[metric], len(want), want)
		}
	}
	if acks := in.AckThrough(d.id); len(acks) != 1 || acks[0].Boot != d.boot || acks[0].S != d.seq {
		t.Errorf("%s: got the boots %v, want %s through %d", d.id, acks, d.boot, d.seq)
	}
	dev, _ := h.app.Registry.Get(d.id)
	if want := fmt.Sprintf("fw-%02d-%04d", d.k, last); dev.Firmware != want {
		t.Errorf("%s: got firmware %q, want %q", d.id, dev.Firmware, want)
	}
	doc, _ := h.app.Shadows.Doc(d.id)
	b, _ := json.Marshal(doc.Reported)
	if want := fmt.Sprintf(`"rgb":[%d,%d,7]`, d.k, last); !strings.Contains(string(b), want) {
		t.Errorf("%s: got the state %s, want %s in it", d.id, b, want)
	}
}
