package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/bridge"
	"devicehub/bridge/adapter"
	"devicehub/bridge/remote"
	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/httpapi"
	"devicehub/devices/lights"
	"devicehub/devices/readings"
	"devicehub/devices/trace"
)

// bridges are the hub's connections to foreign brokers, and the adapters that
// work on its own.
type bridges struct {
	remotes []*remote.Bridge
	own     *ownAdapters // nil when the hub has no MQTT listener
}

// openBridges prepares the bridges of the configuration. They connect in run.
func (s *server) openBridges() error {
	b := new(bridges)
	for i, cfg := range s.Config.MQTT.Bridges {
		key := fmt.Sprintf("mqtt.bridges[%d]", i)
		if cfg.Name == bridge.LocalName {
			return fmt.Errorf("%s.name: %q is the hub's own broker; choose another name", key, cfg.Name)
		}
		security, err := remote.TLS(cfg.CA, cfg.Cert, cfg.Key)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		r, err := remote.New(remote.Config{
			Name: cfg.Name, URL: cfg.URL, Username: cfg.Username, Password: cfg.Password, ClientID: cfg.ClientID,
			TLS: security, Trust: cfg.Trust == "topic", Adapters: adapterConfigs(cfg.Adapters),
		}, s.adapterHub(cfg.Name, cfg.Root))
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		b.remotes = append(b.remotes, r)
		s.feeds = append(s.feeds, r.Feed())
	}
	if s.mqtt != nil {
		own, err := newOwnAdapters(s.assembly, s.mqtt.Server)
		if err != nil {
			return err
		}
		b.own = own
		s.feeds = append(s.feeds, own)
	}
	s.bridges = b
	return nil
}

func adapterConfigs(list []AdapterConfig) []adapter.Config {
	out := make([]adapter.Config, len(list))
	for i, a := range list {
		out[i] = adapter.Config{Kind: a.Kind, Base: a.Base}
	}
	return out
}

// adapterHub is the hub as the adapters of one bus see it.
func (a *assembly) adapterHub(name, root string) adapter.Hub {
	t := traced{a, name}
	return adapter.Hub{
		Registry: a.registry, Readings: t, Commands: t, Liveness: a.liveness, Tokens: a.identity, Issue: a.commands.Issue,
		State: func(id devices.ID) (lights.Fields, bool) {
			f := a.shadows.State(id)
			return f, f != nil
		},
		Latest: a.readings.Latest, Status: a.liveness.Status, Root: root, Version: versionString(), URL: a.Config.HTTP.PublicURL,
		EventsPerS: a.Config.Limits.BridgeEventsPerS, Audit: a.audit, Log: a.Log,
	}
}

// run keeps every bridge connected until ctx ends.
func (b *bridges) run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, r := range b.remotes {
		wg.Go(func() { _ = r.Run(ctx) }) // nil: it does not give up
	}
	if b.own != nil {
		wg.Go(func() { b.own.run(ctx) })
	}
	<-ctx.Done()
	wg.Wait()
	return nil
}

// deleted tells adapters of a device that is no more.
func (b *bridges) deleted(id devices.ID) {
	if b == nil {
		return
	}
	e := devices.Event{Device: id, Name: "device_changed"}
	for _, s := range b.sets() {
		s.Publish(e)
	}
}

// sets are the adapters of every bus.
func (b *bridges) sets() []*adapter.Set {
	if b == nil {
		return nil
	}
	var list []*adapter.Set
	for _, r := range b.remotes {
		list = append(list, r.Set())
	}
	if b.own != nil {
		list = append(list, b.own.running()...)
	}
	return list
}

// setLimits takes over limits that were changed while the hub runs.
func (b *bridges) setLimits(l LimitsConfig) {
	for _, r := range b.remotes {
		r.Set().SetRate(l.BridgeEventsPerS)
	}
	if b.own != nil {
		for _, s := range b.own.sets {
			s.SetRate(l.BridgeEventsPerS)
		}
	}
}

// statuses are what operators see.
func (b *bridges) statuses() []remote.Status {
	list := []remote.Status{}
	if b == nil {
		return list
	}
	for _, r := range b.remotes {
		list = append(list, r.Status())
	}
	if b.own != nil {
		if st, ok := b.own.status(); ok {
			list = append(list, st)
		}
	}
	return list
}

