package bridge

import (
	"strings"

	"devicehub/devices"
)

// topics is which MQTT topic means what, below a root such as "hub/v1".
type topics struct{ root string }

// The last levels of a device's topics.
const (
	onReadings = "r"
	onSenML    = "senml"
	onState    = "state"
	onAck      = "ack"
	onSys      = "sys"
	onCmd      = "cmd"
	onDown     = "sys/down"
	onWill     = "lwt"
	onOnline   = "online"
	hubName    = "_hub" // no device's id: those begin with a letter or digit
)

func (t topics) of(id devices.ID, last string) string {
	return t.root + "/" + string(id) + "/" + last
}

// hubOnline is the hub's own retained availability.
func (t topics) hubOnline() string { return t.root + "/" + hubName + "/" + onOnline }

// own cuts a topic or filter below <root>/<id>/; ok is false for any other.
func (t topics) own(id devices.ID, topic string) (last string, ok bool) {
	rest, ok := strings.CutPrefix(topic, t.root+"/")
	if !ok {
		return "", false
	}
	return strings.CutPrefix(rest, string(id)+"/")
}

// below cuts a topic below the root into device and the levels after it.
func (t topics) below(topic string) (id, last string, ok bool) {
	rest, ok := strings.CutPrefix(topic, t.root+"/")
	if !ok {
		return "", "", false
	}
	id, last, ok = strings.Cut(rest, "/")
	return id, last, ok
}

// setTopic is the device of <root>/<id>/ha/…/set, on which Home Assistant sends
// commands.
func (t topics) setTopic(topic string) (devices.ID, bool) {
	id, last, ok := t.below(topic)
	return devices.ID(id), ok && strings.HasPrefix(last, "ha/") && strings.HasSuffix(last, "/set")
}

func (t topics) isSet(topic string) bool {
	_, ok := t.setTopic(topic)
	return ok
}

// inbound says what a device publishes on one of its own topics; ok is false
// where it may not publish. The metric, if there is one, is the topic's end and
// shares its memory; on does not.
func inbound(last string) (on, metric string, ok bool) {
	for _, on := range [...]string{onReadings, onSenML, onState, onAck, onSys} {
		if last == on {
			return on, "", true
		}
	}
	if metric, ok := strings.CutPrefix(last, onReadings+"/"); ok && metric != "" && !strings.Contains(metric, "/") {
		return onReadings, metric, true
	}
	return "", "", false
}
