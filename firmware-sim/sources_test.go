package sim

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"sync"
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

// A device that polls comes from one address, whatever connection its requests take.
func TestPollersKeepTheirAddress(t *testing.T) {
	var mu sync.Mutex
	from := map[string][]netip.Addr{} // by device
	hub := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		at := netip.MustParseAddrPort(r.RemoteAddr).Addr()
		if !slices.Contains(from[r.URL.Path], at) {
			from[r.URL.Path] = append(from[r.URL.Path], at)
		}
	}))
	defer hub.Close()
	s := &Sim{sources: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}}
	s.polls = s.pollers()
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			c := s.pollFor(n % 4)
			res, err := c.Get(fmt.Sprintf("%s/%d", hub.URL, n%4))
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
		})
	}
	wg.Wait()
	for _, c := range s.polls {
		c.CloseIdleConnections()
	}
	for device, at := range from {
		want := s.sources[int(device[1]-'0')%2]
		if len(at) != 1 || at[0] != want {
			t.Errorf("device %s came from %v, want %v", device[1:], at, want)
		}
	}
}
