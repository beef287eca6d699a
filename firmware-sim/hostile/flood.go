package hostile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"devicehub/firmware-sim/profile"
	"devicehub/hub/hubclient"
)

// A flood is more of a device's or a person's events than anybody needs.

// flood floods one connection, until it ends.
func (p *party) flood(ctx context.Context) error {
	token, err := p.Token(ctx)
	if err != nil {
		if ctx.Err() == nil {
			p.tally.refused("sign_in")
		}
		return nil
	}
	if strings.HasPrefix(p.Transport, "mqtt") {
		p.floodMQTT(ctx, token)
		return nil
	}
	return p.floodChannel(ctx, token)
}

// topic is where the flood goes.
func (p *party) topic() string {
	if p.Kind == profile.FloodCommands {
		if len(p.Topics) == 0 {
			return "light:none"
		}
		return p.Topics[p.n%len(p.Topics)]
	}
	return "sensor:" + p.ID
}

// event is the next of the flood.
func (p *party) event() (name string, payload any) {
	p.sent++
	switch p.Kind {
	case profile.FloodReadings:
		return "readings", p.batch()
	case profile.FloodTokens:
		return "token_refresh", map[string]any{}
	case profile.FloodCommands:
		return "command", map[string]any{"op": "set", "params": map[string]any{"on": p.sent%2 == 0}, "policy": "none"}
	}
	return fmt.Sprintf("no_such_event_%d", p.sent%10), map[string]any{"n": p.sent, "pad": strings.Repeat("x", p.Size)}
}

// batch is a push of the flood's size, of strings, which the hub can pack least.
func (p *party) batch() any {
	const each = 120 // so that no push has more than 500
	pad := strings.Repeat("x", each)
	var rs []any
	for i := range max(1, p.Size/each) {
		rs = append(rs, []any{"mode", fmt.Sprint(p.sent, i, pad)[:min(each, p.Size)]})
	}
	return map[string]any{"r": rs}
}

// floodChannel floods a topic over channels.
func (p *party) floodChannel(ctx context.Context, token string) error {
	ctx, over := context.WithCancel(ctx)
	defer over()
	client, err := hubclient.New(hubclient.Config{
		URL: p.at("/socket"), AuthToken: func() string { return token }, Dial: p.Dial,
		Transport: hubclient.Transport(p.Transport),
		Timeout:   30 * time.Second,
		OnClose: func(err error) {
			if no, ok := errors.AsType[*hubclient.RefusedError](err); ok {
				p.tally.refused(connectCode(no))
			} else {
				p.ended(ctx)
			}
			over()
		},
	})
	if err != nil {
		return fmt.Errorf("hostile: %w", err)
	}
	joined := make(chan struct{}, 1)
	ch := client.Channel(p.topic(), hubclient.ChannelConfig{
		OnJoin: func(hubclient.Reply) {
			select {
			case joined <- struct{}{}:
			default:
			}
		},
		OnRefused: func(r hubclient.Reply) { p.tally.refused(codeOf(r)); over() },
	})
	ch.Join()
	run := make(chan struct{})
	go func() {
		defer close(run)
		_ = client.Run(ctx) // OnClose hears why it ends
	}()
	select {
	case <-ctx.Done():
	case <-joined:
		p.paced(ctx, func() bool { p.push(ch); return true })
	}
	over()
	<-run
	return nil
}

func (p *party) push(ch *hubclient.Channel) {
	event, payload := p.event()
	p.tally.tried()
	began := time.Now()
	ch.Push(event, payload, func(r hubclient.Reply, err error) {
		switch {
		case err != nil: // the connection ended, which is counted there, or the hub does not read
			p.tally.waited(time.Since(began))
			return
		case r.OK():
			p.tally.taken()
		default:
			p.tally.refused(codeOf(r))
		}
		if p.Answered != nil {
			p.Answered(time.Since(began))
		}
	})
}

// codeOf is the code of an error reply.
func codeOf(r hubclient.Reply) string {
	var said struct {
		Code   string `json:"code"`
		Reason string `json:"reason"`
	}
	_ = json.Unmarshal(r.Payload, &said)
	switch {
	case said.Code != "":
		return said.Code
	case said.Reason != "":
		return said.Reason
	}
	return "error"
}

// connectCode is that of a connection which was not let in.
func connectCode(e *hubclient.RefusedError) string {
	if e.Code != "" {
		return "connect:" + e.Code
	}
	return fmt.Sprintf("connect:%d", e.Status)
}

// floodMQTT floods the topics of a device, as far as the hub lets what is unacknowledged grow.
func (p *party) floodMQTT(ctx context.Context, token string) {
	c, code, err := p.openMQTT(ctx, mqttClient{id: p.ID, user: p.ID, password: token})
	if err != nil || code != "" {
		p.unopened(ctx, code)
		return
	}
	defer c.close(ctx)
	p.paced(ctx, func() bool {
		event, payload := p.event()
		topic := "hub/v1/" + p.ID + "/"
		switch p.Kind {
		case profile.FloodReadings:
			topic += "r"
		case profile.FloodTokens:
			topic += "sys"
			payload = map[string]string{"e": event}
		default:
			topic += event
		}
		b, _ := json.Marshal(payload) // of strings and numbers
		return c.publish(ctx, message{topic: topic, payload: b})
	})
}
