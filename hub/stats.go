package hub

import "sync/atomic"

// striped is a counter on several cache lines, for what every delivery counts.
type striped [16]struct {
	n atomic.Int64
	_ [56]byte
}

func (s *striped) add(stripe uint32, n int64) { s[stripe%16].n.Add(n) }

func (s *striped) load() (sum int64) {
	for i := range s {
		sum += s[i].n.Load()
	}
	return sum
}

// Stats is a snapshot of an Endpoint's counters. Those with a unit in their name aside, each
// counts events since the endpoint was made.
type Stats struct {
	// Connections and Channels are open now, by transport.
	WebSockets int64
	LongPolls  int64
	InMemory   int64
	Channels   int64

	Connects        int64 // connections that were let in
	ConnectsRefused int64 // by the ConnectFunc, the origin, the subprotocol or the vsn
	Joins           int64 // joins that were accepted
	JoinsRefused    int64 // refused, crashed, unmatched, or one too many
	Crashes         int64 // channels that ended with phx_error, crashed joins included

	MessagesIn  int64 // frames from clients
	BytesIn     int64
	MessagesOut int64 // frames to clients, handed to the kernel or to a poll
	BytesOut    int64

	Dropped        int64 // broadcasts dropped by DropOldest
	Conflated      int64 // broadcasts replaced under Latest
	Unencodable    int64 // broadcasts that a client's version cannot carry
	SlowConsumers  int64 // connections closed because they did not read
	IdleTimeouts   int64
	ProtocolErrors int64
	Overloads      int64 // channels ended because messages from inside overflowed their inbox
	Abandoned      int64 // channels given up because a callback did not return
	Guarded        int64 // messages that a Guard refused
}

type counters struct {
	webSockets, longPolls, inMemory, channels                   atomic.Int64
	connects, connectsRefused, joins, joinsRefused, crashes     atomic.Int64
	messagesIn, bytesIn, messagesOut, bytesOut                  striped
	dropped, conflated, unencodable                             atomic.Int64
	slowConsumers, idleTimeouts, protocolErrors, inboxOverloads atomic.Int64
	abandoned, guarded                                          atomic.Int64
}

// Stats returns the counters as they are now. It takes no lock.
func (ep *Endpoint) Stats() Stats {
	n := &ep.counters
	return Stats{
		WebSockets: n.webSockets.Load(), LongPolls: n.longPolls.Load(), InMemory: n.inMemory.Load(), Channels: n.channels.Load(),
		Connects: n.connects.Load(), ConnectsRefused: n.connectsRefused.Load(), Joins: n.joins.Load(),
		JoinsRefused: n.joinsRefused.Load(), Crashes: n.crashes.Load(),
		MessagesIn: n.messagesIn.load(), BytesIn: n.bytesIn.load(), MessagesOut: n.messagesOut.load(), BytesOut: n.bytesOut.load(),
		Dropped: n.dropped.Load(), Conflated: n.conflated.Load(), Unencodable: n.unencodable.Load(),
		SlowConsumers: n.slowConsumers.Load(), IdleTimeouts: n.idleTimeouts.Load(),
		ProtocolErrors: n.protocolErrors.Load(), Overloads: n.inboxOverloads.Load(),
		Abandoned: n.abandoned.Load(), Guarded: n.guarded.Load(),
	}
}
