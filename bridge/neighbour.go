package bridge

import (
	"strings"

	"devicehub/bridge/packet"
)

// Brokers of others connect to the hub's own as a bridge does: Mosquitto's
// "connection". See README.md.

// isBridgeState reports whether a bridge tells on a topic whether it is connected,
// as Mosquitto does in a retained message and its will.
func isBridgeState(topic string) bool {
	rest, ok := strings.CutPrefix(topic, "$SYS/broker/connection/")
	return ok && strings.HasSuffix(rest, "/state")
}

// isBridge reports whether a CONNECT is a bridge's, which is to hear nothing of
// what it sends: by the bit in its protocol level, or by its will.
func isBridge(pk *packet.Packet, body []byte) bool {
	return packet.FromBridge(body) || pk.Connect.WillFlag && isBridgeState(pk.Connect.WillTopic)
}

// isSys reports whether a filter asks for what a broker tells of itself. Programs
// that show a broker ask for it as a matter of course; this one tells nothing there,
// and what others publish there is for those whose topics include it.
func isSys(filter string) bool { return filter == "$SYS" || strings.HasPrefix(filter, "$SYS/") }

// bridgeWindow is how many messages at QoS 1 and 2 may be under way to a bridge that
// cannot say how many it takes. Mosquitto drops what comes at QoS 2 beyond its
// max_inflight_messages, 20 by default, and acknowledges it.
const bridgeWindow = 20

// receiveMax is how many messages a client takes at once; 0 is no bound of its own.
func (c *conn) receiveMax(pk *packet.Packet) int {
	if c.bridge && c.version != packet.V5 {
		return bridgeWindow
	}
	return int(pk.Properties.ReceiveMaximum)
}
