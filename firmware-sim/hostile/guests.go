package hostile

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// Guests are people and service accounts, who have rights, and ask for more than is theirs.

func decode(r io.Reader, v any) error {
	err := json.NewDecoder(r).Decode(v)
	_, _ = io.Copy(io.Discard, r) // so that the connection can be used again
	return err
}

// hoardLongPolls opens sessions and polls none.
func (p *party) hoardLongPolls(ctx context.Context) error {
	client, done := p.client()
	defer done()
	token, err := p.Token(ctx)
	if err != nil {
		p.refusedToSignIn(ctx)
		return nil
	}
	p.paced(ctx, func() bool {
		p.tally.tried()
		p.request(ctx, client, "/socket/longpoll?vsn=2.0.0", http.Header{"X-Phoenix-Authtoken": {token}})
		return true
	})
	return nil
}

func (p *party) refusedToSignIn(ctx context.Context) {
	if ctx.Err() == nil {
		p.tally.refused("sign_in")
	}
}

// slowWatcher joins what it can, asks again and again, and reads nothing.
func (p *party) slowWatcher(ctx context.Context) error {
	token, err := p.Token(ctx)
	if err != nil {
		p.refusedToSignIn(ctx)
		return nil
	}
	u, err := url.Parse(p.at("/socket/websocket"))
	if err != nil {
		return fmt.Errorf("hostile: %w", err)
	}
	u.Scheme, u.RawQuery = strings.Replace(u.Scheme, "http", "ws", 1), "vsn=2.0.0"
	d := websocket.Dialer{NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := p.Dial(ctx, network, addr)
		if err == nil {
			narrow(c)
		}
		return c, err
	}}
	p.tally.tried()
	ws, resp, err := d.DialContext(ctx, u.String(), http.Header{"Authorization": {"Bearer " + token}})
	switch {
	case resp != nil && err != nil:
		p.tally.refused(fmt.Sprintf("connect:%d", resp.StatusCode))
		return nil
	case err != nil:
		p.ended(ctx)
		return nil
	}
	defer ws.Close()
	defer context.AfterFunc(ctx, func() { ws.Close() })()
	p.askOn(ctx, ws)
	return nil
}

// askOn asks until nothing more is taken.
func (p *party) askOn(ctx context.Context, ws *websocket.Conn) {
	ask := func(topic, event string) bool {
		p.sent++
		began := time.Now()
		err := ws.WriteJSON([]any{topic, fmt.Sprint(p.sent), topic, event, map[string]any{}})
		p.tally.waited(time.Since(began))
		return err == nil
	}
	topics := append([]string{}, p.Topics...)
	for _, topic := range topics {
		if !ask(topic, "phx_join") {
			p.ended(ctx)
			return
		}
	}
	if len(topics) == 0 {
		topics = []string{"sensor:none"}
	}
	p.paced(ctx, func() bool {
		p.tally.tried()
		return ask(topics[p.sent%len(topics)], "get")
	})
	p.ended(ctx)
}

// hoardRetained has the broker keep as much as it will, in topics and properties rather than in
// payloads.
func (p *party) hoardRetained(ctx context.Context) error {
	token, err := p.Token(ctx)
	if err != nil {
		p.refusedToSignIn(ctx)
		return nil
	}
	who := mqttClient{id: fmt.Sprint(p.ID, "-", p.n), user: "service:" + p.ID, password: token}
	c, code, err := p.openMQTT(ctx, who)
	if err != nil || code != "" {
		p.unopened(ctx, code)
		return nil
	}
	defer c.close(ctx)
	pad := strings.Repeat("v", min(max(1, p.Size), 60_000))
	p.paced(ctx, func() bool {
		p.sent++
		m := message{topic: fmt.Sprintf("%s/%d/%d", p.Prefix, p.n, p.sent), payload: []byte("x"), retain: true}
		if p.sent%2 == 0 && c.v5 {
			m.property = pad
		} else {
			m.topic += "/" + pad
		}
		return c.publish(ctx, m)
	})
	return nil
}

// hoardSessions connects under one name after the other, each with a session that is to be kept.
func (p *party) hoardSessions(ctx context.Context) error {
	token, err := p.Token(ctx)
	if err != nil {
		p.refusedToSignIn(ctx)
		return nil
	}
	p.paced(ctx, func() bool {
		p.sent++
		p.tally.tried()
		who := mqttClient{
			id: fmt.Sprintf("%s-%d-%d", p.ID, p.n, p.sent), user: "service:" + p.ID, password: token, expiry: 3600,
		}
		began := time.Now()
		c, code, err := p.openMQTT(ctx, who)
		p.tally.waited(time.Since(began))
		if err != nil || code != "" {
			p.unopened(ctx, code)
			return true
		}
		p.tally.taken()
		c.conn.Close()
		<-c.ended
		return true
	})
	return nil
}
