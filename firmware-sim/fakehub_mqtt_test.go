package sim_test

import (
	"encoding/json"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// serveMQTT lets devices in over MQTT.
func (h *fakeHub) serveMQTT(ln net.Listener) *mochi.Server {
	mq := mochi.New(&mochi.Options{Logger: quiet})
	if err := mq.AddHook(&fakeDoor{h: h, links: map[*mochi.Client]*fakeLink{}}, nil); err != nil {
		h.t.Error(err)
	}
	if err := mq.AddListener(listeners.NewNet("t", ln)); err != nil {
		h.t.Error(err)
	}
	go mq.Serve()
	return mq
}

// fakeDoor is the hub behind an MQTT listener.
type fakeDoor struct {
	mochi.HookBase
	h *fakeHub

	mu    sync.Mutex
	links map[*mochi.Client]*fakeLink
}

func (f *fakeDoor) ID() string { return "door" }

func (f *fakeDoor) Provides(b byte) bool {
	switch b {
	case mochi.OnConnectAuthenticate,
		mochi.OnACLCheck,
		mochi.OnPublish,
		mochi.OnDisconnect,
		mochi.OnSessionEstablished,
		mochi.OnSubscribed,
		mochi.OnPacketEncode:
		return true
	}
	return false
}

func (f *fakeDoor) OnACLCheck(*mochi.Client, string, bool) bool { return true }

// OnPacketEncode says that topics may have aliases.
func (f *fakeDoor) OnPacketEncode(_ *mochi.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Connack {
		pk.Properties.TopicAliasMaximum = 10
	}
	return pk
}

// OnConnectAuthenticate lets a device in. If it has a connection, what that has received is handled
// first.
func (f *fakeDoor) OnConnectAuthenticate(cl *mochi.Client, pk packets.Packet) bool {
	time.Sleep(f.h.lied().slowConnect)
	id := string(pk.Connect.Username)
	if is, may := f.h.guest(id, string(pk.Connect.Password)); is {
		return may
	}
	if string(pk.Connect.Password) != "token-"+id || f.h.refuses(id) || f.h.lied().deny {
		return false
	}
	f.h.mu.Lock()
	old := f.h.devices[id].link
	f.h.mu.Unlock()
	if old != nil && old.done != nil {
		select {
		case <-old.done:
		case <-time.After(200 * time.Millisecond):
		}
	}
	return true
}

func (f *fakeDoor) OnSessionEstablished(cl *mochi.Client, _ packets.Packet) {
	time.Sleep(f.h.lied().slowJoin)
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	d := f.h.devices[string(cl.Properties.Username)]
	if d == nil {
		return
	}
	link := &fakeLink{end: func() { cl.Stop(packets.ErrSessionTakenOver) }, done: make(chan struct{})}
	link.push = func(event string, v any) {
		if event == "command" && link.hears {
			tell(cl, "cmd", v)
		}
	}
	f.mu.Lock()
	f.links[cl] = link
	f.mu.Unlock()
	f.h.open(d, link)
}

// OnSubscribed has a device hear what waits for it.
func (f *fakeDoor) OnSubscribed(cl *mochi.Client, _ packets.Packet, _ []byte) {
	f.mu.Lock()
	link := f.links[cl]
	f.mu.Unlock()
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	if d := f.h.devices[string(cl.Properties.Username)]; d != nil && link != nil && d.link == link {
		link.hears = true
		f.h.resendTo(d)
	}
}

var lastPacketID atomic.Uint32

// tell sends a message to a client itself. Mochi finds its clients by their ids, and may forget the
// new one instead of the old when one comes straight back.
func tell(cl *mochi.Client, topic string, v any) {
	payload, _ := json.Marshal(v)
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1},
		TopicName:   "hub/v1/" + string(cl.Properties.Username) + "/" + topic,
		Payload:     payload,
		PacketID:    uint16(1 + lastPacketID.Add(1)%65_000),
	}
	go cl.WritePacket(pk) // a connection that has ended is no matter
}

func (f *fakeDoor) OnDisconnect(cl *mochi.Client, err error, _ bool) {
	f.mu.Lock()
	link := f.links[cl]
	delete(f.links, cl)
	f.mu.Unlock()
	if link == nil {
		return
	}
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	close(link.done)
	if d := f.h.devices[string(cl.Properties.Username)]; d != nil {
		reason := "connection_lost"
		if err == nil || strings.Contains(err.Error(), packets.CodeDisconnect.Reason) {
			reason = "client_close"
		}
		f.h.closed(d, link, reason)
	}
}

