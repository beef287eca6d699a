package sim

import (
	"context"
	"math"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"
)

// devicesEach is how many devices connect from one address before the next is used: few enough that a hub which limits how
// often one address may connect does not take a fleet for a single client, and fewer than an address has ports.
const devicesEach = 500

// addresses are where the devices connect from, in turn; none leaves it to the system. Unless told otherwise that is so,
// but for a large fleet and a hub on Linux's loopback, all of whose addresses are ours.
func (s *Sim) addresses() []netip.Addr {
	if len(s.cfg.Sources) > 0 {
		return s.cfg.Sources
	}
	count := int(math.Ceil(float64(s.profile.Devices(s.cfg.Scale)) / devicesEach))
	hub, err := netip.ParseAddr(s.cfg.Hub.Hostname())
	if count < 2 || err != nil || !hub.Is4() || !hub.IsLoopback() || runtime.GOOS != "linux" {
		return nil
	}
	all := make([]netip.Addr, 0, count)
	for a := netip.AddrFrom4([4]byte{127, 0, 0, 1}); len(all) < count; a = a.Next() {
		all = append(all, a)
	}
	return all
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// dialFor is how device n connects; nil leaves it to the system.
func (s *Sim) dialFor(n int) dialFunc {
	switch {
	case s.cfg.Dial != nil:
		return s.cfg.Dial
	case len(s.sources) > 0:
		return dialFrom(s.sources[n%len(s.sources)])
	}
	return nil
}

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
