// Chat is a room for everybody with a browser: who is there, and what they say. Its page talks by
// phoenix.js as it comes from npm.
//
//	go run ./hub/examples/chat -listen localhost:4000
package main

import (
	"context"
	"embed"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"devicehub/hub"
	"devicehub/hub/presence"
)

//go:embed static
var static embed.FS

func main() {
	listen := flag.String("listen", "localhost:4000", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	log.Info("the chat is open", "url", "http://"+l.Addr().String())
	return newEndpoint(log).Serve(ctx, l)
}

func newEndpoint(log *slog.Logger) *hub.Endpoint {
	pages, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the folder is embedded
	}
	ep := hub.New(hub.WithLogger(log), hub.WithFallback(http.FileServerFS(pages)))
	here := presence.New(ep.PubSub(), presence.WithLogger(log))
	r := hub.NewRouter(connect, hub.WithID(user.Get))
	r.Channel("room:*", func() hub.Channel { return &Room{here: here} })
	ep.Socket("/socket", r, hub.WithOrigins("self"))
	return ep
}
