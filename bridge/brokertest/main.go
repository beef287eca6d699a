// Command brokertest opens the small broker of the service accounts without
// sign-in, for interoperability suites and for nothing else:
//
//	go run ./bridge/brokertest -listen 127.0.0.1:1883
//
// As the suites of Eclipse Paho expect of the server that they run against,
// anybody may publish on "$TopicA/…", subscriptions to "nosubscribe" (also below
// one or two levels) are refused with 0x80, and the server's keep-alive is 60 s.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"devicehub/bridge"
)

func main() {
	listen := flag.String("listen", "", "HOST:PORT to listen on")
	flag.Parse()
	if *listen == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "brokertest: give -listen HOST:PORT")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	srv, err := Open(*listen)
	if err == nil {
		fmt.Println("listening on", srv.Addr("tcp"))
		err = srv.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "brokertest:", err)
		os.Exit(1)
	}
}

// everyone is the one account, which needs no password and sees all topics.
type everyone struct{}

func (e everyone) SignIn(string, string, string) (bridge.Account, error) {
	a, _ := e.Lookup("", "")
	return a, nil
}

func (everyone) Lookup(string, string) (bridge.Account, bool) {
	return bridge.Account{Name: "everyone", Filters: []string{"#", "$TopicA/#"}, Except: []string{"nosubscribe", "+/nosubscribe", "+/+/nosubscribe"}}, true
}

// Open listens on addr.
func Open(addr string) (*bridge.Server, error) {
	cfg := bridge.Default()
	cfg.Listen = addr
	cfg.InFlight = 20
	cfg.MaxKeepAlive, cfg.AlwaysServerKeepAlive = 60*time.Second, true
	cfg.VagueRefusals = true
	srv, err := bridge.New(cfg, bridge.WithAccounts(everyone{}), bridge.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))))
	if err != nil {
		return nil, err
	}
	return srv, srv.Listen()
}
