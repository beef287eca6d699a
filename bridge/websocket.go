package bridge

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"devicehub/hub/poison"
)

// ServeWebSocket accepts MQTT over WebSocket (MQTT 5 §6) on ln, on any path.
func (s *Server) ServeWebSocket(ctx context.Context, ln net.Listener) error {
	web := &http.Server{Handler: s, ReadHeaderTimeout: connectTimeout, MaxHeaderBytes: 16 << 10, ErrorLog: log.New(io.Discard, "", 0)}
	stop := context.AfterFunc(ctx, func() { _ = web.Close() }) // upgraded connections are not the server's any more
	defer stop()
	err := web.Serve(ln)
	s.drain()
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Browsers are no threat here: nothing in the upgrade is taken as a credential.
var upgrader = websocket.Upgrader{
	Subprotocols: []string{"mqtt"}, CheckOrigin: func(*http.Request) bool { return true },
	HandshakeTimeout: connectTimeout, ReadBufferSize: 1024, WriteBufferSize: 1024, WriteBufferPool: poison.Watch(new(sync.Pool)),
}

// ServeHTTP upgrades a request to MQTT over WebSocket and serves it to its end.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !hasMQTT(websocket.Subprotocols(r)) { // [MQTT-6.0.0-3]
		http.Error(w, "this is MQTT over WebSocket: subprotocol mqtt", http.StatusBadRequest)
		return
	}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // answered by Upgrade
	}
	ws.SetReadLimit(int64(max(s.limits.Load().MaxPacket, s.cfg.ServicePacket, connectMax)) * 4) // one message may carry several packets
	c, ok := s.admit(&wsConn{Conn: ws})
	if !ok {
		s.stats.throttled.Add(1)
		_ = ws.Close()
		return
	}
	defer s.release(c)
	c.serve(context.WithoutCancel(r.Context()))
}

func hasMQTT(offered []string) bool {
	for _, p := range offered {
		if p == "mqtt" {
			return true
		}
	}
	return false
}

// wsConn is a WebSocket as a stream: packets may begin and end anywhere in its
// messages [MQTT-6.0.0-2], and each write is one binary message.
type wsConn struct {
	*websocket.Conn
	r io.Reader
}

func (c *wsConn) Read(b []byte) (int, error) {
	for {
		if c.r == nil {
			kind, r, err := c.NextReader()
			if err != nil {
				return 0, streamError(err)
			}
			if kind != websocket.BinaryMessage { // [MQTT-6.0.0-1]
				return 0, io.EOF
			}
			c.r = r
		}
		n, err := c.r.Read(b)
		if err == io.EOF {
			c.r, err = nil, nil
			if n == 0 {
				continue
			}
		}
		return n, streamError(err)
	}
}

// streamError is how a connection's end reads on a stream.
func streamError(err error) error {
	var closed *websocket.CloseError
	if errors.As(err, &closed) || errors.Is(err, websocket.ErrReadLimit) {
		return io.EOF
	}
	return err
}

func (c *wsConn) Write(b []byte) (int, error) {
	if err := c.WriteMessage(websocket.BinaryMessage, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// CloseWrite says goodbye in WebSocket's way.
func (c *wsConn) CloseWrite() error {
	return c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
}

func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
