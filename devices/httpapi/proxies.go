package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Proxies are the reverse proxies before the hub: those that are believed, and those that were met.
type Proxies struct {
	Trusted []netip.Prefix
	Logger  *slog.Logger // may be nil

	mu  sync.Mutex
	met map[string]time.Time // those that are not trusted, and when last
}

const (
	maxMet = 16             // addresses; no more are remembered
	metFor = 24 * time.Hour // and for so long
)

// passage is how a request came to the hub.
type passage struct {
	secure  bool // by TLS, as far as the first proxy
	hidden  bool // through a proxy, and nobody knows from where: it is not trusted, or does not say
	relayed bool // through a proxy that is trusted
}

type passageKey struct{}

func passed(r *http.Request) passage {
	p, _ := r.Context().Value(passageKey{}).(passage)
	return p
}

// Relayed is a request over a connection whose client a trusted proxy has named when it was made;
// secure says that the client came to it by TLS. Its headers are the client's own words.
func Relayed(r *http.Request, secure bool) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), passageKey{}, passage{secure: secure, relayed: true}))
}

// Secure reports whether the client came by https.
func Secure(r *http.Request) bool { return r.TLS != nil || passed(r).secure }

// forwarding are the headers by which proxies say for whom they ask.
var forwarding = []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Real-Ip"}

// Handler believes the proxies at the trusted addresses: for their requests it puts the client's
// address (the last that is not itself a trusted proxy) into RemoteAddr, the host the client asked
// for into Host, and remembers whether the client came by https. It reads X-Forwarded-For, -Host
// and -Proto, or Forwarded (RFC 7239) where there is none of them.
//
// What another peer says there is not believed; but then the peer may be a proxy that the hub was
// not told of, and its address not the client's.
func (p *Proxies) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		how := passed(r)
		if how.relayed {
			next.ServeHTTP(w, r)
			return
		}
		if _, believed := p.trusts(peer(r)); believed {
			next.ServeHTTP(w, p.believe(r))
			return
		}
		if slices.ContainsFunc(forwarding, func(name string) bool { return len(r.Header.Values(name)) > 0 }) {
			p.meet(peer(r))
			how.hidden = true
			r = r.WithContext(context.WithValue(r.Context(), passageKey{}, how))
		}
		next.ServeHTTP(w, r)
	})
}

// trusts reads an address, and reports whether it is a trusted proxy's.
func (p *Proxies) trusts(addr string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(strings.TrimSpace(addr))
	if err != nil {
		return netip.Addr{}, false
	}
	ip = ip.Unmap().WithZone("")
	return ip, slices.ContainsFunc(p.Trusted, func(t netip.Prefix) bool { return t.Contains(ip) })
}

// hop is what one proxy says of who asked it.
type hop struct{ addr, host, proto string }

// believe takes over what a trusted proxy says.
func (p *Proxies) believe(r *http.Request) *http.Request {
	hops := xForwarded(r.Header)
	if hops == nil {
		hops = forwarded(r.Header)
	}
	if hops == nil { // the proxy's own request
		return r
	}
	client, last, found := r.RemoteAddr, hop{}, false
	for _, h := range slices.Backward(hops) {
		last = h
		ip, proxy := p.trusts(h.addr)
		if !ip.IsValid() {
			break
		}
		client, found = netip.AddrPortFrom(ip, 0).String(), true
		if !proxy {
			break
		}
	}
	r = r.WithContext(context.WithValue(r.Context(), passageKey{}, passage{
		secure: strings.EqualFold(last.proto, "https"), hidden: !found, relayed: true,
	}))
	r.RemoteAddr = client
	if last.host != "" {
		r.Host = last.host
	}
	return r
}

// xForwarded reads the headers that most proxies send; nil if there is none. Host and scheme are
// those that the client used, whatever lies between.
func xForwarded(h http.Header) []hop {
	addrs, host, proto := h.Values("X-Forwarded-For"), h.Get("X-Forwarded-Host"), h.Get("X-Forwarded-Proto")
	if len(addrs) == 0 && host == "" && proto == "" {
		return nil
	}
	var hops []hop
	for a := range strings.SplitSeq(strings.Join(addrs, ","), ",") {
		hops = append(hops, hop{strings.TrimSpace(a), host, proto})
	}
	return hops
}

// forwarded reads RFC 7239 §4, one hop an element; nil if it is not there.
func forwarded(h http.Header) []hop {
	if len(h.Values("Forwarded")) == 0 {
		return nil
	}
	var hops []hop
	for element := range strings.SplitSeq(strings.Join(h.Values("Forwarded"), ","), ",") {
		var one hop
		for pair := range strings.SplitSeq(element, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			value = strings.Trim(value, `"`)
			switch strings.ToLower(name) {
			case "for":
				if ap, err := netip.ParseAddrPort(value); err == nil {
					value = ap.Addr().String()
				}
				one.addr = strings.TrimSuffix(strings.TrimPrefix(value, "["), "]")
			case "host":
				one.host = value
			case "proto":
				one.proto = value
			}
		}
		hops = append(hops, one)
	}
	return hops
}

// meet remembers a peer that speaks as a proxy does.
func (p *Proxies) meet(addr string) {
	now := time.Now()
	p.mu.Lock()
	_, known := p.met[addr]
	if !known && len(p.met) >= maxMet {
		for a, last := range p.met {
			if now.Sub(last) > metFor {
				delete(p.met, a)
			}
		}
	}
	room := known || len(p.met) < maxMet
	if room {
		if p.met == nil {
			p.met = map[string]time.Time{}
		}
		p.met[addr] = now
	}
	p.mu.Unlock()
	if room && !known && p.Logger != nil {
		p.Logger.Warn("a proxy that is not in http.trusted_proxies passes requests on; if it is yours, name it there", "addr", addr)
	}
}

// Unknown are the proxies on this machine and in private networks that were met in the last day and
// are not trusted. On the internet anybody can speak as a proxy does: those stand in the log alone.
func (p *Proxies) Unknown() []string {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []string
	for addr, last := range p.met {
		if near(addr) && now.Sub(last) <= metFor {
			list = append(list, addr)
		}
	}
	slices.Sort(list)
	return list
}
