package hub

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"devicehub/hub/intake"
	"devicehub/hub/poison"
)

// stream is the transport of a WebSocket on a net.Conn: one goroutine, which reads. What the
// hub sends is written by whoever sends it, without blocking; only when the kernel takes no
// more does a second goroutine write, until the queue is empty. While a connection is idle it
// holds no buffer.
type stream struct {
	c    *Conn
	nc   net.Conn
	in   *intake.Intake
	raw  syscall.RawConn // nil when the connection has none, as with TLS
	addr string

	young  bool // nothing was read yet
	frames frameReader
	buf    []byte // of bufPool, or larger for a larger frame; nil while nothing is read
	r, w   int    // what is read and not yet handled is buf[r:w]

	readFn  func(fd uintptr) bool
	readN   int
	readErr error

	// Guarded by c.out.mu.
	writeFn func(fd uintptr) bool
	out     []byte
	outN    int
	outErr  error
	writing bool          // a goroutine is emptying the queue
	flushed chan struct{} // closed when the queue is empty after the close frame

	shutDone atomic.Bool
	closing  atomic.Bool
}

const (
	readBuffer = 4096
	// linger is how long a closing connection is still read, for the client to read
	// the close frame and answer it.
	linger = time.Second
	// writeChunk is how much of a queue is written at once.
	writeChunk = 64 << 10
	// discardMax is how much of an oversized frame is read to keep the close frame from being
	// lost to a reset.
	discardMax = 64 << 10
)

var bufPool = sync.Pool{New: func() any { b := make([]byte, readBuffer); return &b }}

func newStream(c *Conn, nc net.Conn, addr string) *stream {
	t := &stream{c: c, nc: nc, in: intake.New(nc), addr: addr, young: true}
	t.frames = frameReader{max: c.mount.opts.frameBytes, maxMessage: c.mount.opts.maxMessage(), deflate: c.deflates}
	if sc, ok := nc.(syscall.Conn); ok && rawIO {
		if raw, err := sc.SyscallConn(); err == nil {
			t.raw = raw
			t.readFn, t.writeFn = t.readSome, t.writeSome
			tune(raw)
		}
	}
	return t
}

func (t *stream) name() string       { return "websocket" }
func (t *stream) remoteAddr() string { return t.addr }
func (t *stream) gathers() bool      { return true }
func (t *stream) hold(held bool)     { t.in.Hold(held) }

// settle implements transport.
func (t *stream) settle(patience, most time.Duration) { t.in.Settle(t.c.base.Done(), patience, most) }

// run serves the connection from its beginning. It owns the connection's task.
func (t *stream) run() {
	ep := t.c.ep
	ep.wheel.add(t, time.Now().Add(t.c.mount.opts.idle), ep.start)
	if ep.add(t.c) != nil || ep.isClosed() {
		t.c.close(CloseRestart, "", ErrDrain)
	}
	t.serve()
}

// serve reads until the connection ends, or until it comes to rest: then a fresh goroutine goes
// on, whose stack has not grown.
func (t *stream) serve() {
	cause := t.read()
	if cause == errRest {
		go t.serve()
		return
	}
	t.release()
	t.nc.Close()
	t.c.lost(cause)
	t.in.Close()
	t.c.ep.wheel.remove()
	t.c.ep.tasks.Done()
}

// errRest is why read returns when the connection comes to rest.
var errRest = errors.New("at rest")

// restAfter is how long a connection was silent whose goroutine is replaced once what it then
// sends is handled; a new connection's is, too. A stack that has grown to handle a frame does
// not shrink again, and a connection that sends little is at rest for most of its life.
const restAfter = 10 * time.Second

// due closes the connection when nothing was received for the idle timeout.
func (t *stream) due(now time.Time) time.Time {
	if t.c.finished.Load() {
		return time.Time{}
	}
	deadline := time.Unix(0, t.c.lastSeen.Load()).Add(t.c.mount.opts.idle)
	if now.Before(deadline) {
		return deadline
	}
	t.c.ep.counters.idleTimeouts.Add(1)
	t.c.close(CloseProtocolError, "", ErrIdleTimeout)
	return time.Time{}
}

// read handles frames until the connection ends, and returns why it did, or errRest.
func (t *stream) read() error {
	for {
		if err := t.fill(); err != nil {
			return ErrConnectionLost
		}
		rested := t.young || time.Now().UnixNano()-t.c.lastSeen.Load() > int64(restAfter)
		t.young = false
		if done, cause := t.handle(); done {
			return cause
		}
		if rested && t.r == t.w {
			return errRest
		}
	}
}

