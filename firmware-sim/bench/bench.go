// Package bench measures a Phoenix Channels server with plain V2 clients: any server, so that two can be compared with one
// tool. What it measures of the server itself are CPU seconds and memory, when it is told the process id.
package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"devicehub/hub/hubclient"
)

// Config is one measurement. %i in URL and Topic is the number of the client, from 0.
type Config struct {
	URL       string // ws://host/socket/websocket?params
	Topic     string
	Transport hubclient.Transport
	N         int // clients

	Event    string        // pushed: fanout wants one that the server broadcasts, request-reply one that it answers
	Heard    string        // fanout: the event that comes of it, by default the same
	Size     int           // bytes of padding in a payload
	Duration time.Duration // of the measurement
	Rate     float64       // pushes per second over all clients, 0: as fast as the answers come
	InFlight int           // request-reply without a rate: unanswered per client
	Ramp     float64       // connects per second, 0: as fast as they come
	Parallel int           // connects under way at once

	Pid     int // of the server on this machine, 0: unknown
	Sources int // how many loopback addresses to connect from, 0: the system's choice

	// Progress, if not nil, hears now and then how many are joined.
	Progress func(joined int)
}

// A Result is what came out. Latencies are in ms.
type Result struct {
	Kind       string  `json:"kind"`
	Clients    int     `json:"clients"`
	Joined     int64   `json:"joined"`
	Failed     int64   `json:"failed"` // connects and joins that did not come about
	JoinedIn   float64 `json:"joined_in_s"`
	Seconds    float64 `json:"seconds"`
	Pushed     int64   `json:"pushed"`
	Delivered  int64   `json:"delivered"` // fanout: copies received; request-reply: replies
	Missing    int64   `json:"missing"`
	PerSecond  float64 `json:"per_second"`
	Dropped    int64   `json:"dropped"` // connections lost during the measurement
	Latency    Spread  `json:"latency_ms"`
	Connect    Spread  `json:"connect_ms"`
	Join       Spread  `json:"join_ms"`
	ServerCPU  float64 `json:"server_cpu_s"` // during the measurement
	JoinCPU    float64 `json:"server_join_cpu_s"`
	PerMillion float64 `json:"server_cpu_s_per_million"`
	ServerRSS  float64 `json:"server_rss_mb"`            // at the end
	RSSPer     float64 `json:"server_kb_per_connection"` // by which it grew
	known      bool
}

// A Spread is a distribution.
type Spread struct {
	Count                    int64
	P50, P90, P99, P999, Max float64
}

// Kinds of measurement.
const (
	Fanout       = "fanout"
	RequestReply = "request-reply"
	Storm        = "storm"
	Hold         = "hold"
)

// ErrConfig is the error for a configuration that cannot be meant.
var ErrConfig = errors.New("bench")

// Run measures.
func Run(ctx context.Context, kind string, cfg Config) (*Result, error) {
	b, err := newBench(kind, cfg)
	if err != nil {
		return nil, err
	}
	if err := listens(ctx, cfg.URL); err != nil {
		return nil, err
	}
	return b.run(ctx)
}

// listens reports that nobody does, which clients that come back for ever would not.
func listens(ctx context.Context, server string) error {
	u, err := url.Parse(strings.ReplaceAll(server, "%i", "0"))
	if err != nil {
		return err
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), map[string]string{"ws": "80", "wss": "443"}[u.Scheme])
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return fmt.Errorf("nobody answers at %s: %w", host, err)
	}
	return conn.Close()
}

type bench struct {
	cfg     Config
	res     *Result
	members []*member
	buffers sync.Pool

	mu                  sync.Mutex
	latency, conn, join *hdrhistogram.Histogram
	joined, failed      atomic.Int64
	dropped, delivered  atomic.Int64
	measuring           atomic.Bool
	giveUp              context.CancelCauseFunc
}

