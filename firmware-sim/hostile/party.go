package hostile

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"devicehub/firmware-sim/profile"
)

// A Target is the hub, and who the parties are to it.
type Target struct {
	Hub, MQTT *url.URL
	// Dial connects; nil is a plain net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// ID is the stolen device's, the person's or the account's name, Token what it has. The token
	// is asked for at each connection: those of people do not last.
	ID    string
	Token func(context.Context) (string, error)
	// Topics are those of devices of the fleet, for people to join.
	Topics []string
	// Prefix is where the account may publish.
	Prefix string

	// Answered, if not nil, hears how long the hub took to answer a stolen device.
	Answered func(time.Duration)
}

// Play does harm of a kind until ctx is done, as the n-th party that does. The error is about the
// profile or the target; what the hub does is no error.
func Play(ctx context.Context, h *profile.Hostile, t Target, n int, tally *Tally) error {
	play := players[h.Kind]
	if play == nil {
		return fmt.Errorf("hostile: unknown kind %q", h.Kind)
	}
	if t.Dial == nil {
		t.Dial = new(net.Dialer).DialContext
	}
	p := &party{Hostile: h, Target: t, n: n, tally: tally}
	for ctx.Err() == nil {
		if err := play(p, ctx); err != nil {
			return err
		}
		p.sleep(ctx, again)
	}
	return nil
}

// again is how soon a party comes back that was cut off.
const again = 200 * time.Millisecond

// party is one of those who do harm. Its players return when they were cut off.
type party struct {
	*profile.Hostile
	Target
	n     int
	sent  int
	tally *Tally
}

var players = map[profile.HostileKind]func(*party, context.Context) error{
	profile.FloodReadings:   (*party).flood,
	profile.FloodTokens:     (*party).flood,
	profile.FloodEvents:     (*party).flood,
	profile.FloodCommands:   (*party).flood,
	profile.WrongTokens:     (*party).wrongTokens,
	profile.IdleConnections: (*party).idle,
	profile.HalfRequests:    (*party).halfRequest,
	profile.DeafReaders:     (*party).deaf,
	profile.ForeignOrigins:  (*party).foreignOrigins,
	profile.JunkConnects:    (*party).junkConnects,
	profile.HoardLongPolls:  (*party).hoardLongPolls,
	profile.SlowWatchers:    (*party).slowWatcher,
	profile.HoardRetained:   (*party).hoardRetained,
	profile.HoardSessions:   (*party).hoardSessions,
}

func (p *party) sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// paced does something at the party's rate until ctx is done or do says that it is over. What could
// not be done in its moment is not made up for.
func (p *party) paced(ctx context.Context, do func() (more bool)) {
	const step = 10 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	for due := 1.0; ; {
		for ; due >= 1; due-- {
			if ctx.Err() != nil || !do() {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			due += p.Rate * step.Seconds()
		}
	}
}

// overHTTP and overMQTT are connections to the hub's listeners, which end with ctx.
func (p *party) overHTTP(ctx context.Context) (net.Conn, error) {
	port := map[bool]string{false: "80", true: "443"}[p.Hub.Scheme == "https"]
	return p.connect(ctx, p.Hub, port, p.Hub.Scheme == "https")
}

func (p *party) overMQTT(ctx context.Context) (net.Conn, error) {
	secure := p.MQTT.Scheme == "mqtts" || p.MQTT.Scheme == "ssl"
	port := map[bool]string{false: "1883", true: "8883"}[secure]
	return p.connect(ctx, p.MQTT, port, secure)
}

func (p *party) connect(ctx context.Context, to *url.URL, port string, secure bool) (net.Conn, error) {
	if to.Port() != "" {
		port = to.Port()
	}
	c, err := p.Dial(ctx, "tcp", net.JoinHostPort(to.Hostname(), port))
	if err != nil {
		return nil, err
	}
	if secure {
		c = tls.Client(c, &tls.Config{ServerName: to.Hostname(), MinVersion: tls.VersionTLS12})
	}
	context.AfterFunc(ctx, func() { c.Close() })
	return c, nil
}

// client makes HTTP requests over connections of the party's own.
func (p *party) client() (c *http.Client, done func()) {
	t := &http.Transport{DialContext: p.Dial, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute}
	return &http.Client{Transport: t, Timeout: time.Minute}, t.CloseIdleConnections
}

// at is an address of the hub.
func (p *party) at(path string) string {
	u := *p.Hub
	u.Path += path
	return u.String()
}

// ended notes that a connection has ended, unless it is the party's own doing.
func (p *party) ended(ctx context.Context) {
	if ctx.Err() == nil {
		p.tally.cutOff()
	}
}