func (a *assembly) bridgeList(context.Context) (any, error) {
	return map[string]any{"bridges": a.bridges.statuses()}, nil
}

// discovered is what adapters have met, for the HTTP API.
func (a *assembly) discovered() []httpapi.Discovery {
	var list []httpapi.Discovery
	for _, s := range a.bridges.sets() {
		for _, d := range s.Discovered() {
			list = append(list, httpapi.Discovery{Adopt: d.Adopt, Bridge: d.Bridge, SeenAt: d.SeenAt, Device: d.Device})
		}
	}
	return list
}

// ownAdapters are the dialects on the hub's own broker. Only service accounts
// can speak them there, each within its topics, so that a dialect sleeps until
// an account may use one of its topics.
type ownAdapters struct {
	hub   *assembly
	srv   *bridge.Server
	sets  []*adapter.Set // one a dialect
	kinds []string
	awake []atomic.Bool
	since atomic.Int64 // ms since epoch when the first one woke
}

const lookForAccounts = 2 * time.Second

func newOwnAdapters(a *assembly, srv *bridge.Server) (*ownAdapters, error) {
	o := &ownAdapters{hub: a, srv: srv}
	for _, kind := range adapter.Kinds() {
		if kind == "native" {
			continue // the listener itself
		}
		set, err := srv.NewAdapters(a.adapterHub(bridge.LocalName, a.Config.MQTT.Root), []adapter.Config{{Kind: kind}})
		if err != nil {
			return nil, err
		}
		o.sets, o.kinds = append(o.sets, set), append(o.kinds, kind)
	}
	o.awake = make([]atomic.Bool, len(o.sets))
	return o, nil
}

// Publish tells those that are awake.
func (o *ownAdapters) Publish(e devices.Event) {
	for i, set := range o.sets {
		if o.awake[i].Load() {
			set.Publish(e)
		}
	}
}

func (o *ownAdapters) running() (list []*adapter.Set) {
	for i, set := range o.sets {
		if o.awake[i].Load() {
			list = append(list, set)
		}
	}
	return list
}

