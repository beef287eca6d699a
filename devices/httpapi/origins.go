package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"devicehub/devices"
)

// Origins says from which web pages the hub may be called, and by which names it is.
type Origins struct {
	PublicURL string   // the hub as browsers reach it; "" takes the request's host
	Allowed   []string // further origins, such as "https://home.example.org"
	// Names are the machine's own. With nil every name is taken for one.
	Names []string
}

// OK reports whether the request has no Origin (no page sent it), the hub's
// own, or an allowed one.
func (o Origins) OK(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.ContainsFunc(o.Allowed, func(a string) bool { return strings.EqualFold(strings.TrimSuffix(a, "/"), origin) }) {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	host := r.Host
	if o.PublicURL != "" {
		p, err := url.Parse(o.PublicURL)
		if err != nil {
			return false
		}
		host = p.Host
	}
	return strings.EqualFold(trimPort(u.Scheme, u.Host), trimPort(u.Scheme, host))
}

// trimPort drops a scheme's own port: browsers do.
func trimPort(scheme, host string) string {
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

// Handler refuses requests for a host that is not the hub, unless PublicURL or TLS says which is:
// a page that has its own name lead to the hub's address (DNS rebinding) would be the hub's own
// page otherwise. Whether the hub is well may be asked by any name.
func (o Origins) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.PublicURL != "" || Secure(r) || o.knows(r) || r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
			next.ServeHTTP(w, r)
			return
		}
		e := devices.Refuse(devices.CodeForbidden, "the hub does not know that it is called by this host name: set http.public_url, or name it in http.allowed_origins")
		writeJSON(w, e.HTTPStatus(), e)
	})
}

// unregistered are the ends of names that nobody can own on the internet (RFC 6761, RFC 6762, RFC
// 8375, and .internal by resolution of ICANN).
var unregistered = []string{".local", ".localhost", ".home.arpa", ".internal"}

// knows reports whether the request's host is an address, a name of the machine, of PublicURL or
// of an allowed origin, or one that nobody can have lead here from the internet.
func (o Origins) knows(r *http.Request) bool {
	host := bare(r.Host)
	if o.Names == nil || host == "" || !strings.Contains(host, ".") {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	named := func(origin string) bool {
		u, err := url.Parse(origin)
		return err == nil && bare(u.Host) == host
	}
	return slices.ContainsFunc(unregistered, func(end string) bool { return strings.HasSuffix(host, end) }) ||
		slices.ContainsFunc(o.Names, func(n string) bool { return bare(n) == host }) ||
		slices.ContainsFunc(o.Allowed, named) || named(o.PublicURL)
}

// bare is a host without port, brackets, zone and final dot, in lower case.
func bare(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if ip, zone, found := strings.Cut(host, "%"); found && zone != "" {
		host = ip
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
