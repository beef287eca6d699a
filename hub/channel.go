package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Channel is the server's side of one topic on one connection. A new value is made for every
// join; its methods are called one at a time, so plain fields need no lock.
//
// A Channel may also implement [AfterJoiner], [Interceptor], [InfoHandler] and [Terminator].
//
// The context is the connection's, as the ConnectFunc and OnOpen made it, with the assigns of
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

// Why a channel or a connection ends. Those of a connection are causes of its context.
var (
	// ErrStop, returned by a callback, ends the channel with phx_close, after the reply.
	ErrStop = errors.New("channel stopped")
	// ErrLeft is the reason of a channel that the client has left.
	ErrLeft = errors.New("client left the channel")
	// ErrReplaced is the reason of a channel whose client joined the same topic again.
	ErrReplaced = errors.New("replaced by another join")
	// ErrOverloaded is the reason of a channel whose inbox overflowed with messages from
	// inside the program. Its client hears phx_error and joins again.
	ErrOverloaded = errors.New("inbox is full")

	// ErrClientClosed: the client closed the connection.
	ErrClientClosed = errors.New("client closed the connection")
	// ErrConnectionLost: the connection broke without a close frame.
	ErrConnectionLost = errors.New("connection lost")
	// ErrIdleTimeout: nothing was received for the idle timeout.
	ErrIdleTimeout = errors.New("idle timeout")
	// ErrProtocol: the client sent what is no frame of the protocol.
	ErrProtocol = errors.New("protocol error")
	// ErrTooLarge: the client sent a frame over the limit.
	ErrTooLarge = errors.New("frame too large")
	// ErrSlowConsumer: the client did not read what was sent to it.
	ErrSlowConsumer = errors.New("slow consumer")
	// ErrDrain: the endpoint is shutting down.
	ErrDrain = errors.New("endpoint is draining")
	// ErrDisconnected: Endpoint.Disconnect was called with the connection's id.
	ErrDisconnected = errors.New("disconnected")
)

// What sending can return.
var (
	// ErrNotJoined is returned for a push before the join was answered or after the channel ended.
	ErrNotJoined = errors.New("channel is not joined")
	// ErrPayload is returned for a push or broadcast whose payload is no JSON object and not Binary.
	ErrPayload = errors.New("payload must be a JSON object or binary")
)

// CloseError is the cause of a connection that the program closed with Conn.Close.
type CloseError struct {
	Code   int
	Reason string
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("closed with %d %q", e.Code, e.Reason)
}

// PanicError is the reason of a channel whose callback panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

type unhandledError string

func (e unhandledError) Error() string { return "unknown event " + string(e) }

// Unhandled is the error of HandleIn for an event that the channel does not know. The client
// gets an error reply, {"reason":"unknown event","code":"invalid"}, and the channel lives on.
func Unhandled(event string) error { return unhandledError(event) }

// Binary is a payload sent as it is, in a binary frame. It needs version 2 of the protocol.
type Binary []byte

// Reply answers a join or a message. The zero Reply answers nothing (and accepts a join).
type Reply struct {
	status  string
	payload any
}

// OK is the reply with status "ok". The payload is anything that json.Marshal takes, a
// json.RawMessage or Binary; nil is {}.
func OK(payload any) Reply { return Reply{"ok", payload} }

// Error is the reply with status "error", with a payload as in OK.
func Error(payload any) Reply { return Reply{"error", payload} }

// Refuse is Error with the payload {"reason": reason}.
func Refuse(reason string) Reply { return Reply{"error", map[string]string{"reason": reason}} }

// Status is a reply with a status of its own. Stock clients act on "ok" and "error" alone,
// and one of them throws on anything else.
func Status(status string, payload any) Reply { return Reply{status, payload} }

// IsZero reports whether r answers nothing.
func (r Reply) IsZero() bool { return r.status == "" }

// Payload is what a message carries. Its bytes may be kept, and must not be changed.
type Payload struct {
	data   []byte
	binary bool
}

// JSONPayload returns a Payload of JSON text.
func JSONPayload(text []byte) Payload { return Payload{data: text} }

// BinaryPayload returns a binary Payload.
func BinaryPayload(data []byte) Payload { return Payload{data: data, binary: true} }

// Decode unmarshals a JSON payload into v. A binary payload is an error.
func (p Payload) Decode(v any) error {
	if p.binary {
		return errors.New("payload is binary, not JSON")
	}
	if len(p.data) == 0 {
		return errors.New("payload is empty")
	}
	return json.Unmarshal(p.data, v)
}

// Bytes returns the JSON text or the binary data.
func (p Payload) Bytes() []byte { return p.data }

// Binary reports whether the payload came in a binary frame.
func (p Payload) Binary() bool { return p.binary }

// Any returns the payload as something to send: Binary or json.RawMessage.
func (p Payload) Any() any {
	if p.binary {
		return Binary(p.data)
	}
	return json.RawMessage(p.data)
}
