// Package remote connects the hub to other people's MQTT brokers, through
// paho.mqtt.golang. A Bridge keeps one connection, gives what arrives to its
// adapters, and acknowledges a message when its fate is decided, so that what
// the hub could not take is still the broker's.
//
// What arrives at QoS 1 is not lost while the hub or the connection is away, as
// far as the broker keeps it: the session is persistent. What is at QoS 0 is.
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"devicehub/bridge/adapter"
	"devicehub/bridge/broker"
	"devicehub/devices"
)

// Config is one bridge.
type Config struct {
	Name     string // the via of its devices
	URL      string // mqtt:// mqtts:// ws:// wss:// (and tcp:// ssl:// tls://)
	Username string
	Password string
	ClientID string      // empty: devicehub-<name>
	TLS      *tls.Config // nil: the system's roots
	Trust    bool        // the broker's own rules vouch for who publishes under an id
	Adapters []adapter.Config
}

// Bridge is one connection to a foreign broker.
type Bridge struct {
	cfg Config
	set *adapter.Set
	log *slog.Logger
	out chan message

	up                          atomic.Bool
	received, published, unsent atomic.Int64
	dropped                     atomic.Int64
	overrun                     atomic.Bool // messages were left with the broker for want of room

	mu    sync.Mutex
	since time.Time
	err   string
	acks  []mqtt.Message // decided, and not yet acknowledged
	acked chan struct{}  // there are some
}

type message struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
}

const (
	outQueue   = 8192
	retryFirst = time.Second
	retryMost  = 30 * time.Second
	keepAlive  = 30 * time.Second
	patience   = 10 * time.Second
)

// New returns a Bridge that does not connect yet.
func New(cfg Config, h adapter.Hub) (*Bridge, error) {
	if cfg.ClientID == "" {
		cfg.ClientID = "devicehub-" + cfg.Name
	}
	if _, err := brokerURL(cfg.URL); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", cfg.Name, err)
	}
	b := &Bridge{cfg: cfg, log: h.Log, out: make(chan message, outQueue), since: time.Now(), acked: make(chan struct{}, 1)}
	set, err := adapter.NewSet(h, b, cfg.Trust, cfg.Adapters)
	if err != nil {
		return nil, fmt.Errorf("bridge %s: %w", cfg.Name, err)
	}
	b.set = set
	return b, nil
}

// brokerURL is the URL in the client's words.
func brokerURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return "", errors.New("the URL of its broker is like mqtt://192.168.1.5:1883")
	}
	port := map[string]string{"mqtt": "1883", "tcp": "1883", "mqtts": "8883", "ssl": "8883", "tls": "8883"}[u.Scheme]
	if u.Port() == "" && port != "" {
		u.Host += ":" + port
	}
	switch u.Scheme {
	case "mqtt":
		u.Scheme = "tcp"
	case "mqtts", "tls":
		u.Scheme = "ssl"
	case "tcp", "ssl", "ws", "wss":
	default:
		return "", fmt.Errorf("a broker's URL does not begin with %s://", u.Scheme)
	}
	return u.String(), nil
}

// Name is the bridge's.
func (b *Bridge) Name() string { return b.cfg.Name }

// Set is the bridge's adapters: a Feed, what they met, what they counted.
func (b *Bridge) Set() *adapter.Set { return b.set }

// Feed tells the adapters what happens to the hub's devices.
func (b *Bridge) Feed() devices.Feed { return b.set }

// Publish sends a message. false means that the broker is away or cannot keep up,
// or that the topic is none: a broker ends the connection for one with a wildcard.
func (b *Bridge) Publish(topic string, payload []byte, qos byte, retain bool) bool {
	if !b.up.Load() || !broker.ValidTopic(topic) {
		b.unsent.Add(1)
		return false
	}
	select {
	case b.out <- message{topic, payload, qos, retain}:
		return true
	default:
		b.unsent.Add(1)
		return false
	}
}