// OnPublish takes what a device says; it is routed to nobody.
func (f *fakeDoor) OnPublish(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	id, rest, _ := strings.Cut(strings.TrimPrefix(pk.TopicName, "hub/v1/"), "/")
	if user := string(cl.Properties.Username); strings.HasPrefix(user, "service:") {
		if !f.h.keeps(user) {
			return pk, packets.ErrQuotaExceeded
		}
		return pk, packets.CodeSuccessIgnore
	}
	if id != string(cl.Properties.Username) {
		return pk, packets.CodeSuccessIgnore // a will, at the end of a connection, too
	}
	if taken := f.h.heard(id, rest, pk.Payload, pk.FixedHeader.Qos); !taken {
		if pk.FixedHeader.Qos > 0 && cl.Properties.ProtocolVersion == 5 {
			return pk, packets.ErrPayloadFormatInvalid
		}
		tell(cl, "sys/down", map[string]string{"e": "error", "code": "invalid"})
	}
	return pk, packets.CodeSuccessIgnore
}

// heard handles a message of a device, and reports whether it was taken.
func (h *fakeHub) heard(id, topic string, payload []byte, qos byte) bool {
	time.Sleep(h.lied().slow + h.suffers())
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.devices[id]
	if d == nil {
		return true
	}
	if topic != "ack" && topic != "state" && h.over(d) {
		return false
	}
	event, metric := topic, ""
	switch {
	case topic == "r":
		event = "readings"
	case strings.HasPrefix(topic, "r/"):
		event, metric = "bare", strings.TrimPrefix(topic, "r/")
	case topic == "ack":
		var in struct {
			ID     string `json:"cmd_id"`
			Status string `json:"status"`
		}
		json.Unmarshal(payload, &in)
		h.answered(d, in.ID, in.Status)
		return true
	case topic == "state":
		var st fakeState
		json.Unmarshal(payload, &st)
		h.report(d, st)
		return true
	case topic != "senml":
		return true
	}
	in, boot, ok := []fakeReading{{metric: metric, v: bare(payload)}}, "", true
	if event != "bare" {
		in, boot, ok = parseReadings(event, payload)
	}
	if !ok {
		return false
	}
	reply, _ := h.take(d, in, boot, qos == 0)
	return reply["code"] == "ok"
}

// bare is a value that stands alone, as JSON.
func bare(b []byte) json.RawMessage {
	if len(b) > 0 && json.Valid(b) && b[0] != '"' && b[0] != '{' && b[0] != '[' {
		return append(json.RawMessage(nil), b...)
	}
	text, _ := json.Marshal(string(b))
	return text
}

// fakeBridge is a broker that is not the hub's, and the hub's connection to it, which keeps what
// comes while the hub is away.
type fakeBridge struct {
	h  *fakeHub
	mq *mochi.Server

	mu       sync.Mutex
	away     bool
	from     time.Time // when it is read again
	waiting  []packets.Packet
	received int
}

// bridged gives the hub a bridge named house.
func (h *fakeHub) bridged(t *testing.T) *url.URL {
	t.Helper()
	ln, err := h.net.listen(fakeBroker)
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBridge{h: h, mq: mochi.New(&mochi.Options{InlineClient: true, Logger: quiet})}
	if err := b.mq.AddHook(new(auth.AllowHook), nil); err != nil {
		t.Fatal(err)
	}
	if err := b.mq.AddListener(listeners.NewNet("b", ln)); err != nil {
		t.Fatal(err)
	}
	go b.mq.Serve()
	t.Cleanup(func() { b.mq.Close() })
	b.mq.Subscribe("hub/v1/#", 1, func(_ *mochi.Client, _ packets.Subscription, pk packets.Packet) {
		b.mu.Lock()
		b.waiting = append(b.waiting, pk)
		b.mu.Unlock()
		b.read()
	})
	h.mu.Lock()
	h.bridge = b
	h.mu.Unlock()
	return &url.URL{Scheme: "mqtt", Host: fakeBroker}
}

func (b *fakeBridge) pause() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = true
}

func (b *fakeBridge) resume() {
	b.mu.Lock()
	wait := b.h.lied().slowBridge
	b.away, b.from = false, time.Now().Add(wait)
	b.mu.Unlock()
	time.AfterFunc(wait, b.read)
}

// read hands on what waits.
func (b *fakeBridge) read() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away || time.Now().Before(b.from) {
		return
	}
	for _, pk := range b.waiting {
		b.received++
		id, rest, _ := strings.Cut(strings.TrimPrefix(pk.TopicName, "hub/v1/"), "/")
		b.h.heard(id, rest, pk.Payload, pk.FixedHeader.Qos)
	}
	b.waiting = nil
}

func (b *fakeBridge) shown() map[string]any {
	b.mu.Lock()
	defer b.mu.Unlock()
	return map[string]any{"name": "house", "connected": !b.away, "received": b.received, "waiting": len(b.waiting)}
}
