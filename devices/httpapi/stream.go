package httpapi

import (
	"net/http"
	"time"
)

// stream is an answer that is written as it comes. The header goes with the
// first byte, so that a refusal before it can still be told, and a client that
// takes nothing for takeWithin ends it.
type stream struct {
	http.ResponseWriter
	set   func(http.Header)
	begun bool
}

func (w *stream) begin() {
	if !w.begun {
		w.begun = true
		w.set(w.Header())
		w.WriteHeader(http.StatusOK)
	}
}

func (w *stream) Write(b []byte) (n int, err error) {
	w.begin()
	conn := http.NewResponseController(w.ResponseWriter)
	defer conn.SetWriteDeadline(time.Time{}) // the connection may serve another request
	for {
		_ = conn.SetWriteDeadline(time.Now().Add(takeWithin))
		m, err := w.ResponseWriter.Write(b[n:min(len(b), n+takePart)])
		if n += m; err != nil || n >= len(b) {
			return n, err
		}
	}
}

// flush sends what was written.
func (w *stream) flush() error {
	w.begin()
	conn := http.NewResponseController(w.ResponseWriter)
	_ = conn.SetWriteDeadline(time.Now().Add(takeWithin))
	defer conn.SetWriteDeadline(time.Time{})
	return conn.Flush()
}
