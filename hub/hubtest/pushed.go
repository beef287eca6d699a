package hubtest

import "devicehub/hub"

// Pushed is a message that a client has sent.
type Pushed struct {
	c    *Client
	what string
	ref  string
}

// Reply waits for the reply, whatever its status. It fails the test if there is none.
func (p *Pushed) Reply() (status string, payload hub.Payload) {
	p.c.t.Helper()
	f := p.take()
	if f == nil {
		p.c.t.Fatalf("%s: got no reply, want one", p.what)
	}
	return f.status, f.payload
}

// WantReply waits for the reply. The payload is as in Want.
func (p *Pushed) WantReply(status string, payload any) hub.Payload {
	p.c.t.Helper()
	f := p.take()
	if f == nil {
		p.c.t.Fatalf("%s: got no reply, want %s", p.what, status)
	}
	if f.status != status {
		p.c.t.Fatalf("%s: got reply %s %s, want %s", p.what, f.status, f.payload.Bytes(), status)
	}
	if err := match(payload, f.payload); err != nil {
		p.c.t.Fatalf("%s: reply: %v", p.what, err)
	}
	return f.payload
}

func (p *Pushed) take() (f *frame) {
	p.c.t.Helper()
	p.c.wait(func() bool {
		f = p.c.replies[p.ref]
		delete(p.c.replies, p.ref)
		return f != nil
	})
	return f
}

// WantNoReply fails the test if there is a reply at this time.
func (p *Pushed) WantNoReply() {
	p.c.t.Helper()
	settle(p.c.t)
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if f := p.c.replies[p.ref]; f != nil {
		p.c.t.Fatalf("%s: got reply %s %s, want none", p.what, f.status, f.payload.Bytes())
	}
}
