package hubclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Why a push, a join or a channel ended without an answer.
var (
	// ErrTimeout: not answered in time. The server may have acted on it.
	ErrTimeout = errors.New("timed out")
	// ErrDisconnected: sent, and then the connection or the channel broke. The server may have acted on it.
	ErrDisconnected = errors.New("disconnected before the answer")
	// ErrBufferFull: not sent, too much is waiting already.
	ErrBufferFull = errors.New("buffer full")
	// ErrClosed: not sent, the channel or the client is closed.
	ErrClosed = errors.New("closed")
	// ErrReplaced: another Channel of the same client took the topic.
	ErrReplaced = errors.New("topic taken by another channel of this client")

	errDropped     = errors.New("connection dropped on request")
	errAbandoned   = errors.New("connection abandoned on request")
	errHeartbeat   = errors.New("heartbeat not answered")
	errFellBack    = errors.New("no answer over WebSocket in time, falling back to long polling")
	errSessionGone = errors.New("long-poll session is gone")
)

// A CloseError is a close by the server. Long polling uses the codes of phoenix.js, 3410 for a session that is gone.
type CloseError struct {
	Code   int // 1006: without a close frame
	Reason string
}

func (e *CloseError) Error() string {
	if e.Reason == "" {
		return "closed by the server, code " + strconv.Itoa(e.Code)
	}
	return fmt.Sprintf("closed by the server, code %d: %s", e.Code, e.Reason)
}

// A RefusedError is a connect that the server answered with no. Code and Reason are those of a JSON body, if it had one.
type RefusedError struct {
	Status     int // HTTP status, or the status inside a long-poll answer
	Code       string
	Reason     string
	RetryAfter time.Duration // 0: not said
}

func (e *RefusedError) Error() string {
	s := fmt.Sprintf("connect refused with status %d", e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// refused reads what a server says about a refusal: {"reason","code","retry_after_ms"} in body, or Retry-After.
func refused(status int, header http.Header, body []byte) *RefusedError {
	e := &RefusedError{Status: status}
	var said struct {
		Reason       string  `json:"reason"`
		Code         string  `json:"code"`
		RetryAfterMS float64 `json:"retry_after_ms"`
	}
	if json.Unmarshal(body, &said) == nil {
		e.Code, e.Reason = said.Code, said.Reason
		if said.RetryAfterMS > 0 {
			e.RetryAfter = time.Duration(min(said.RetryAfterMS, 3.6e6)) * time.Millisecond
		}
	}
	if s, err := strconv.Atoi(header.Get("Retry-After")); err == nil && s > 0 && e.RetryAfter == 0 {
		e.RetryAfter = time.Duration(min(s, 3600)) * time.Second
	}
	return e
}
