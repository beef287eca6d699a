// Package remote connects the hub to other people's MQTT brokers, through
// paho.mqtt.golang. A Bridge keeps one connection, gives what arrives to its
// adapters, and acknowledges a message when its fate is decided, so that what
// the hub could not take is still the broker's.
//
// What a broker has acknowledged to a device at QoS 1 is not lost while the hub
// or the connection is away, as far as the broker keeps it: the session is
// persistent. README.md says which settings of Mosquitto decide how far that is.
// When the bridge is back, what was kept comes as fast as the store takes it, and
// in its order. What is at QoS 0 is lost while the hub is away, and dropped and
// counted when it comes faster than the store takes it.
//
// A message is handled once while the hub runs, however often the connection
// breaks, but for those whose acknowledgement was on its way then, and those under
// way when the hub itself was killed. They come again: readings with a sequence
// number or a time are known by it, others are stored twice.
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

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
	in  *inbox

	roomWait time.Duration // for room, before the connection is given up

	up                          atomic.Bool
	ups                         atomic.Int64 // how often it was
	received, published, unsent atomic.Int64
	dropped                     atomic.Int64

	mu    sync.Mutex
	since time.Time
	err   string
}

type message struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
}

const (
	outQueue    = 8192
	retryFirst  = 500 * time.Millisecond
	retryMost   = 5 * time.Second  // a broker that is away
	retryRefuse = 30 * time.Second // one that will not have the bridge
	steady      = 10 * time.Second // a connection that lasted so long was a good one
	keepAlive   = 30 * time.Second
	patience    = 10 * time.Second
	leaveWithin = 2 * time.Second // for what was taken to be decided and acknowledged
)

// New returns a Bridge that does not connect yet.
func New(cfg Config, h adapter.Hub) (*Bridge, error) {
	if cfg.ClientID == "" {
		cfg.ClientID = "devicehub-" + cfg.Name
	}
	if _, err := brokerURL(cfg.URL); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", cfg.Name, err)
	}
	b := &Bridge{cfg: cfg, log: h.Log, out: make(chan message, outQueue), in: newInbox(), roomWait: 5 * time.Second, since: time.Now()}
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
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer wg.Wait()
	defer stop() // after the last connection: what it took is decided before
	wg.Go(func() { b.set.Run(work) })
	wait := retryFirst
	var told time.Time
	for ctx.Err() == nil {
		began, ups := time.Now(), b.ups.Load()
		err := b.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > steady {
			wait = retryFirst
		}
		b.lost(err)
		if b.ups.Load() != ups || time.Since(told) > time.Minute {
			told = time.Now()
			b.log.Warn("bridge not connected", "bridge", b.cfg.Name, "err", err, "retry", wait)
		}
		b.pause(ctx, wait/2+rand.N(wait/2))
		most := retryMost
		if errors.As(err, new(refused)) {
			most = retryRefuse
		}
		wait = min(2*wait, most)
	}
	return nil
}

// pause waits before the next connection, and until there is room for what it
// brings.
func (b *Bridge) pause(ctx context.Context, d time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(d):
		}
		if b.set.HasRoom() {
			return
		}
		d = 100 * time.Millisecond
	}
}

// refused is the answer of a broker that will not have the bridge.
type refused struct{ error }

func (r refused) Unwrap() error { return r.error }

// session is one connection, from its beginning to its end. A client is made
// for each: what the library would send again by itself after a reconnect is the
// hub's to say anew.
func (b *Bridge) session(ctx context.Context) (err error) {
	gone := make(chan error, 1)
	in := &arrivals{wake: make(chan struct{}, 1), over: make(chan struct{}), end: func(err error) {
		select {
		case gone <- err:
		default:
		}
	}}
	b.in.begin(in)
	var acker sync.WaitGroup
	acker.Go(func() { b.in.acknowledge(in) })
	defer acker.Wait() // the client is disconnected by then, and holds nobody up
	defer close(in.over)
	c := mqtt.NewClient(b.options(in))
	defer c.Disconnect(250) // which also ends one that is still connecting
	if err := b.connect(ctx, c); err != nil {
		return err
	}
	if err := b.subscribe(ctx, c); err != nil {
		return err
	}
	if err := b.await(ctx, c.Publish(b.set.Root+"/_hub/online", 1, true, "online")); err != nil {
		return err
	}
	b.mu.Lock()
	b.since, b.err = time.Now(), ""
	b.mu.Unlock()
	b.drainOut()
	b.up.Store(true)
	b.ups.Add(1)
	b.log.Info("bridge connected", "bridge", b.cfg.Name)
	b.set.Up()
	defer func() {
		b.up.Store(false)
		b.lost(err)
		b.set.Down()
	}()
	for {
		select {
		case <-ctx.Done():
			b.leave(c, in, gone)
			return nil
		case err := <-gone:
			return err
		case m := <-b.out:
			if err := b.send(ctx, c, m); err != nil {
				return err
			}
		}
	}
}

