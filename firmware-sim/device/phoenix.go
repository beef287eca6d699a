package device

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"devicehub/hub/hubclient"
)

// phoenix is the link over channels: one socket, the topics sensor:<id> and light:<id>. A device
// that has left comes back with a client of its own.
type phoenix struct {
	d   *Device
	cfg hubclient.Config

	mu     sync.Mutex
	client *hubclient.Client
	sensor *hubclient.Channel
	lamp   *hubclient.Channel
	opened hubclient.Opened
	at     time.Time // of the opening
	joined map[*hubclient.Channel]bool
	stalls time.Time // until then nothing is read
	ctx    context.Context
	booted string // the boot that has reported its light
	// reported is called when the join that carries the light's state is accepted.
	reported func()
	leaving  bool      // the client ends because the device leaves
	until    time.Time // when a device that has left comes back
	kick     chan struct{}
}

func newPhoenix(d *Device) (*phoenix, error) {
	p := &phoenix{d: d, joined: make(map[*hubclient.Channel]bool, 2), kick: make(chan struct{}, 1)}
	u := *d.cfg.Hub
	u.Path += "/socket"
	p.cfg = hubclient.Config{
		URL: u.String(), AuthToken: d.getToken, Transport: hubclient.Transport(d.cfg.Transport),
		HTTP: d.cfg.HTTP, WriteBuffers: d.cfg.WriteBuffers, Dial: d.cfg.Dial, Log: d.cfg.Log,
		ReconnectAfter: d.cfg.Backoff, OnOpen: p.opens, OnClose: p.closes, MaxFrame: 1 << 20,
	}
	p.cfg.Observe = p.observe
	return p, p.renew()
}

// renew makes a client that has joined nothing yet.
func (p *phoenix) renew() error {
	client, err := hubclient.New(p.cfg)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client, p.leaving = client, false
	if p.d.cfg.Sensor {
		p.sensor = p.channel("sensor:", nil)
	}
	if p.d.light != nil {
		p.lamp = p.channel("light:", p.lit)
	}
	return nil
}

func (p *phoenix) run(ctx context.Context) error {
	p.mu.Lock()
	p.ctx = ctx
	p.mu.Unlock()
	for {
		client, _ := p.now()
		err := client.Run(ctx)
		p.mu.Lock()
		left, wait := p.leaving, time.Until(p.until)
		p.mu.Unlock()
		if !left || ctx.Err() != nil {
			return err
		}
		p.lost(nil, ErrLeft)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-p.kick:
		case <-t.C:
		}
		t.Stop()
		if err := p.renew(); err != nil {
			return err
		}
	}
}

// now is the present client, and the topic that the device speaks on if it does not matter on
// which.
func (p *phoenix) now() (*hubclient.Client, *hubclient.Channel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sensor != nil {
		return p.client, p.sensor
	}
	return p.client, p.lamp
}

// leave closes the connection in order, behind all that was pushed, and comes back after stay.
func (p *phoenix) leave(stay time.Duration) {
	p.mu.Lock()
	p.leaving, p.until = true, time.Now().Add(stay)
	client := p.client
	p.mu.Unlock()
	client.Close()
}

// cork does nothing: what is pushed in one go leaves in few frames as it is.
func (p *phoenix) cork() {}

