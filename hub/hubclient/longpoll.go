package hubclient

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

const maxLines = 100 // in one POST; Phoenix ignores the rest

type lpTransport struct {
	client *Client
	http   *http.Client
	own    bool // http is this connection's
	url    string
	token  string

	ctx      context.Context
	cancel   context.CancelCauseFunc
	messages []string // polled, not yet read
}

// lpAnswer is the body of every long-poll answer.
type lpAnswer struct {
	Status   int             `json:"status"`
	Token    string          `json:"token"`
	Messages []string        `json:"messages"`
	Error    json.RawMessage `json:"error"`
}

func (c *Client) openLongPoll(ctx context.Context) (transport, error) {
	t := &lpTransport{client: c, http: c.cfg.HTTP, url: c.endpoint(LongPoll).String()}
	if t.http == nil {
		t.own = true
		t.http = &http.Client{Transport: &http.Transport{
			DialContext: c.cfg.Dial, TLSClientConfig: c.cfg.TLS, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
			ReadBufferSize: c.cfg.ReadBuffer, WriteBufferSize: 1024,
		}}
	}
	t.ctx, t.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	// Until the session is open it is the connect's context that ends the request.
	stop := context.AfterFunc(ctx, func() { t.cancel(context.Cause(ctx)) })
	defer stop()
	a, err := t.do(http.MethodGet, nil, c.authToken())
	if err == nil && (a.Status != http.StatusGone || a.Token == "") {
		err = refused(a.Status, nil, a.Error)
	}
	if err != nil {
		t.drop()
		return nil, err
	}
	t.token = a.Token
	return t, nil
}

func (t *lpTransport) name() Transport { return LongPoll }

func (t *lpTransport) do(method string, body []byte, auth string) (*lpAnswer, error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.client.cfg.Poll)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, t.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, vs := range t.client.cfg.Header {
		req.Header[k] = vs
	}
	if t.token != "" {
		req.Header.Set("X-Phoenix-Longpoll-Token", t.token)
	}
	if auth != "" {
		req.Header.Set("X-Phoenix-AuthToken", auth)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-ndjson")
	}
	resp, err := t.http.Do(req)
	if err != nil {
		return nil, t.cause(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, t.client.cfg.MaxFrame+1))
	if err != nil {
		return nil, t.cause(err)
	}
	if int64(len(raw)) > t.client.cfg.MaxFrame {
		return nil, &CloseError{Code: 1009, Reason: "poll answer too large"}
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refused(resp.StatusCode, resp.Header, raw)
	}
	var a lpAnswer
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, fmt.Errorf("long-poll answer: %w", err)
	}
	return &a, nil
}

// cause is why a request was cut short, if it was this side that did it.
func (t *lpTransport) cause(err error) error {
	if cause := context.Cause(t.ctx); cause != nil {
		return cause
	}
	return err
}

func (t *lpTransport) read() ([]byte, bool, error) {
	for len(t.messages) == 0 {
		a, err := t.do(http.MethodGet, nil, "")
		if err != nil {
			return nil, false, err
		}
		switch a.Status {
		case http.StatusOK:
			t.messages = a.Messages
		case http.StatusNoContent:
		case http.StatusGone:
			return nil, false, &CloseError{Code: 3410, Reason: errSessionGone.Error()}
		default:
			return nil, false, refused(a.Status, nil, a.Error)
		}
	}
	m := t.messages[0]
	t.messages[0] = ""
	t.messages = t.messages[1:]
	if m == "" || m[0] == '[' || m[0] == '{' {
		return []byte(m), false, nil
	}
	data, err := base64.StdEncoding.DecodeString(m)
	if err != nil {
		return nil, false, fmt.Errorf("long-poll message: %w", err)
	}
	return data, true, nil
}

func (t *lpTransport) write(frames []frame) error {
	for len(frames) > 0 {
		n := min(len(frames), maxLines)
		var body []byte
		for i, f := range frames[:n] {
			if i > 0 {
				body = append(body, '\n')
			}
			if f.binary {
				body = base64.StdEncoding.AppendEncode(body, f.data)
			} else {
				body = append(body, f.data...)
			}
		}
		frames = frames[n:]
		a, err := t.do(http.MethodPost, body, "")
		if err != nil {
			return err
		}
		switch a.Status {
		case http.StatusOK:
		case http.StatusGone:
			return &CloseError{Code: 3410, Reason: errSessionGone.Error()}
		default:
			return refused(a.Status, nil, a.Error)
		}
	}
	return nil
}

// A long-poll session has no goodbye; the server misses its polls.
func (t *lpTransport) close(int, string) { t.end(ErrClosed) }
func (t *lpTransport) drop()             { t.end(errDropped) }
func (t *lpTransport) abandon()          { t.end(errAbandoned) }

func (t *lpTransport) end(cause error) {
	t.cancel(cause)
	if t.own {
		t.http.CloseIdleConnections()
	}
}
