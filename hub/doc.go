// Package hub serves Phoenix Channels: any Phoenix client takes it for a Phoenix server.
//
// # From an HTTP server to a channel
//
// An [Endpoint] is an http.Handler. A [Router], mounted on it with [Endpoint.Socket], decides who
// may connect and which [Channel] serves which topics:
//
//	ep := hub.New(hub.WithLogger(log))
//	r := hub.NewRouter(connect)
//	r.Channel("room:*", func() hub.Channel { return new(Room) })
//	ep.Socket("/socket", r)
//	http.ListenAndServe(":4000", ep)
//
// Clients then connect to /socket/websocket, or, where WebSockets do not get through, to
// /socket/longpoll. At the end of the program, [Endpoint.Drain] sends them away in good order.
//
// # Connecting
//
// The [ConnectFunc] sees a [ConnectInfo]: the parameters, the auth token, a few headers, and the
// session of a cookie where [WithSession] says how to read it. What it puts into the context that
// it returns reaches every channel of the connection, and so do the cancellation of that context
// and its cause when the connection ends. An error refuses the client. A Router may also name
// connections ([WithID]), so that [Endpoint.Disconnect] can end them, and look at them once
// they stand ([WithOnOpen]).
//
// # Channels
//
// A client joins a topic, and a new Channel value is made for that join. Its Join says yes or no;
// its HandleIn gets the messages that follow. It needs no locks: its callbacks run one
// at a time, in the order of what they are for. It costs no goroutine while nothing happens. It
// shares nothing with other channels, so that a slow one, or one that panics, harms its
// own topic alone. One whose callback does not return is abandoned when a new join or the leave of
// its topic, or the end of its connection, has waited for five seconds: it is over, and what it
// still sends is dropped.
//
// The rule to remember: the [Reply] is for the client, the error is for the operator. A refused
// message is a Reply, and nobody is paged. A bug is an error: it is logged, the client hears
// phx_error, and joins again by itself.
//
//	Phoenix                         here
//	{:reply, {:ok, m}, socket}      return hub.OK(m), nil
//	{:reply, {:error, m}, socket}   return hub.Error(m), nil, or hub.Refuse("reason"), nil
//	{:noreply, socket}              return hub.Reply{}, nil
//	{:stop, :normal, reply, socket} return hub.OK(m), hub.ErrStop
//	an exception                    return hub.Reply{}, err, or a panic
//	send(self(), :after_join)       AfterJoin
//	handle_info, intercept, handle_out, terminate
//	                                HandleInfo, Intercepts, HandleOut, Terminate
//	push, broadcast, broadcast_from s.Push, s.Broadcast, s.BroadcastFrom
//	socket_ref, reply               ref := s.Ref(); later, from any goroutine, ref.Reply(hub.OK(m))
//	assigns                         fields of the Channel; values of the context
//
// What a callback is given may be kept and must not be changed. Whatever would block for long,
// such as waiting for a disk, is better answered later through [Socket.Ref]; what another part
// of the program has to say to a channel comes through [Socket.Send] or, from other
// topics, [Socket.Subscribe], and arrives in HandleInfo.
//
// # Broadcasts
//
// A broadcast is encoded once for each version of the protocol, with the header that it is sent
// with, and written to each subscriber by the goroutine that broadcasts, without ever
// waiting for one. Channels do not see it, unless they intercept it. Broadcasts may come from
// anywhere: [Endpoint.Broadcast]. They travel on a [pubsub.PubSub], which other parts of the
// program may use, too. Many small ones are best handed over together: [Endpoint.Batch].
//
// # Clients that do not keep up
//
// What the network does not take at once waits in a queue of bounded size and age
// ([WithOutbound]). When it is full, the topic's [Policy] decides: by default the client is
// disconnected with 1013, and comes back. A broadcast with a key ([Endpoint.BroadcastKeyed])
// may instead be dropped, or replaced by a newer one, which keeps its place in the order of the
// topic; nothing else ever is. The other way round, a client's messages wait in a bounded inbox
// for each channel ([WithInbox]); while one is full, the connection is not read. Connections with
// the same id have a bound in bytes together, in both directions ([WithShared]). How many messages
// a client may send is for the program to say: its [Guard] is asked for each, before anything is
// done with it. [Endpoint.Stats] counts all of this.
//
// # How connections end
//
//	1001 Endpoint.Disconnect        1009 a frame over the limit
//	1002 silence, or no WebSocket   1011 a frame that is none of Phoenix's
//	1007 text that is not UTF-8     1012 Drain
//	1008 empty fragments            1013 a slow consumer
//
// The server never begins a close with 1000, after which stock clients stay away. It is the code
// of the answer to a client's own close. A program closes with any code: [Conn.Close]. It can
// tell a client before the hub closes: [WithOnClosing].
//
// # Where this differs from Phoenix
//
// A slow join holds up its own topic, not the connection. An unknown event is answered with
// an error, if the channel says [Unhandled]. An empty join_ref in a binary frame is null. A client
// that joins without join_ref may use the ref of its join in its place, which replies carry. A
// malformed frame whose topic and ref can be read is answered on its topic with an error; the
// 65th of a connection, and any other, closes it. HTTP 400, 500 and 503 have a body. Any other
// malformed line of a long-poll POST is answered with status 400 and ends nothing; binary
// messages reach a long-poll client in base64 if it connects with binary=base64, and are refused
// otherwise. The longest pattern of a Router wins, not the first. A broadcast that one
// client's version cannot carry reaches the others. Queues are bounded.
//
// # Transports
//
// A WebSocket is served by one goroutine, which reads; while it waits it holds no buffer, and its
// stack is small. Package hubtest connects clients in memory, in virtual time. Each of
// them, and long polling, is one implementation of the interface transport: the hub hands it
// frames and never waits for it, and it hands the hub what a client has sent. Another one, such as
// an event loop of its own over many connections, plugs in there.
package hub