// refused ends a measurement of which nobody is let in: a client would ask again for ever.
func (b *bench) refused(i int, err error) {
	if b.joined.Load() == 0 {
		b.giveUp(fmt.Errorf("bench: client %d: %w", i, err))
	}
}

// member is one client.
type member struct {
	b      *bench
	client *hubclient.Client
	ch     *hubclient.Channel
	opened time.Time
	in     chan struct{} // closed when joined, or failed for good
	once   sync.Once
	flight chan struct{}
}

func newBench(kind string, cfg Config) (*bench, error) {
	switch {
	case cfg.N < 1:
		return nil, fmt.Errorf("%w: at least one client (-n)", ErrConfig)
	case cfg.Topic == "":
		return nil, fmt.Errorf("%w: a topic is required", ErrConfig)
	case cfg.Size < 0 || cfg.Rate < 0 || cfg.InFlight < 0 || cfg.Ramp < 0 || cfg.Parallel < 0 || cfg.Sources < 0 || cfg.Duration < 0:
		return nil, fmt.Errorf("%w: no number may be below 0", ErrConfig)
	}
	if _, ok := processUse(cfg.Pid); cfg.Pid != 0 && !ok {
		return nil, fmt.Errorf("%w: nothing is known of a process %d", ErrConfig, cfg.Pid)
	}
	if cfg.Event == "" {
		cfg.Event = map[string]string{Fanout: "shout", RequestReply: "echo"}[kind]
	}
	if cfg.Heard == "" {
		cfg.Heard = cfg.Event
	}
	if cfg.Duration <= 0 {
		cfg.Duration = 10 * time.Second
	}
	if cfg.InFlight <= 0 {
		cfg.InFlight = 1
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = 200
	}
	switch kind {
	case Fanout, RequestReply, Storm, Hold:
	default:
		return nil, fmt.Errorf("%w: %q is none of fanout, request-reply, storm, hold", ErrConfig, kind)
	}
	b := &bench{cfg: cfg, res: &Result{Kind: kind, Clients: cfg.N}, latency: newHistogram(), conn: newHistogram(), join: newHistogram()}
	for i := range cfg.N {
		m, err := b.newMember(i)
		if err != nil {
			return nil, err
		}
		b.members = append(b.members, m)
	}
	return b, nil
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 3_600_000_000, 3) }

func (b *bench) record(h *hdrhistogram.Histogram, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = h.RecordValue(min(max(d.Microseconds(), 1), 3_600_000_000)) // within the bounds
}

func (b *bench) newMember(i int) (*member, error) {
	m := &member{b: b, in: make(chan struct{}), flight: make(chan struct{}, b.cfg.InFlight)}
	number := strconv.Itoa(i)
	cfg := hubclient.Config{
		URL: strings.ReplaceAll(b.cfg.URL, "%i", number), Transport: b.cfg.Transport, WriteBuffers: &b.buffers, Buffer: 1024,
		OnOpen: func(o hubclient.Opened) {
			m.opened = time.Now()
			b.record(b.conn, o.Connect)
		},
		OnClose: func(err error) {
			if e, ok := errors.AsType[*hubclient.RefusedError](err); ok && e.Status >= 400 && e.Status < 500 && e.Status != 429 {
				b.refused(i, err)
			}
			if b.measuring.Load() {
				b.dropped.Add(1)
			} else {
				b.failed.Add(1)
			}
		},
	}
	if b.cfg.Sources > 0 {
		// 127.0.0.0/8 is all loopback on Linux; each address has ports of its own.
		d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(i%b.cfg.Sources>>8), byte(i%b.cfg.Sources)+1)}}
		cfg.Dial = d.DialContext
	}
	var err error
	if m.client, err = hubclient.New(cfg); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	m.ch = m.client.Channel(strings.ReplaceAll(b.cfg.Topic, "%i", number), hubclient.ChannelConfig{
		Timeout: 30 * time.Second,
		OnJoin: func(hubclient.Reply) {
			m.once.Do(func() {
				b.record(b.join, time.Since(m.opened))
				b.joined.Add(1)
				close(m.in)
			})
		},
		OnRefused: func(r hubclient.Reply) {
			b.failed.Add(1)
			b.refused(i, fmt.Errorf("join refused: %s", r.Payload))
		},
		OnMessage: m.message,
	})
	m.ch.Join()
	return m, nil
}

