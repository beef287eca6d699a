package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// socket is a WebSocket of the Phoenix protocol.
type socket struct {
	ws *websocket.Conn
}

// dial opens a socket with a token. The status is that of a refusal.
func (h *hub) dial(token string) (s *socket, status int, err error) {
	d := websocket.Dialer{HandshakeTimeout: 5 * time.Second}
	ws, res, err := d.Dial("ws://"+h.http+"/socket/websocket?vsn=2.0.0", http.Header{"Authorization": {"Bearer " + token}})
	if res != nil {
		status = res.StatusCode
	}
	if err != nil {
		return nil, status, err
	}
	return &socket{ws}, status, nil
}

// ask sends a message and returns its reply as it came.
func (s *socket) ask(ref, topic, event, payload string) (string, error) {
	if err := s.ws.WriteMessage(websocket.TextMessage, message(ref, topic, event, payload)); err != nil {
		return "", err
	}
	_ = s.ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	defer func() { _ = s.ws.SetReadDeadline(time.Time{}) }()
	for {
		_, msg, err := s.ws.ReadMessage()
		if err != nil {
			return "", err
		}
		if rest, ok := strings.CutPrefix(string(msg), `["1",`); ok && strings.HasPrefix(rest, `"`+ref+`"`) {
			return rest, nil
		}
	}
}

// join joins a topic with the join reference 1.
func (s *socket) join(topic string) error {
	got, err := s.ask("1", topic, "phx_join", "{}")
	if err == nil && !strings.Contains(got, `"status":"ok"`) {
		err = fmt.Errorf("join %s: %s", topic, got)
	}
	return err
}

// message is a message of the serializer V2.
func message(ref, topic, event, payload string) []byte {
	return fmt.Appendf(nil, `["1",%q,%q,%q,%s]`, ref, topic, event, payload)
}

// frames are n text frames of a message as a client writes them, masked with zeros (RFC 6455 §5.2).
func frames(msg []byte, n int) []byte {
	head := []byte{0x81, 0x80 | 126}
	head = binary.BigEndian.AppendUint16(head, uint16(len(msg)))
	return bytes.Repeat(append(append(head, 0, 0, 0, 0), msg...), n)
}

// listen counts what comes, by the code of what is refused, until the connection ends, and how that
// was.
func (s *socket) listen(seen *tally) {
	for {
		_, msg, err := s.ws.ReadMessage()
		if err != nil {
			var closed *websocket.CloseError
			if errors.As(err, &closed) {
				seen.add(fmt.Sprint("closed ", closed.Code), 1)
			} else {
				seen.add("broken", 1)
			}
			return
		}
		if bytes.Contains(msg, []byte(`"status":"ok"`)) {
			seen.add("ok", 1)
		} else if _, rest, found := bytes.Cut(msg, []byte(`"code":"`)); found {
			code, _, _ := bytes.Cut(rest, []byte(`"`))
			seen.add(string(code), 1)
		}
	}
}

// pour writes the same bytes again and again until the connection does not take them, or ctx ends.
func (s *socket) pour(ctx context.Context, b []byte, n int, seen *tally) {
	conn := s.ws.NetConn()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	for {
		if _, err := conn.Write(b); err != nil {
			return
		}
		seen.add("sent", n)
	}
}

// flood sends a message over sockets of its own, as fast as they take it, for as long as ctx lasts: a
// socket that is closed is opened again. It joins topics first.
func (h *hub) flood(ctx context.Context, token string, topics []string, msg []byte, seen *tally) {
	const burst = 50
	b := frames(msg, burst)
	for ctx.Err() == nil {
		s, status, err := h.dial(token)
		if err != nil {
			seen.add(fmt.Sprint("status ", status), 1)
			pause(ctx)
			continue
		}
		seen.add("connected", 1)
		for _, topic := range topics {
			if err := s.join(topic); err != nil {
				seen.add("join refused", 1)
			}
		}
		done := make(chan struct{})
		go func() { defer close(done); s.listen(seen) }()
		s.pour(ctx, b, burst, seen)
		select { // the close frame may be on its way
		case <-done:
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
		s.ws.Close()
		<-done
	}
}

// pause keeps an attacker that is refused at every try from taking the processor for it.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Millisecond):
	}
}
