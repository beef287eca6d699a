package hub

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// one is a listener of a single connection.
type one struct {
	conn   chan net.Conn
	closed chan struct{}
}

func (l *one) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conn:
		return nc, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *one) Close() error   { close(l.closed); return nil }
func (l *one) Addr() net.Addr { return &net.TCPAddr{} }

// A client that is slow with a long answer gets all of it; one that takes nothing has the
// connection ended.
func TestAnswersWaitForProgress(t *testing.T) {
	for _, row := range []struct {
		name  string
		after int // bytes that the client takes at 4 KiB a second
		whole bool
	}{{"slow", 1 << 20, true}, {"stops", 64 << 10, false}} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				text, ended := strings.Repeat("x", 200<<10), make(chan time.Time, 1)
				srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					answerJSON(w, messages{[]string{text}, pollOK, "token"})
					ended <- time.Now()
				})}
				client, server := net.Pipe()
				l := &one{make(chan net.Conn, 1), make(chan struct{})}
				l.conn <- server
				go srv.Serve(l)
				defer srv.Close()
				defer client.Close()
				from := time.Now()
				go io.WriteString(client, "GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
				res, err := http.ReadResponse(bufio.NewReader(client), nil)
				if err != nil {
					t.Fatal(err)
				}
				got := 0
				for b := make([]byte, 4<<10); got < row.after; time.Sleep(time.Second) {
					n, err := res.Body.Read(b)
					if got += n; err != nil {
						break
					}
				}
				took := (<-ended).Sub(from)
				if (got > len(text)) != row.whole || took > 2*time.Minute {
					t.Errorf("got %d bytes of %d, answered after %v", got, len(text), took)
				}
			})
		})
	}
}
