// Package bridge is MQTT in and out.
//
// In: [Server] listens for devices and service accounts, MQTT 3.1.1 and 5, over
// TCP, TLS and WebSocket. A device signs in with its id and token and speaks to
// its [Session]; what it publishes reaches no subscriber, and what it is sent
// comes from the hub's command log. A service account is a client of the small
// broker (package broker), within its topic filters.
//
// Out: package remote keeps connections to other people's brokers. Package
// adapter speaks the dialects of the devices that people already own, on those
// brokers and on the hub's own.
//
// # Why a listener of our own
//
// The hub acknowledges a publish when its fate is decided, which is when a group
// commit has reached the disk. An embedded broker with hooks (mochi-mqtt/server
// 2.7.9 was tried) asks its hook before it acknowledges and reads no further
// until the hook returns: with commits of 5 ms, 400 publishes in flight and one
// connection it reached 189 messages a second. Handing the publish on and
// acknowledging from the commit reached 66,000 (BenchmarkOneConnection; one run,
// 2 cores shared with the client). That broker also acknowledges to clients of
// MQTT 3.1.1 when its hook fails, does not ask about wills, hands a session to
// whoever sends its client id, and stalls outbound QoS 1 once a small Receive
// Maximum is used up. None of that can be mended from its hooks, so the hub
// takes its packet codec alone (package packet says what that leaves to check)
// and none of its server.
//
// What the listener costs, against Mosquitto 2.0.11 in the same run (BenchmarkIngest
// and BenchmarkIdle; 50 connections, 20 unacknowledged each): for a publish at
// QoS 1 3 µs of CPU, 8 µs with the hub's whole path behind it and the reading on
// the disk before its PUBACK, and Mosquitto 8 µs; at QoS 0 0.7, 3.1 and 2.7 µs. An
// idle connection with a subscription has 7.6 KB resident, 11.5 KB with the hub
// behind it, Mosquitto 1.8 KB. The small broker (BenchmarkRoute) spends 1.6 µs a
// delivery from one publisher to 100 subscribers at QoS 0, Mosquitto 5.0 µs; 10
// against 12 µs from 20 to one at QoS 1.
//
// # How a connection works
//
// One goroutine reads, and holds a read buffer only while there is something to
// read. Whoever has something to send appends it, encoded, to the connection's
// outbox; the first to do so starts a writer, which takes all that has come
// together and ends. So a commit that decides four hundred publishes writes
// four hundred acknowledgements at once, and an idle connection has neither
// buffers nor a second goroutine. Every queue has a bound: bytes not yet written
// (beyond which the client is cut off as slow), publishes that wait for their
// decision (beyond which a client of MQTT 3.1.1 is not read from, and one of
// MQTT 5 breaks its Receive Maximum), messages for a device (beyond which the
// sender is told no). What an account says to an adapter waits for its decision
// like what a device says.
//
// A newer connection of the same client waits until the older one has taken what
// its socket holds, a DISCONNECT perhaps, before it is judged whether it takes
// over. Nobody else waits, and the newcomer not for long.
//
// # Where this departs from the specifications
//
// A resumed session of a device has its subscriptions and the QoS 2 publishes
// that were taken, and redelivers nothing as it was ([MQTT-4.4.0-1] would have it):
// what the command log still wants done is sent anew, with the time that is left.
// So is what the device has to hear on sys/down: its settings as they are now, a
// token that it asked for, what was refused of its messages, until it has
// acknowledged them. Those do not survive a restart of the hub; the settings and
// commands do. A device's session key is its id, whatever client id
// it sends. DISCONNECT uses 0x8A for a disabled device. The session of a service
// account may end before its time, when the account has more than it may.
//
// After a crash a QoS 1 message that may have been sent is sent again with DUP; an
// account's message that is refused for want of room, or because it cannot be
// written, is not acknowledged to a client of MQTT 3.1.1, whose connection ends:
// nothing that has to be kept is acknowledged before it is durable.
package bridge
