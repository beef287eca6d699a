package hubclient

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"devicehub/hub/poison"
)

const writeWait = 10 * time.Second // of no progress, then the connection is lost

type wsTransport struct {
	conn      *websocket.Conn
	abandoned atomic.Bool
}

func (c *Client) openWebSocket(ctx context.Context) (transport, error) {
	unwatch := func() bool { return true }
	d := websocket.Dialer{
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := c.cfg.Dial(ctx, network, addr)
			if err == nil { // gorilla itself does not end a handshake when ctx is cancelled
				unwatch = context.AfterFunc(ctx, func() { conn.Close() })
			}
			return conn, err
		},
		TLSClientConfig: c.cfg.TLS,
		ReadBufferSize:  c.cfg.ReadBuffer,
		WriteBufferSize: 1024,
		WriteBufferPool: poison.Watch(c.cfg.WriteBuffers),
	}
	if tok := c.authToken(); tok != "" {
		// Standard base64 without padding, whatever the prefix says: phoenix.js uses btoa, and Phoenix reads that.
		d.Subprotocols = []string{"phoenix", "base64url.bearer.phx." + base64.RawStdEncoding.EncodeToString([]byte(tok))}
	}
	conn, resp, err := d.DialContext(ctx, c.endpoint(WebSocket).String(), c.cfg.Header)
	if !unwatch() && err == nil {
		conn.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		if resp != nil && errors.Is(err, websocket.ErrBadHandshake) {
			body, _ := io.ReadAll(resp.Body) // gorilla keeps the first KiB in memory
			return nil, refused(resp.StatusCode, resp.Header, body)
		}
		return nil, err
	}
	conn.SetReadLimit(c.cfg.MaxFrame)
	return &wsTransport{conn: conn}, nil
}

func (t *wsTransport) name() Transport { return WebSocket }

func (t *wsTransport) read() ([]byte, bool, error) {
	kind, data, err := t.conn.ReadMessage()
	if err == nil {
		return data, kind == websocket.BinaryMessage, nil
	}
	if t.abandoned.Load() {
		return nil, false, errAbandoned
	}
	if e, ok := errors.AsType[*websocket.CloseError](err); ok {
		return nil, false, &CloseError{Code: e.Code, Reason: e.Text}
	}
	return nil, false, err
}

func (t *wsTransport) write(frames []frame) error {
	for _, f := range frames {
		if t.abandoned.Load() {
			return errAbandoned
		}
		kind := websocket.TextMessage
		if f.binary {
			kind = websocket.BinaryMessage
		}
		t.conn.SetWriteDeadline(time.Now().Add(writeWait))
		if err := t.conn.WriteMessage(kind, f.data); err != nil {
			return err
		}
	}
	return nil
}

func (t *wsTransport) close(code int, reason string) {
	msg := websocket.FormatCloseMessage(code, reason)
	if err := t.conn.WriteControl(websocket.CloseMessage, msg, time.Now().Add(time.Second)); err != nil {
		t.conn.Close()
		return
	}
	// The peer's close frame ends the reading; a peer that sends none is not waited for.
	t.conn.SetReadDeadline(time.Now().Add(time.Second))
}

func (t *wsTransport) drop() {
	if tcp, ok := t.conn.NetConn().(*net.TCPConn); ok && !t.abandoned.Load() {
		tcp.SetLinger(0) // a reset, as a device makes that lost its power and came back
	}
	t.conn.Close()
}

func (t *wsTransport) abandon() {
	t.abandoned.Store(true)
	t.conn.SetReadDeadline(time.Unix(1, 0))
}
