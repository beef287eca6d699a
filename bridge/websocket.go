package bridge

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"devicehub/hub/intake"
	"devicehub/hub/poison"
)

// ServeWebSocket accepts MQTT over WebSocket (MQTT 5 §6) on ln, on any path.
func (s *Server) ServeWebSocket(ctx context.Context, ln net.Listener) error {
	web := &http.Server{Handler: s, ReadHeaderTimeout: connectTimeout, MaxHeaderBytes: 16 << 10, ErrorLog: log.New(io.Discard, "", 0)}
	stop := context.AfterFunc(ctx, func() { _ = web.Close() }) // upgraded connections are not the server's any more
	defer stop()
	err := web.Serve(intake.Listener{Listener: ln})
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
	r    io.Reader
	code int // of the close frame; 0 is a normal closure
}

// closeReplaced is the code with which the hub closes the WebSockets of devices that
// a newer connection replaced, whatever is spoken over them.
const closeReplaced = 4409

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
	code := cmp.Or(c.code, websocket.CloseNormalClosure)
	return c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(time.Second))
}

// answered reads on until the client answers the close frame, or closes, and
// reports whether it answered with the code that it was sent. It reads below the
// WebSocket, which takes a deadline that has passed for its end.
func (c *wsConn) answered() bool {
	r := bufio.NewReaderSize(c.NetConn(), 512)
	for n := int64(0); n < lingerBytes; {
		var head [2]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return false
		}
		size := int64(head[1] & 0x7F) // RFC 6455 §5.2
		if more := map[int64]int{126: 2, 127: 8}[size]; more > 0 {
			size = 0
			for range more {
				b, err := r.ReadByte()
				if err != nil {
					return false
				}
				size = size<<8 | int64(b)
			}
		}
		var mask [4]byte
		if head[1]&0x80 != 0 {
			if _, err := io.ReadFull(r, mask[:]); err != nil {
				return false
			}
		}
		if head[0]&0x0F == websocket.CloseMessage {
			code, err := r.Peek(2)
			return size >= 2 && err == nil && int(code[0]^mask[0])<<8|int(code[1]^mask[1]) == c.code
		}
		if _, err := io.CopyN(io.Discard, r, max(0, min(size, lingerBytes))); err != nil {
			return false
		}
		n += 2 + max(0, size)
	}
	return false
}

func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
