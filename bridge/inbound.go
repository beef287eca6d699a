package bridge

import (
	"errors"
	"strings"

	"devicehub/bridge/packet"
	"devicehub/devices"
)

// publish takes what the device says. It does not wait for the decision: the
// acknowledgement follows it, from another goroutine, so one connection has as
// many publishes under way as InFlight allows.
func (d *device) publish(pk *packet.Packet) error {
	if err := d.resolveAlias(pk); err != nil {
		return err
	}
	d.srv.stats.publishIn.Add(1)
	qos, id := pk.FixedHeader.Qos, pk.PacketID
	if qos == 2 {
		again, err := d.seen(id)
		if again || err != nil {
			return err
		}
	}
	if err := d.admit(qos); err != nil {
		return err
	}
	done := func(answer any, err error) { d.decided(qos, id, "", "", answer, err) }
	last, own := d.srv.topics.own(d.id, pk.TopicName)
	on, metric, known := inbound(last)
	switch {
	case pk.FixedHeader.Retain:
		d.srv.stats.retained.Add(1)
		d.srv.audit(d.id, "mqtt.retained", devices.CodeRetainedCommand)
		if qos == 0 && d.version == packet.V5 {
			return &packet.Error{Code: packet.RetainNotSupported, What: "retained_command: a device retains nothing"} // MQTT 5 §3.2.2.3.5
		}
		done(nil, devices.Refuse(devices.CodeRetainedCommand, "a device's publish is not retained"))
		return nil
	case !own && pk.TopicName == "":
		return &packet.Error{Code: packet.ProtocolError, What: "no topic and no alias"} // [MQTT-3.3.2-1]
	case !own || !known:
		d.srv.stats.foreign.Add(1)
		done(nil, devices.Refuse(devices.CodeForbidden, "this topic is not the device's to publish on"))
		return nil
	}
	// What is handed on outlives pk, whose memory is used again when this call ends.
	topic := strings.Clone(pk.TopicName)
	metric = topic[len(topic)-len(metric):]
	payload := append([]byte(nil), pk.Payload...)
	d.dispatch(on, metric, payload, pk.Properties.ContentType, func(event string) func(any, error) {
		return func(answer any, err error) { d.decided(qos, id, topic, event, answer, err) }
	})
	return nil
}

// resolveAlias puts the topic behind a topic alias in its place, before anything
// is judged by it (MQTT 5 §3.3.2.3.4).
func (d *device) resolveAlias(pk *packet.Packet) error {
	if !pk.Properties.TopicAliasFlag {
		return nil
	}
	a := pk.Properties.TopicAlias
	switch {
	case a == 0 || a > maxAliases:
		return &packet.Error{Code: packet.InvalidTopicAlias, What: "topic alias out of range"}
	case pk.TopicName != "":
		d.aliases[a] = "" // of a topic that is none of the device's, which would only take memory
		if len(pk.TopicName) <= maxAliased/maxAliases {
			d.aliases[a] = strings.Clone(pk.TopicName)
		}
	case d.aliases[a] == "":
		return &packet.Error{Code: packet.ProtocolError, What: "unknown topic alias"} // [MQTT-3.3.2-12], §3.3.4
	default:
		pk.TopicName = d.aliases[a]
	}
	return nil
}

// dispatch hands one publish to the session.
func (d *device) dispatch(on, metric string, payload []byte, contentType string, done func(event string) func(any, error)) {
	switch on {
	case onReadings:
		if metric != "" {
			d.sess.HandleBare(metric, payload, done("reading"))
			return
		}
		event := readingsEvent(payload)
		d.sess.Handle(event, payload, false, done(event))
	case onSenML:
		d.sess.Handle("senml", payload, cborSenML(contentType, payload), done("senml"))
	case onSys:
		event, rest, err := sysEvent(payload)
		if err != nil {
			done("")(nil, err)
			return
		}
		d.sess.Handle(event, rest, false, done(event))
	default: // state, ack
		d.sess.Handle(on, payload, false, done(on))
	}
}

