package hubclient

import (
	"context"
	"net/url"

	"devicehub/hub/wire"
)

// A transport carries the frames of one connection. read is called by one goroutine, write by one other; close, drop and
// abandon by any, and they make read return.
type transport interface {
	name() Transport
	// read blocks for the next frame, which is the caller's to keep.
	read() (data []byte, binary bool, err error)
	// write sends frames in order, and may take its time.
	write(frames []frame) error
	// close ends the connection in order, drop without a word.
	close(code int, reason string)
	drop()
	// abandon makes read and write return and leaves the peer in the belief that the connection stands, until drop.
	abandon()
}

// frame is an encoded message that waits to be written.
type frame struct {
	data   []byte
	binary bool
}

// open connects over the given transport.
func (c *Client) open(ctx context.Context, t Transport) (transport, error) {
	if t == LongPoll {
		return c.openLongPoll(ctx)
	}
	return c.openWebSocket(ctx)
}

// endpoint is the URL of a transport, with the parameters of a connect.
func (c *Client) endpoint(t Transport) *url.URL {
	u := *c.url
	u.Path += "/" + string(t)
	if t == LongPoll {
		u.Scheme = map[string]string{"ws": "http", "wss": "https"}[u.Scheme]
	}
	q := u.Query()
	if t == LongPoll && c.cfg.Version == wire.V2 {
		// Asks our hub for binary frames in base64; Phoenix ignores it, and has no binary on long polling.
		q.Set("binary", "base64")
	}
	if c.cfg.Params != nil {
		for k, vs := range c.cfg.Params() {
			q[k] = vs
		}
	}
	vsn := "2.0.0"
	if c.cfg.Version == wire.V1 {
		vsn = "1.0.0"
	}
	q.Set("vsn", vsn)
	u.RawQuery = q.Encode()
	return &u
}

func (c *Client) authToken() string {
	if c.cfg.AuthToken == nil {
		return ""
	}
	return c.cfg.AuthToken()
}
