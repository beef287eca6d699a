package hub

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"devicehub/hub/wire"
)

// Statuses in the bodies of long-poll answers. The HTTP status is 200.
const (
	pollOK        = 200
	pollNothing   = 204
	pollMalformed = 400
	pollForbidden = 403
	pollTimeout   = 408
	pollGone      = 410
	pollTooLarge  = 413
)

// maxLines is how many lines of one POST are handled; the rest are ignored.
const maxLines = 100

// maxBusy is how many requests of a session may be under way; a client has a poll and a POST, and
// what it has given up.
const maxBusy = 8

// lineTime is how long a line of a POST waits for the one before it to be handled, so that they
// are answered in their order unless a handler takes its time.
const lineTime = 10 * time.Millisecond

// serveLongPoll serves one request. Source: phoenix lib/phoenix/transports/long_poll.ex.
func (ep *Endpoint) serveLongPoll(w http.ResponseWriter, r *http.Request, m *mount, vars Params) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cache-Control", "no-store")
	info, err := m.connectInfo(r, "longpoll", vars)
	if err != nil {
		fault(w, http.StatusBadRequest, "malformed query: "+err.Error())
		return
	}
	if !m.originAllowed(r) {
		ep.counters.connectsRefused.Add(1)
		ep.log.Warn("origin refused", "origin", r.Header.Get("Origin"), "remote", r.RemoteAddr)
		answer(w, pollForbidden)
		return
	}
	token := r.Header.Get("X-Phoenix-Longpoll-Token")
	if token == "" {
		token = info.Params.Get("token")
	}
	s := ep.sessions.find(m, token)
	if r.Method != http.MethodOptions {
		ep.hear(s, token)
	}
	if s != nil && (r.Method == http.MethodPost || r.Method == http.MethodGet) {
		m.opts.letIn(r)
		defer s.busy.Add(-1)
		if s.busy.Add(1) > maxBusy {
			fault(w, http.StatusTooManyRequests, "too many requests of one session at once")
			return
		}
	}
	switch {
	case r.Method == http.MethodOptions:
		h.Set("Access-Control-Allow-Headers", strings.Join(r.Header.Values("Access-Control-Request-Headers"), ", "))
		h.Set("Access-Control-Allow-Methods", "get, post, options")
		h.Set("Access-Control-Max-Age", "3600")
		w.WriteHeader(http.StatusOK)
	case r.Method == http.MethodPost && s == nil:
		answer(w, pollGone)
	case r.Method == http.MethodPost:
		s.post(w, r)
	case r.Method != http.MethodGet:
		fault(w, http.StatusBadRequest, "long polling uses GET and POST")
	case s == nil:
		ep.openSession(w, r, m, info)
	default:
		s.poll(w, r)
	}
}

// hear tells a session that was closed of a request that came with its token all the same.
func (ep *Endpoint) hear(s *session, token string) {
	if s == nil {
		ep.late.heard(token)
		return
	}
	select {
	case <-s.closed:
		s.c.answered(nil)
	default:
	}
}

type status struct {
	Status int `json:"status"`
}

type messages struct {
	Messages []string `json:"messages"`
	Status   int      `json:"status"`
	Token    string   `json:"token"`
}

func answer(w http.ResponseWriter, code int) { answerJSON(w, status{code}) }

// answerTime is how long a client may take to read answerPart of an answer.
const (
	answerTime = 10 * time.Second
	answerPart = 16 << 10
)

