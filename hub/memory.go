package hub

import (
	"errors"
	"sync"
	"time"
)

// Pipe is a client connected in memory: no network, no encoding of WebSocket frames. It is what
// package hubtest is made of, and serves to load an endpoint with more clients than there are
// ports.
type Pipe struct {
	c       *Conn
	receive func(frame PipeFrame)

	mu     sync.Mutex // one Send at a time
	paused bool       // guarded by c.out.mu
	done   bool       // guarded by c.out.mu
}

// PipeFrame is what a Pipe gets: a text or binary frame, or the close frame, after which
// nothing follows. Data is only valid during the call.
type PipeFrame struct {
	Binary bool
	Close  bool
	Code   int // of the close frame
	Reason string
	Data   []byte
}

// Dial connects a client in memory to the socket mounted at path, with a transport "memory".
// receive is called with every frame, from whichever goroutine sends it; it must neither block
// nor call back. The error is that of the ConnectFunc, ErrRefused, *PanicError or about the path.
func (ep *Endpoint) Dial(path string, info *ConnectInfo, receive func(PipeFrame)) (*Pipe, error) {
	var m *mount
	var vars Params
	for _, at := range ep.mounts {
		candidate := at.Load()
		if v, ok := matchSegments(candidate.path, []string{}, segments(path)); ok {
			m, vars = candidate, v
			break
		}
	}
	if m == nil {
		return nil, errors.New("no socket is mounted at " + path)
	}
	own := *info
	own.Transport = "memory"
	own.Params = Params{}
	for name, v := range info.Params {
		own.Params[name] = v
	}
	for name, v := range vars {
		own.Params[name] = v
	}
	a, err := m.admit(&own)
	if err != nil {
		ep.counters.connectsRefused.Add(1)
		return nil, err
	}
	if err := ep.begin(); err != nil {
		a.cancel(err)
		return nil, err
	}
	c := ep.newConn(m, a)
	p := &Pipe{c: c, receive: receive}
	c.tr = &pipeEnd{p, own.RemoteAddr}
	_ = ep.add(c) // when OnOpen fails, the client hears the close
	if ep.isClosed() {
		c.close(CloseRestart, "", ErrDrain)
	}
	return p, nil
}

// Conn returns the server's side.
func (p *Pipe) Conn() *Conn { return p.c }

// Send hands a frame to the server, and waits while the inbox of its channel is full.
func (p *Pipe) Send(data []byte, binary bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.c.finished.Load() {
		p.c.receive(data, binary)
	}
}

// Close ends the connection from the client's side and waits until its channels have ended.
func (p *Pipe) Close() {
	p.hangUp(ErrClientClosed)
}

// Break ends the connection as if it were lost.
func (p *Pipe) Break() {
	p.hangUp(ErrConnectionLost)
}

func (p *Pipe) hangUp(cause error) {
	p.c.out.mu.Lock()
	again := p.done
	p.done = true
	p.c.out.mu.Unlock()
	if again {
		p.c.ended.Wait()
		return
	}
	p.c.lost(cause)
	p.c.ep.tasks.Done()
}

// Pause makes the client stop reading: what is sent to it waits in its queue.
func (p *Pipe) Pause() {
	p.c.out.mu.Lock()
	defer p.c.out.mu.Unlock()
	p.paused = true
}

// Resume makes the client read again.
func (p *Pipe) Resume() {
	p.c.out.mu.Lock()
	p.paused = false
	p.c.out.mu.Unlock()
	for {
		entries := p.c.take(nil, 1<<20)
		if len(entries) == 0 {
			return
		}
		for i := range entries {
			p.give(entries[i])
		}
		p.c.taken(entries)
	}
}

func (p *Pipe) give(e entry) {
	f := PipeFrame{Data: e.data[e.head:], Binary: e.op == opBinary}
	if e.op == opClose {
		f = PipeFrame{Close: true, Code: int(f.Data[0])<<8 | int(f.Data[1]), Reason: string(f.Data[2:])}
	}
	p.receive(f)
}

// pipeEnd is the transport of a Pipe.
type pipeEnd struct {
	*Pipe
	addr string
}

func (p *pipeEnd) name() string       { return "memory" }
func (p *pipeEnd) remoteAddr() string { return p.addr }
func (p *pipeEnd) gathers() bool      { return false }
func (p *pipeEnd) hold(bool)          {}

func (p *pipeEnd) tryWrite(e entry) (int, error) {
	if p.paused {
		return 0, nil
	}
	p.give(e)
	return len(e.data), nil
}

func (p *pipeEnd) wake() {}

// settle implements transport: what was sent is in the inboxes.
func (p *pipeEnd) settle(_, _ time.Duration) {}

// end implements transport: the client's side ends by itself.
func (p *pipeEnd) end(bool) {
	if p.done {
		return
	}
	p.done = true
	p.c.ep.start(func() {
		p.c.lost(ErrConnectionLost)
		p.c.ep.tasks.Done()
	})
}