// seen reports whether a QoS 2 publish is one that is known already, and
// answers it if it has been decided [MQTT-4.3.3-2]. Those that the client never
// releases are bounded.
func (d *device) seen(id uint16) (bool, error) {
	d.mu.Lock()
	_, decided := d.state.received[id]
	n := len(d.state.received)
	d.mu.Unlock()
	if decided {
		d.acknowledge(packet.Pubrec, id, packet.Success, "")
		return true, nil
	}
	d.in.mu.Lock()
	defer d.in.mu.Unlock()
	if _, deciding := d.deciding[id]; deciding {
		return true, nil // PUBREC comes with the decision
	}
	if n+len(d.deciding) >= d.srv.cfg.InFlight {
		return false, &packet.Error{Code: packet.ReceiveMaxExceeded, What: "too many QoS 2 publishes not released"} // [MQTT-3.3.4-7]
	}
	d.deciding[id] = struct{}{}
	return false, nil
}

// release ends a QoS 2 publish.
func (d *device) release(id uint16) {
	d.mu.Lock()
	_, known := d.state.received[id]
	delete(d.state.received, id)
	d.mu.Unlock()
	code := byte(packet.Success)
	if !known {
		code = packet.PacketIDNotFound
	}
	d.put(func(b []byte) []byte { return packet.AppendAck(b, packet.Pubcomp, id, d.version, code) })
}

// decided acknowledges a publish once its fate is known: it was stored, is a
// duplicate, or is refused for good. What may succeed later is not
// acknowledged over MQTT 3.1.1, so that the device sends it again.
func (d *device) decided(qos byte, id uint16, topic, event string, answer any, err error) {
	var e *devices.Error
	if err != nil {
		if e = refusal(err); !errors.As(err, new(*devices.Error)) {
			d.srv.log.Error("mqtt event failed", "device", string(d.id), "topic", topic, "err", err)
		}
	}
	retry := e != nil && e.Retryable()
	if retry {
		d.srv.stats.retryable.Add(1)
	}
	if err == nil {
		d.answer(event, answer)
	}
	if refused, some := refusedOf(e, answer, err); some {
		d.tellRefused(qos, topic, refused)
	}
	d.in.mu.Lock()
	delete(d.deciding, id)
	if e != nil && (e.Code == devices.CodeRateLimited || event == "") { // what no session judged has no rate of its own
		d.refusals++
	} else {
		d.refusals = 0
	}
	tooMany := d.refusals == maxRefusals
	d.in.mu.Unlock()
	d.leave(qos, e, stallMax)
	if tooMany {
		d.end(ending{reason: "rate_limited", code: packet.RateTooHigh, text: "rate_limited: too many events"})
	}
	if qos == 0 || retry && d.version != packet.V5 {
		return
	}
	code, text := byte(packet.Success), ""
	if e != nil {
		code, text = ackCode(e.Code), string(e.Code)+": "+e.Reason
	}
	if qos == 1 {
		d.acknowledge(packet.Puback, id, code, text)
		return
	}
	if code < packet.Unspecified { // a refused publish ends with its PUBREC (MQTT 5 §4.3.3)
		d.mu.Lock()
		d.state.received[id] = struct{}{}
		d.mu.Unlock()
	}
	d.acknowledge(packet.Pubrec, id, code, text)
}

func (d *device) acknowledge(typ byte, id uint16, code byte, text string) {
	if text == "" || d.version != packet.V5 {
		if d.version != packet.V5 {
			code = packet.Success
		}
		d.put(func(b []byte) []byte { return packet.AppendAck(b, typ, id, d.version, code) })
		return
	}
	pk := packet.Packet{ProtocolVersion: d.version, PacketID: id, ReasonCode: code}
	pk.FixedHeader.Type = typ
	pk.Properties.ReasonString = text
	d.put(func(b []byte) []byte { return d.encode(b, &pk) })
}

// answer sends on sys/down what some events are answered with.
func (d *device) answer(event string, answer any) {
	switch event {
	case "time_req":
		d.Tell("time", answer)
	case "token_refresh":
		d.Answer(event, "token", answer)
	}
}

// maxRefusals is how many publishes in a row may be over the device's rate or
// outside its topics before it is sent away.
const maxRefusals = 1000
