package hub

import (
	"errors"
	"fmt"
)

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
