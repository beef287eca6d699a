package bridge

import (
	"context"
	"time"

	"devicehub/bridge/adapter"
	"devicehub/bridge/broker"
	"devicehub/devices"
)

// LocalName is the via of devices that adapters meet on the hub's own broker.
const LocalName = "embedded"

// NewAdapters makes adapters that work on the hub's own broker, as a bridge's do
// on a foreign one. RunAdapters runs them.
func (s *Server) NewAdapters(h adapter.Hub, list []adapter.Config) (*adapter.Set, error) {
	// Only service accounts publish there, each within its filters.
	return adapter.NewSet(h, localBus{s}, true, list)
}

// RunAdapters runs the adapters until ctx is done.
func (s *Server) RunAdapters(ctx context.Context, set *adapter.Set) {
	for _, f := range set.Filters() {
		cancel := s.broker.Subscribe(f, func(m broker.Message, from broker.Sender) {
			if !set.Take(adapter.Message{Topic: m.Topic, Payload: m.Payload, Retained: m.Retain && m.Stored, QoS: m.QoS}, from) {
				s.stats.dropped.Add(1)
				from.Decided(devices.Refuse(devices.CodeOverloaded, "too many messages wait for the adapters").After(time.Second))
			}
		})
		defer cancel()
	}
	set.Up()
	defer set.Down()
	set.Run(ctx)
}

// localBus is the hub's own broker as a bus.
type localBus struct{ s *Server }

func (b localBus) Name() string { return LocalName }

func (b localBus) Publish(topic string, payload []byte, qos byte, retain bool) bool {
	return b.s.broker.Publish(broker.Message{Topic: topic, Payload: payload, QoS: qos, Retain: retain}) == nil
}
