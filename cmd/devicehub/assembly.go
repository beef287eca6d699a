package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/bridge"
	"devicehub/bridge/broker/brokerlog"
	"devicehub/devices"
	"devicehub/devices/channels"
	"devicehub/devices/commands"
	"devicehub/devices/connects"
	"devicehub/devices/fleet"
	"devicehub/devices/httpapi"
	"devicehub/devices/identity"
	"devicehub/devices/influx"
	"devicehub/devices/liveness"
	"devicehub/devices/quota"
	"devicehub/devices/readings"
	"devicehub/devices/session"
	"devicehub/devices/shadow"
	"devicehub/devices/sqlite"
	"devicehub/devices/trace"
	"devicehub/devices/tsdb"
	"devicehub/hub"
	"devicehub/hub/edge"
	"devicehub/hub/presence"
)

// assembly is every service of the hub, wired together but with no listener
// open. It is what serve puts listeners before, and what a command works with
// while no hub runs.
type assembly struct {
	*Process
	node    string
	started time.Time
	metrics *metrics
	closers []func() error

	db       *sqlite.DB
	audit    *sqlite.Audit
	registry *devices.Registry
	identity *identity.Service
	setup    identity.Setup
	store    *tsdb.Store
	readings *readings.Ingest
	sink     *influx.Sink // nil unless one is configured
	liveness *liveness.Tracker
	shadows  *shadow.Shadows
	commands *commands.Dispatcher
	fleet    *fleet.Fleet
	door     *session.Door
	endpoint *hub.Endpoint
	presence *presence.Tracker
	channels *channels.App
	quota    *quota.Quota
	gate     *edge.Gate
	proxies  *httpapi.Proxies
	origins  httpapi.Origins
	refusals *connects.Log
	tracer   *trace.Tracer
	api      *httpapi.API
	feeds    devices.Feeds

	mqttStats    func() bridge.Stats // nil when the hub's own MQTT listener is off
	mqttWays     func() map[string]any
	mqttSessions *bridge.Server   // nil likewise
	brokerStore  *brokerlog.Store // nil while that is so, or the hub does not serve
	bridges      *bridges         // nil unless the hub serves

	accepting atomic.Bool // every listener accepts
}

// assemble opens the stores of the data folder and builds the services on them.
func assemble(ctx context.Context, p *Process) (a *assembly, err error) {
	a = &assembly{Process: p, started: time.Now(), quota: quota.New(quota.Limits{}), refusals: &connects.Log{Logger: p.Log}, tracer: new(trace.Tracer)}
	if a.node, err = os.Hostname(); err != nil || a.node == "" {
		a.node = "hub"
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	a.metrics = newMetrics(p.Version, a.node)
	a.gate = a.newGate()
	a.proxies = &httpapi.Proxies{Trusted: trusted(p.Config.HTTP.TrustedProxies), Logger: p.Log}
	for _, step := range []func(context.Context) error{a.openRegistry, a.openReadings, a.openControl, a.openDoors} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	a.applyLimits(p.Config.Limits)
	a.audit.SetBounds(p.Config.Audit.bounds())
	a.metrics.registry.MustRegister(collector{a})
	return a, nil
}

// close lets go of the stores, the last opened first.
func (a *assembly) close() error {
	var errs []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		errs = append(errs, a.closers[i]())
	}
	a.closers = nil
	return errors.Join(errs...)
}

func (a *assembly) openRegistry(ctx context.Context) (err error) {
	if a.db, err = sqlite.Open(ctx, a.Data.Join(registryFile), a.Log); err != nil {
		return err
	}
	a.closers = append(a.closers, a.db.Close)
	a.db.OnWrite = a.metrics.written
	if a.audit, err = a.db.Audit(ctx, time.Now); err != nil {
		return err
	}
	a.audit.ClockSuspect = a.clockSuspect
	if a.registry, err = devices.OpenRegistry(ctx, a.db); err != nil {
		return err
	}
	auth := a.Config.Auth
	a.identity, err = identity.Open(ctx, a.db, a.registry, identity.Config{
		Issuer: auth.Issuer, TokenTTL: auth.TokenTTL.Duration(), Logger: a.Log, Auditor: a.audit, Strangers: a.quota,
		SignedIn:               func(name string) { a.dropFirstPassword(devices.ActorUser, name) },
		ClockSuspect:           a.clockSuspect,
		FailedLoginsPerAddress: a.Config.Limits.FailedLoginsPerMinPerAddress, FailedLoginsPerName: a.Config.Limits.FailedLoginsPerMinPerName,
	})
	if err != nil {
		return err
	}
	a.identity.Watch(func(c identity.Change) { a.dropFirstPassword(c.Kind, c.Name) })
	if a.setup, err = a.identity.Prepare(ctx, auth.InitialAdminPassword); err != nil {
		return err
	}
	return a.keepFirstPassword()
}

// clockSuspect reports whether the clock is not to be trusted; nothing grows too old then.
func (a *assembly) clockSuspect() bool { return a.readings != nil && a.readings.Clock().Suspect }

