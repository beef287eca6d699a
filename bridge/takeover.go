package bridge

import (
	"errors"
	"io"
	"net"
	"time"

	"devicehub/bridge/broker"
	"devicehub/bridge/packet"
	"devicehub/hub/intake"
)

// A newer connection of the same client takes over. It may come before the reader
// of the older one has got to the bytes that are in its socket already, and those
// may end with a DISCONNECT. So the newcomer waits for them, and only then is
// judged whether there was anything to take over.

const (
	// How long a newcomer waits for what the connection that it replaces has received:
	// if that is held up, and if it is not, but the machine is too busy.
	settlePatience = 100 * time.Millisecond
	settleMost     = 2 * time.Second

	// How long a client that was replaced may take to notice, and how many are
	// watched for it at once. Further ones are closed like any other.
	noticeTime = 10 * time.Second
	maxNoticed = 1024
)

// source reads from a connection whose reader can be asked for what it has taken.
func source(nc net.Conn) (packet.Source, *intake.Intake) {
	if ws, ok := nc.(*wsConn); ok {
		if below, ok := ws.NetConn().(*intake.Conn); ok {
			return packet.NewSource(nc), below.Intake
		}
		in := intake.New(nc) // an upgrade of somebody else's connection, which cannot be asked
		in.Close()
		return packet.NewSource(nc), in
	}
	in := intake.New(nc)
	return &asked{packet.NewSource(nc), in}, in
}

// asked is a Source that an intake watches.
type asked struct {
	packet.Source
	in *intake.Intake
}

func (s *asked) Fill(room packet.Room) (int, error) {
	for {
		s.in.Aim()
		n, err := s.Source.Fill(room)
		if n == 0 && err != nil && s.in.Again(err) {
			continue
		}
		s.in.Took(n)
		return n, err
	}
}

// Settle is the Link's: it waits until what the client sent is handled, as far as it
// has arrived, and reports whether the connection is over.
func (c *conn) Settle(patience, most time.Duration) (over bool) {
	c.intake.Settle(nil, patience, most)
	select {
	case <-c.parted:
		return true
	default:
		return false
	}
}

// part says goodbye to the peer of a connection that has ended.
func (c *conn) part(p peer) {
	p.gone()
	close(c.parted)
	c.intake.Close()
}

// seeOff says that nothing more will be written, and reads on until the client closes
// or its time is up: longer where it was replaced, as its answer tells that it was
// still there.
func (c *conn) seeOff(replaced bool) {
	ws, overWS := c.nc.(*wsConn)
	if overWS && replaced {
		ws.code = closeReplaced
	}
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	defer c.srv.notice(c, replaced)()
	var answered, sure bool
	if overWS {
		answered = ws.answered()
		sure = answered
	} else {
		answered = c.closesInOrder()
	}
	if replaced && answered {
		c.onAnswer(sure)
	}
}

// closesInOrder reads until the client closes, and reports whether it did, without
// having said goodbye before it could know that it was told to go.
func (c *conn) closesInOrder() bool {
	goodbye := false
	for n := 0; n < lingerBytes; {
		head, body, err := c.rd.Next()
		var broken *packet.Error
		switch {
		case err == nil:
			n += 2 + len(body)
			goodbye = goodbye || packet.Type(head) == packet.Disconnect
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return !goodbye
		case errors.As(err, &broken):
			_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)
			return false
		default:
			return false
		}
	}
	return false
}

// notice gives a connection that is seen off its time. The function that it returns
// says that this is over.
func (s *Server) notice(c *conn, replaced bool) (seen func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !replaced || s.draining || s.noticing >= maxNoticed {
		_ = c.intake.SetReadDeadline(time.Now().Add(lingerTime))
		return func() {}
	}
	s.noticing++
	_ = c.intake.SetReadDeadline(time.Now().Add(noticeTime))
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.noticing--
	}
}

// goodbye ends a connection because the hub goes, or gives it no more time if it has
// ended.
func (c *conn) goodbye() {
	if c.isOver() {
		_ = c.intake.SetReadDeadline(time.Now().Add(lingerTime))
		return
	}
	c.end(ending{reason: "server_drain", code: packet.ShuttingDown})
}

// clientKey names the connection of a client of a service account.
type clientKey struct {
	owner broker.Owner
	id    string
}

// settleOlder has the connection whose place a newcomer takes finish what it has
// received.
func (s *Server) settleOlder(k clientKey) {
	s.mu.Lock()
	old := s.clients[k]
	s.mu.Unlock()
	if old != nil {
		old.Settle(settlePatience, settleMost)
	}
}

// enter notes the connection that a client has from now on.
func (s *Server) enter(c *service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.services == nil {
		s.services, s.clients = map[*service]struct{}{}, map[clientKey]*service{}
	}
	s.services[c] = struct{}{}
	s.clients[c.key] = c
}

// quit forgets it.
func (s *Server) quit(c *service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.services, c)
	if s.clients[c.key] == c {
		delete(s.clients, c.key)
	}
}
