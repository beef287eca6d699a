package main

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
		Registry: a.registry, Identity: a.identity, Audit: a.audit, Door: a.door, Readings: a.readings, Liveness: a.liveness,
		Shadows: a.shadows, Commands: a.commands, Search: a.fleet.Matcher, Trace: a.tracer,
		Nodes: a.nodes, Bridges: a.bridgeList, Sinks: a.sinkList, Backup: a.backup, Ready: a.checks,
		Metrics: promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{}),
	}
}

// checks are what readiness waits for. Listeners report through readiness.
func (a *assembly) checks(context.Context) []httpapi.Check {
	store := a.store.Stats()
	clock := a.readings.Clock()
	list := []httpapi.Check{
		{Name: "listeners", OK: a.accepting.Load(), Detail: a.acceptingDetail()},
		{Name: "readings store", OK: store.State == tsdb.StateReady, Detail: strings.TrimSpace(store.State + " " + store.Err)},
	}
	detail := "trusted"
	if clock.Suspect {
		detail = "suspect: " + clock.Reason + "; see `devicehub clock accept`"
	}
	return append(list, httpapi.Check{Name: "clock", OK: true, Detail: detail})
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
	return map[string]any{"nodes": []map[string]any{{
		"name": a.node, "version": a.Version, "started_at": a.started.UnixMilli(), "uptime_s": int64(time.Since(a.started).Seconds()),
		"websockets": s.WebSockets, "longpolls": s.LongPolls, "channels": s.Channels, "device_sessions": a.door.Sessions(),
		"devices": a.registry.Len(), "durability": durability(a.Config.Readings.Fsync), "clock": a.readings.Clock(),
	}}}, nil
}

// durability says what an acknowledgement of readings survives.
func durability(fsync string) string {
	if fsync == "batch" {
		return "machine" // a crash of the machine
	}
	return "process" // a crash of the hub, not of the machine
}

func (a *assembly) bridgeList(context.Context) (any, error) {
	return map[string]any{"bridges": []any{}}, nil
}

func (a *assembly) sinkList(context.Context) (any, error) {
	return map[string]any{"sinks": []any{}}, nil
}

