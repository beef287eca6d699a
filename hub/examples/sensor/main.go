// Sensor is a hub, a thermometer that connects to it, and somebody who watches: a device pushes
// readings, hears when each is on the disk, and all who watch see the newest.
//
//	go run ./hub/examples/sensor -n 5
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"devicehub/hub"
	"devicehub/hub/hubclient"
)

func main() {
	n := flag.Int("n", 0, "how many readings to take; 0 goes on until it is stopped")
	every := flag.Duration("every", time.Second, "the time between readings")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, *n, *every); err != nil {
		fmt.Fprintln(os.Stderr, "sensor:", err)
		os.Exit(1)
	}
}

// run plays the hub, the thermometer and the watcher until n readings were taken.
func run(ctx context.Context, out io.Writer, n int, every time.Duration) (err error) {
	dir, err := os.MkdirTemp("", "sensor")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	log, err := OpenLog(filepath.Join(dir, "readings"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- newEndpoint(log).Serve(serving, l) }()
	base := "ws://" + l.Addr().String() + "/socket"

	var clients sync.WaitGroup
	watching, leave := context.WithCancel(ctx)
	watched := make(chan struct{})
	clients.Go(func() { watch(watching, base, out, watched) })
	<-watched
	err = measure(ctx, base, out, n, every)
	leave()
	clients.Wait()
	stop()
	return errors.Join(err, <-served)
}

func newEndpoint(log *Log) *hub.Endpoint {
	ep := hub.New()
	r := hub.NewRouter(connect)
	r.Channel("sensor:*", func() hub.Channel { return &Sensor{ep: ep, log: log} }, hub.WithPolicy(hub.Latest))
	ep.Socket("/socket", r)
	return ep
}

// measure is the thermometer: it pushes readings and tells what became of them.
func measure(ctx context.Context, base string, out io.Writer, n int, every time.Duration) error {
	client, err := hubclient.New(hubclient.Config{URL: base, Params: func() url.Values { return url.Values{"device": {"t-1"}} }})
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	running.Go(func() { err = errors.Join(err, client.Run(ctx)) })
	topic := client.Channel("sensor:t-1", hubclient.ChannelConfig{})
	topic.Join()
	for i := 0; (n == 0 || i < n) && ctx.Err() == nil; i++ {
		r := Reading{Celsius: 21 + float64(i%10)/10, At: time.Now().UnixMilli()}
		if reply, err := topic.Call(ctx, "reading", r); err == nil {
			fmt.Fprintf(out, "thermometer: %.1f °C is %s\n", r.Celsius, reply.Status)
		}
		select {
		case <-ctx.Done():
		case <-time.After(every):
		}
	}
	client.Close()
	running.Wait()
	return err
}

// watch shows the readings that others push, once it has joined.
func watch(ctx context.Context, base string, out io.Writer, joined chan<- struct{}) {
	client, err := hubclient.New(hubclient.Config{URL: base})
	if err != nil {
		panic(err) // base is well-formed
	}
	var once sync.Once
	client.Channel("sensor:t-1", hubclient.ChannelConfig{
		OnJoin: func(hubclient.Reply) { once.Do(func() { close(joined) }) },
		OnMessage: func(m hubclient.Message) {
			var r Reading
			if m.Decode(&r) == nil {
				fmt.Fprintf(out, "watcher: %.1f °C\n", r.Celsius)
			}
		},
	}).Join()
	_ = client.Run(ctx)
	once.Do(func() { close(joined) })
}
