//go:build unix

package packet

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// NewSource reads from a network connection. From TCP it reads only when there
// is something, so that an idle connection holds no buffer.
func NewSource(c net.Conn) Source {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return PlainSource{c}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return PlainSource{c}
	}
	s := &rawSource{raw: raw}
	s.try = s.read
	return s
}

type rawSource struct {
	raw  syscall.RawConn
	try  func(fd uintptr) bool
	room Room
	n    int
	err  error
}

// Fill waits until the connection can be read, without a buffer.
func (s *rawSource) Fill(room Room) (int, error) {
	s.room = room
	if err := s.raw.Read(s.try); err != nil {
		return 0, err
	}
	return s.n, s.err
}

// read is asked before each wait: the poller is edge-triggered, so only a read
// that found nothing may wait.
func (s *rawSource) read(fd uintptr) bool {
	for {
		n, err := syscall.Read(int(fd), s.room.Take())
		s.n, s.err = n, nil
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			s.room.Waits()
			return false
		case err != nil:
			s.n, s.err = 0, &net.OpError{Op: "read", Net: "tcp", Err: err}
		case n == 0:
			s.err = io.EOF
		}
		return true
	}
}