func (a *assembly) openReadings(context.Context) (err error) {
	cfg := a.Config.Readings
	a.store, err = tsdb.Open(a.Data.Join(readingsFolder), tsdb.Options{
		Fsync: cfg.Fsync, RetainRaw: cfg.Retention.Raw.Duration(), RetainQuarter: cfg.Retention.Min15.Duration(), RetainHour: cfg.Retention.Hour1.Duration(),
		MinFree: minFree(cfg.MinFree), OpenFiles: storeFiles(edge.Files()), Logger: a.Log, OnSync: a.metrics.synced, OnFlush: a.metrics.flushed,
	})
	if err != nil {
		return fmt.Errorf("readings: %w", err)
	}
	a.closers = append(a.closers, a.store.Close)
	a.readings = readings.New(a.store, readings.Config{
		Device: a.registry.Get,
		Logger: a.Log, LateMax: cfg.LateMax.Duration(), BackfillShare: cfg.BackfillShare,
		MayStore: a.quota.MayStore, OnStored: a.quota.Stored,
		Feed: devices.FeedFunc(a.publish), OnData: func(id devices.ID, _ int) { a.liveness.DataChanged(id) }, OnCommit: a.metrics.committed,
	})
	return a.openSink()
}

// minFree is the configured reserve in bytes; 0 leaves the choice to the store.
func minFree(s Size) int64 {
	if s == AutoSize {
		return 0
	}
	return max(int64(s), 1)
}

// publish hands an event to everybody who hears of it.
func (a *assembly) publish(e devices.Event) {
	a.metrics.feed.WithLabelValues(e.Name).Inc()
	a.feeds.Publish(e)
}

func (a *assembly) openControl(ctx context.Context) (err error) {
	feed := devices.FeedFunc(a.publish)
	a.liveness, err = liveness.New(ctx, liveness.Config{
		Store: a.db, Registry: a.registry, Freshness: a.readings.Freshness, Feed: feed, Audit: a.audit, Node: a.node, Logger: a.Log,
	})
	if err != nil {
		return err
	}
	a.shadows, err = shadow.New(ctx, shadow.Config{
		Store: a.db, Registry: a.registry, Audit: a.audit, ClockOffset: a.readings.ClockOffsetMS, Logger: a.Log,
	})
	if err != nil {
		return err
	}
	a.commands, err = commands.New(ctx, commands.Config{
		Store: a.db, Registry: a.registry, Shadows: a.shadows, Liveness: a.liveness, Feed: feed, Audit: a.audit, Logger: a.Log,
	})
	if err != nil {
		return err
	}
	a.fleet = fleet.New(fleet.Config{
		Registry: a.registry, Status: a.liveness.Status, Latest: a.readings.Latest, Light: a.shadows.Power, Command: a.lastCommand, Logger: a.Log,
	})
	return nil
}

// openDoors builds what devices and people come in by.
func (a *assembly) openDoors(context.Context) error {
	cfg := a.Config
	a.endpoint = hub.New(hub.WithLogger(a.Log))
	a.presence = presence.New(a.endpoint.PubSub(), presence.WithLogger(a.Log))
	a.door = &session.Door{
		Registry: a.registry, Identity: a.identity, Readings: a.readings, Commands: a.commands, Liveness: a.liveness,
		Presence: channels.Presence{Tracker: a.presence}, Quota: a.quota, Node: a.node, Log: a.Log, Observe: a.metrics.observe, Trace: a.tracer,
	}
	a.channels = &channels.App{
		Endpoint: a.endpoint, Presence: a.presence, Registry: a.registry, Identity: a.identity, Door: a.door, Readings: a.readings,
		Commands: a.commands, Shadows: a.shadows, Liveness: a.liveness, Fleet: a.fleet, Log: a.Log,
		AllowQueryToken: cfg.Auth.AllowQueryToken, OfflineAfter: idleTimeout, LongPollAfter: pollWindow * 3 / 2, Quota: a.quota, Refusals: a.refusals,
	}
	a.origins = httpapi.Origins{PublicURL: cfg.HTTP.PublicURL, Allowed: cfg.HTTP.AllowedOrigins, Names: ownNames(cfg.HTTP)}
	a.endpoint.Socket(mountPath, a.channels.Router(),
		hub.WithErrorHandler(channels.RefuseUpgrade), hub.WithPollRefusal(channels.RefusePoll), hub.WithCheckOrigin(a.charged(a.origins.OK)),
		hub.WithIdleTimeout(idleTimeout), hub.WithPollWindow(pollWindow), hub.WithLetIn(knowConn),
		hub.WithTooManyChannels(devices.Refuse(devices.CodeRateLimited, "too many channels joined")))

	a.feeds = append(a.feeds, &channels.Feed{Endpoint: a.endpoint, Log: a.Log}, a.fleet, devices.FeedFunc(a.countCommand))
	a.registry.Guard(a.readings.Guard)
	a.registry.Watch(a.registryChanged)
	a.identity.Watch(a.channels.IdentityChanged)

	vias := []string{bridge.LocalName}
	for _, b := range cfg.MQTT.Bridges {
		vias = append(vias, b.Name)
	}
	a.api = httpapi.New(httpapi.Config{
		Logger: a.Log, Origins: a.origins, PublicURL: cfg.HTTP.PublicURL, InsecureLogin: cfg.HTTP.InsecureLogin,
		MaxBody: int64(cfg.Limits.FrameBytes), MetricsAccess: cfg.HTTP.Metrics, Refusals: a.refusals, OriginRefused: a.originRefused, Bridges: vias, Observe: a.metrics.answered, Known: knowConn,
	}, a.apiServices())
	return nil
}