// backup writes everything the hub keeps.
func (a *assembly) backup(ctx context.Context, w io.Writer, withoutKeys bool) error {
	if err := a.audit.Flush(ctx); err != nil {
		return err
	}
	return writeBackup(ctx, w, a.Data, a.Log, a.store.Backup, withoutKeys)
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

// countEverything registers what the services count by themselves.
func (a *assembly) countEverything() {
	m := a.metrics
	hub := func(name, help string, labels prometheus.Labels, f func() int64) {
		m.total("devicehub_"+name, help, labels, func() float64 { return float64(f()) })
	}
	for transport, f := range map[string]func() int64{
		"websocket": func() int64 { return a.endpoint.Stats().WebSockets },
		"longpoll":  func() int64 { return a.endpoint.Stats().LongPolls },
	} {
		m.gauge("devicehub_connections", "Open connections.", prometheus.Labels{"transport": transport}, func() float64 { return float64(f()) })
	}
	m.gauge("devicehub_channels", "Joined channels.", nil, func() float64 { return float64(a.endpoint.Stats().Channels) })
	m.gauge("devicehub_device_sessions", "Devices connected, over any transport.", nil, func() float64 { return float64(a.door.Sessions()) })
	m.gauge("devicehub_devices", "Registered devices.", nil, func() float64 { return float64(a.registry.Len()) })
	for _, st := range []devices.State{devices.Online, devices.Quiet, devices.Unresponsive, devices.DataOnly, devices.Sleeping, devices.Offline} {
		m.gauge("devicehub_devices_by_state", "Devices by the state of their availability.", prometheus.Labels{"state": string(st)},
			func() float64 { return float64(a.liveness.Stats().States[st]) })
	}
	hub("connects_total", "Connections to sockets that were let in.", nil, func() int64 { return a.endpoint.Stats().Connects })
	hub("connects_refused_total", "Connections to sockets that were refused.", nil, func() int64 { return a.endpoint.Stats().ConnectsRefused })
	hub("joins_total", "Joins of channels.", prometheus.Labels{"outcome": "ok"}, func() int64 { return a.endpoint.Stats().Joins })
	hub("joins_total", "Joins of channels.", prometheus.Labels{"outcome": "refused"}, func() int64 { return a.endpoint.Stats().JoinsRefused })
	hub("channel_crashes_total", "Channels that ended with phx_error.", nil, func() int64 { return a.endpoint.Stats().Crashes })
	hub("frames_total", "Frames of channels.", prometheus.Labels{"direction": "in"}, func() int64 { return a.endpoint.Stats().MessagesIn })
	hub("frames_total", "Frames of channels.", prometheus.Labels{"direction": "out"}, func() int64 { return a.endpoint.Stats().MessagesOut })
	for fate, f := range map[string]func() int64{
		"dropped":      func() int64 { return a.endpoint.Stats().Dropped },
		"conflated":    func() int64 { return a.endpoint.Stats().Conflated },
		"disconnected": func() int64 { return a.endpoint.Stats().SlowConsumers },
	} {
		hub("slow_consumers_total", "What became of messages for clients that do not keep up, or of the clients.", prometheus.Labels{"fate": fate}, f)
	}
	hub("idle_timeouts_total", "Connections closed because nothing was heard on them.", nil, func() int64 { return a.endpoint.Stats().IdleTimeouts })
	hub("protocol_errors_total", "Connections closed for malformed frames.", nil, func() int64 { return a.endpoint.Stats().ProtocolErrors })
	for outcome, f := range map[string]func() int64{
		"accepted": func() int64 { return a.readings.Stats().Accepted },
		"late":     func() int64 { return a.readings.Stats().Late },
		"dup":      func() int64 { return a.readings.Stats().Dup },
	} {
		hub("readings_total", "Readings by what became of them; late ones are accepted too.", prometheus.Labels{"outcome": outcome}, f)
	}
	for _, code := range []devices.Code{devices.CodeInvalid, devices.CodeRange, devices.CodeUnitMismatch, devices.CodeTypeConflict, devices.CodeUndeclaredMetric, devices.CodeTooOld, devices.CodeForbidden, devices.CodeTooLarge} {
		hub("readings_rejected_total", "Readings refused for good, by code.", prometheus.Labels{"code": string(code)}, func() int64 { return a.readings.Stats().Rejected[code] })
	}
	m.gauge("devicehub_readings_queue", "Readings that wait to be judged.", prometheus.Labels{"queue": "live"},
		func() float64 { s := a.readings.Stats(); return float64(s.Waiting - s.WaitingBackfill) })
	m.gauge("devicehub_readings_queue", "Readings that wait to be judged.", prometheus.Labels{"queue": "backfill"},
		func() float64 { return float64(a.readings.Stats().WaitingBackfill) })
	m.gauge("devicehub_store_ready", "1 while the readings store takes readings.", nil, func() float64 {
		if a.store.Stats().State == tsdb.StateReady {
			return 1
		}
		return 0
	})
	m.gauge("devicehub_store_bytes", "What readings take on the disk.", prometheus.Labels{"part": "log"}, func() float64 { return float64(a.store.Stats().LogBytes) })
	m.gauge("devicehub_store_bytes", "What readings take on the disk.", prometheus.Labels{"part": "chunks"}, func() float64 { return float64(a.store.Stats().ChunkBytes) })
	m.gauge("devicehub_store_head_readings", "Readings that are in the log and in memory, not yet in the chunks.", nil, func() float64 { return float64(a.store.Stats().HeadReadings) })
	m.gauge("devicehub_store_series", "Series of readings.", nil, func() float64 { return float64(a.store.Stats().Series) })
	m.gauge("devicehub_commands_open", "Commands under way.", nil, func() float64 { return float64(a.commands.Stats().Open) })
	m.gauge("devicehub_clock_suspect", "1 while the hub does not trust its own clock.", nil, func() float64 {
		if a.readings.Clock().Suspect {
			return 1
		}
		return 0
	})
}

// answered counts HTTP requests by their route's pattern.
func (m *metrics) answered(method, route string, status int, d time.Duration) {
	m.requests.WithLabelValues(method, route, strconv.Itoa(status/100)+"xx").Observe(d.Seconds())
}