func (b *bench) run(ctx context.Context) (*Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	b.giveUp = cancel
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	idle, known := processUse(b.cfg.Pid)
	b.res.known = known
	began := time.Now()
	if err := b.connect(ctx, &wg); err != nil {
		return nil, err
	}
	b.res.JoinedIn = time.Since(began).Seconds()
	before, _ := processUse(b.cfg.Pid)
	b.res.JoinCPU = before.cpu - idle.cpu
	b.measuring.Store(true)
	start := time.Now()
	switch b.res.Kind {
	case Fanout:
		b.fanout(ctx)
	case RequestReply:
		b.requestReply(ctx)
	case Hold:
		wait(ctx, b.cfg.Duration)
	}
	b.res.Seconds = time.Since(start).Seconds()
	after, _ := processUse(b.cfg.Pid)
	b.measuring.Store(false)
	b.finish(idle, before, after)
	return b.res, nil
}

// connect brings every client to its topic.
func (b *bench) connect(ctx context.Context, wg *sync.WaitGroup) error {
	slots := make(chan struct{}, b.cfg.Parallel)
	began, shown := time.Now(), time.Now()
	var joining sync.WaitGroup
	defer joining.Wait()
	for i, m := range b.members {
		if b.cfg.Ramp > 0 {
			wait(ctx, time.Until(began.Add(time.Duration(float64(i)/b.cfg.Ramp*float64(time.Second)))))
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		wg.Go(func() { _ = m.client.Run(ctx) })
		joining.Go(func() {
			defer func() { <-slots }()
			select {
			case <-m.in:
			case <-ctx.Done():
			case <-time.After(time.Minute):
			}
		})
		if b.cfg.Progress != nil && time.Since(shown) > time.Second {
			shown = time.Now()
			b.cfg.Progress(int(b.joined.Load()))
		}
	}
	joining.Wait()
	if n := b.joined.Load(); n < int64(len(b.members)) && ctx.Err() == nil {
		return fmt.Errorf("bench: %d of %d clients joined (%d refusals and failures); is the topic right, and the limit of open files?", n, len(b.members), b.failed.Load())
	}
	return context.Cause(ctx)
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// finish sums up. The server's use was measured without clients, when all had joined, and at the end.
func (b *bench) finish(idle, before, after use) {
	r := b.res
	r.Joined, r.Failed, r.Dropped, r.Delivered = b.joined.Load(), b.failed.Load(), b.dropped.Load(), b.delivered.Load()
	b.mu.Lock()
	r.Latency, r.Connect, r.Join = spread(b.latency), spread(b.conn), spread(b.join)
	b.mu.Unlock()
	r.ServerCPU, r.ServerRSS = after.cpu-before.cpu, after.rss
	r.RSSPer = (after.rss - idle.rss) * 1024 / float64(max(r.Joined, 1))
	if r.Seconds > 0 {
		r.PerSecond = float64(r.Delivered) / r.Seconds
	}
	switch {
	case r.Delivered > 0:
		r.PerMillion = r.ServerCPU / float64(r.Delivered) * 1e6
	case r.Kind == Storm:
		r.PerMillion = r.JoinCPU / float64(max(r.Joined, 1)) * 1e6
	}
}

func spread(h *hdrhistogram.Histogram) Spread {
	at := func(p float64) float64 { return float64(h.ValueAtPercentile(p)) / 1000 }
	return Spread{h.TotalCount(), at(50), at(90), at(99), at(99.9), float64(h.Max()) / 1000}
}
