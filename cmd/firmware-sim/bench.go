package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"devicehub/firmware-sim/bench"
	"devicehub/hub/hubclient"
)

func newBench() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure any Phoenix V2 server with plain clients",
		Long:  "Measures a Phoenix Channels server, this one or another, with the same clients. %i in the URL and the topic is the client's number.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(
		newBenchKind(bench.Fanout, "One client pushes, all on the topic hear it", "room:bench"),
		newBenchKind(bench.RequestReply, "Every client asks and waits for the reply", "room:bench%i"),
		newBenchKind(bench.Storm, "All clients connect and join at once", "room:bench%i"),
		newBenchKind(bench.Hold, "Clients stay joined and idle, for the server's memory", "room:bench%i"),
	)
	return c
}

func newBenchKind(kind, short, topic string) *cobra.Command {
	var cfg bench.Config
	var transport string
	var asJSON bool
	c := &cobra.Command{
		Use:     kind,
		Short:   short,
		Example: "  firmware-sim bench " + kind + " --url 'ws://127.0.0.1:4100/socket/websocket?token=valid&id=d%i' --topic " + topic + " -n 1000",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Transport = hubclient.Transport(transport)
			show := newProgress(cmd.Context(), cmd.ErrOrStderr())
			defer show.close()
			cfg.Progress = func(joined int) { show.line(fmt.Sprintf("%d of %d joined", joined, cfg.N)) }
			res, err := bench.Run(cmd.Context(), kind, cfg)
			show.close()
			if errors.Is(err, bench.ErrConfig) {
				return usageError{err}
			} else if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(res)
			}
			res.WriteTable(cmd.OutOrStdout())
			return nil
		},
	}
	fs := c.Flags()
	fs.StringVar(&cfg.URL, "url", "ws://127.0.0.1:4100/socket/websocket?token=valid&id=d%i", "the socket")
	fs.StringVar(&cfg.Topic, "topic", topic, "the topic to join")
	fs.StringVar(&transport, "transport", "websocket", "websocket or longpoll")
	fs.IntVarP(&cfg.N, "clients", "n", 100, "how many clients")
	fs.DurationVar(&cfg.Duration, "duration", 10*time.Second, "of the measurement, once all have joined")
	fs.Float64Var(&cfg.Ramp, "ramp", 0, "connects per second (default: as fast as they come)")
	fs.IntVar(&cfg.Parallel, "parallel", 200, "connects under way at once")
	fs.IntVar(&cfg.Pid, "pid", 0, "the server's process id, for its CPU seconds and memory")
	fs.IntVar(&cfg.Sources, "sources", 0, "connect from so many loopback addresses, for more than 28,000 connections")
	if kind == bench.Fanout || kind == bench.RequestReply {
		fs.StringVar(&cfg.Event, "event", "", "the event to push (default shout for fanout, echo for request-reply)")
		fs.IntVar(&cfg.Size, "size", 120, "bytes of padding in the payload")
		fs.Float64Var(&cfg.Rate, "rate", 0, "pushes per second in all, open loop (default: as fast as the answers come)")
		fs.IntVar(&cfg.InFlight, "in-flight", 1, "unanswered pushes per client, without --rate")
	}
	if kind == bench.Fanout {
		fs.StringVar(&cfg.Heard, "heard", "", "the event that is broadcast (default: the one that is pushed)")
	}
	fs.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return c
}
