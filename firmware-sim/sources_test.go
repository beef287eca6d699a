package sim

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"testing"

	"devicehub/firmware-sim/profile"
)

func TestAddressesOfALargeFleet(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("192.0.2.7")}
	for _, c := range []struct {
		name    string
		hub     string
		devices int
		sources []netip.Addr
		want    int
	}{
		{"one address will do", "http://127.0.0.1:4000", 500, nil, 0},
		{"loopback has more addresses", "http://127.0.0.1:4000", 1200, nil, 3},
		{"elsewhere the system chooses", "http://192.0.2.1:4000", 45_000, nil, 0},
		{"by name, too", "http://hub.example:4000", 45_000, nil, 0},
		{"as told", "http://192.0.2.1:4000", 10, own, 1},
	} {
		hub, err := url.Parse(c.hub)
		if err != nil {
			t.Fatal(err)
		}
		s := &Sim{cfg: Config{Hub: hub, Scale: 1, Sources: c.sources}, profile: &profile.Profile{Fleet: []profile.Group{{Count: c.devices}}}}
		if got := s.addresses(); len(got) != c.want {
			t.Errorf("%s: got %v, want %d addresses", c.name, got, c.want)
		}
	}
}

func TestDialInTurn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
	dial := dialInTurn(want)
	var got []netip.Addr
	for range 2 {
		out, err := dial(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Skip("this system has one loopback address: ", err)
		}
		defer out.Close()
		in, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		got = append(got, in.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
	}
	slices.SortFunc(got, netip.Addr.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("got connections from %v, want %v", got, want)
	}
}
