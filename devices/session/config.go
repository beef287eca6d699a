package session

import (
	"encoding/json"
	"slices"
	"time"

	"devicehub/devices"
)

// Config is what a device is told of its settings: the object set by people, with
// the hub's own fields.
func Config(dev *devices.Device) map[string]any {
	c := map[string]any{}
	if len(dev.Config) > 0 {
		_ = json.Unmarshal(dev.Config, &c) // checked when it was set
	}
	c["ver"] = dev.ConfigVer
	if dev.ExpectedIntervalS > 0 {
		c["expected_interval_s"] = dev.ExpectedIntervalS
	}
	if len(dev.Metrics) > 0 {
		c["metrics"] = dev.Metrics
	}
	if dev.Light != nil {
		c["light"] = dev.Light
	}
	return c
}

// Configured reports whether there is anything to tell a device of its settings:
// some are set, or were.
func Configured(dev *devices.Device) bool { return dev.ConfigVer > 0 || len(Config(dev)) > 1 }

// ConfigChanged reports whether a device is to be told of its settings anew.
func ConfigChanged(before, after *devices.Device) bool {
	if before == nil {
		return true
	}
	a, _ := json.Marshal(Config(before))
	b, _ := json.Marshal(Config(after))
	return !slices.Equal(a, b)
}

// configured is what a session told of the settings because the device named
// others.
type configured struct {
	ver int64
	at  time.Time
}

// again is how long a device that keeps naming other settings than it was told is
// not told them again.
const again = 30 * time.Second

// Knower is a Link that remembers what the device has acknowledged.
type Knower interface {
	// Knows reports whether the device has acknowledged just this event, and has kept
	// what it knew since.
	Knows(event string, payload any) bool
}

// Attend says that the device hears from now on what it is told beside commands,
// where a join's reply has not told it: what its settings are, and that its token
// runs out.
func (s *Session) Attend() {
	dev, ok := s.door.Registry.Get(s.device)
	if !ok {
		return
	}
	if s.Epoch() != 0 && Configured(dev) {
		if k, ok := s.link.(Knower); !ok || !k.Knows("config", Config(dev)) {
			s.sendConfig(dev)
		}
	}
	s.watchToken(time.Now())
}

func (s *Session) sendConfig(dev *devices.Device) {
	for _, k := range s.topics() {
		s.send(k, "config", Config(dev))
		return // once is enough for a device on two topics
	}
}

// reconfigure tells a device its settings that names others.
func (s *Session) reconfigure(dev *devices.Device, now time.Time) {
	s.mu.Lock()
	due := s.config.ver != dev.ConfigVer || now.Sub(s.config.at) >= again
	if due {
		s.config = configured{dev.ConfigVer, now}
	}
	s.mu.Unlock()
	if due {
		s.sendConfig(dev)
	}
}
