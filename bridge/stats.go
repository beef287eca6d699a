package bridge

import (
	"sync/atomic"

	"devicehub/bridge/broker"
)

// counters are what the listener counts.
type counters struct {
	devices, accepted, refused, throttled          atomic.Int64
	packetsIn, publishIn, publishOut               atomic.Int64
	malformed, panics, timeouts, slow              atomic.Int64
	foreign, retained, retryable, dropped, expired atomic.Int64
}

// Stats is what the listener has counted since it began. Connections and
// Devices are at this moment.
type Stats struct {
	Connections int64
	Devices     int64 // signed in as devices
	Accepted    int64 // connections
	Refused     int64 // CONNECTs answered with an error
	Throttled   int64 // connections over a limit
	PacketsIn   int64
	PublishIn   int64 // from devices
	PublishOut  int64 // to devices
	Malformed   int64 // connections ended for breaking the specification
	Panics      int64 // contained
	Timeouts    int64 // keep-alive
	Slow        int64 // clients cut off because they did not take what was sent
	Foreign     int64 // publishes, wills and subscriptions outside the device's own topics
	Retained    int64 // publishes and wills of devices with retain
	Retryable   int64 // publishes not taken for now
	Dropped     int64 // messages for devices that were not sent
	Expired     int64 // commands that expired while they waited for the device
	Broker      broker.Stats
}

// Stats returns the counts.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	n := len(s.conns)
	s.mu.Unlock()
	c := &s.stats
	return Stats{
		Connections: int64(n), Devices: c.devices.Load(), Accepted: c.accepted.Load(), Refused: c.refused.Load(), Throttled: c.throttled.Load(),
		PacketsIn: c.packetsIn.Load(), PublishIn: c.publishIn.Load(), PublishOut: c.publishOut.Load(),
		Malformed: c.malformed.Load(), Panics: c.panics.Load(), Timeouts: c.timeouts.Load(), Slow: c.slow.Load(),
		Foreign: c.foreign.Load(), Retained: c.retained.Load(), Retryable: c.retryable.Load(), Dropped: c.dropped.Load(), Expired: c.expired.Load(),
		Broker: s.broker.Stats(),
	}
}
