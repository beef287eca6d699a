package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"devicehub/devices"
)

// permissions are those of a browser that no page of the hub asks for.
const permissions = "accelerometer=(), bluetooth=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), " +
	"hid=(), microphone=(), midi=(), payment=(), serial=(), usb=()"

// Headers sets what every answer of the hub carries.
func Headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Permissions-Policy", permissions)
		if Secure(r) { // browsers heed it there alone, and complain of it elsewhere
			h.Set("Cross-Origin-Opener-Policy", "same-origin")
		}
		if strings.HasPrefix(r.URL.Path, "/api") {
			h.Set("Cache-Control", "no-store")
		}
		next.ServeHTTP(w, r)
	})
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

// maySignIn refuses a password that crossed a public network readable.
func (a *API) maySignIn(r *http.Request) error {
	if a.cfg.InsecureLogin == InsecureAny || Secure(r) {
		return nil
	}
	if _, local := r.Context().Value(actorKey{}).(known); local {
		return nil
	}
	if near(peer(r)) && !passed(r).hidden && a.cfg.Origins.knows(r) {
		return nil
	}
	return devices.Refuse(devices.CodeForbidden, "sign in over https: without TLS the hub takes passwords from private addresses only (http.insecure_login)")
}

// onMachine reports whether the call comes from the hub's own machine: not through a proxy that is
// there, and not from a page that has got the browser to take its own name for the machine's.
func (a *API) onMachine(r *http.Request) bool {
	ip, err := netip.ParseAddr(peer(r))
	p := passed(r)
	return err == nil && ip.Unmap().IsLoopback() && !p.hidden && !p.relayed && a.cfg.Origins.knows(r)
}

// near reports whether an address is of this machine or a private network.
func near(addr string) bool {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return false
	}
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
}