// observe shows each frame, and holds up the reading while the device is stalled.
func (p *phoenix) observe(f hubclient.Frame) {
	if show := p.d.cfg.Hooks.Frame; show != nil {
		show(f.Out, "", f.Data)
	}
	if f.Out {
		return
	}
	p.mu.Lock()
	wait, ctx := time.Until(p.stalls), p.ctx
	p.mu.Unlock()
	if wait > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (p *phoenix) stall(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalls = time.Now().Add(d)
}

func (p *phoenix) garbage() {
	client, _ := p.now()
	client.SendRaw([]byte(`["this","is no frame"`), false)
}

func (p *phoenix) channel(prefix string, then func(welcome)) *hubclient.Channel {
	var ch *hubclient.Channel
	ch = p.client.Channel(prefix+p.d.cfg.ID, hubclient.ChannelConfig{
		Params: func() any { return p.params(ch) },
		OnJoin: func(r hubclient.Reply) {
			p.joins(ch, r)
			var w welcome
			if then != nil && r.Decode(&w) == nil {
				then(w)
			}
		},
		OnRefused: func(r hubclient.Reply) { p.d.failed(code(r)) },
		OnError: func(err error) {
			if crash, ok := errors.AsType[*hubclient.CrashError](err); ok {
				p.d.failed("crash:" + crash.Reason)
			}
			if !errors.Is(err, hubclient.ErrDisconnected) { // of that, closes hears the reason
				p.lost(ch, err)
			}
		},
		OnMessage: p.message,
	})
	ch.Join()
	return ch
}

// params are those of a join: boot, and on a light's topic what it reports.
func (p *phoenix) params(ch *hubclient.Channel) any {
	params := map[string]any{"proto": "1", "sdk": "firmware-sim"}
	if !p.d.cfg.NoBoot {
		params["boot"] = p.d.Boot()
	}
	if p.d.cfg.Firmware != "" {
		params["fw"] = p.d.cfg.Firmware
	}
	if s, ok := p.d.reportable(); ok && strings.HasPrefix(ch.Topic(), "light:") {
		params["reported"], params["reported_at"] = s, p.d.cfg.Clock().UnixMilli()
		taken := p.d.reporting(s)
		p.mu.Lock()
		p.reported = taken
		p.mu.Unlock()
	}
	return params
}

func (p *phoenix) opens(o hubclient.Opened) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opened, p.at = o, time.Now()
}

func (p *phoenix) closes(err error) {
	if e, ok := errors.AsType[*hubclient.RefusedError](err); ok {
		p.d.failed(e.Code)
		if e.Status == 401 || e.Status == 403 {
			p.drop(30 * time.Second) // asking again at once changes nothing
		}
	}
	if !p.lost(nil, err) && p.d.cfg.Hooks.Unable != nil {
		p.d.cfg.Hooks.Unable(err)
	}
}

// joins counts the topics in; the device is up when all of them are. Readings go as soon as their own topic is joined.
func (p *phoenix) joins(ch *hubclient.Channel, r hubclient.Reply) {
	var said struct {
		AckThrough []struct {
			Boot string `json:"boot"`
			S    uint64 `json:"s"`
		} `json:"ack_through"`
		Limits struct {
			InFlight int `json:"pushes_in_flight"`
		} `json:"limits"`
	}
	_ = r.Decode(&said) // without it everything is sent again, which is safe
	p.mu.Lock()
	p.joined[ch] = true
	all := len(p.joined) == p.topics()
	up := Up{Attempt: p.opened.Attempt, Connect: p.opened.Connect, Join: time.Since(p.at)}
	p.mu.Unlock()
	if strings.HasPrefix(ch.Topic(), "sensor:") {
		through := make(map[string]uint64, len(said.AckThrough))
		for _, a := range said.AckThrough {
			through[a.Boot] = a.S
		}
		p.d.isUp(through)
	}
	if all && p.d.cfg.Hooks.Up != nil {
		p.d.cfg.Hooks.Up(up)
	}
}

func (p *phoenix) topics() int {
	n := 0
	if p.d.cfg.Sensor {
		n++
	}
	if p.d.light != nil {
		n++
	}
	return n
}

// lost is one topic that broke, or with nil the connection. It reports whether the device was up.
func (p *phoenix) lost(ch *hubclient.Channel, err error) bool {
	p.mu.Lock()
	was := len(p.joined) == p.topics()
	if ch == nil {
		clear(p.joined)
	} else {
		delete(p.joined, ch)
	}
	p.mu.Unlock()
	if was {
		p.d.isDown(err)
	}
	return was
}

// lit is the light's topic joined: a full report if this boot has made none, and what was waiting.
func (p *phoenix) lit(w welcome) {
	boot := p.d.Boot()
	p.mu.Lock()
	if p.reported != nil {
		defer p.reported()
		p.reported = nil
	}
	cause := "sync"
	if p.booted != boot {
		cause, p.booted = "boot", boot
	}
	p.mu.Unlock()
	p.d.welcomed(w, cause)
}

