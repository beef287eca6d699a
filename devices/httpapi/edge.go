package httpapi

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"devicehub/devices"
)

// Headers sets what every answer of the hub carries.
func Headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		if strings.HasPrefix(r.URL.Path, "/api") {
			h.Set("Cache-Control", "no-store")
		}
		next.ServeHTTP(w, r)
	})
}

type secureKey struct{}

// Forwarded believes the proxies at the trusted addresses: for their requests
// it puts the client's address (X-Forwarded-For, the last that is not itself a
// trusted proxy) into RemoteAddr, the host the client asked for
// (X-Forwarded-Host) into Host, and remembers whether the client came by https
// (X-Forwarded-Proto).
func Forwarded(trusted []netip.Prefix, next http.Handler) http.Handler {
	if len(trusted) == 0 {
		return next
	}
	isTrusted := func(s string) (netip.Addr, bool) {
		ip, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			return netip.Addr{}, false
		}
		ip = ip.Unmap().WithZone("")
		return ip, slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, believed := isTrusted(peer(r)); !believed {
			next.ServeHTTP(w, r)
			return
		}
		client := r.RemoteAddr
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for _, hop := range slices.Backward(hops) {
			ip, proxy := isTrusted(hop)
			if !ip.IsValid() {
				break
			}
			client = netip.AddrPortFrom(ip, 0).String()
			if !proxy {
				break
			}
		}
		secure := strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
		r = r.WithContext(context.WithValue(r.Context(), secureKey{}, secure))
		r.RemoteAddr = client
		if host := r.Header.Get("X-Forwarded-Host"); host != "" {
			r.Host = host
		}
		next.ServeHTTP(w, r)
	})
}

// secure reports whether the client came by https.
func secure(r *http.Request) bool {
	s, _ := r.Context().Value(secureKey{}).(bool)
	return s || r.TLS != nil
}

// peer is the client's address without port, "" for a Unix socket.
func peer(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	if _, err := netip.ParseAddr(r.RemoteAddr); err == nil {
		return r.RemoteAddr
	}
	return ""
}

// Origins says from which web pages the hub may be called.
type Origins struct {
	PublicURL string   // the hub as browsers reach it; "" takes the request's host
	Allowed   []string // further origins, such as "https://home.example.org"
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

// maySignIn refuses a password that crossed a public network readable.
func (a *API) maySignIn(r *http.Request) error {
	if a.cfg.InsecureLogin == InsecureAny || secure(r) {
		return nil
	}
	if _, local := r.Context().Value(actorKey{}).(known); local {
		return nil
	}
	ip, err := netip.ParseAddr(peer(r))
	if err == nil {
		ip = ip.Unmap()
		if ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() {
			return nil
		}
	}
	return devices.Refuse(devices.CodeForbidden, "sign in over https: without TLS the hub takes passwords from private addresses only (http.insecure_login)")
}