func answerJSON(w http.ResponseWriter, v any) {
	s := newScratch()
	defer s.free()
	text, err := s.payloadJSON(v)
	if err != nil { // of a WithPollRefusal
		text = []byte(`{"status":403}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	// A transport without deadlines has no client that could hold it up.
	rc := http.NewResponseController(w)
	for {
		rc.SetWriteDeadline(time.Now().Add(answerTime))
		part := text[:min(len(text), answerPart)]
		if _, err := w.Write(part); err != nil { // the client has gone
			break
		}
		if text = text[len(part):]; len(text) == 0 {
			break
		}
	}
	rc.Flush()
	rc.SetWriteDeadline(time.Time{})
}

// openSession makes a session and tells its token. 410 is how a client hears that it is new.
func (ep *Endpoint) openSession(w http.ResponseWriter, r *http.Request, m *mount, info *ConnectInfo) {
	a, err := m.admit(info)
	if err != nil {
		ep.counters.connectsRefused.Add(1)
		var p *PanicError
		if errors.As(err, &p) {
			ep.log.Error("connect crashed", "err", err, "remote", r.RemoteAddr, "stack", string(p.Stack))
			fault(w, http.StatusInternalServerError, "internal error")
			return
		}
		if errors.Is(err, ErrRefused) {
			answer(w, pollForbidden)
			return
		}
		answerJSON(w, m.opts.pollRefusal(err))
		return
	}
	m.opts.letIn(r)
	err = ep.sessions.evict(m.opts.maxSessions)
	if err == nil {
		err = ep.begin()
	}
	if err != nil {
		a.cancel(err)
		fault(w, http.StatusServiceUnavailable, "no room for another session")
		return
	}
	s := newSession(ep.newConn(m, a), r.RemoteAddr)
	s.c.binary = info.Params.Get("binary") == "base64"
	ep.sessions.add(s)
	ep.wheel.add(s, time.Now().Add(s.expiry()), ep.start)
	if err := ep.add(s.c); err != nil {
		answerJSON(w, m.opts.pollRefusal(err))
		return
	}
	if ep.isClosed() {
		s.c.close(CloseRestart, "", ErrDrain)
		answer(w, pollForbidden)
		return
	}
	answerJSON(w, messages{[]string{}, pollGone, s.token})
}

// poll answers with what waits, or waits for it.
func (s *session) poll(w http.ResponseWriter, r *http.Request) {
	timer := time.NewTimer(s.c.mount.opts.window)
	defer timer.Stop()
	for {
		waiter := s.arrive()
		out := s.collect()
		if len(out) > 0 {
			answerJSON(w, messages{out, pollOK, s.token})
			return
		}
		select {
		case <-waiter:
			continue
		case <-s.closed:
			if out = s.collect(); len(out) > 0 {
				answerJSON(w, messages{out, pollOK, s.token})
				return
			}
		case <-timer.C:
		case <-r.Context().Done():
			s.leave(waiter)
			return
		}
		s.leave(waiter)
		answerJSON(w, messages{[]string{}, pollNothing, s.token})
		return
	}
}

// collect takes what waits, as strings.
func (s *session) collect() []string {
	var out []string
	entries := s.c.take(nil, math.MaxInt32)
	for i := range entries {
		e := &entries[i]
		switch body := e.data[e.head:]; e.op {
		case opText:
			out = append(out, string(body))
		case opBinary:
			out = append(out, base64.StdEncoding.EncodeToString(body))
		}
	}
	if len(entries) == 0 {
		s.ifOver()
		return nil
	}
	if _, closing := s.c.taken(entries); closing {
		s.ifOver()
	}
	return out
}

// post hands the frames of a body to the connection, one after the other.
func (s *session) post(w http.ResponseWriter, r *http.Request) {
	o := &s.c.mount.opts
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(o.idle))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, o.bodyBytes))
	if err != nil {
		// The deadline stands: the server would read on, to be able to use the connection again.
		w.Header().Set("Connection", "close")
		fault(w, http.StatusBadRequest, "the body is too long or did not arrive in time")
		return
	}
	rc.SetReadDeadline(time.Time{})
	if err := s.c.ep.begin(); err != nil {
		fault(w, http.StatusServiceUnavailable, "the server is shutting down")
		return
	}
	p := &posting{s: s, body: body, ndjson: isNDJSON(r), done: make(chan int, 1), abandoned: make(chan struct{})}
	go p.run()
	timer := time.NewTimer(o.window)
	defer timer.Stop()
	select {
	case code := <-p.done:
		answer(w, code)
	case <-timer.C:
		close(p.abandoned)
		answer(w, pollTimeout)
	}
}

func isNDJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/x-ndjson"
}

// posting is one POST under way. It outlives the request when a full inbox holds it up; the
// frame that waits is still delivered, those behind it are not.
type posting struct {
	s         *session
	body      []byte
	ndjson    bool
	done      chan int
	abandoned chan struct{}
}

func (p *posting) run() {
	defer p.s.c.ep.tasks.Done()
	select {
	case p.s.posts <- struct{}{}: // one POST at a time
		defer func() { <-p.s.posts }()
	case <-p.abandoned:
		return
	case <-p.s.c.base.Done():
		p.done <- pollGone
		return
	}
	p.done <- p.dispatch()
}

func (p *posting) dispatch() int {
	if !p.ndjson {
		return p.frame(p.body, false)
	}
	lines := 0
	defer func() {
		if lines == 0 {
			p.s.c.unguarded(time.Now(), nil)
		}
	}()
	for line := range bytes.Lines(p.body) {
		line = bytes.TrimRight(line, "\r\n")
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if lines++; lines > maxLines {
			break
		}
		select {
		case <-p.abandoned:
			return pollTimeout
		default:
		}
		data, binary, err := decodeLine(line)
		if err != nil {
			return pollMalformed
		}
		if code := p.frame(data, binary); code != pollOK {
			return code
		}
		p.s.c.yield(lineTime)
	}
	return pollOK
}

// decodeLine returns the frame of a line: text when it begins with a bracket, else base64 of a
// binary frame.
func decodeLine(line []byte) (data []byte, binary bool, err error) {
	if line[0] == '[' || line[0] == '{' {
		return line, false, nil
	}
	data = make([]byte, base64.StdEncoding.DecodedLen(len(line)))
	n, err := base64.StdEncoding.Decode(data, line)
	return data[:n], true, err
}

// frame hands one frame to the connection. A malformed one is refused and does no harm.
func (p *posting) frame(data []byte, binary bool) int {
	c := p.s.c
	if len(data) > c.mount.opts.maxMessage() {
		return pollTooLarge
	}
	var m wire.Message
	if !binary && !utf8.Valid(data) || c.decode(&m, data, binary) != nil && !answerable(&m) {
		return pollMalformed
	}
	if c.finished.Load() {
		return pollGone
	}
	c.receive(data, binary)
	return pollOK
}
