package sim

import (
	"context"
	"math"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// portsEach is how many connections are made from one address to one listener before the next is used: the range of
// ephemeral ports is 28,000 wide on Linux (ip(7), ip_local_port_range).
const portsEach = 20_000

// addresses are where the devices connect from, in turn; none leaves it to the system. Unless told otherwise that is so,
// but for a fleet too large for the ports of one address on a hub on loopback, all of whose addresses are ours.
func (s *Sim) addresses() []netip.Addr {
	if len(s.cfg.Sources) > 0 {
		return s.cfg.Sources
	}
	count := int(math.Ceil(float64(s.profile.Devices()) * s.cfg.Scale / portsEach))
	hub, err := netip.ParseAddr(s.cfg.Hub.Hostname())
	if count < 2 || err != nil || !hub.Is4() || !hub.IsLoopback() {
		return nil
	}
	all := make([]netip.Addr, 0, count)
	for a := netip.AddrFrom4([4]byte{127, 0, 0, 1}); len(all) < count; a = a.Next() {
		all = append(all, a)
	}
	return all
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// dialFrom connects from one address.
func dialFrom(a netip.Addr) dialFunc {
	d := &net.Dialer{Timeout: 30 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))}
	return d.DialContext
}

// dialInTurn connects from one address after the other.
func dialInTurn(all []netip.Addr) dialFunc {
	var next atomic.Uint32
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dialFrom(all[int(next.Add(1))%len(all)])(ctx, network, addr)
	}
}
