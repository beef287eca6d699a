package main

import (
	"fmt"
	"io"
	"net/http"
	"sync"
)

// inProcess is an http.RoundTripper that calls a handler in this process. The
// answer streams; closing its body waits for the handler.
type inProcess struct{ handler http.Handler }

// RoundTrip returns once the handler has written its header or returned.
func (t inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	in := req.Clone(req.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.RequestURI = req.URL.RequestURI()
	in.Host = req.URL.Host
	in.RemoteAddr = "@" // as of a Unix socket
	r, w := io.Pipe()
	rw := &pipeResponse{header: http.Header{}, pipe: w, started: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				rw.WriteHeader(http.StatusInternalServerError)
				w.CloseWithError(fmt.Errorf("the hub's code broke: %v", p))
			}
		}()
		t.handler.ServeHTTP(rw, in)
		rw.WriteHeader(http.StatusOK)
		w.Close()
	})
	<-rw.started
	return &http.Response{
		Status:     fmt.Sprintf("%d %s", rw.status, http.StatusText(rw.status)),
		StatusCode: rw.status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        rw.sent,
		Body:          &pipeBody{PipeReader: r, wait: wg.Wait},
		ContentLength: -1,
		Request:       req,
	}, nil
}

// pipeResponse is the handler's side.
type pipeResponse struct {
	header  http.Header
	pipe    *io.PipeWriter
	once    sync.Once
	started chan struct{} // closed when status and sent are set
	status  int
	sent    http.Header
}

func (p *pipeResponse) Header() http.Header { return p.header }

func (p *pipeResponse) WriteHeader(status int) {
	p.once.Do(func() {
		p.status, p.sent = status, p.header.Clone()
		close(p.started)
	})
}

func (p *pipeResponse) Write(b []byte) (int, error) {
	p.WriteHeader(http.StatusOK)
	return p.pipe.Write(b)
}

// Flush does nothing: what is written is read at once.
func (p *pipeResponse) Flush() {}

// pipeBody is the caller's side.
type pipeBody struct {
	*io.PipeReader
	wait func()
}

// Close makes further writes of the handler fail and waits until it returned.
func (b *pipeBody) Close() error {
	err := b.PipeReader.Close()
	b.wait()
	return err
}