var errNoRoom = errors.New("the hub does not take what the broker sends: too many bytes wait")

// connect opens the connection. Where the broker has forgotten the session, so
// does the inbox: nothing of it comes before the subscription.
func (b *Bridge) connect(ctx context.Context, c mqtt.Client) error {
	t := c.Connect()
	err := b.await(ctx, t)
	switch {
	case err == nil:
		if t, ok := t.(*mqtt.ConnectToken); ok && !t.SessionPresent() {
			b.in.forget()
		}
	case isRefusal(err):
		err = refused{err}
	}
	return err
}

// isRefusal tells a broker that said no from one that did not answer.
func isRefusal(err error) bool {
	for _, no := range []error{packets.ErrorRefusedBadProtocolVersion, packets.ErrorRefusedIDRejected, packets.ErrorRefusedBadUsernameOrPassword, packets.ErrorRefusedNotAuthorised} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

func (b *Bridge) options(in *arrivals) *mqtt.ClientOptions {
	u, _ := brokerURL(b.cfg.URL)
	o := mqtt.NewClientOptions().AddBroker(u).SetClientID(b.cfg.ClientID).SetUsername(b.cfg.Username).SetPassword(b.cfg.Password)
	o.SetCleanSession(false).SetAutoReconnect(false).SetConnectRetry(false).SetOrderMatters(true).SetAutoAckDisabled(true)
	o.SetKeepAlive(keepAlive).SetPingTimeout(patience).SetWriteTimeout(patience).SetConnectTimeout(patience).SetProtocolVersion(4)
	o.SetWill(b.set.Root+"/_hub/online", "offline", 1, true)
	if b.cfg.TLS != nil {
		o.SetTLSConfig(b.cfg.TLS)
	}
	// A resumed session delivers before Subscribe returns: the handler is there
	// from the beginning.
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { b.receive(in, m) })
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { in.end(err) })
	return o
}

func (b *Bridge) subscribe(ctx context.Context, c mqtt.Client) error {
	filters := map[string]byte{}
	for _, f := range b.set.Filters() {
		filters[f] = 1
	}
	t := c.SubscribeMultiple(filters, nil)
	if err := b.await(ctx, t); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if s, ok := t.(*mqtt.SubscribeToken); ok {
		for f, code := range s.Result() {
			if code == 0x80 {
				return refused{fmt.Errorf("the broker refuses the subscription %s", f)}
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
		if err := b.await(ctx, t); err != nil {
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

// leave ends the connection in good order. What was taken is decided and
// acknowledged, so that it does not come again; what comes now is the broker's.
// Last the hub says that it goes, which the will does not after a clean
// disconnect.
func (b *Bridge) leave(c mqtt.Client, in *arrivals, gone <-chan error) {
	b.in.shut(in)
	tick, late := time.NewTicker(10*time.Millisecond), time.After(leaveWithin)
	defer tick.Stop()
	for waiting := true; waiting && (b.set.Waiting() > 0 || !b.in.idle(in)); {
		select {
		case <-gone:
			return
		case <-late:
			waiting = false
		case <-tick.C:
		}
	}
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

// await waits for the broker's answer, or for ctx. A broker that sends its
// backlog first is not silent.
func (b *Bridge) await(ctx context.Context, t mqtt.Token) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for heard := b.received.Load(); ; {
		select {
		case <-t.Done():
			return t.Error()
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		now := b.received.Load()
		if now == heard {
			return errors.New("no answer from the broker")
		}
		heard = now
		timer.Reset(patience)
	}
}