// Run keeps the connection until ctx is done.
func (b *Bridge) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { b.set.Run(ctx) })
	wait := retryFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := b.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > time.Minute {
			wait = retryFirst
		}
		b.lost(err)
		b.log.Warn("bridge not connected", "bridge", b.cfg.Name, "err", err, "retry", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMost)
	}
	return nil
}

// session is one connection, from its beginning to its end. A client is made
// for each: what the library would send again by itself after a reconnect
// (10-components §3, 1) is the hub's to say anew.
func (b *Bridge) session(ctx context.Context) (err error) {
	gone := make(chan error, 1)
	end := func(err error) {
		select {
		case gone <- err:
		default:
		}
	}
	c := mqtt.NewClient(b.options(func(err error) { end(err) }))
	if err := await(ctx, c.Connect(), patience); err != nil {
		return err
	}
	var acker sync.WaitGroup
	over := make(chan struct{})
	acker.Go(func() { b.acknowledge(over) })
	defer acker.Wait() // the client is disconnected by then, and holds nobody up
	defer close(over)
	defer c.Disconnect(250)
	if err := b.subscribe(ctx, c); err != nil {
		return err
	}
	if err := await(ctx, c.Publish(b.set.Root+"/_hub/online", 1, true, "online"), patience); err != nil {
		return err
	}
	b.mu.Lock()
	b.since, b.err = time.Now(), ""
	b.mu.Unlock()
	b.drainOut()
	b.up.Store(true)
	b.overrun.Store(false)
	b.log.Info("bridge connected", "bridge", b.cfg.Name)
	b.set.Up()
	defer func() {
		b.up.Store(false)
		b.lost(err)
		b.set.Down()
	}()

	check := time.NewTicker(time.Second)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			b.goodbye(c)
			return nil
		case err := <-gone:
			return err
		case m := <-b.out:
			if err := b.send(ctx, c, m); err != nil {
				return err
			}
		case <-check.C:
			if b.overrun.Load() && b.set.Waiting() == 0 {
				// A new connection of the same session is given again what was
				// left with the broker.
				return errOverrun
			}
		}
	}
}

var errOverrun = errors.New("connecting anew for messages that had no room")

func (b *Bridge) options(lost func(error)) *mqtt.ClientOptions {
	u, _ := brokerURL(b.cfg.URL)
	o := mqtt.NewClientOptions().AddBroker(u).SetClientID(b.cfg.ClientID).SetUsername(b.cfg.Username).SetPassword(b.cfg.Password)
	o.SetCleanSession(false).SetAutoReconnect(false).SetConnectRetry(false).SetOrderMatters(true).SetAutoAckDisabled(true)
	o.SetKeepAlive(keepAlive).SetPingTimeout(patience).SetWriteTimeout(patience).SetConnectTimeout(patience).SetProtocolVersion(4)
	o.SetWill(b.set.Root+"/_hub/online", "offline", 1, true)
	if b.cfg.TLS != nil {
		o.SetTLSConfig(b.cfg.TLS)
	}
	// A resumed session delivers before Subscribe returns: the handler is there
	// from the beginning, and does not block.
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { b.receive(m) })
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost(err) })
	return o
}

// receive hands a message on. It is acknowledged when it is decided.
func (b *Bridge) receive(m mqtt.Message) {
	b.received.Add(1)
	taken := b.set.Take(adapter.Message{Topic: m.Topic(), Payload: m.Payload(), Retained: m.Retained(), QoS: m.Qos()}, receipt{b, m})
	switch {
	case taken:
	case m.Qos() > 0:
		b.overrun.Store(true)
	default:
		b.dropped.Add(1)
	}
}

// receipt acknowledges a message when it is decided. Until then it is kept.
type receipt struct {
	b *Bridge
	m mqtt.Message
}

func (r receipt) Again(error) bool { return true }

// Decided is called by whoever decides, such as the goroutine that commits the
// readings of the whole hub; the library's Ack waits for a broker that hangs.
func (r receipt) Decided(error) {
	if r.m.Qos() == 0 {
		return
	}
	r.b.mu.Lock()
	r.b.acks = append(r.b.acks, r.m)
	r.b.mu.Unlock()
	select {
	case r.b.acked <- struct{}{}:
	default:
	}
}

