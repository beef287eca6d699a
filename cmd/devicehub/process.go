package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"devicehub/hub/logbound"

	"github.com/spf13/cobra"
)

// Process is what the command line hands to the wiring: a checked
// configuration, a data folder held by this process, a logger.
type Process struct {
	Config  Config
	Data    *DataDir
	Log     *slog.Logger
	Out     io.Writer // for what the operator reads once: the first password, the URL
	Version string

	// Reloads carries the configuration after each SIGHUP: the running one
	// with the live keys of the file. Nil outside of serve.
	Reloads <-chan Config
}

// serveFunc runs the hub until ctx ends, then drains it; nil after a clean end.
type serveFunc func(ctx context.Context, p *Process) error

// openFunc opens the stores for one command while no hub runs. The handler is
// the HTTP API for the owner of the folder (devices.CLI); close flushes and
// lets go of the stores, but not of the folder.
type openFunc func(ctx context.Context, p *Process) (api http.Handler, close func() error, err error)

// newLogger writes to w in the configured format; level can be changed later.
func newLogger(w io.Writer, cfg LogConfig, level *slog.LevelVar) *slog.Logger {
	return slog.New(newLogHandler(w, cfg, level))
}

// newLogHandler is what newLogger logs to: clients do not fill a disk with it.
func newLogHandler(w io.Writer, cfg LogConfig, level *slog.LevelVar) *logbound.Handler {
	level.Set(logLevel(cfg.Level))
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return logbound.New(slog.NewJSONHandler(w, opts))
	}
	return logbound.New(slog.NewTextHandler(w, opts))
}

func logLevel(name string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return slog.LevelInfo
	}
	return l
}

func (a *app) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the hub",
		Long: `Run the hub until SIGTERM or SIGINT; a second signal ends it at once.
SIGHUP reads the configuration again: log level, limits and bounds of the audit
change, other changed keys are named in the log and need a restart.

Every key of the configuration that is neither a list nor a secret is also a
flag: readings.retention.raw is --readings.retention.raw.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.localOnly("serve"); err != nil {
				return err
			}
			return a.runServe(cmd)
		},
	}
	addConfigFlags(cmd.Flags(), map[string]string{
		"http.listen":          "address of the dashboard, the API and the sockets",
		"http.tls.mode":        "off, files, self_signed or acme",
		"http.public_url":      "the hub as browsers reach it",
		"mqtt.embedded.listen": "address of the MQTT listener; empty turns it off",
		"readings.fsync":       "batch, interval or off",
		"log.level":            "debug, info, warn or error",
		"log.format":           "text or json",
	})
	return cmd
}

func (a *app) runServe(cmd *cobra.Command) error {
	loaded, err := LoadConfig(a.configFile, cmd.Flags())
	if err != nil {
		return err
	}
	cfg := loaded.Config
	if ps := cfg.CheckFiles(); len(ps) > 0 {
		return ps
	}
	var level slog.LevelVar
	bounds := newLogHandler(a.err, cfg.Log, &level)
	log := slog.New(bounds)
	for _, w := range loaded.Warnings {
		log.Warn("environment", "variable", w)
	}
	dir, err := OpenDataDir(cfg.DataDir)
	if err != nil {
		return err
	}

	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal has its usual effect

	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	reloads := make(chan Config, 1)
	var wg sync.WaitGroup
	watch, cancel := context.WithCancel(ctx)
	wg.Go(func() { bounds.Run(watch) })
	wg.Go(func() {
		a.watchHUP(watch, hup, cmd, cfg, log, &level, reloads)
	})
	err = a.serve(ctx, &Process{
		Config: cfg, Data: dir, Log: log, Out: a.err, Version: versionString(), Reloads: reloads,
	})
	cancel()
	wg.Wait()
	return errors.Join(err, dir.Close())
}

// watchHUP reads the configuration again on every signal until ctx ends. One
// that is wrong changes nothing. Only the newest is kept for a slow reader.
func (a *app) watchHUP(ctx context.Context, hup <-chan os.Signal, cmd *cobra.Command, cfg Config, log *slog.Logger, level *slog.LevelVar, reloads chan Config) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		next, err := LoadConfig(a.configFile, cmd.Flags())
		if err != nil {
			log.Error("configuration not reloaded, the old one stays", "err", err)
			continue
		}
		live, restart := cfg.Diff(next.Config)
		cfg = cfg.TakeLive(next.Config)
		level.Set(logLevel(cfg.Log.Level))
		log.Info("configuration reloaded", "changed", live)
		if len(restart) > 0 {
			log.Warn("changed keys need a restart", "keys", restart)
		}
		select {
		case <-reloads:
		default:
		}
		reloads <- cfg
	}
}
