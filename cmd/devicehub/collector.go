package main

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"

	"devicehub/bridge"
	"devicehub/bridge/remote"
	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/identity"
	"devicehub/devices/influx"
	"devicehub/devices/liveness"
	"devicehub/devices/quota"
	"devicehub/devices/readings"
	"devicehub/devices/sqlite"
	"devicehub/devices/tsdb"
	"devicehub/hub"
)

// collector tells Prometheus what the services have counted by themselves. Each
// is asked once a scrape.
type collector struct{ *assembly }

// snapshot is what the services have counted, at one moment.
type snapshot struct {
	hub      hub.Stats
	mqtt     bridge.Stats
	readings readings.Stats
	store    tsdb.Stats
	liveness liveness.Stats
	commands commands.Stats
	identity identity.Stats
	sink     influx.Stats // zero without a sink
	bridges  []remote.Status
	limited  map[string]int64

	devices, sessions  int
	auditWaiting       int
	auditLost          sqlite.AuditLost
	auditRefusals      int64
	auditChanged       sqlite.AuditSize
	auditRefused       sqlite.AuditSize
	clockSuspect, over bool
}

func (a *assembly) snapshot() *snapshot {
	s := &snapshot{
		hub: a.endpoint.Stats(), readings: a.readings.Stats(), store: a.store.Stats(), liveness: a.liveness.Stats(),
		commands: a.commands.Stats(), identity: a.identity.Stats(), devices: a.registry.Len(), sessions: a.door.Sessions(),
		clockSuspect: a.readings.Clock().Suspect, over: !a.accepting.Load(),
	}
	s.auditWaiting, s.auditLost = a.audit.Waiting()
	s.auditRefusals = a.audit.Refusals()
	s.auditChanged, s.auditRefused = a.auditSize()
	s.limited = map[string]int64{}
	a.quota.Refused(func(l quota.Limit, n int64) { s.limited[l.String()] = n })
	s.bridges = a.bridges.statuses()
	if a.sink != nil {
		s.sink = a.sink.Stats()
	}
	if a.mqttStats != nil {
		s.mqtt = a.mqttStats()
	}
	return s
}

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, f := range families() {
		to <- f.desc()
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	s := c.snapshot()
	for _, f := range families() {
		desc := f.desc()
		f.read(s, func(v float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(desc, f.kind, v, labels...)
		})
	}
}

// family is the metrics of one name.
type family struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
	read       func(s *snapshot, put func(v float64, labels ...string))
}

func (f family) desc() *prometheus.Desc { return prometheus.NewDesc(f.name, f.help, f.labels, nil) }

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

type number interface{ ~int | ~int64 }

// one is a family of a single metric.
func one[N number](name, help string, kind prometheus.ValueType, read func(s *snapshot) N) family {
	return family{name, help, kind, nil, func(s *snapshot, put func(float64, ...string)) { put(float64(read(s))) }}
}

// by is a family with one label.
func by(name, help string, kind prometheus.ValueType, label string, read func(s *snapshot, put func(v int64, value string))) family {
	return family{name, help, kind, []string{label}, func(s *snapshot, put func(float64, ...string)) {
		read(s, func(v int64, value string) { put(float64(v), value) })
	}}
}

