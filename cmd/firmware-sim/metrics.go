package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	sim "devicehub/firmware-sim"
)

// serveMetrics answers GET /metrics with the figures of a run, until stop is called.
func serveMetrics(ctx context.Context, addr string, live func() sim.Snapshot) (stop func(), err error) {
	reg := prometheus.NewRegistry()
	for _, m := range []struct {
		name, help string
		counter    bool
		value      func(sim.Snapshot) float64
	}{
		{"devices", "Devices of the fleet.", false, func(s sim.Snapshot) float64 { return float64(s.Devices) }},
		{"devices_up", "Devices connected and joined.", false, func(s sim.Snapshot) float64 { return float64(s.Up) }},
		{"readings_sent_total", "Readings that devices have recorded.", true, func(s sim.Snapshot) float64 { return float64(s.Sent) }},
		{"readings_acknowledged_total", "Readings that the hub has acknowledged.", true, func(s sim.Snapshot) float64 { return float64(s.Acked) }},
		{"commands_total", "Commands that people have given.", true, func(s sim.Snapshot) float64 { return float64(s.Commands) }},
		{"commands_done_total", "Commands that are done, and of which there was nothing to be seen.", true,
			func(s sim.Snapshot) float64 { return float64(s.CommandsDone) }},
		{"commands_confirmed_total", "Commands that were confirmed.", true,
			func(s sim.Snapshot) float64 { return float64(s.CommandsConfirmed) }},
		{"commands_unconfirmed_total", "Commands that are said to be done, and that nothing has shown.", true,
			func(s sim.Snapshot) float64 { return float64(s.CommandsUnconfirmed) }},
		{"commands_failed_total", "Commands that came to nothing, or of which nobody knows.", true,
			func(s sim.Snapshot) float64 { return float64(s.CommandsFailed) }},
		{"disconnects_total", "Connections that were lost.", true, func(s sim.Snapshot) float64 { return float64(s.Drops) }},
		{"errors_total", "Errors that the hub answered with.", true, func(s sim.Snapshot) float64 { return float64(s.Errors) }},
		{"cpu_seconds_total", "CPU time of the simulator.", true, func(s sim.Snapshot) float64 { return s.CPU }},
		{"heap_bytes", "Heap of the simulator.", false, func(s sim.Snapshot) float64 { return s.HeapMB * (1 << 20) }},
	} {
		value := func() float64 { return m.value(live()) }
		name := "firmware_sim_" + m.name
		var c prometheus.Collector
		if m.counter {
			c = prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: m.help}, value)
		} else {
			c = prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: m.help}, value)
		}
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, usageError{fmt.Errorf("--metrics: %w", err)}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return // the listener broke: the run is worth more than its metrics
		}
	}()
	return func() {
		srv.Close()
		<-done
	}, nil
}