// originRefused counts a refused origin as a failed connect of its address.
func (a *assembly) originRefused(r *http.Request) { _ = a.quota.Failed(r.RemoteAddr, "") }

// charged is a check of origins that counts what it refuses.
func (a *assembly) charged(ok func(*http.Request) bool) func(*http.Request) bool {
	return func(r *http.Request) bool {
		if ok(r) {
			return true
		}
		a.originRefused(r)
		return false
	}
}

const (
	mountPath   = "/socket"
	idleTimeout = 60 * time.Second
	pollWindow  = 10 * time.Second
	mailbox     = 1024 // messages from inside the hub that wait for one channel
)

// registryChanged tells everybody concerned of a changed device.
func (a *assembly) registryChanged(c devices.Change) {
	a.door.Watch(c)
	a.channels.RegistryChanged(c)
	if c.After == nil {
		a.quota.Forget(c.ID())
		a.bridges.deleted(c.ID())
	} else {
		a.publish(devices.Event{Device: c.ID(), Kinds: c.After.Kinds, Name: "device_changed", Payload: c.After, Key: "device"})
	}
}

// applyLimits sets the limits, which may change while the hub runs: those of a
// connection hold for connections from now on.
func (a *assembly) applyLimits(l LimitsConfig) {
	a.endpoint.Change(mountPath,
		hub.WithFrameBytes(l.FrameBytes), hub.WithBodyBytes(8*int64(l.FrameBytes)), hub.WithMaxChannels(l.ChannelsPerConnection),
		hub.WithInbox(l.Inbox, mailbox), hub.WithOutbound(l.OutboundBytes, l.OutboundAge.Duration()),
		hub.WithShared(int(l.OutboundBytesPerPrincipal), int(l.InboundBytesPerPrincipal)))
	a.readings.SetMaxReadings(l.ReadingsPerPush)
	a.door.SetLimits(session.Limits{
		FrameBytes: l.FrameBytes, ReadingsPerPush: l.ReadingsPerPush, PushesInFlight: l.PushesInFlight,
		EventsPerSecond: float64(l.DeviceEventsPerS),
	})
	a.quota.SetLimits(l.quota())
	a.identity.SetLoginLimits(l.FailedLoginsPerMinPerAddress, l.FailedLoginsPerMinPerName)
	a.api.SetMaxBody(int64(l.FrameBytes))
}

// run runs every service until ctx ends, and returns when all have flushed.
func (a *assembly) run(ctx context.Context) error {
	return together(ctx, a.Log, map[string]func(context.Context) error{
		"space": a.watchSpace, "audit": a.audit.Run, "identity": a.identity.Run, "readings": a.readings.Run, "influx": a.runSink, "liveness": a.liveness.Run,
		"shadows": a.shadows.Run, "commands": a.commands.Run, "fleet": a.fleet.Run, "door": a.door.Run, "arrivals": a.quota.WatchArrivals,
	})
}

// watchSpace looks at the room on the disk until ctx ends. The audit gives way first: while
// less than twice the reserve is free, refusals are not written. Below one and a half, those
// who write most are refused; below the reserve, everybody is.
func (a *assembly) watchSpace(ctx context.Context) error {
	return a.quota.WatchSpace(ctx, func() (free, reserve int64, err error) {
		free, reserve, err = a.store.Space()
		if err == nil {
			a.audit.SpaceIsShort(free < 2*reserve)
		}
		return free, reserve, err
	})
}

// bounds are what the audit is held to.
func (a AuditConfig) bounds() sqlite.AuditBounds {
	return sqlite.AuditBounds{MaxAge: a.MaxAge.Duration(), MaxBytes: int64(a.MaxBytes)}
}

// auditSize is how much there is of the audit; zero where that cannot be had.
func (a *assembly) auditSize() (changes, refusals sqlite.AuditSize) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	changes, refusals, _ = a.audit.Size(ctx)
	return changes, refusals
}

// together runs every part until ctx ends or one of them fails, which ends the
// others too.
func together(ctx context.Context, log *slog.Logger, parts map[string]func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for name, run := range parts {
		wg.Go(func() {
			err := run(ctx)
			if err != nil && !errors.Is(err, context.Canceled) {
				err = fmt.Errorf("%s: %w", name, err)
				log.Error("service failed", "service", name, "err", err)
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
				cancel(err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
