package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"devicehub/bridge"
	"devicehub/bridge/broker"
	"devicehub/bridge/broker/brokerlog"
	"devicehub/devices"
	"devicehub/devices/identity"
	"devicehub/devices/liveness"
	"devicehub/devices/tsdb"
	"devicehub/hub/edge"
)

// mqttServer is the hub's own MQTT listener; nil when it is off.
type mqttServer struct {
	*bridge.Server
	listen string
	root   string
}

func newMQTTServer(a *assembly, certs *Certificates) (*mqttServer, error) {
	e := a.Config.MQTT.Embedded
	if e.Listen == "" && e.TLSListen == "" && e.WSListen == "" {
		return nil, nil
	}
	cfg := bridge.Default()
	cfg.Listen, cfg.TLSListen, cfg.WSListen, cfg.Root = e.Listen, e.TLSListen, e.WSListen, a.Config.MQTT.Root
	if certs != nil {
		cfg.TLS = certs.MQTT()
	} else if e.TLSListen != "" {
		return nil, fmt.Errorf("mqtt.embedded.tls_listen: there is no certificate; set http.tls.mode to files, self_signed or acme")
	}
	l := a.Config.Limits
	cfg.MaxPacket, cfg.OutboundBytes, cfg.OutboundAge, cfg.Sessions.Limits = l.FrameBytes, l.OutboundBytes, l.OutboundAge.Duration(), l.broker()
	store, err := a.openBrokerStore()
	if err != nil {
		return nil, err
	}
	s, err := bridge.New(cfg, bridge.WithStore(store), bridge.WithDoor(bridge.NewDoor(a.door, a.identity, a.registry)),
		bridge.WithAccounts(bridge.NewAccounts(a.identity, a.registry, a.quota)), bridge.WithRefusals(a.refusals), bridge.WithAudit(a.audit), bridge.WithLogger(a.Log),
		bridge.WithListen(func(addr string) (net.Listener, error) {
			return a.gate.Listen(addr, edge.Proxies{Trusted: trusted(e.TrustedProxies), Header: e.ProxyProtocol})
		}))
	if err != nil {
		return nil, fmt.Errorf("mqtt: %w", err)
	}
	if err := s.Load(); err != nil {
		return nil, fmt.Errorf("mqtt: %w", err)
	}
	a.closers = append(a.closers, s.Close)
	if err := s.Listen(); err != nil {
		return nil, listenError("mqtt.embedded.listen", e.Listen, err)
	}
	for d := range a.registry.All() {
		s.SetOnline(d.ID, reachable(a.liveness.Status(d.ID).State))
	}
	a.feeds = append(a.feeds, devices.FeedFunc(func(ev devices.Event) {
		if st, ok := ev.Payload.(liveness.Event); ok {
			s.SetOnline(st.Device, reachable(st.State))
		}
	}))
	a.registry.Watch(func(c devices.Change) {
		if c.After == nil {
			s.Forget(c.ID())
		}
	})
	a.identity.Watch(func(identity.Change) { s.CheckAccounts() })
	m := &mqttServer{Server: s, listen: e.Listen, root: a.Config.MQTT.Root}
	a.mqttStats, a.mqttWays, a.mqttSessions = s.Stats, m.ways, s
	return m, nil
}

// openBrokerStore opens what the broker keeps.
func (a *assembly) openBrokerStore() (*brokerlog.Store, error) {
	s, err := brokerlog.Open(a.Data.Join(brokerFolder), brokerlog.Options{Sync: a.Config.Readings.Fsync == tsdb.SyncBatch, Logger: a.Log})
	if err != nil {
		return nil, err
	}
	a.brokerStore = s
	a.closers = append(a.closers, s.Close)
	return s, nil
}

// backupBroker copies what the broker keeps, also while it does not run.
func (a *assembly) backupBroker(ctx context.Context, dir string) error {
	if a.brokerStore != nil {
		return a.brokerStore.Backup(ctx, dir)
	}
	from := a.Data.Join(brokerFolder)
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s, err := brokerlog.Open(from, brokerlog.Options{Logger: a.Log})
	if err != nil {
		return err
	}
	return errors.Join(s.Backup(ctx, dir), s.Close())
}

// reachable is the hub's word on <root>/<id>/online: whether a device can be
// expected to answer, if not at once.
func reachable(s devices.State) bool { return s != devices.Offline && s != devices.NeverSeen }

func (m *mqttServer) run(ctx context.Context) error {
	if m == nil {
		<-ctx.Done()
		return nil
	}
	return m.Run(ctx)
}

// ways says how devices reach the listener, under whatever name the machine has
// for them.
func (m *mqttServer) ways() map[string]any {
	ways := map[string]any{"root": m.root}
	for kind, name := range map[string]string{"tcp": "port", "tls": "tls_port"} {
		if a, ok := m.Addr(kind).(*net.TCPAddr); ok {
			ways[name] = a.Port
		}
	}
	return ways
}

// setLimits changes the limits of connections from now on.
func (m *mqttServer) setLimits(l LimitsConfig) {
	if m != nil {
		m.SetLimits(bridge.Limits{MaxPacket: l.FrameBytes, OutboundBytes: l.OutboundBytes, OutboundAge: l.OutboundAge.Duration(), Broker: l.broker()})
	}
}

func (m *mqttServer) addr() string {
	if m == nil {
		return "off"
	}
	if a := m.Addr("tcp"); a != nil {
		return a.String()
	}
	return m.listen
}

// broker are the limits of what the broker keeps.
func (l LimitsConfig) broker() broker.Limits {
	return broker.Limits{
		Bytes: int(l.MQTTBytes), AccountBytes: int(l.MQTTBytesPerAccount),
		AccountSessions: l.MQTTSessionsPerAccount, AccountRetained: l.MQTTRetainedPerAccount,
	}
}
