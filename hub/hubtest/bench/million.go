package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"context"

	"devicehub/hub"
)

// result is what the process with the connections in memory tells.
type result struct {
	HeapEach  float64 // bytes, stacks included
	GC        float64 // CPU seconds of one cycle
	JoinEach  float64 // CPU microseconds
	Broadcast float64 // CPU microseconds of reaching one by its own topic
}

// million measures a million joined connections in memory, without sockets.
func million(s *setup) (row, error) {
	n := s.n(1_000_000)
	r := row{work: fmt.Sprintf("%d joined in memory, no sockets", n), unit: "bytes of heap each"}
	cmd := exec.Command(s.self, "-in-memory", fmt.Sprint(n))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, err
	}
	var res result
	if err := json.Unmarshal(out, &res); err != nil {
		return r, err
	}
	r.hub = res.HeapEach
	r.note = fmt.Sprintf("one GC cycle %.2f CPU s, a join %.1f CPU µs, a broadcast to one %.2f CPU µs", res.GC, res.JoinEach, res.Broadcast)
	return r, nil
}

type quiet struct{}

func (quiet) Join(context.Context, *hub.Socket, hub.Payload) (hub.Reply, error) {
	return hub.Reply{}, nil
}

func (quiet) HandleIn(context.Context, *hub.Socket, string, hub.Payload) (hub.Reply, error) {
	return hub.Reply{}, nil
}

func joinInMemory(n int) error {
	ep := hub.New()
	r := hub.NewRouter(nil)
	r.Channel("t:*", func() hub.Channel { return quiet{} })
	ep.Socket("/socket", r)
	info := &hub.ConnectInfo{Params: hub.Params{"vsn": "2.0.0"}}
	got := 0
	receive := func(hub.PipeFrame) { got++ }
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	pipes := make([]*hub.Pipe, n)
	start := cpu()
	for i := range pipes {
		p, err := ep.Dial("/socket", info, receive)
		if err != nil {
			return err
		}
		pipes[i] = p
		p.Send(fmt.Appendf(nil, `["1","1","t:%d","phx_join",{}]`, i), false)
		for p.Conn().Socket(fmt.Sprintf("t:%d", i)) == nil {
			runtime.Gosched()
		}
	}
	res := result{JoinEach: (cpu() - start).Seconds() * 1e6 / float64(n)}
	runtime.GC()
	debug.FreeOSMemory()
	runtime.ReadMemStats(&after)
	res.HeapEach = float64(after.HeapAlloc-before.HeapAlloc+after.StackInuse-before.StackInuse) / float64(n)
	start = cpu()
	runtime.GC()
	res.GC = (cpu() - start).Seconds()
	start = cpu()
	const casts = 200000
	topics := make([]string, casts)
	for i := range topics {
		topics[i] = fmt.Sprint("t:", i%n)
	}
	for _, topic := range topics {
		if err := ep.Broadcast(topic, "e", struct{}{}); err != nil {
			return err
		}
	}
	res.Broadcast = (cpu() - start).Seconds() * 1e6 / casts
	runtime.KeepAlive(pipes)
	return json.NewEncoder(os.Stdout).Encode(res)
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
