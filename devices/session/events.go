package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"devicehub/devices"
	"devicehub/devices/identity"
	"devicehub/devices/liveness"
	"devicehub/devices/quota"
	"devicehub/devices/readings"
	"devicehub/devices/trace"
)

// Handle takes one event that the device sent. reply is called exactly once,
// from any goroutine: with the payload of an ok reply, or with an error. A
// *devices.Error is the device's to read; any other is a fault of the hub.
func (s *Session) Handle(event string, payload []byte, binary bool, reply func(any, error)) {
	reply = s.observed(event, "", payload, reply)
	switch event {
	case "reading", "readings", "senml":
		b, err := parse(event, payload, binary, s.device)
		if err != nil {
			s.refuse(reply, err)
			return
		}
		s.submit(b, reply)
	case "state":
		s.limited(reply, func() (any, error) { return s.state(payload) })
	case "ack":
		s.answered(reply, func() (any, error) {
			s.door.Liveness.Heard(s.device, s.Epoch(), liveness.Ack)
			return nil, s.door.Commands.Answer(s.device, s.Epoch(), payload)
		})
	case "pong":
		s.answered(reply, func() (any, error) { return s.pong(payload) })
	case "sleep":
		s.limited(reply, func() (any, error) { return s.sleep(payload) })
	case "info":
		s.limited(reply, func() (any, error) { return s.info(payload) })
	case "token_refresh":
		reply(s.refresh())
	case "time_req":
		s.answered(reply, func() (any, error) { return map[string]int64{"server_time": time.Now().UnixMilli()}, nil })
	default:
		s.refuse(reply, devices.Invalid("event", "reading, readings, senml, state, ack, pong, token_refresh, sleep or info"))
	}
}

// HandleBare takes the value of one metric, as a bare number, true, false or
// text.
func (s *Session) HandleBare(metric string, payload []byte, reply func(any, error)) {
	reply = s.observed("reading", "r/"+metric, payload, reply)
	b, err := readings.ParseBare(metric, payload)
	if err != nil {
		s.refuse(reply, err)
		return
	}
	s.submit(b, reply)
}

// observed counts and shows an event and what it is answered with.
func (s *Session) observed(event, topic string, payload []byte, reply func(any, error)) func(any, error) {
	counted := event
	switch event {
	case "reading", "readings", "senml", "state", "ack", "pong", "sleep", "info", "token_refresh", "time_req":
	default:
		counted = "unknown"
	}
	s.door.record(s.device, trace.Line{Dir: trace.In, Transport: s.transport, Topic: topic, Event: event}, payload)
	return func(v any, err error) {
		s.door.observe(s.transport, counted, err)
		s.door.recordReply(s.device, s.transport, event, v, err)
		reply(v, err)
	}
}

func parse(event string, payload []byte, binary bool, id devices.ID) (readings.Batch, error) {
	switch {
	case event == "senml":
		return readings.ParseSenML(payload, binary, id, time.Now())
	case binary:
		return readings.Batch{}, devices.Invalid("payload", "JSON")
	case event == "reading":
		return readings.ParseReading(payload)
	}
	return readings.ParseReadings(payload)
}

// admitted checks, on every event, that the session is still the device's and
// its token in force.
func (s *Session) admitted() (*devices.Device, error) {
	s.mu.Lock()
	ended, p, epoch := s.ended, s.principal, s.epoch
	s.mu.Unlock()
	switch {
	case ended != "":
		return nil, devices.Refuse(ended, "the connection is being closed")
	case epoch == 0:
		return nil, devices.Refuse(devices.CodeTokenExpired, "the token has expired; refresh it with token_refresh")
	}
	return s.door.admit(p, s.device)
}

// answered runs f for an admitted device, whatever its rate.
func (s *Session) answered(reply func(any, error), f func() (any, error)) {
	if _, err := s.admitted(); err != nil {
		reply(nil, err)
		return
	}
	reply(f())
}

// limited is answered for events that count against the device's rate.
func (s *Session) limited(reply func(any, error), f func() (any, error)) {
	s.answered(reply, func() (any, error) {
		if err := s.allow(); err != nil {
			return nil, err
		}
		return f()
	})
}

// allow takes one event of the device's rate. A device that goes on beyond it is
// sent away.
func (s *Session) allow() error {
	cut, err := s.account.Allow(quota.Events)
	if cut {
		s.End(devices.CodeRateLimited, "too many events")
	}
	return err
}