// run wakes dialects that an account may speak, until ctx ends.
func (o *ownAdapters) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(lookForAccounts)
	defer tick.Stop()
	for {
		topics := o.topics()
		for i, set := range o.sets {
			if o.awake[i].Load() || !anyOverlap(set.Filters(), topics) {
				continue
			}
			o.awake[i].Store(true)
			o.since.CompareAndSwap(0, time.Now().UnixMilli())
			o.hub.Log.Info("adapter on the hub's own broker", "adapter", o.kinds[i])
			wg.Go(func() { o.srv.RunAdapters(ctx, set) })
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// starts names the adapters that are to wake when an account may use the topics.
func (o *ownAdapters) starts(topics []string) (kinds []string) {
	for i, set := range o.sets {
		if !o.awake[i].Load() && anyOverlap(set.Filters(), topics) {
			kinds = append(kinds, o.kinds[i])
		}
	}
	return kinds
}

func (a *assembly) startsAdapters(topics []string) []string {
	if a.bridges == nil || a.bridges.own == nil {
		return nil
	}
	return a.bridges.own.starts(topics)
}

// topics are the filters of all service accounts.
func (o *ownAdapters) topics() (all []string) {
	for cursor := ""; ; {
		list, next, err := o.hub.identity.Accounts(devices.CLI(), 500, cursor)
		if err != nil {
			return all // the owner may
		}
		for _, acc := range list {
			all = append(all, acc.Topics...)
		}
		if next == "" {
			return all
		}
		cursor = next
	}
}

func (o *ownAdapters) status() (remote.Status, bool) {
	st := remote.Status{Name: bridge.LocalName, URL: "mqtt://" + o.hub.Config.MQTT.Embedded.Listen, Connected: true, Since: o.since.Load()}
	for i, set := range o.sets {
		if !o.awake[i].Load() {
			continue
		}
		s := set.Stats()
		st.Adapters = append(st.Adapters, o.kinds[i])
		st.Waiting += set.Waiting()
		st.Slowed += set.Slowed()
		st.Looped += set.Looped()
		st.Accepted += s.Accepted
		st.Refused += s.Refused
		st.Foreign += s.Foreign
		st.Retained += s.Retained
	}
	return st, len(st.Adapters) > 0
}

func anyOverlap(a, b []string) bool {
	for _, x := range a {
		for _, y := range b {
			if overlap(x, y) {
				return true
			}
		}
	}
	return false
}

// overlap reports whether there is a topic that both filters select (MQTT 3.1.1
// §4.7).
func overlap(a, b string) bool {
	for {
		x, arest, amore := strings.Cut(a, "/")
		y, brest, bmore := strings.Cut(b, "/")
		switch {
		case x == "#" || y == "#":
			return true
		case x != "+" && y != "+" && x != y:
			return false
		case !amore || !bmore:
			return amore == bmore || arest == "#" || brest == "#" // a/# selects a too
		}
		a, b = arest, brest
	}
}

// traced shows what devices behind a bridge say and are told to those who
// follow them; the bridge itself does not come by the door.
type traced struct {
	*assembly
	name string
}

func (t traced) line(dir, event string) trace.Line {
	return trace.Line{Dir: dir, Transport: devices.OverBridge(t.name), Event: event}
}

func (t traced) Submit(src readings.Source, b readings.Batch, done func(readings.Result, error)) {
	id := src.Device.ID
	if t.tracer.Follows(id) {
		t.tracer.Record(id, t.line(trace.In, "readings"), fmt.Appendf(nil, `{"count":%d}`, b.Len()))
		then := done
		done = func(r readings.Result, err error) {
			t.reply(id, "readings", fmt.Appendf(nil, `{"accepted":%d,"late":%d,"dup":%d,"rejected":%d}`, r.Accepted, r.Late, r.Dup, len(r.Rejected)), err)
			then(r, err)
		}
	}
	if err := t.quota.MayStore(id); err != nil {
		// To be asked to send again later would hold up every device behind the bridge.
		done(readings.Result{}, devices.Refuse(devices.CodeTooLarge, "not stored: "+err.Error()))
		return
	}
	t.readings.Submit(src, b, done)
}

func (t traced) reply(id devices.ID, about string, payload []byte, err error) {
	l := t.line(trace.Out, "reply")
	l.About, l.Outcome = about, "ok"
	if err != nil {
		if l.Outcome = string(devices.CodeOf(err)); l.Outcome == "" {
			l.Outcome = string(devices.CodePlatformUnavailable)
		}
	}
	t.tracer.Record(id, l, payload)
}

func (t traced) Connected(id devices.ID, epoch int64, transport devices.Transport, window int, send func(commands.Envelope) bool) {
	t.tracer.Record(id, t.line(trace.In, "connect"), fmt.Appendf(nil, `{"epoch":%d}`, epoch))
	t.commands.Connected(id, epoch, transport, window, func(e commands.Envelope) bool {
		sent := send(e)
		if t.tracer.Follows(id) {
			l := t.line(trace.Out, "command")
			if !sent {
				l.Outcome = "not_sent"
			}
			b, _ := json.Marshal(e) // plain values
			t.tracer.Record(id, l, b)
		}
		return sent
	})
}

func (t traced) Disconnected(id devices.ID, epoch int64) {
	t.tracer.Record(id, t.line(trace.In, "close"), fmt.Appendf(nil, `{"epoch":%d}`, epoch))
	t.commands.Disconnected(id, epoch)
}

func (t traced) Answer(id devices.ID, epoch int64, payload []byte) error {
	t.tracer.Record(id, t.line(trace.In, "ack"), payload)
	err := t.commands.Answer(id, epoch, payload)
	t.reply(id, "ack", nil, err)
	return err
}

func (t traced) Forwarded(id devices.ID, epoch int64, cmdID string) {
	t.tracer.Record(id, t.line(trace.In, "ack"), fmt.Appendf(nil, `{"cmd_id":%q,"status":"acked"}`, cmdID))
	t.commands.Forwarded(id, epoch, cmdID)
}

func (t traced) Report(id devices.ID, epoch int64, at time.Time, payload []byte) (int64, error) {
	t.tracer.Record(id, t.line(trace.In, "state"), payload)
	ver, err := t.commands.Report(id, epoch, at, payload)
	t.reply(id, "state", nil, err)
	return ver, err
}
