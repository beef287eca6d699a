package session

import (
	"encoding/json"
	"errors"

	"devicehub/devices"
	"devicehub/devices/trace"
)

// record shows a line to those who follow the device, if anybody does. payload
// is JSON as it was on the wire, or a value that is marshalled.
func (d *Door) record(id devices.ID, l trace.Line, payload any) {
	if !d.Trace.Follows(id) {
		return
	}
	b, raw := payload.([]byte)
	if !raw && payload != nil {
		b, _ = json.Marshal(payload) // without one where it has no JSON
	}
	d.Trace.Record(id, l, b)
}

// outcome is a refusal's code, ok for none.
func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	return string(codeOf(err))
}

// codeOf is err's code; a fault of the hub's is platform_unavailable.
func codeOf(err error) devices.Code {
	code := devices.CodeOf(err)
	if err != nil && code == "" {
		return devices.CodePlatformUnavailable
	}
	return code
}

// recordReply shows what a device's event was answered with.
func (d *Door) recordReply(id devices.ID, transport devices.Transport, event string, v any, err error) {
	if !d.Trace.Follows(id) {
		return
	}
	if err != nil {
		v = nil
		var m json.Marshaler
		if errors.As(err, &m) {
			v = m
		}
	}
	d.record(id, trace.Line{Dir: trace.Out, Transport: transport, Event: "reply", About: event, Outcome: outcome(err)}, v)
}

// Refused shows a connection to those who follow the device that it seems to be
// of, where its token was refused before Open.
func (d *Door) Refused(transport devices.Transport, addr string, id devices.ID, err error) {
	if !d.Trace.Follows(id) {
		return
	}
	about := map[string]any{"error": err.Error()}
	if addr != "" {
		about["addr"] = devices.Host(addr)
	}
	d.record(id, trace.Line{Dir: trace.In, Transport: transport, Event: "connect", Outcome: outcome(err)}, about)
}

func (d *Door) recordOpen(h Hello, s *Session, err error) {
	if !d.Trace.Follows(h.Device) {
		return
	}
	about := map[string]any{"addr": devices.Host(h.Addr), "gen": h.Principal.Gen}
	switch {
	case err != nil:
		about["error"] = err.Error()
	default:
		about["epoch"] = s.Epoch()
	}
	d.record(h.Device, trace.Line{Dir: trace.In, Transport: h.Transport, Event: "connect", Outcome: outcome(err)}, about)
}

func (d *Door) recordEnd(s *Session, code devices.Code, reason string, byEpoch int64) {
	if !d.Trace.Follows(s.device) {
		return
	}
	why := map[string]any{"code": code, "reason": reason}
	if byEpoch > 0 {
		why["by_epoch"] = byEpoch
	}
	d.record(s.device, trace.Line{Dir: trace.Out, Transport: s.transport, Event: "disconnect"}, why)
}

func (d *Door) recordClose(s *Session, reason string) {
	if d.Trace.Follows(s.device) {
		d.record(s.device, trace.Line{Dir: trace.In, Transport: s.transport, Event: "close"}, map[string]any{"reason": reason, "epoch": s.Epoch()})
	}
}

// topic is where the session's device hears events of a kind.
func (s *Session) topic(k devices.Kind) string {
	if s.transport == devices.OverMQTT {
		return "" // its topics are the listener's affair
	}
	return devices.Topic(k, s.device)
}

// send hands the device an event.
func (s *Session) send(k devices.Kind, event string, payload any) bool {
	l := trace.Line{Dir: trace.Out, Transport: s.transport, Topic: s.topic(k), Event: event}
	s.door.record(s.device, l, payload)
	sent := s.link.Send(k, event, payload)
	if !sent {
		l.Outcome = "not_sent"
		s.door.record(s.device, l, nil)
	}
	return sent
}
