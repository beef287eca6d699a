package main

import (
	"net/http"
	"net/netip"
	"os"
	"strings"

	"devicehub/dashboard"
	"devicehub/devices/httpapi"
	"devicehub/hub/edge"
)

// handler is everything that the public listener serves.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/socket/", s.endpoint)
	mux.HandleFunc("GET /licenses.txt", serveLicenses)
	docs := httpapi.Docs()
	mux.Handle("/docs", docs)
	mux.Handle("/docs/", docs)
	mux.Handle("/", dashboard.New())
	split := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if httpapi.Owns(r.URL.Path) {
			s.api.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
	h := s.strictly(s.origins.Handler(httpapi.Headers(split)))
	return edge.Deadlines(s.certs.ChallengeHandler(relayed(s.proxies.Handler(h))), edge.TakeWithin)
}

// relayed takes over what a PROXY header said of a request's connection.
func relayed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := edge.ConnOf(r); c.Relayed() {
			r = httpapi.Relayed(r, c.Secure())
		}
		next.ServeHTTP(w, r)
	})
}

// strict has a browser ask for the hub by https alone for half a year (RFC 6797).
const strict = "max-age=15552000"

// strictly says so where the browser can go on to do it: over TLS with a certificate that the world
// knows, or through a proxy before a hub that is to be reached by https.
func (s *server) strictly(next http.Handler) http.Handler {
	declared := strings.HasPrefix(s.Config.HTTP.PublicURL, "https://")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && s.certs.Public() || r.TLS == nil && declared && httpapi.Secure(r) {
			w.Header().Set("Strict-Transport-Security", strict)
		}
		next.ServeHTTP(w, r)
	})
}

// trusted reads proxies' addresses and prefixes, which the configuration's
// check has found to be well-formed.
func trusted(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p)
		} else if ip, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	return out
}

// ownNames are the names under which the hub may be asked for: those of the machine, alone and in
// the domains that its network has given it, and those of the configuration.
func ownNames(cfg HTTPConfig) []string {
	names := append([]string{"localhost"}, publicHosts(cfg)...)
	names = append(names, cfg.TLS.ACMEDomains...)
	if host, err := os.Hostname(); err == nil && host != "" {
		short, _, _ := strings.Cut(host, ".")
		names = append(names, host, short)
		b, _ := os.ReadFile("/etc/resolv.conf") // there is none on some systems
		for _, domain := range searchDomains(string(b)) {
			names = append(names, short+"."+domain)
		}
	}
	return names
}

// searchDomains reads the domains of resolv.conf(5).
func searchDomains(conf string) []string {
	var domains []string
	for line := range strings.Lines(conf) {
		if f := strings.Fields(line); len(f) > 1 && (f[0] == "search" || f[0] == "domain") {
			for _, d := range f[1:] {
				if d = strings.Trim(d, "."); d != "" {
					domains = append(domains, d)
				}
			}
		}
	}
	return domains
}
