package hub_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"devicehub/hub"
)

// Who opens sessions and forgets them takes the place of those forgotten, not of those in use.
func TestAbandonedSessionsMakeRoom(t *testing.T) {
	polling(t, func(t *testing.T, ep *hub.Endpoint) {
		inUse := open(t, ep, "")
		polled := make(chan polled, 1)
		go func() { polled <- inUse.do("GET", "", "") }()
		time.Sleep(time.Millisecond)
		for range 1000 {
			open(t, ep, "")
			time.Sleep(time.Millisecond)
		}
		if n := ep.Stats().LongPolls; n > 10 {
			t.Errorf("got %d sessions, want 10 at most", n)
		}
		if got := inUse.post(`[null,"1","phoenix","heartbeat",{}]`); got != 200 {
			t.Errorf("the session in use: got status %d, want 200", got)
		}
		if got := <-polled; got.Status != 200 || len(got.Messages) != 1 {
			t.Errorf("its poll: got %+v, want the answer", got)
		}
	}, hub.WithMaxSessions(10))
}

func TestSessionsInUseAreNotTakenFrom(t *testing.T) {
	polling(t, func(t *testing.T, ep *hub.Endpoint) {
		p := open(t, ep, "")
		go p.do("GET", "", "")
		time.Sleep(time.Millisecond)
		late := &poller{t: t, ep: ep}
		if got := late.do("GET", "", "").http; got != http.StatusServiceUnavailable {
			t.Errorf("got HTTP %d, want 503", got)
		}
		time.Sleep(30 * time.Second) // the poll ends, and then the session
		open(t, ep, "")
	}, hub.WithMaxSessions(1))
}

func TestDribbledBodyIsGivenUp(t *testing.T) {
	ep := newEndpoint(t, hub.WithIdleTimeout(300*time.Millisecond))
	srv := httptest.NewServer(ep)
	t.Cleanup(srv.Close)
	p := open(t, ep, "")
	nc, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprintf(nc, "POST /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: x\r\nX-Phoenix-Longpoll-Token: %s\r\nContent-Length: 1000\r\n\r\n[", p.token)
	nc.SetReadDeadline(time.Now().Add(10 * time.Second))
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("got HTTP %d, want 400", res.StatusCode)
	}
}

// A frame that is never finished does not keep its connection open, however often a byte comes.
func TestDribbledFrameIsSilence(t *testing.T) {
	ep := newEndpoint(t, hub.WithIdleTimeout(300*time.Millisecond))
	c := dial(t, ep)
	head := []byte{0x81, 0x80 | 100, 0, 0, 0, 0}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		c.ws.NetConn().Write(head)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				c.ws.NetConn().Write([]byte("x"))
			}
		}
	}()
	c.wantClose(1002)
}

// A client that floods and never reads is closed when what waits for it has filled its queue.
func TestFloodIsCutOff(t *testing.T) {
	ep := newEndpoint(t, hub.WithOutbound(64<<10, time.Second))
	c := dial(t, ep)
	nc := c.ws.NetConn()
	nc.(*net.TCPConn).SetReadBuffer(4096)
	c.send(joinA)
	nc.SetWriteDeadline(time.Now().Add(30 * time.Second))
	frame := `["1","2","room:a","echo",{"pad":"` + strings.Repeat("x", 60000) + `"}]`
	for {
		if err := c.ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			break
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for ep.Stats().WebSockets > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if s := ep.Stats(); s.SlowConsumers != 1 || s.WebSockets != 0 {
		t.Errorf("got %d slow consumers, %d connections, want 1 and none", s.SlowConsumers, s.WebSockets)
	}
}
