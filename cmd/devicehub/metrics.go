package main

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"devicehub/devices"
)

// metrics are the hub's counters as Prometheus reads them. No label ever holds
// a device's id: a fleet of 100,000 devices has as many series as one of ten.
type metrics struct {
	registry *prometheus.Registry

	events      *prometheus.CounterVec // of devices, by transport, event and code
	commands    *prometheus.CounterVec // by the status they came to
	confirm     prometheus.Histogram
	commit      prometheus.Histogram
	commitFails prometheus.Counter
	fsync       prometheus.Histogram
	flush       prometheus.Histogram
	dbWrite     prometheus.Histogram
	dbFails     prometheus.Counter
	feed        *prometheus.CounterVec
	requests    *prometheus.HistogramVec
}

func newMetrics(version, node string) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.events = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "devicehub_device_events_total",
		Help: "Events that devices sent (connect: connections), by transport and by the code they were refused with, ok when taken."}, []string{"transport", "event", "code"})
	m.commands = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "devicehub_commands_total",
		Help: "Transitions of commands, by the status they came to."}, []string{"status"})
	m.confirm = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "devicehub_command_confirm_seconds",
		Help: "From a command's arrival at the hub until its device's state confirmed it.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 13)})
	m.commit = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "devicehub_store_commit_seconds",
		Help: "How long the readings store took to make a group durable.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15)})
	m.commitFails = prometheus.NewCounter(prometheus.CounterOpts{Name: "devicehub_store_commit_failures_total",
		Help: "Groups of readings that the store did not keep; their senders were told so."})
	m.fsync = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "devicehub_store_fsync_seconds",
		Help: "Fsyncs of the ingest log.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 15)})
	m.flush = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "devicehub_store_flush_seconds",
		Help: "Flushes of readings from memory into the chunks.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10)})
	m.dbWrite = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "devicehub_database_write_seconds",
		Help: "Transactions of the database of devices, people, commands and audit, waiting for the one writer included.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)})
	m.dbFails = prometheus.NewCounter(prometheus.CounterOpts{Name: "devicehub_database_write_failures_total",
		Help: "Transactions of the database that were rolled back."})
	m.feed = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "devicehub_feed_events_total",
		Help: "Events told to those who watch, by name."}, []string{"event"})
	m.requests = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "devicehub_http_request_seconds",
		Help: "HTTP requests by route and class of status.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}, []string{"method", "route", "class"})
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "devicehub_info", Help: "Always 1; the labels say which binary this is.",
		ConstLabels: prometheus.Labels{"version": version, "node": node}})
	info.Set(1)
	m.registry.MustRegister(m.events, m.commands, m.confirm, m.commit, m.commitFails, m.fsync, m.flush, m.dbWrite, m.dbFails, m.feed, m.requests, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe counts an event of a device; it is a session.Door's Observe.
func (m *metrics) observe(transport devices.Transport, event string, code devices.Code) {
	if code == "" {
		code = "ok"
	}
	m.events.WithLabelValues(string(transport), event, string(code)).Inc()
}

// committed counts a group that the readings store kept or refused.
func (m *metrics) committed(_ int, took time.Duration, err error) {
	m.commit.Observe(took.Seconds())
	if err != nil {
		m.commitFails.Inc()
	}
}

// synced counts an fsync of the ingest log.
func (m *metrics) synced(took time.Duration) { m.fsync.Observe(took.Seconds()) }

// flushed counts a flush of the readings' head into the chunks.
func (m *metrics) flushed(_ int, took time.Duration, _ error) { m.flush.Observe(took.Seconds()) }

// written counts a transaction of the database.
func (m *metrics) written(took time.Duration, err error) {
	m.dbWrite.Observe(took.Seconds())
	if err != nil {
		m.dbFails.Inc()
	}
}

// answered counts HTTP requests by their route's pattern.
func (m *metrics) answered(method, route string, status int, d time.Duration) {
	m.requests.WithLabelValues(method, route, strconv.Itoa(status/100)+"xx").Observe(d.Seconds())
}
