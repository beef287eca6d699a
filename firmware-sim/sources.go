package sim

import (
	"context"
	"math"
	"net"
	"net/http"
	"net/netip"
	"runtime"
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

// pollers are the HTTP clients of devices that poll: one for each address, as a device that came
// from several would be taken for two.
func (s *Sim) pollers() []*http.Client {
	all := make([]*http.Client, max(1, len(s.sources)))
	for n := range all {
		all[n] = &http.Client{Transport: &http.Transport{
			DialContext:         s.dialFor(n),
			MaxIdleConnsPerHost: 50_000, IdleConnTimeout: time.Minute,
			ReadBufferSize: 1024, WriteBufferSize: 1024,
		}}
	}
	return all
}

// pollFor is the HTTP client of device n.
func (s *Sim) pollFor(n int) *http.Client { return s.polls[n%len(s.polls)] }
