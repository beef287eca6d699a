package hub

import (
	"net/http"
	"strconv"
)

// fault answers a request that reaches no connection: HTTP 400 is the client's fault, 500 and
// 503 are the server's. The body is {"reason","code"}, the code "invalid" or
// "platform_unavailable".
func fault(w http.ResponseWriter, status int, reason string) {
	body := invalid(reason)
	if status >= http.StatusInternalServerError {
		body = refusal(reason, "platform_unavailable")
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // to a client that may have gone
}
