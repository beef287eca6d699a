package hub

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// WithOrigins lets in requests whose Origin matches one of the patterns, and those without one. A
// pattern is //host, scheme://host, or either with a port; a host that begins with *. stands for
// itself and every subdomain, at any depth. A scheme implies its default port. The pattern
// "self" stands for the host that the request was sent to. It panics for a pattern that it
// cannot read.
func WithOrigins(patterns ...string) SocketOption {
	allowed := make([]*url.URL, 0, len(patterns))
	self := false
	for _, p := range patterns {
		if p == "self" {
			self = true
			continue
		}
		u, err := url.Parse(p)
		if err != nil || u.Hostname() == "" {
			panic("hub: origin pattern " + p)
		}
		allowed = append(allowed, u)
	}
	return WithCheckOrigin(func(r *http.Request) bool {
		origin, err := url.Parse(r.Header.Get("Origin"))
		if err != nil || origin.Hostname() == "" {
			return false
		}
		if self && sameHost(origin, r) {
			return true
		}
		for _, u := range allowed {
			if originMatches(origin, u) {
				return true
			}
		}
		return false
	})
}

func sameHost(origin *url.URL, r *http.Request) bool {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		host, port = r.Host, ""
	}
	if port == "" {
		port = defaultPort(scheme)
	}
	return origin.Scheme == scheme && strings.EqualFold(origin.Hostname(), strings.Trim(host, "[]")) && portOf(origin) == port
}

func originMatches(origin, pattern *url.URL) bool {
	if pattern.Scheme != "" && pattern.Scheme != origin.Scheme {
		return false
	}
	if port := portOf(pattern); port != "" && port != portOf(origin) {
		return false
	}
	host, want := strings.ToLower(origin.Hostname()), strings.ToLower(pattern.Hostname())
	if base, ok := strings.CutPrefix(want, "*."); ok {
		return host == base || strings.HasSuffix(host, "."+base)
	}
	return host == want
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return defaultPort(u.Scheme)
}

func defaultPort(scheme string) string {
	switch scheme {
	case "http", "ws":
		return "80"
	case "https", "wss":
		return "443"
	}
	return ""
}

// originAllowed reports whether a request may come from where it does.
func (m *mount) originAllowed(r *http.Request) bool {
	if _, there := r.Header["Origin"]; !there || m.opts.origin == nil {
		return true
	}
	return m.opts.origin(r)
}
