// Peer is the application that the transcripts in ../testdata were recorded from, written on
// our hub: the other end of the replay tests, of the tests with real clients, and of benchmarks.
//
//	go run ./hub/hubtest/peer -listen 127.0.0.1:4100
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"devicehub/hub"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:4100", "address to listen on")
	quiet := flag.Bool("quiet", false, "log nothing but errors")
	flag.Parse()
	level := slog.LevelInfo
	if *quiet {
		level = slog.LevelError
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, log); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen string, log *slog.Logger) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	// Counted as live memory, never touched and so never resident: it spares a heap that is still
	// small a collection every few megabytes while many clients come at once.
	ballast := make([]byte, 16<<20)
	defer runtime.KeepAlive(ballast)
	log.Info("listening", "addr", l.Addr().String())
	a := newApp(log)
	return a.ep.Serve(ctx, l, hub.WithServer(&http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second}))
}