// refuse answers a malformed event, which costs rate like a good one.
func (s *Session) refuse(reply func(any, error), err error) {
	s.limited(reply, func() (any, error) { return nil, err })
}

func (s *Session) submit(b readings.Batch, reply func(any, error)) {
	dev, err := s.admitted()
	if err == nil {
		err = s.allow()
	}
	if err == nil {
		err = s.takeSlot()
	}
	if err != nil {
		reply(nil, err)
		return
	}
	if s.transport == devices.OverMQTT && b.Boot != "" {
		s.SetBoot(b.Boot) // over MQTT, what a later message leaves out is taken from the one before
	}
	s.mu.Lock()
	boot := s.boot
	s.mu.Unlock()
	s.door.Readings.Submit(readings.Source{Device: dev, Boot: boot, Transport: s.transport}, b, func(r readings.Result, err error) {
		s.mu.Lock()
		s.inFlight--
		s.mu.Unlock()
		if err == nil {
			s.door.Liveness.Heard(s.device, s.Epoch(), liveness.Data)
		}
		reply(readingsReply(r, err))
	})
}

// readingsReply is the reply to a push of readings: the result, or the refusal
// with the result's counts beside it when nothing was taken.
func readingsReply(r readings.Result, err error) (any, error) {
	var e *devices.Error
	if err == nil {
		return r, nil
	}
	if !errors.As(err, &e) || len(r.Rejected) == 0 {
		return nil, err
	}
	return nil, &Refused{readings.Refusal{Err: e, Result: r}}
}

// Refused is the error of a push of readings of which nothing was taken. Its
// JSON is the whole reply.
type Refused struct{ readings.Refusal }

func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap gives the refusal itself.
func (r *Refused) Unwrap() error { return r.Err }

func (s *Session) takeSlot() error {
	limit := s.pushesInFlight(s.door.Limits())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight >= limit {
		return devices.Refuse(devices.CodeRateLimited, fmt.Sprintf("%d pushes of readings are under way already", limit)).After(50 * time.Millisecond)
	}
	s.inFlight++
	return nil
}

func (s *Session) state(payload []byte) (any, error) {
	epoch := s.Epoch()
	ver, err := s.door.Commands.Report(s.device, epoch, time.Now(), payload)
	if err != nil {
		return nil, err
	}
	s.door.Liveness.Heard(s.device, epoch, liveness.State)
	return map[string]int64{"ver": ver}, nil
}

func (s *Session) sleep(payload []byte) (any, error) {
	var p struct {
		AwakeAt int64 `json:"awake_at"`
	}
	if err := devices.Decode(payload, "payload", &p); err != nil {
		return nil, err
	}
	if p.AwakeAt <= time.Now().UnixMilli() {
		return nil, devices.Invalid("awake_at", "ms since epoch, in the future")
	}
	s.door.Liveness.Sleep(s.device, s.Epoch(), p.AwakeAt)
	return nil, nil
}

func (s *Session) info(payload []byte) (any, error) {
	var p struct {
		Firmware  string `json:"fw"`
		SDK       string `json:"sdk"`
		ConfigVer *int64 `json:"config_ver"`
	}
	if err := devices.Decode(payload, "payload", &p); err != nil {
		return nil, err
	}
	if len(p.Firmware) > maxAbout || len(p.SDK) > maxAbout {
		return nil, devices.Invalid("fw, sdk", "at most 64 bytes each")
	}
	if !devices.GoodText(p.Firmware) || !devices.GoodText(p.SDK) {
		return nil, devices.Invalid("fw, sdk", devices.WantText)
	}
	dev, ok := s.door.Registry.Get(s.device)
	if !ok {
		return nil, devices.NotFound("device")
	}
	s.learn(dev, p.Firmware)
	if p.ConfigVer != nil && *p.ConfigVer != dev.ConfigVer {
		s.reconfigure(dev, time.Now())
	}
	if p.ConfigVer != nil && *p.ConfigVer != dev.ConfigAckVer {
		_, err := s.door.Registry.Report(context.Background(), s.device, func(d *devices.Device) error {
			d.ConfigAckVer = min(*p.ConfigVer, d.ConfigVer)
			return nil
		})
		return nil, err
	}
	return nil, nil
}

