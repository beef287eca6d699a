package bridge

import "devicehub/bridge/packet"

// encode appends a packet, without its reason string where the client wants none
// [MQTT-3.1.2-29]. Of one that is larger than the client takes, the properties go
// that only explain [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.14.2-3]; if it is too
// large even so, nothing is appended, and whoever sends goes on as if it had been
// [MQTT-3.1.2-24] [MQTT-3.1.2-25].
func (c *conn) encode(b []byte, pk *packet.Packet) []byte {
	p := &pk.Properties
	if t := pk.FixedHeader.Type; c.terse && t != packet.Connack && t != packet.Disconnect {
		p.ReasonString = ""
	}
	out := appendPacket(b, pk)
	if c.fits(len(out) - len(b)) {
		return out
	}
	for _, drop := range []func(){
		func() { p.ReasonString = "" },
		func() {
			if pk.FixedHeader.Type == packet.Connack {
				c.dropLimits(p)
			}
		},
		func() {
			if pk.FixedHeader.Type == packet.Publish {
				p.CorrelationData = nil
			}
		},
	} {
		drop()
		if out = appendPacket(b, pk); c.fits(len(out) - len(b)) {
			return out
		}
	}
	c.srv.stats.dropped.Add(1)
	return b
}

// fits reports whether the client takes a packet of n bytes.
func (c *conn) fits(n int) bool { return c.maxPacket == 0 || n <= int(c.maxPacket) }

// dropLimits takes out of a CONNACK what the client may do without: the hub keeps to
// its limits all the same. Its client id, its keep-alive and how long its session is
// kept it has to know.
func (c *conn) dropLimits(p *packet.Properties) {
	p.MaximumPacketSize, p.ReceiveMaximum, p.TopicAliasMaximum = 0, 0, 0
	p.RetainAvailableFlag, p.RetainAvailable = false, 0
}

func appendPacket(b []byte, pk *packet.Packet) []byte {
	out, err := packet.Append(b, pk)
	if err != nil { // only for packets that no caller builds
		return b
	}
	return out
}
