package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/fleet"
	"devicehub/devices/httpapi"
	"devicehub/devices/tsdb"
)

// apiServices are the services as the HTTP API calls them.
func (a *assembly) apiServices() httpapi.Services {
	return httpapi.Services{
		Registry: a.registry, Identity: a.identity, Audit: a.audit, Quota: a.quota, Door: a.door, Readings: a.readings, Liveness: a.liveness,
		Shadows: a.shadows, Commands: a.commands, Search: a.fleet.Matcher, Trace: a.tracer, Discovered: a.discovered, Starts: a.startsAdapters,
		MQTT: mqttSessions{a}, Nodes: a.nodes, Bridges: a.bridgeList, Sinks: a.sinkList, Replay: a.replay, Backup: a.backup, Ready: a.checks,
		Metrics: promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{}),
	}
}

// pingWithin is how long readiness waits for the database; behind a long
// transaction it takes a while.
const pingWithin = 3 * time.Second

// checks are what readiness waits for. Listeners report through readiness.
func (a *assembly) checks(ctx context.Context) []httpapi.Check {
	ctx, cancel := context.WithTimeout(ctx, pingWithin)
	defer cancel()
	database := httpapi.Check{Name: "database", OK: true, Detail: "answers"}
	if err := a.db.Ping(ctx); err != nil {
		database.OK, database.Detail = false, err.Error()
	}
	store := a.store.Stats()
	clock := a.readings.Clock()
	list := []httpapi.Check{
		{Name: "listeners", OK: a.accepting.Load(), Detail: a.acceptingDetail()},
		database,
		{Name: "readings store", OK: store.State == tsdb.StateReady, Detail: storeDetail(store)},
	}
	detail := "trusted"
	if clock.Suspect {
		detail = "suspect: " + clock.Reason + "; see `devicehub clock accept`"
	}
	list = append(list, httpapi.Check{Name: "clock", OK: true, Detail: detail})
	if unknown := a.proxies.Unknown(); len(unknown) > 0 {
		list = append(list, httpapi.Check{Name: "proxies", OK: true, Detail: "not in http.trusted_proxies: " + strings.Join(unknown, ", ")})
	}
	if a.sink != nil { // it may lag, and never makes the hub unready
		st := a.sink.Stats()
		list = append(list, httpapi.Check{Name: "influx", OK: true,
			Detail: strings.TrimSpace(fmt.Sprintf("%s, %d ms and %d bytes behind %s", st.State, st.LagMS, st.LagBytes, st.Err))})
	}
	return list
}

func storeDetail(s tsdb.Stats) string {
	detail := strings.TrimSpace(s.State + " " + s.Err)
	if s.Misnamed > 0 {
		detail += fmt.Sprintf("; %d series are kept aside, see `devicehub readings check`", s.Misnamed)
	}
	return detail
}

func (a *assembly) acceptingDetail() string {
	if a.accepting.Load() {
		return "accept"
	}
	return "do not accept yet, or no longer"
}

// nodes lists the nodes of the hub: this one.
func (a *assembly) nodes(context.Context) (any, error) {
	s := a.endpoint.Stats()
	node := map[string]any{
		"name": a.node, "version": a.Version, "started_at": a.started.UnixMilli(), "uptime_s": int64(time.Since(a.started).Seconds()),
		"websockets": s.WebSockets, "longpolls": s.LongPolls, "channels": s.Channels, "device_sessions": a.door.Sessions(),
		"devices": a.registry.Len(), "durability": durability(a.Config.Readings.Fsync), "clock": a.readings.Clock(),
	}
	if unknown := a.proxies.Unknown(); len(unknown) > 0 {
		node["unknown_proxies"] = unknown
	}
	if a.mqttWays != nil {
		node["mqtt"] = a.mqttWays()
	}
	return map[string]any{"nodes": []map[string]any{node}}, nil
}

// durability says what an acknowledgement of readings survives.
func durability(fsync string) string {
	if fsync == "batch" {
		return "machine" // a crash of the machine
	}
	return "process" // a crash of the hub, not of the machine
}

// backup writes everything the hub keeps.
func (a *assembly) backup(ctx context.Context, w io.Writer, withoutKeys bool) error {
	if err := a.audit.Flush(ctx); err != nil {
		return err
	}
	return writeBackup(ctx, w, a.Data, a.Log, a.store.Backup, a.backupBroker, withoutKeys)
}

// countCommand counts transitions of commands; it hears every event.
func (a *assembly) countCommand(e devices.Event) {
	r, ok := e.Payload.(commands.Record)
	if !ok {
		return
	}
	a.metrics.commands.WithLabelValues(string(r.Status)).Inc()
	if r.Status == commands.Confirmed {
		a.metrics.confirm.Observe(float64(r.At-r.IssuedAt) / 1000)
	}
}

// lastCommand is what the fleet's rows show of commands.
func (a *assembly) lastCommand(id devices.ID) (fleet.Command, bool) {
	r, ok := a.commands.Last(id)
	return fleet.Command{CmdID: r.CmdID, Status: string(r.Status), At: r.At}, ok
}