// handle handles the frames that are in the buffer. It reports whether the connection is done.
func (t *stream) handle() (done bool, cause error) {
	for {
		n, f, err := t.frames.next(t.buf[t.r:t.w])
		if err != nil {
			return true, t.fail(err)
		}
		if n == 0 {
			t.compact(t.frames.need)
			return false, nil
		}
		t.r += n
		switch {
		case f.op == opClose:
			return true, t.peerClosed(f)
		case t.closing.Load():
			// After our close frame only theirs matters.
		case f.op == opPing || f.op == opPong:
			if t.c.unguarded(t.seen(), eventPing) && f.op == opPing {
				t.control(opPong, f.body)
			}
		case f.op == opText || f.op == opBinary:
			t.c.receive(f.body, f.op == opBinary)
			if t.r < t.w {
				t.c.yield(0)
			}
		}
		if poison.On {
			poison.Bytes(t.buf[t.r-n : t.r : t.r])
		}
	}
}

func (t *stream) seen() (now time.Time) {
	now = time.Now()
	t.c.lastSeen.Store(now.UnixNano())
	return now
}

// control sends a control frame.
func (t *stream) control(op byte, body []byte) {
	s := newScratch()
	defer s.free()
	s.b = append(s.b, body...)
	data, head := s.finish(op)
	t.c.send(entry{data: data, head: head, op: op})
}

// fail closes the connection because of what the client sent.
func (t *stream) fail(err error) error {
	code, cause := CloseProtocolError, ErrProtocol
	var fe *frameError
	if errors.As(err, &fe) {
		code = fe.code
	}
	if code == CloseTooLarge {
		cause = ErrTooLarge
	}
	t.c.ep.counters.protocolErrors.Add(1)
	t.c.close(code, "", cause)
	if fe != nil && fe.rest > discardMax {
		return cause // not worth reading; the client may see a reset
	}
	t.discard()
	return cause
}

// peerClosed answers the client's close frame, unless it is the answer to ours. Bandit answers
// any valid code with 1000, and an invalid one with 1002.
func (t *stream) peerClosed(f inFrame) error {
	if t.closing.Load() {
		t.c.answered(f.body)
		return ErrClientClosed
	}
	t.c.close(closeAnswer(f.body), "", ErrClientClosed)
	t.flush()
	return ErrClientClosed
}

// flush waits until the queue is written, for as long as we linger.
func (t *stream) flush() {
	t.c.out.mu.Lock()
	if t.c.out.dead || len(t.c.out.queue) == 0 && !t.c.out.flying {
		t.c.out.mu.Unlock()
		return
	}
	t.flushed = make(chan struct{})
	flushed := t.flushed
	t.c.out.mu.Unlock()
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-flushed:
	case <-timer.C:
	}
}

// discard reads and drops until the client closes, or the time is up.
func (t *stream) discard() {
	for {
		t.r, t.w = 0, 0
		if t.fill() != nil {
			return
		}
	}
}

// compact makes room for a frame of need bytes, as far as the client has shown that it means it: the
// buffer at most doubles for what has arrived.
func (t *stream) compact(need int) {
	if t.r == t.w {
		t.r, t.w = 0, 0
		if cap(t.buf) > readBuffer {
			t.buf = nil
		}
		return
	}
	if t.r > 0 {
		copy(t.buf, t.buf[t.r:t.w])
		t.r, t.w = 0, t.w-t.r
	}
	if t.w == len(t.buf) {
		size := min(max(need, t.w+1), 2*len(t.buf))
		grown := make([]byte, max(size, readBuffer))
		copy(grown, t.buf[:t.w])
		t.release()
		t.buf = grown
	}
}

func (t *stream) release() {
	poison.Bytes(t.buf)
	if cap(t.buf) == readBuffer {
		b := t.buf[:readBuffer]
		bufPool.Put(&b)
	}
	t.buf = nil
}

// fill reads more into the buffer.
func (t *stream) fill() error {
	for {
		t.in.Aim()
		before := t.w
		err := t.fillOnce()
		if err == nil || !t.in.Again(err) {
			t.in.Took(t.w - before)
			return err
		}
	}
}

func (t *stream) fillOnce() error {
	if t.raw == nil {
		t.borrow()
		n, err := t.nc.Read(t.buf[t.w:])
		t.w += n
		if n > 0 {
			return nil
		}
		return err
	}
	if err := t.raw.Read(t.readFn); err != nil {
		return err
	}
	if t.readErr != nil {
		return t.readErr
	}
	if t.readN == 0 {
		return io.EOF
	}
	t.w += t.readN
	return nil
}

func (t *stream) borrow() {
	if t.buf == nil {
		t.buf = *bufPool.Get().(*[]byte)
		t.r, t.w = 0, 0
	}
}

