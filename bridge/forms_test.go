package bridge

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/gorilla/websocket"

	"devicehub/bridge/packet"
	"devicehub/devices"
	"devicehub/devices/readings"
	"devicehub/devices/trace"
	"devicehub/devices/tsdb"
)

// exported is what the store has of a device: the values of each metric as JSON,
// in rising time.
func exported(t *testing.T, in *readings.Ingest, id devices.ID) map[string][]string {
	t.Helper()
	var out bytes.Buffer
	if err := in.Export(t.Context(), &out, readings.ExportQuery{Device: id, Format: readings.NDJSON, To: time.Now().Add(time.Hour).UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		var r struct {
			Device devices.ID
			Metric string
			V      json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil || r.Device != id {
			t.Fatalf("%s: %q is no reading of its own: %v", id, lines.Bytes(), err)
		}
		got[r.Metric] = append(got[r.Metric], string(r.V))
	}
	return got
}

// sameReadings wants the store to have what a device sent, neither more nor less.
func sameReadings(t *testing.T, id devices.ID, got, sent map[string][]string) {
	t.Helper()
	if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(sent))) {
		t.Errorf("%s: got the metrics %q, want %q", id, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(sent)))
	}
	for metric, want := range sent {
		if !slices.Equal(got[metric], want) {
			t.Errorf("%s: %s: got %d readings %.400v, want %d %.400v", id, metric, len(got[metric]), got[metric], len(want), want)
		}
	}
}

// Two standing connections that say bare readings in turn, the names of one
// length: each reading stands under its own name, whatever came behind it.
func TestBareReadingsOfTwoConnections(t *testing.T) {
	h := startHub(t)
	type sender struct {
		id     devices.ID
		metric string
		c      *raw
	}
	senders := []sender{{id: "a", metric: "humidity"}, {id: "b", metric: "pressure"}}
	for i := range senders {
		s := &senders[i]
		s.c = h.connect(t, packet.V311, string(s.id), h.add(t, &devices.Device{ID: s.id, Kinds: []devices.Kind{devices.KindSensor}}, false))
	}
	sent := map[devices.ID]map[string][]string{}
	for i := range 100 {
		for _, s := range senders {
			value := fmt.Sprint(400 + i%50)
			s.c.publish("hub/v1/"+string(s.id)+"/r/"+s.metric, value, 1, uint16(i+1))
			if sent[s.id] == nil {
				sent[s.id] = map[string][]string{}
			}
			sent[s.id][s.metric] = append(sent[s.id][s.metric], value)
		}
		for _, s := range senders {
			s.c.want(packet.Puback<<4, byte((i+1)>>8), byte(i+1))
		}
	}
	for _, s := range senders {
		sameReadings(t, s.id, exported(t, h.ingest, s.id), sent[s.id])
		if l := h.ingest.Latest(s.id); len(l) != 1 || l[s.metric].V != 449.0 {
			t.Errorf("%s: got the latest %v", s.id, l)
		}
	}
}

// player is a device that says what it measures, and what it is, in every form
// that there is.
type player struct {
	h    *wholeHub
	k    int // its number, which is in all that it says
	id   devices.ID
	c    *raw
	boot string
	seq  int64
	at   int64 // of the last round
	sent map[string][]string

	out  []byte // the next segment
	acks []uint16
}

func (p *player) topic(last string) string { return "hub/v1/" + string(p.id) + "/" + last }

func (p *player) name(what string) string { return fmt.Sprintf("%s_%02d", what, p.k) }

// publish puts a publish at QoS 1 into the segment.
func (p *player) publish(topic, payload string, props ...byte) {
	p.c.id++
	p.acks = append(p.acks, p.c.id)
	p.out = append(p.out, frame(packet.Publish<<4|1<<1, p.c.publishBody(topic, payload, 1, p.c.id, props...))...)
}

// bare says one value on r/<metric>; in MQTT 5 mostly by the topic's alias.
func (p *player) bare(round int, alias byte, metric, payload, stored string) {
	topic := p.topic("r/" + metric)
	switch {
	case p.c.version != packet.V5:
		p.publish(topic, payload)
	case round%5 == 0:
		p.publish(topic, payload, 35, 0, alias)
	default:
		p.publish("", payload, 35, 0, alias)
	}
	p.sent[metric] = append(p.sent[metric], stored)
}

func (p *player) value(metric string, v any) json.RawMessage {
	b, _ := json.Marshal(v)
	p.sent[metric] = append(p.sent[metric], string(b))
	return b
}

