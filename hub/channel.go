package hub

import "context"

// Channel is the server's side of one topic on one connection. A new value is made for every
// join; its methods are called one at a time, so plain fields need no lock.
//
// A Channel may also implement [AfterJoiner], [Interceptor], [InfoHandler] and [Terminator].
//
// The context is the connection's, as the ConnectFunc and OnOpen made it, with the values of
// the route. It is cancelled when the connection ends; context.Cause tells why.
type Channel interface {
	// Join decides whether the client may join. The zero Reply and OK accept; Error
	// and Refuse refuse. An error, or a panic, is logged, and the client hears that the
	// join crashed. Nothing can be pushed from Join; that is what AfterJoin is for.
	Join(ctx context.Context, s *Socket, p Payload) (Reply, error)

	// HandleIn handles one message of the client. The Reply is for the client, the
	// error for the operator: ErrStop ends the channel with phx_close, Unhandled
	// answers an event that the channel does not know, and any other error, or a panic,
	// is logged and ends the channel with phx_error, whereupon the client joins again.
	HandleIn(ctx context.Context, s *Socket, event string, p Payload) (Reply, error)
}

// AfterJoiner is a Channel with something to do once the client has the reply to its join.
// An error ends the channel as one of HandleIn does.
type AfterJoiner interface {
	AfterJoin(ctx context.Context, s *Socket) error
}

// Interceptor is a Channel that wants to see certain broadcasts of its topic in place of its
// client. Intercepts is asked once, after Join has accepted. HandleOut gets each such broadcast
// and sends the client nothing unless it pushes.
type Interceptor interface {
	Intercepts() []string
	HandleOut(ctx context.Context, s *Socket, event string, p Payload) error
}

// InfoHandler is a Channel that takes messages from inside the program: those of Socket.Send,
// and *pubsub.Message from topics that it has subscribed to.
type InfoHandler interface {
	HandleInfo(ctx context.Context, s *Socket, msg any) error
}

// Terminator is a Channel with something to do when it ends. It is called once, whatever the
// end: ErrLeft, ErrReplaced, ErrStop, the error or panic of a callback, or the cause of the
// connection's end. What it pushes reaches the client after ErrLeft, ErrStop and a crash.
type Terminator interface {
	Terminate(s *Socket, reason error)
}