// acknowledge sends the acknowledgements, in the order of the decisions, until
// over. Those of an earlier connection lead nowhere.
func (b *Bridge) acknowledge(over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case <-b.acked:
		}
		b.mu.Lock()
		list := b.acks
		b.acks = nil
		b.mu.Unlock()
		for _, m := range list {
			m.Ack()
		}
	}
}

func (b *Bridge) subscribe(ctx context.Context, c mqtt.Client) error {
	filters := map[string]byte{}
	for _, f := range b.set.Filters() {
		filters[f] = 1
	}
	t := c.SubscribeMultiple(filters, nil)
	if err := await(ctx, t, patience); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if s, ok := t.(*mqtt.SubscribeToken); ok {
		for f, code := range s.Result() {
			if code == 0x80 {
				return fmt.Errorf("the broker refuses the subscription %s", f)
			}
		}
	}
	return nil
}

// send publishes one message. It waits for the broker at QoS 0 as long as the
// library blocks, which its write timeout bounds, and not for a PUBACK.
func (b *Bridge) send(ctx context.Context, c mqtt.Client, m message) error {
	t := c.Publish(m.topic, m.qos, m.retain, m.payload)
	if m.qos == 0 {
		if err := await(ctx, t, patience); err != nil {
			return err
		}
	} else if err := t.Error(); err != nil {
		return err
	}
	b.published.Add(1)
	return nil
}

// drainOut forgets what was to be said on an earlier connection.
func (b *Bridge) drainOut() {
	for {
		select {
		case <-b.out:
		default:
			return
		}
	}
}

// goodbye says that the hub goes, which a clean disconnect's will would not.
func (b *Bridge) goodbye(c mqtt.Client) {
	c.Publish(b.set.Root+"/_hub/online", 1, true, "offline").WaitTimeout(time.Second)
}

func (b *Bridge) lost(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == "" {
		b.since = time.Now()
	}
	b.err = "disconnected"
	if err != nil {
		b.err = strings.ReplaceAll(err.Error(), b.cfg.Password+"@", "@")
	}
}

// redacted is a broker's URL without the password that it may carry.
func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return u.Redacted()
}

// await waits for a token, or for ctx.
func await(ctx context.Context, t mqtt.Token, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errors.New("no answer from the broker")
	}
}

// Status is what an operator sees of a bridge.
type Status struct {
	Name      string   `json:"name"`
	URL       string   `json:"url"`
	Connected bool     `json:"connected"`
	Since     int64    `json:"since"` // connected, or not, since
	Error     string   `json:"error,omitempty"`
	Adapters  []string `json:"adapters"`
	Received  int64    `json:"received"`
	Published int64    `json:"published"`
	Unsent    int64    `json:"unsent"`  // messages of the hub that the broker was not there for
	Waiting   int      `json:"waiting"` // messages not yet decided
	Dropped   int64    `json:"dropped"` // messages at QoS 0 that there was no room for
	Looped    int64    `json:"looped"`  // the hub's own that came back
	Accepted  int64    `json:"accepted"`
	Refused   int64    `json:"refused"`
	Foreign   int64    `json:"foreign"`
	Retained  int64    `json:"retained"`
}

// Status returns the bridge's.
func (b *Bridge) Status() Status {
	s := b.set.Stats()
	b.mu.Lock()
	defer b.mu.Unlock()
	st := Status{
		Name: b.cfg.Name, URL: redacted(b.cfg.URL), Connected: b.up.Load(), Since: b.since.UnixMilli(), Error: b.err,
		Received: b.received.Load(), Published: b.published.Load(), Unsent: b.unsent.Load(), Waiting: b.set.Waiting(), Dropped: b.dropped.Load(), Looped: b.set.Looped(),
		Accepted: s.Accepted, Refused: s.Refused, Foreign: s.Foreign, Retained: s.Retained, Adapters: []string{},
	}
	for _, a := range b.cfg.Adapters {
		st.Adapters = append(st.Adapters, a.Kind)
	}
	if len(st.Adapters) == 0 {
		st.Adapters = []string{"native"}
	}
	return st
}