func yes(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// families are all that the collector tells.
func families() []family {
	var all []family
	for _, part := range [][]family{connectionFamilies(), mqttFamilies(), bridgeFamilies(), deviceFamilies(), readingFamilies(), sinkFamilies(), operationFamilies()} {
		all = append(all, part...)
	}
	return all
}

func connectionFamilies() []family {
	return []family{
		by("devicehub_connections", "Open connections of devices, people and programs.", gauge, "transport", func(s *snapshot, put func(int64, string)) {
			put(s.hub.WebSockets, "websocket")
			put(s.hub.LongPolls, "longpoll")
			put(s.mqtt.Connections, "mqtt")
		}),
		one("devicehub_channels", "Joined channels.", gauge, func(s *snapshot) int64 { return s.hub.Channels }),
		by("devicehub_connects_total", "Connections to sockets, by whether they were let in.", counter, "outcome", func(s *snapshot, put func(int64, string)) {
			put(s.hub.Connects, "ok")
			put(s.hub.ConnectsRefused, "refused")
		}),
		by("devicehub_joins_total", "Joins of channels, by whether they were let in.", counter, "outcome", func(s *snapshot, put func(int64, string)) {
			put(s.hub.Joins, "ok")
			put(s.hub.JoinsRefused, "refused")
		}),
		one("devicehub_channel_crashes_total", "Channels that ended with phx_error.", counter, func(s *snapshot) int64 { return s.hub.Crashes }),
		one("devicehub_channel_overloads_total", "Channels that were ended because what the hub told them overflowed their queue.", counter, func(s *snapshot) int64 { return s.hub.Overloads }),
		one("devicehub_channels_abandoned_total", "Channels that were given up because a callback did not return.", counter, func(s *snapshot) int64 { return s.hub.Abandoned }),
		by("devicehub_frames_total", "Frames of channels.", counter, "direction", func(s *snapshot, put func(int64, string)) {
			put(s.hub.MessagesIn, "in")
			put(s.hub.MessagesOut, "out")
		}),
		by("devicehub_frame_bytes_total", "Bytes of channels' frames.", counter, "direction", func(s *snapshot, put func(int64, string)) {
			put(s.hub.BytesIn, "in")
			put(s.hub.BytesOut, "out")
		}),
		by("devicehub_slow_clients_total", "What became of messages for clients that do not keep up, or of the clients.", counter, "fate", func(s *snapshot, put func(int64, string)) {
			put(s.hub.Dropped, "dropped")
			put(s.hub.Conflated, "conflated")
			put(s.hub.SlowConsumers, "disconnected")
		}),
		by("devicehub_limited_total", "What was refused because somebody had reached a limit, by the limit; cut_off: connections ended for going on beyond one.", counter, "limit", func(s *snapshot, put func(int64, string)) {
			for limit, n := range s.limited {
				put(n, limit)
			}
		}),
		one("devicehub_idle_timeouts_total", "Connections to sockets that were closed because nothing was heard on them.", counter, func(s *snapshot) int64 { return s.hub.IdleTimeouts }),
		one("devicehub_protocol_errors_total", "Connections to sockets that were closed for malformed frames.", counter, func(s *snapshot) int64 { return s.hub.ProtocolErrors }),
	}
}

func mqttFamilies() []family {
	return []family{
		by("devicehub_mqtt_connects_total", "Connections to the hub's own MQTT listener, by whether they were let in.", counter, "outcome", func(s *snapshot, put func(int64, string)) {
			put(s.mqtt.Accepted, "accepted")
			put(s.mqtt.Refused, "refused")
			put(s.mqtt.Throttled, "throttled")
		}),
		one("devicehub_mqtt_devices", "Devices that are signed in over MQTT.", gauge, func(s *snapshot) int64 { return s.mqtt.Devices }),
		by("devicehub_mqtt_publishes_total", "Messages of devices (in) and for devices (out) over MQTT.", counter, "direction", func(s *snapshot, put func(int64, string)) {
			put(s.mqtt.PublishIn, "in")
			put(s.mqtt.PublishOut, "out")
		}),
		by("devicehub_mqtt_disconnects_total", "MQTT connections that the hub ended, by why.", counter, "reason", func(s *snapshot, put func(int64, string)) {
			put(s.mqtt.Malformed, "malformed")
			put(s.mqtt.Timeouts, "keep_alive")
			put(s.mqtt.Slow, "slow")
			put(s.mqtt.Panics, "crash")
		}),
		by("devicehub_mqtt_refused_total", "Messages over MQTT that were not taken or not delivered, by why.", counter, "reason", func(s *snapshot, put func(int64, string)) {
			put(s.mqtt.Foreign, "foreign_topic")
			put(s.mqtt.Retained, "retained")
			put(s.mqtt.Retryable, "retryable")
			put(s.mqtt.Dropped, "not_sent")
			put(s.mqtt.Expired, "expired")
			put(s.mqtt.Broker.Dropped, "broker_queue_full")
		}),
		one("devicehub_mqtt_sessions", "Sessions of service accounts, connected or kept.", gauge, func(s *snapshot) int64 { return s.mqtt.Broker.Sessions }),
		one("devicehub_mqtt_sessions_evicted_total", "Sessions of absent clients that gave way to others.", counter, func(s *snapshot) int64 { return s.mqtt.Broker.Evicted }),
		one("devicehub_mqtt_retained_messages", "Retained messages, the hub's own included.", gauge, func(s *snapshot) int64 { return s.mqtt.Broker.Retained }),
		one("devicehub_mqtt_kept_bytes", "What the broker keeps for service accounts, with what it takes in memory.", gauge, func(s *snapshot) int64 { return s.mqtt.Broker.Bytes }),
	}
}

// bridgeFamilies have the bridges' names as labels, which the configuration
// gives.
func bridgeFamilies() []family {
	two := func(name, help, label string, read func(b remote.Status, put func(v int64, value string))) family {
		return family{name, help, counter, []string{"bridge", label}, func(s *snapshot, put func(float64, ...string)) {
			for _, b := range s.bridges {
				read(b, func(v int64, value string) { put(float64(v), b.Name, value) })
			}
		}}
	}
	return []family{
		by("devicehub_bridge_connected", "1 while the bridge is connected to its broker.", gauge, "bridge", func(s *snapshot, put func(int64, string)) {
			for _, b := range s.bridges {
				put(yes(b.Connected), b.Name)
			}
		}),
		by("devicehub_bridge_waiting", "Messages of a bridge that are not yet decided.", gauge, "bridge", func(s *snapshot, put func(int64, string)) {
			for _, b := range s.bridges {
				put(int64(b.Waiting), b.Name)
			}
		}),
		two("devicehub_bridge_messages_total", "Messages from the bridge's broker (in), of them known from before a connection broke (redelivered), held up by the bridge's rate (slowed) and at QoS 0 without room (dropped); to it (out), and for it while it was away (unsent).", "direction", func(b remote.Status, put func(int64, string)) {
			put(b.Received, "in")
			put(b.Redelivered, "redelivered")
			put(b.Slowed, "slowed")
			put(b.Dropped, "dropped")
			put(b.Published, "out")
			put(b.Unsent, "unsent")
		}),
		two("devicehub_bridge_device_messages_total", "What became of what devices behind the bridge said.", "outcome", func(b remote.Status, put func(int64, string)) {
			put(b.Accepted, "accepted")
			put(b.Refused, "refused")
			put(b.Foreign, "foreign")
			put(b.Retained, "retained_command")
			put(b.Looped, "looped")
		}),
	}
}

func deviceFamilies() []family {
	return []family{
		one("devicehub_devices", "Registered devices.", gauge, func(s *snapshot) int { return s.devices }),
		one("devicehub_device_sessions", "Devices connected, over any transport.", gauge, func(s *snapshot) int { return s.sessions }),
		by("devicehub_devices_by_state", "Devices by the state of their availability.", gauge, "state", func(s *snapshot, put func(int64, string)) {
			never := s.devices
			for _, st := range []devices.State{devices.Online, devices.Quiet, devices.Unresponsive, devices.DataOnly, devices.Sleeping, devices.Offline} {
				n := s.liveness.States[st]
				never -= n
				put(int64(n), string(st))
			}
			put(int64(max(0, never)), string(devices.NeverSeen))
		}),
		one("devicehub_device_epochs_total", "Connections of devices that were given an epoch.", counter, func(s *snapshot) int64 { return s.liveness.Opened }),
		one("devicehub_device_replacements_total", "Connections of devices that a newer one of the same device ended.", counter, func(s *snapshot) int64 { return s.liveness.Replaced }),
		one("devicehub_duplicate_identities_total", "Connections turned away because two devices fought over one identity.", counter, func(s *snapshot) int64 { return s.liveness.Refused }),
		one("devicehub_commands_open", "Commands under way.", gauge, func(s *snapshot) int { return s.commands.Open }),
		by("devicehub_command_sends_total", "Envelopes given to transports, the first time or again.", counter, "attempt", func(s *snapshot, put func(int64, string)) {
			put(s.commands.Sent-s.commands.Resent, "first")
			put(s.commands.Resent, "again")
		}),
		one("devicehub_command_refreshes_total", "States asked for because a command was done and a second later not shown.", counter, func(s *snapshot) int64 { return s.commands.Refreshed }),
	}
}

func readingFamilies() []family {
	return []family{
		by("devicehub_readings_total", "Readings by what became of them; late ones are accepted too.", counter, "outcome", func(s *snapshot, put func(int64, string)) {
			put(s.readings.Accepted, "accepted")
			put(s.readings.Late, "late")
			put(s.readings.Dup, "dup")
		}),
		by("devicehub_readings_rejected_total", "Readings refused for good, by code.", counter, "code", func(s *snapshot, put func(int64, string)) {
			counts := map[devices.Code]int64{ // also those that never were, so that the first is seen to rise
				devices.CodeInvalid: 0, devices.CodeRange: 0, devices.CodeUnitMismatch: 0, devices.CodeTypeConflict: 0,
				devices.CodeUndeclaredMetric: 0, devices.CodeTooOld: 0, devices.CodeForbidden: 0, devices.CodeTooLarge: 0,
			}
			maps.Copy(counts, s.readings.Rejected)
			for code, n := range counts {
				put(n, string(code))
			}
		}),
		by("devicehub_pushes_total", "Pushes of readings: judged, or refused whole because they were too large, the hub overloaded or the store unable.", counter, "outcome", func(s *snapshot, put func(int64, string)) {
			put(s.readings.Pushes, "judged")
			put(s.readings.RefusedPushes, "refused")
		}),
		by("devicehub_readings_waiting", "Readings that wait to be made durable.", gauge, "queue", func(s *snapshot, put func(int64, string)) {
			put(int64(s.readings.Waiting-s.readings.WaitingBackfill), "live")
			put(int64(s.readings.WaitingBackfill), "backfill")
		}),
		one("devicehub_store_ready", "1 while the readings store takes readings.", gauge, func(s *snapshot) int64 { return yes(s.store.State == tsdb.StateReady) }),
		by("devicehub_store_bytes", "What readings take on the disk.", gauge, "part", func(s *snapshot, put func(int64, string)) {
			put(s.store.LogBytes, "log")
			put(s.store.ChunkBytes, "chunks")
		}),
		one("devicehub_store_head_readings", "Readings that are in the log and in memory, not yet in the chunks.", gauge, func(s *snapshot) int { return s.store.HeadReadings }),
		one("devicehub_store_series", "Series of readings.", gauge, func(s *snapshot) int { return s.store.Series }),
		one("devicehub_store_misnamed_series", "Series that are kept aside because no device can have sent their names.", gauge, func(s *snapshot) int { return s.store.Misnamed }),
		one("devicehub_store_stale_rollups", "Buckets of roll-ups that are to be computed again.", gauge, func(s *snapshot) int { return s.store.StaleRollUps }),
	}
}

func operationFamilies() []family {
	return []family{
		one("devicehub_accepting", "1 while every listener accepts.", gauge, func(s *snapshot) int64 { return yes(!s.over) }),
		one("devicehub_clock_suspect", "1 while the hub does not trust its own clock.", gauge, func(s *snapshot) int64 { return yes(s.clockSuspect) }),
		by("devicehub_logins_total", "Sign-ins of people: ok, failed for a wrong name or password, or limited after too many of those.", counter, "outcome", func(s *snapshot, put func(int64, string)) {
			put(s.identity.Logins, "ok")
			put(s.identity.LoginsFailed, "failed")
			put(s.identity.LoginsLimited, "limited")
		}),
		by("devicehub_tokens_verified_total", "Tokens verified: their signature checked, or known from before.", counter, "how", func(s *snapshot, put func(int64, string)) {
			put(s.identity.TokensVerified, "signature")
			put(s.identity.TokensCached, "cache")
		}),
		one("devicehub_users", "People who may sign in.", gauge, func(s *snapshot) int { return s.identity.Users }),
		one("devicehub_login_sessions", "Sessions of people that are signed in.", gauge, func(s *snapshot) int { return s.identity.Sessions }),
		one("devicehub_service_accounts", "Service accounts.", gauge, func(s *snapshot) int { return s.identity.Accounts }),
		one("devicehub_audit_waiting", "Audit entries that are not yet on the disk.", gauge, func(s *snapshot) int { return s.auditWaiting }),
		one("devicehub_audit_lost_total", "Audit entries that were lost because the disk did not take them.", counter, func(s *snapshot) int64 { return s.auditLost.Entries }),
		one("devicehub_audit_refusals_total", "Actions that were refused or failed and counted in the audit, where identical ones share an entry.", counter, func(s *snapshot) int64 { return s.auditRefusals }),
		one("devicehub_audit_refusals_lost_total", "Of those, the ones that no entry counts, because space was short or the disk did not take entries.", counter, func(s *snapshot) int64 { return s.auditLost.Refusals }),
		by("devicehub_audit_bytes", "About what the audit takes on the disk, by what became of the actions.", gauge, "outcome", func(s *snapshot, put func(int64, string)) {
			put(s.auditChanged.Bytes, "ok")
			put(s.auditRefused.Bytes, "refused")
		}),
	}
}

// sinkFamilies tell of the InfluxDB sink; they are 0 without one.
func sinkFamilies() []family {
	return []family{
		one("devicehub_influx_lag_bytes", "Ingest log that the InfluxDB sink has not sent yet.", gauge, func(s *snapshot) int64 { return s.sink.LagBytes }),
		{"devicehub_influx_lag_seconds", "Age of the oldest reading that the InfluxDB sink has not sent yet.", gauge, nil,
			func(s *snapshot, put func(float64, ...string)) { put(float64(s.sink.LagMS) / 1000) }},
		one("devicehub_influx_points_total", "Points that InfluxDB has taken.", counter, func(s *snapshot) int64 { return s.sink.Sent }),
		one("devicehub_influx_retries_total", "Requests to InfluxDB that were tried again.", counter, func(s *snapshot) int64 { return s.sink.Retries }),
		one("devicehub_influx_dead_letters_total", "Points that InfluxDB refused for good and that were put aside.", counter, func(s *snapshot) int64 { return s.sink.DeadLetter }),
	}
}