func (p *phoenix) message(m hubclient.Message) {
	switch m.Event {
	case "command":
		p.d.command(m.Payload, request{})
	case "ping":
		p.raw("pong", p.d.pong(m.Payload))
	case "token_expiring":
		_, ch := p.now()
		ch.Push("token_refresh", nil, func(r hubclient.Reply, err error) {
			var said struct{ Token string }
			if err == nil && r.OK() && r.Decode(&said) == nil {
				p.d.setToken(said.Token)
			} else if err == nil {
				p.d.failed(code(r))
			}
		})
	case "config":
		p.raw("info", p.d.configured(m.Payload))
	case "disconnect":
		p.d.dismissed(m.Payload, p.drop)
	default:
		if p.d.cfg.Hooks.Leak != nil {
			p.d.cfg.Hooks.Leak(m.Event)
		}
	}
}

func (p *phoenix) readings(r push, answer func(verdict)) bool {
	_, ch := p.now()
	then := func(reply hubclient.Reply, err error) {
		switch {
		case err == nil:
			answer(judge(reply, r.n))
		case errors.Is(err, hubclient.ErrTimeout):
			answer(verdict{retry: time.Second, code: "no_answer"})
		default:
			answer(verdict{retry: time.Second})
		}
	}
	switch r.form.Kind {
	case CBOR:
		ch.PushBinary("senml", r.payload, then)
	case SenML:
		ch.Push("senml", json.RawMessage(r.payload), then)
	case Batch:
		ch.Push("readings", json.RawMessage(r.payload), then)
	default:
		ch.Push("reading", json.RawMessage(r.payload), then)
	}
	return true // or it waits for the join, and goes then
}

// judge reads the reply to a push of readings.
func judge(r hubclient.Reply, n int) verdict {
	var said struct {
		Code       string  `json:"code"`
		RetryAfter float64 `json:"retry_after_ms"`
		Dup        int     `json:"dup"`
		Rejected   []struct {
			I    int    `json:"i"`
			Code string `json:"code"`
		} `json:"rejected"`
	}
	_ = r.Decode(&said)
	v := verdict{decided: true, replayed: said.Dup}
	if len(said.Rejected) > 0 {
		v.refused = make(map[int]string, len(said.Rejected))
		for _, x := range said.Rejected {
			v.refused[x.I] = x.Code
		}
	}
	if r.OK() {
		return v
	}
	v.code = said.Code
	if retryable(said.Code) {
		return verdict{code: said.Code, retry: time.Duration(said.RetryAfter) * time.Millisecond}
	}
	if len(v.refused) == 0 { // the push as a whole
		v.refused = make(map[int]string, n)
		for i := range n {
			v.refused[i] = said.Code
		}
	}
	return v
}

// retryable are the codes that are not the device's fault (devices/README.md#errors).
func retryable(code string) bool {
	switch code {
	case "", "overloaded", "platform_unavailable", "rate_limited", "timeout", "replaced":
		return true
	}
	return false
}

func code(r hubclient.Reply) string {
	var said struct{ Code, Reason string }
	_ = r.Decode(&said)
	if said.Code == "" {
		return said.Reason
	}
	return said.Code
}

func (p *phoenix) state(payload []byte, taken func())           { p.tell("state", payload, taken) }
func (p *phoenix) ack(payload []byte, _ answerTo, taken func()) { p.tell("ack", payload, taken) }

// tell sends what is of the present moment only: not kept for a later connection.
func (p *phoenix) tell(event string, payload []byte, taken func()) {
	p.mu.Lock()
	ch := p.lamp
	if ch == nil {
		ch = p.sensor
	}
	p.mu.Unlock()
	p.say(ch, event, payload, taken)
}

func (p *phoenix) raw(event string, payload []byte) {
	_, ch := p.now()
	p.say(ch, event, payload, nil)
}

func (p *phoenix) say(ch *hubclient.Channel, event string, payload []byte, taken func()) {
	if ch.State() != hubclient.Joined {
		return
	}
	ch.Push(event, json.RawMessage(payload), func(r hubclient.Reply, err error) {
		switch {
		case err != nil:
		case !r.OK():
			p.d.failed(code(r))
		case taken != nil:
			taken()
		}
	})
}

func (p *phoenix) drop(stay time.Duration) {
	client, _ := p.now()
	client.Drop(stay)
}

func (p *phoenix) abandon(stay time.Duration) {
	client, _ := p.now()
	client.Abandon(stay)
}

func (p *phoenix) reconnect() {
	client, _ := p.now()
	client.Reconnect()
	select {
	case p.kick <- struct{}{}:
	default:
	}
}
