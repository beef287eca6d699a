// Package hubclient is a Phoenix Channels client for programs. It does what phoenix.js does: it connects over WebSocket
// or long polling, reconnects and rejoins by itself, sends heartbeats, buffers what is pushed before a join is
// answered, keeps presence lists, and falls back from WebSocket to long polling.
//
//	client, err := hubclient.New(hubclient.Config{
//		URL:       "ws://127.0.0.1:4000/socket",
//		AuthToken: func() string { return token },
//	})
//	room := client.Channel("room:lobby", hubclient.ChannelConfig{
//		OnMessage: func(m hubclient.Message) { fmt.Println(m.Event, string(m.Payload)) },
//	})
//	room.Join()
//	go func() {
//		reply, err := room.Call(ctx, "echo", map[string]int{"n": 1})
//		…
//	}()
//	err = client.Run(ctx) // until ctx is done
//
// Callbacks of one client run one at a time, in the order of what caused them. They may call any method except Call and
// Run, and must not block for long: the client reads nothing meanwhile.
//
// # Differences from phoenix.js
//
//   - Delays before reconnecting and rejoining are jittered, and a server's retry_after_ms is obeyed.
//   - A push that was sent when the connection broke fails at once with ErrDisconnected, instead of after its timeout.
//     A push that still waits for its join stays, until its own timeout.
//   - Buffers are bounded: a push beyond them fails with ErrBufferFull.
//
// # Cost
//
// A connected client has one goroutine, a second one while it writes, and one timer. With a shared Config.WriteBuffers
// and Config.ReadBuffer at its default it takes 17 KB of resident memory (measured from 1,000 to 6,000 connections).
package hubclient
