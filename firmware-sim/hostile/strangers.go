package hostile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Strangers have no credentials.

// wrongTokens connects again and again with tokens that are none.
func (p *party) wrongTokens(ctx context.Context) error {
	client, done := p.client()
	defer done()
	p.paced(ctx, func() bool {
		p.tally.tried()
		token := fmt.Sprintf("eyJhbGciOiJFZERTQSJ9.%x.%x", rand.Uint64(), rand.Uint64())
		if strings.HasPrefix(p.Transport, "mqtt") {
			c, code, err := p.openMQTT(ctx, mqttClient{id: "stranger", user: "stranger", password: token})
			switch {
			case err != nil || code != "":
				p.unopened(ctx, code)
			default:
				p.tally.taken()
				c.close(ctx)
			}
			return true
		}
		p.request(ctx, client, "/socket/longpoll?vsn=2.0.0", http.Header{"X-Phoenix-Authtoken": {token}})
		return true
	})
	return nil
}

// foreignOrigins asks as a page of another site would, with a name as long as a header may be.
func (p *party) foreignOrigins(ctx context.Context) error {
	client, done := p.client()
	defer done()
	origin := http.Header{"Origin": {"http://" + strings.Repeat("a", max(1, p.Size))}}
	p.paced(ctx, func() bool {
		p.tally.tried()
		p.request(ctx, client, "/socket/longpoll?vsn=2.0.0", origin)
		return true
	})
	return nil
}

// request makes one, and counts what came of it.
func (p *party) request(ctx context.Context, client *http.Client, path string, header http.Header) {
	path, query, _ := strings.Cut(path, "?")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.at(path)+"?"+query, nil)
	if err != nil {
		return
	}
	req.Header = header
	began := time.Now()
	resp, err := client.Do(req)
	p.tally.waited(time.Since(began))
	if err != nil {
		p.ended(ctx)
		return
	}
	defer resp.Body.Close()
	status, code := pollStatus(resp)
	if status < 300 || status == http.StatusGone { // a long-poll session that was opened
		p.tally.taken()
		return
	}
	if code == "" {
		code = fmt.Sprint(status)
	}
	p.tally.refused("connect:" + code)
}

// idle opens a connection, to HTTP or MQTT in turn, and says nothing.
func (p *party) idle(ctx context.Context) error {
	dial := p.overHTTP
	if p.n%2 == 1 {
		dial = p.overMQTT
	}
	p.hold(ctx, dial, func(net.Conn) error { return nil })
	return nil
}

// halfRequest begins a request, goes on with it for as long as it is let, and never ends it.
func (p *party) halfRequest(ctx context.Context) error {
	p.hold(ctx, p.overHTTP, func(c net.Conn) error {
		const half = "POST %s/api/v1/login HTTP/1.1\r\nHost: %s\r\nContent-Length: 1000\r\n"
		_, err := fmt.Fprintf(c, half, p.Hub.Path, p.Hub.Host)
		for n := 0; err == nil && ctx.Err() == nil; n++ {
			p.sleep(ctx, time.Second)
			_, err = fmt.Fprintf(c, "X-%d: x\r\n", n)
		}
		return err
	})
	return nil
}

// hold opens a connection, says something there, and reads until the hub ends it.
func (p *party) hold(ctx context.Context, dial func(context.Context) (net.Conn, error), say func(net.Conn) error) {
	p.tally.tried()
	c, err := dial(ctx)
	if err != nil {
		p.ended(ctx)
		return
	}
	defer c.Close()
	go say(c) // ends with the connection
	n, err := io.Copy(io.Discard, c)
	if n > 0 {
		p.tally.refused("answered") // with an error, in words
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		p.ended(ctx)
	}
}

// deaf asks for one page after the other and reads none.
func (p *party) deaf(ctx context.Context) error {
	c, err := p.overHTTP(ctx)
	if err != nil {
		p.ended(ctx)
		return nil
	}
	defer c.Close()
	narrow(c)
	request := []byte("GET " + p.Hub.Path + "/ HTTP/1.1\r\nHost: " + p.Hub.Host + "\r\n\r\n")
	for err == nil {
		p.tally.tried()
		began := time.Now()
		_, err = c.Write(request)
		p.tally.waited(time.Since(began))
		if p.sent++; p.sent%100 == 0 {
			p.sleep(ctx, 10*time.Millisecond)
		}
	}
	p.ended(ctx)
	return nil
}

// narrow leaves little room for what is not read.
func narrow(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(4096) // where that cannot be, there is more room
	}
}

// junk is what is no CONNECT: MQTT 3.1.1 §3.1, MQTT 5 §3.1.
var junk = []string{
	"\x10\x0c\x00\x04MQTX\x04\x02\x00\x3c\x00\x00",         // another protocol
	"\x10\x0c\x00\x04MQTT\x63\x02\x00\x3c\x00\x00",         // a version that there is not
	"\x10\x0d\x00\x04MQTT\x04\x03\x00\x3c\x00\x01a",        // a reserved flag
	"\x10\x0c\x00\x04MQTT\x04\x00\x00\x3c\x00\x00",         // a session to be kept, of nobody
	"\x10\xff\xff\xff\xff\x7f",                             // a length of five bytes
	"\x10\x04\x00\x04MQ",                                   // too short
	"\x30\x05\x00\x01a\x00\x00",                            // a PUBLISH first
	"\x82\x06\x00\x01\x00\x01#\x00",                        // a SUBSCRIBE first
	"GET / HTTP/1.1\r\nHost: x\r\n\r\n",                    // another protocol altogether
	"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x03\x21\x00\x00", // a property of which it may be no 0
	"\x00\x00", "\xf0\x00",
}

// junkConnects opens MQTT connections with what is no CONNECT.
func (p *party) junkConnects(ctx context.Context) error {
	p.paced(ctx, func() bool {
		p.sent++
		p.hold(ctx, p.overMQTT, func(c net.Conn) error {
			c.SetReadDeadline(time.Now().Add(30 * time.Second))
			_, err := io.WriteString(c, junk[(p.n+p.sent)%len(junk)])
			return err
		})
		return true
	})
	return nil
}

// pollStatus is the status of an answer: that of a long-poll session stands inside.
func pollStatus(resp *http.Response) (status int, code string) {
	said := struct {
		Status int    `json:"status"`
		Code   string `json:"code"`
		Error  struct {
			Code string `json:"code"`
		} `json:"error"`
	}{}
	_ = decode(bufio.NewReader(io.LimitReader(resp.Body, 1<<20)), &said)
	if said.Code == "" {
		said.Code = said.Error.Code
	}
	if resp.StatusCode != http.StatusOK || said.Status == 0 {
		return resp.StatusCode, said.Code
	}
	return said.Status, said.Code
}
