package adapter

import (
	"encoding/json"
	"slices"

	"devicehub/devices"
	"devicehub/devices/liveness"
	"devicehub/devices/session"
)

// configured is what a device was told of its settings last.
type configured struct {
	epoch  int64 // over which link
	dev    *devices.Device
	fields json.RawMessage
}

// configure tells a device its settings when they have changed, and again over each
// link that it opens: that it has them is not known here. The broker keeps them for
// a device that is away and has a session there.
func (n *native) configure(e devices.Event) {
	dev, ok := n.Registry.Get(e.Device)
	if !ok || dev.Via != n.bus.Name() {
		n.mu.Lock()
		delete(n.told, e.Device)
		n.mu.Unlock()
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	was := n.told[dev.ID]
	now := configured{epoch: was.epoch, dev: dev}
	if st, ok := e.Payload.(liveness.Event); ok {
		if st.State == devices.Offline || st.State == devices.NeverSeen {
			return
		}
		now.epoch = st.Epoch
	}
	if now.epoch == was.epoch && dev == was.dev {
		return
	}
	if !session.Configured(dev) {
		n.told[dev.ID] = now
		return
	}
	now.fields, _ = json.Marshal(session.Config(dev)) // plain values
	if now.epoch == was.epoch && slices.Equal(now.fields, was.fields) || n.down(dev.ID, "config", now.fields, 1) {
		n.told[dev.ID] = now
	}
}

// misinformed reports whether a device was told other settings than it has, since
// the broker was away when they changed.
func (n *native) misinformed(dev *devices.Device) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	was, told := n.told[dev.ID]
	return told && was.dev != dev
}
