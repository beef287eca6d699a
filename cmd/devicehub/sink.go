package main

import (
	"context"
	"errors"
	"os"

	"devicehub/devices"
	"devicehub/devices/influx"
)

// openSink builds the InfluxDB sink where one is configured. It reads the
// ingest log behind everybody's back and never holds up a reading.
func (a *assembly) openSink() error {
	cfg := a.Config.Readings.Influx
	if cfg.URL == "" {
		return nil
	}
	dir := a.Data.Join("influx")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	a.sink, err = influx.New(a.store, influx.Config{
		URL: cfg.URL, Org: cfg.Org, Bucket: cfg.Bucket, Token: cfg.Token, Dir: dir, SpoolMax: minFree(cfg.SpoolMax), Logger: a.Log,
	})
	return err
}

// sinkName names the only kind of sink there is.
const sinkName = "influx"

// replay has the sink send again what it put aside.
func (a *assembly) replay(ctx context.Context, name string) (any, error) {
	if a.sink == nil || name != sinkName {
		return nil, devices.NotFound("sink").With("field", "name")
	}
	r, err := a.sink.Replay(ctx)
	if errors.Is(err, influx.ErrNotThrough) {
		return nil, devices.Refuse(devices.CodePlatformUnavailable, err.Error())
	}
	return r, err
}

// runSink sends to InfluxDB until ctx ends; without a sink it waits.
func (a *assembly) runSink(ctx context.Context) error {
	if a.sink == nil {
		<-ctx.Done()
		return nil
	}
	return a.sink.Run(ctx)
}

// sinkList is what an operator sees of the sinks.
func (a *assembly) sinkList(context.Context) (any, error) {
	type sink struct {
		Name string `json:"name"`
		URL  string `json:"url"`
		influx.Stats
	}
	list := []sink{}
	if a.sink != nil {
		list = append(list, sink{sinkName, a.Config.Readings.Influx.URL, a.sink.Stats()})
	}
	return map[string]any{"sinks": list}, nil
}
