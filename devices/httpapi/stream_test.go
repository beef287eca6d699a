package httpapi_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices/httpapi"
	"devicehub/devices/trace"
)

// pipes is a listener within the process.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p pipes) dial() net.Conn {
	client, server := net.Pipe()
	p <- server
	return client
}

func TestStalledClientsAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false, func(r *rig) { r.cfg.InsecureLogin = httpapi.InsecureAny })
		r.device(`{"id":"a","kinds":["sensor"]}`)
		l := make(pipes)
		srv := &http.Server{Handler: r.api}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		defer func() {
			close(l)
			srv.Close()
			<-served
		}()

		slow := l.dial()
		fmt.Fprint(slow, "POST /api/v1/login HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\n{")
		start := time.Now()
		answer, _ := io.ReadAll(slow)
		if took := time.Since(start); took < 30*time.Second || took > 2*time.Minute || !strings.Contains(string(answer), "broke off") {
			t.Errorf("a body that does not come: after %v got %q", took, answer)
		}

		deaf := l.dial()
		defer deaf.Close()
		fmt.Fprintf(deaf, "GET /api/v1/devices/a/trace HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer %s\r\n\r\n", r.admin)
		head := make([]byte, 15)
		if _, err := io.ReadFull(deaf, head); err != nil || string(head) != "HTTP/1.1 200 OK" {
			t.Fatal(string(head), err)
		}
		r.tracer.Record("a", trace.Line{Event: "reading"}, nil)
		time.Sleep(time.Second)
		if !r.tracer.Follows("a") {
			t.Error("a client that hesitates was given up")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if r.tracer.Follows("a") {
			t.Error("a client that takes nothing is still served")
		}
	})
}