func (p *player) numbered(n int64) (first int64) {
	first = p.seq + 1
	p.seq += n
	return first
}

// round says everything once, in one segment.
func (p *player) round(i int) error {
	n := p.k*1000 + i
	p.at = max(p.at+1, time.Now().UnixMilli()) // a reading of the same moment would replace the one before
	now := p.at
	p.bare(i, 1, p.name("count"), fmt.Sprint(n), fmt.Sprint(n))
	p.bare(i, 2, p.name("valve"), fmt.Sprint(i%3 == 0), fmt.Sprint(i%3 == 0))
	p.bare(i, 3, p.name("words"), fmt.Sprintf("word %d", n), fmt.Sprintf("%q", fmt.Sprintf("word %d", n)))
	p.publish(p.topic("r"), fmt.Sprintf(`{"m":"illuminance","v":%s,"t":%d,"s":%d,"boot":%q}`, p.value("illuminance", n), now, p.numbered(1), p.boot))
	p.publish(p.topic("r"), fmt.Sprintf(`{"boot":%q,"s0":%d,"t0":%d,"r":[["co2",%s,0],[%q,%s,1],["motion",%s,2]]}`,
		p.boot, p.numbered(3), now, p.value("co2", n+1), p.name("other"), p.value(p.name("other"), n+2), p.value("motion", i%2 == 0)))
	p.publish(p.topic("senml"), fmt.Sprintf(`[{"bn":"urn:dev:hub:%s:","n":"voc","v":%s},{"n":%q,"vs":%s}]`,
		p.id, p.value("voc", n), p.name("named"), p.value(p.name("named"), fmt.Sprintf("senml %d", n))))
	pack, err := cbor.Marshal([]map[int]any{{0: "weight", 2: n}, {0: p.name("bytes"), 4: i%4 == 0}})
	if err != nil {
		return err
	}
	p.value("weight", n)
	p.value(p.name("bytes"), i%4 == 0)
	p.publish(p.topic("senml"), string(pack))
	p.publish(p.topic("state"), fmt.Sprintf(`{"on":true,"brightness":%d,"mode":"rgb","rgb":[%d,%d,7]}`, 1+i, p.k, i))
	p.publish(p.topic("sys"), fmt.Sprintf(`{"e":"info","fw":"fw-%02d-%04d"}`, p.k, i))
	p.publish(p.topic("ack"), fmt.Sprintf(`{"cmd_id":"nobody-sent-%02d-%04d","status":"acked"}`, p.k, i))
	return p.flush()
}

// flush sends the segment and waits until all of it is decided.
func (p *player) flush() error {
	if _, err := p.c.nc.Write(p.out); err != nil {
		return err
	}
	p.out = p.out[:0]
	open := map[uint16]bool{}
	for _, id := range p.acks {
		open[id] = true
	}
	p.acks = nil
	for len(open) > 0 {
		head, body, err := p.c.readErr(10 * time.Second)
		if err != nil {
			return err
		}
		switch head >> 4 {
		case packet.Puback:
			delete(open, uint16(body[0])<<8|uint16(body[1]))
		case packet.Publish: // on sys/down: what was refused, which is the ack
			var said struct{ E, Topic string }
			m := p.c.parse(head, body)
			if err := json.Unmarshal([]byte(m.payload), &said); err != nil || said.E == "error" && said.Topic != p.topic("ack") {
				return fmt.Errorf("%s: told %q on %s", p.id, m.payload, m.topic)
			}
		default:
			return fmt.Errorf("%s: got packet %02x %q", p.id, head, body)
		}
	}
	return nil
}

// followed wants a trace to show what the device said, and no piece of what
// others did, until done is told.
func (p *player) followed(t *testing.T, f *trace.Follower, done chan struct{}) {
	defer func() { done <- struct{}{} }()
	topics := []string{"", "r/" + p.name("count"), "r/" + p.name("valve"), "r/" + p.name("words")}
	events := []string{"reading", "readings", "senml", "state", "ack", "info", "reply", "ping", "config", "command", "close"}
	for n := 0; ; n++ {
		select {
		case l := <-f.Lines():
			if !slices.Contains(events, l.Event) || !slices.Contains(topics, l.Topic) || l.Event == "reply" && !slices.Contains(events, l.About) {
				t.Errorf("%s: the trace shows the event %q about %q on %q", p.id, l.Event, l.About, l.Topic)
			}
		case <-done:
			if n == 0 {
				t.Errorf("%s: the trace shows nothing", p.id)
			}
			return
		}
	}
}

