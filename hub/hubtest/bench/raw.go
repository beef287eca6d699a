package main

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
)

// The raw server is the limit: it accepts, reads a request and writes an answer of a given size,
// with nothing between it and the socket. A request is 9 bytes: 'r', the answer's size, and
// the size of what follows, which is read and thrown away; or 'b', the size of a message, and
// how many of it every connection gets; or 'p', which is answered with one byte.

func serveRaw(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var all []net.Conn
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		mu.Lock()
		all = append(all, c)
		mu.Unlock()
		go func() {
			serveRawConn(c, func(size, n int) {
				mu.Lock()
				conns := all
				mu.Unlock()
				data := make([]byte, size)
				for range n {
					for _, c := range conns {
						c.Write(data)
					}
				}
			})
		}()
	}
}

func serveRawConn(c net.Conn, broadcast func(size, n int)) {
	defer c.Close()
	head := make([]byte, 9)
	var body, answer []byte
	for {
		// The whole request in one read, as the hub has it.
		if len(body) == 0 {
			if _, err := io.ReadFull(c, head); err != nil {
				return
			}
		} else {
			if _, err := io.ReadFull(c, body); err != nil {
				return
			}
			copy(head, body)
		}
		size, n := int(binary.BigEndian.Uint32(head[1:])), int(binary.BigEndian.Uint32(head[5:]))
		switch head[0] {
		case 'b':
			broadcast(size, n)
			continue
		case 'p':
			if _, err := c.Write(head[:1]); err != nil {
				return
			}
			continue
		}
		if len(body) == 0 {
			body, answer = make([]byte, 9+n), make([]byte, size)
			if _, err := io.ReadFull(c, body[9:]); err != nil {
				return
			}
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// rawRequest is a request of n bytes that is answered with size bytes.
func rawRequest(kind byte, size, n int) []byte {
	b := make([]byte, 9)
	b[0] = kind
	binary.BigEndian.PutUint32(b[1:], uint32(size))
	binary.BigEndian.PutUint32(b[5:], uint32(n))
	if kind == 'r' {
		b = append(b, make([]byte, n)...)
	}
	return b
}
