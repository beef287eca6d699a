package edge

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// frame is one of HTTP/2 (RFC 9113 §4.1).
func frame(kind, flags byte, stream uint32, body string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body))<<8|uint32(kind))
	b = binary.BigEndian.AppendUint32(append(b, flags), stream)
	return string(b) + body
}

// A client of HTTP/2 that reads its connection, but opens no window for an answer, has the stream
// ended: the answer is not kept for ever. One that does is answered whole, however long it takes.
func TestStreamsThatStandStill(t *testing.T) {
	const size = 200 << 10
	ended := make(chan error, 1)
	srv := httptest.NewUnstartedServer(Deadlines(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.WriteString(w, strings.Repeat("x", size))
		if r.ProtoMajor == 2 && err != nil {
			ended <- err
		}
	}), 300*time.Millisecond))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()

	nc, err := tls.Dial("tcp", srv.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	const settings, headers, endOfBoth = 4, 1, 5
	_, err = io.WriteString(nc, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+
		frame(settings, 0, 0, "\x00\x04\x00\x00\x00\x00")+ // SETTINGS_INITIAL_WINDOW_SIZE 0
		frame(headers, endOfBoth, 1, "\x82\x84\x87\x41\x03hub")) // GET / https hub (RFC 7541, appendix A)
	if err != nil {
		t.Fatal(err)
	}
	_ = nc.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		head := make([]byte, 9)
		if _, err := io.ReadFull(nc, head); err != nil {
			t.Fatalf("the stream was not ended: %v", err)
		}
		if _, err := io.CopyN(io.Discard, nc, int64(binary.BigEndian.Uint32(head)>>8)); err != nil {
			t.Fatal(err)
		}
		if head[3] == 3 { // RST_STREAM
			break
		}
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the handler still writes")
	}

	client := srv.Client()
	res, err := client.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b := make([]byte, 10<<10)
	got := 0
	for range size / len(b) {
		n, err := io.ReadFull(res.Body, b)
		if got += n; err != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if res.ProtoMajor != 2 || got != size {
		t.Errorf("a slow client got %d bytes by HTTP/%d, want %d by 2", got, res.ProtoMajor, size)
	}
}