// newPlayer is a device that is connected, over WebSocket if ws says so.
func newPlayer(t *testing.T, h *wholeHub, k int, version byte, ws bool) *player {
	t.Helper()
	p := &player{h: h, k: k, id: devices.ID(fmt.Sprintf("player-%02d", k)), boot: fmt.Sprintf("boot-%02d", k), sent: map[string][]string{}}
	token := h.add(t, &devices.Device{ID: p.id, Kinds: []devices.Kind{devices.KindSensor, devices.KindLight}, Light: &devices.Light{Modes: []devices.LightMode{devices.ModeRGB}}}, k%2 == 0)
	if ws {
		d := websocket.Dialer{Subprotocols: []string{"mqtt"}}
		conn, _, err := d.Dial("ws://"+h.srv.Addr("ws").String()+"/mqtt", nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		p.c = &raw{t: t, nc: &wsConn{Conn: conn}, version: version}
	} else {
		p.c = dial(t, h.addr, version)
	}
	p.c.send(packet.Connect<<4, p.c.connectBody(connect{id: string(p.id), user: string(p.id), password: token, clean: true,
		will: p.topic("lwt"), willPayload: fmt.Sprintf(`{"boot":%q}`, p.boot)}))
	if b := p.c.wantType(packet.Connack); b[1] != 0 {
		t.Fatalf("CONNACK %x", b)
	}
	p.c.subscribe(0, p.topic("sys/down"))
	return p
}

// Devices on many connections say everything in every form, several messages a
// segment, names and ids of one length: each has in the end what it said itself,
// also after the store was opened again.
func TestEveryFormIsKeptAsSent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "readings")
	opts := tsdb.Options{Fsync: tsdb.SyncOff}
	store, err := tsdb.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	var players []*player
	t.Run("as it stands", func(t *testing.T) { players = playForms(t, store) })
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("opened again", func(t *testing.T) {
		store, err := tsdb.Open(dir, opts)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		in := readings.New(store, readings.Config{})
		for _, p := range players {
			sameReadings(t, p.id, exported(t, in, p.id), p.sent)
		}
	})
}

func playForms(t *testing.T, store readings.Store) []*player {
	h := startHubOn(t, store, nil)
	var players []*player
	for k, way := range []struct {
		version byte
		ws      bool
	}{{packet.V311, false}, {packet.V5, false}, {packet.V311, false}, {packet.V5, false}, {packet.V311, true}, {packet.V5, true}} {
		players = append(players, newPlayer(t, h, k+1, way.version, way.ws))
	}
	const rounds = 60
	follower, err := h.tracer.Follow(players[0].id)
	if err != nil {
		t.Fatal(err)
	}
	followed := make(chan struct{})
	go players[0].followed(t, follower, followed)
	defer func() { followed <- struct{}{}; <-followed; follower.Stop() }()
	var wg sync.WaitGroup
	for _, p := range players {
		wg.Go(func() {
			for i := range rounds {
				if err := p.round(i); err != nil {
					t.Errorf("%s, round %d: %v", p.id, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, p := range players {
		sameReadings(t, p.id, exported(t, h.ingest, p.id), p.sent)
		latest := map[string][]string{}
		for metric, l := range h.ingest.Latest(p.id) {
			b, _ := json.Marshal(l.V)
			latest[metric] = []string{string(b)}
		}
		last := map[string][]string{}
		for metric, values := range p.sent {
			last[metric] = values[len(values)-1:]
		}
		sameReadings(t, p.id, latest, last)
		if acks := h.ingest.AckThrough(p.id); len(acks) != 1 || acks[0].Boot != p.boot || acks[0].S != p.seq {
			t.Errorf("%s: got the boots %v, want %s through %d", p.id, acks, p.boot, p.seq)
		}
		dev, _ := h.registry.Get(p.id)
		if want := fmt.Sprintf("fw-%02d-%04d", p.k, rounds-1); dev.Firmware != want {
			t.Errorf("%s: got firmware %q, want %q", p.id, dev.Firmware, want)
		}
		doc, _ := h.shadows.Doc(p.id)
		b, _ := json.Marshal(doc.Reported)
		if want := fmt.Sprintf(`"rgb":[%d,%d,7]`, p.k, rounds-1); !strings.Contains(string(b), want) {
			t.Errorf("%s: got the state %s, want %s in it", p.id, b, want)
		}
		p.c.nc.Close()
		h.wantState(t, p.id, devices.Offline, "connection_lost")
	}
	return players
}