// learn keeps the firmware version that a device reports of itself.
func (s *Session) learn(dev *devices.Device, fw string) {
	if fw == "" || fw == dev.Firmware {
		return
	}
	_, err := s.door.Registry.Report(context.Background(), s.device, func(d *devices.Device) error {
		d.Firmware = fw
		return nil
	})
	if err != nil {
		s.door.Log.Warn("firmware version not kept", "device", s.device, "err", err)
	}
}

// refresh gives the device a new token of the same generation, once the one that it
// has is old enough; before that the reply says when that one expires, and has no
// token. It is the one event that a device with an expired token may send; once
// refreshed, it is online.
func (s *Session) refresh() (any, error) {
	if err := s.allow(); err != nil {
		return nil, err
	}
	p := s.Principal()
	if _, err := s.door.admit(p, s.device); err != nil {
		return nil, err
	}
	t, err := s.door.Identity.RefreshDevice(context.Background(), p, s.origin())
	if err != nil {
		return nil, err
	}
	if t.Token == "" {
		return t, nil
	}
	s.mu.Lock()
	s.principal = t.Principal
	s.warned = false
	offline := s.epoch == 0 && !s.closed
	s.mu.Unlock()
	s.watchToken(time.Now())
	if offline {
		if err := s.goOnline(); err != nil {
			return nil, err
		}
		for _, k := range s.topics() {
			if err := s.show(k); err != nil {
				return nil, err
			}
		}
		s.Listen()
		if dev, ok := s.door.Registry.Get(s.device); ok && s.transport == devices.OverMQTT && Configured(dev) {
			s.sendConfig(dev) // which over channels the join told
		}
	}
	return t, nil
}

// Stale reports whether an answer that a device was given over an earlier
// connection, and may not have got, is of no use to it any more: a token, when the
// one that it came back with is as good, or it was revoked.
func (s *Session) Stale(event string, answer any) bool {
	t, ok := answer.(identity.DeviceToken)
	if event != "token_refresh" || !ok {
		return false
	}
	has, got := s.hello.Principal, t.Principal
	return has.Gen > got.Gen || has.Exp.IsZero() || !got.Exp.IsZero() && !got.Exp.After(has.Exp) || s.door.Identity.Check(got) != nil
}

// pong answers a ping: its round trip proves that the application runs.
func (s *Session) pong(payload []byte) (any, error) {
	var p struct {
		N        int64    `json:"n"`
		FreeHeap *float64 `json:"free_heap"`
		RSSI     *float64 `json:"rssi"`
	}
	if err := devices.Decode(payload, "payload", &p); err != nil {
		return nil, err
	}
	s.mu.Lock()
	epoch, sent := s.epoch, s.pinged
	asked := p.N == s.pingN && !sent.IsZero()
	if asked {
		s.pinged = time.Time{}
	}
	s.mu.Unlock()
	if asked {
		s.door.Liveness.Pong(s.device, epoch, time.Since(sent))
	}
	return nil, nil
}

// Post takes a readings body that a device sent over HTTP, outside any
// session. The device has no link by it; its data alone is seen.
func (d *Door) Post(p identity.Principal, id devices.ID, body []byte, reply func(any, error)) {
	const transport = devices.OverHTTP
	d.record(id, trace.Line{Dir: trace.In, Transport: transport, Event: "readings"}, body)
	answer := func(v any, err error) {
		d.observe(transport, "readings", err)
		d.recordReply(id, transport, "readings", v, err)
		reply(v, err)
	}
	dev, err := d.admit(p, id)
	if err == nil && p.Expired {
		err = devices.Refuse(devices.CodeTokenExpired, "the token has expired")
	}
	if err == nil {
		err = d.Quota.Once(devices.ActorDevice, p.Name, func(a *quota.Account) error {
			_, err := a.Allow(quota.Events)
			return err
		})
	}
	if err != nil {
		answer(nil, err)
		return
	}
	d.Identity.Used(p, "") // a body may be of an earlier boot than the token's use
	b, err := readings.Parse(body)
	if err != nil {
		answer(nil, err)
		return
	}
	d.Readings.Submit(readings.Source{Device: dev, Boot: b.Boot, Transport: transport}, b, func(r readings.Result, err error) {
		if err == nil {
			d.Liveness.Heard(id, 0, liveness.Data)
		}
		answer(readingsReply(r, err))
	})
}