// readSome is called by the poller when there may be something to read. It holds a buffer only
// if there is.
func (t *stream) readSome(fd uintptr) bool {
	t.borrow()
	t.readN, t.readErr = sysRead(fd, t.buf[t.w:])
	if t.readErr == syscall.EAGAIN {
		if t.w == 0 {
			t.release()
		}
		return false
	}
	return true
}

// tryWrite implements transport.
func (t *stream) tryWrite(e entry) (int, error) {
	if t.raw == nil {
		return 0, nil
	}
	t.out, t.outN, t.outErr = e.data, 0, nil
	err := t.raw.Write(t.writeFn)
	t.out = nil
	if err != nil {
		return t.outN, err
	}
	if t.outErr == syscall.EAGAIN {
		return t.outN, nil
	}
	return t.outN, t.outErr
}

func (t *stream) writeSome(fd uintptr) bool {
	t.outN, t.outErr = sysWrite(fd, t.out)
	return true
}

// wake implements transport: it starts the goroutine that empties the queue.
func (t *stream) wake() {
	if t.writing {
		return
	}
	t.writing = true
	t.c.ep.start(t.writeQueue)
}

var chunkPool = sync.Pool{New: func() any { b := make([]byte, 0, writeChunk); return &b }}

func putChunk(b *[]byte) {
	poison.Bytes(*b)
	chunkPool.Put(b)
}

// writeQueue writes the queue until it is empty, or nothing was taken for the outbound age.
func (t *stream) writeQueue() {
	buf := chunkPool.Get().(*[]byte)
	defer putChunk(buf)
	var entries []entry
	for {
		entries = t.c.take(entries[:0], writeChunk)
		if len(entries) == 0 {
			t.c.out.mu.Lock()
			if len(t.c.out.queue) > 0 && !t.c.out.dead {
				t.c.out.mu.Unlock()
				continue
			}
			t.writing = false
			t.nc.SetWriteDeadline(time.Time{})
			t.wrote()
			closing := t.c.out.closing
			t.c.out.mu.Unlock()
			if closing {
				t.shut() // not under the lock: over TLS it writes
			}
			return
		}
		chunk := entries[0].data
		if len(entries) > 1 {
			chunk = (*buf)[:0]
			for i := range entries {
				chunk = append(chunk, entries[i].data...)
			}
			*buf = chunk[:0]
		}
		if err := t.writeAll(chunk); err != nil {
			t.c.out.mu.Lock()
			if errors.Is(err, os.ErrDeadlineExceeded) && !t.c.out.closing {
				t.c.ep.counters.slowConsumers.Add(1)
				t.c.out.closing = true // no close frame fits in the middle of another
				t.c.finish(ErrSlowConsumer)
			}
			t.writing = false
			t.c.breakLocked()
			t.wrote()
			t.c.out.mu.Unlock()
			return
		}
		t.c.taken(entries)
		clear(entries)
	}
}

// writeAll writes b, giving up when nothing of it is taken for the outbound age, or for as
// long as we linger once the connection is closing.
func (t *stream) writeAll(b []byte) error {
	for len(b) > 0 {
		age := t.c.mount.opts.outboundAge
		if t.closing.Load() {
			age = linger
		}
		t.nc.SetWriteDeadline(time.Now().Add(age))
		n, err := t.nc.Write(b)
		b = b[n:]
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return err
		}
	}
	return nil
}

// wrote is called with the outbox locked when there is nothing left to write.
func (t *stream) wrote() {
	if t.flushed != nil {
		close(t.flushed)
		t.flushed = nil
	}
}

// shut says that nothing more will be written.
func (t *stream) shut() {
	if t.shutDone.Swap(true) {
		return
	}
	if hc, ok := t.nc.(interface{ CloseWrite() error }); ok {
		hc.CloseWrite()
	}
	t.in.SetReadDeadline(time.Now().Add(linger))
}

// end implements transport.
func (t *stream) end(abrupt bool) {
	if abrupt && !t.c.out.closing && !t.c.finished.Load() {
		// The client takes no more. What it sent before it went is still to be read, up to
		// its close frame or the end.
		t.in.SetReadDeadline(time.Now().Add(linger))
		return
	}
	t.closing.Store(true)
	switch {
	case abrupt:
		past := time.Unix(1, 0)
		t.in.SetReadDeadline(past)
		t.nc.SetWriteDeadline(past)
	case len(t.c.out.queue) == 0 && !t.c.out.flying:
		t.shut()
	default:
		t.in.SetReadDeadline(time.Now().Add(2 * linger))
		t.nc.SetWriteDeadline(time.Now().Add(linger))
	}
}
