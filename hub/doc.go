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
//	err := ep.ListenAndServe(ctx, ":4000")
//
// Clients then connect to /socket/websocket, or, where WebSockets do not get through, to
// /socket/longpoll. When ctx is done, they are sent away in good order.
//
// # Connecting
//
// The [ConnectFunc] sees a [ConnectInfo]: the parameters, the auth token, a few headers, and the
// session of a cookie where [WithSession] says how to read it. What it puts into the context that
// it returns, under a [Key], reaches every channel of the connection, and so do the cancellation of
// that context and its cause when the connection ends. An error refuses the client. A Router may
// also name connections ([WithID]), so that [Endpoint.Disconnect] can end them, and look at them
// once they stand ([WithOnOpen]).
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
//	assigns                         fields of the Channel; a Key for what connect knows
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
// # Presence
//
// A channel that shows who is there tracks first and pushes the list then, both in AfterJoin, as
// Phoenix's do:
//
//	func (r *Room) AfterJoin(ctx context.Context, s *hub.Socket) error {
//		if _, err := r.here.Track(s, s.Topic(), user.Get(ctx), presence.Meta{}); err != nil {
//			return err
//		}
//		return s.Push(presence.EventState, r.here.List(s.Topic()))
//	}
//
// The client's own entry is in its list then. The presence_diff that tells of it is sent before the
// list if nothing else has changed on the topic for 50 ms, and after it otherwise; clients bear
// both, since they tell entries apart by their phx_ref.
//
// # The end of the program
//
// [Endpoint.Serve] goes away in the order in which nothing is lost that was accepted. A program
// that serves by itself keeps to it:
//
//  1. Tell the clients what they should know, while they are connected: [WithBeforeDrain].
//  2. Close the listener, so that those who are sent away do not come back to this process.
//  3. [Endpoint.Drain]: nobody can connect, even over HTTP connections that stand. In batches,
//     every connection stops receiving, has a second to handle and answer what it has received, is
//     told by [WithOnClosing], and is closed with 1012. Its channels end: Terminate, then presence.
//  4. http.Server.Shutdown, which waits for requests under way. Polls were answered by Drain.
//  5. Stop the services behind the channels, which may have heard from them until here.
//
// # Where this differs from Phoenix
//
// What clients can tell: every Origin is let in unless [WithOrigins] or [WithCheckOrigin] says
// otherwise, since cookies, the reason to check it, do not reach the ConnectFunc without
// [WithSession] and its token. Long polling is served unless [WithoutLongPoll] says otherwise, and
// the auth token of the subprotocol is read unless [WithoutAuthToken] does. A slow join holds up
// its own topic, not the connection. An unknown event is answered with an error, if the channel
// says [Unhandled]. An empty join_ref in a binary frame is null. A client that joins without
// join_ref may use the ref of its join in its place, which replies carry. A malformed frame whose
// topic and ref can be read is answered on its topic with an error; the 65th of a connection, and
// any other, closes it. HTTP 400, 500 and 503 have a body. Any other malformed line of a long-poll
// POST is answered with status 400 and ends nothing; binary messages reach a long-poll client in
// base64 if it connects with binary=base64, and are refused otherwise. A drain closes connections
// without channels, too.
//
// What programs can tell: the longest pattern of a Router wins, not the first. A broadcast that
// one client's version cannot carry reaches the others. Queues are bounded. Terminate is called
// when a channel is replaced, too.
//
// # Goroutines
//
// The Endpoint counts every goroutine that it starts, and Drain waits for them:
//
//   - a WebSocket has one, which reads, and a second one that writes while the network takes no
//     more and the queue is not empty;
//   - a topic of a connection has one while its inbox is not empty: the callbacks run in it;
//   - a long-poll session has none. A poll waits in that of its request, and a POST has one until
//     its frames are handed over;
//   - the end of a connection that the hub closes has one until its channels have ended;
//   - the deadlines of all have one together, while there is a WebSocket or a session.
//
// Broadcasts are written by the goroutine that broadcasts. A presence has none if its owner has
// OnDone, as a [Socket] does, or is a context. Short timers run the rest: 1 ms for what AfterJoin
// sends to be one write with the reply, 5 ms for a phx_close behind the reply of the join that
// replaced it, 5 s of patience with a callback, 50 ms of presence.
//
// # Locks
//
// The program's functions are called with no lock of the hub held. There are three exceptions: the
// receiver of a [Pipe] must not call back, a [Guard] runs within [Pipe.Send], and the hooks of
// presence must not call the tracker. A lock is only taken while those above it are held:
//
//	Pipe.mu                          one Send at a time
//	Conn.mu                          the topics of a connection
//	slot.mu                          the inbox of a topic; then share.mu
//	outbox.mu                        what waits for a client; the state of its channels
//	session.mu                       a long-poll session; then those of sessions, lateSessions, wheel
//
// slot.mu and outbox.mu are never held together. Those of Endpoint, registry, shares, share, wheel,
// sessions, lateSessions and names are taken last, for a few lines. A pubsub.Local delivers without
// its locks. A presence topic has two: order, held while a diff is broadcast, and mu within it; the
// locks of the connections that a diff goes to are taken under order.
//
// # Transports
//
// A WebSocket is served by one goroutine, which reads; while it waits it holds no buffer, and its
// stack is small. Package hubtest connects clients in memory, in virtual time. Each of
// them, and long polling, is one implementation of the interface transport: the hub hands it
// frames and never waits for it, and it hands the hub what a client has sent. Another one, such as
// an event loop of its own over many connections, plugs in there.
package hub
