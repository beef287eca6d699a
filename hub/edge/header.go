package edge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
)

// Header is what a PROXY header of version 2 says of a connection.
// Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, section 2.2.
type Header struct {
	// Source is the client. It is not valid when the proxy speaks for itself, or of a
	// client that has no address: the peer is who is connected then.
	Source netip.AddrPort
	Secure bool // the client came to the proxy by TLS
}

// ErrHeader is the error of what is no PROXY header that is taken here.
var ErrHeader = errors.New("no PROXY header of version 2")

const (
	signature  = "\r\n\r\n\x00\r\nQUIT\n"
	headerSize = len(signature) + 4
	headerMax  = 4096 // bytes after the first 16; proxies add some hundred at most

	tlvCRC = 0x03
	tlvSSL = 0x20
)

// ReadHeader reads a header, and nothing of what comes after it. The error is ErrHeader, or that of r.
func ReadHeader(r io.Reader) (Header, error) {
	b := make([]byte, headerSize, headerSize+216)
	if _, err := io.ReadFull(r, b); err != nil {
		return Header{}, err
	}
	size := int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case string(b[:6]) == "PROXY ":
		return Header{}, fmt.Errorf("%w, but of version 1", ErrHeader)
	case string(b[:len(signature)]) != signature:
		return Header{}, ErrHeader
	case b[12]>>4 != 2:
		return Header{}, fmt.Errorf("%w, but of version %d", ErrHeader, b[12]>>4)
	case size > headerMax:
		return Header{}, fmt.Errorf("%w: %d bytes long", ErrHeader, size)
	}
	b = append(b, make([]byte, size)...)
	if _, err := io.ReadFull(r, b[headerSize:]); err != nil {
		return Header{}, err
	}
	return parseHeader(b)
}

// parseHeader reads a header that is whole.
func parseHeader(b []byte) (h Header, err error) {
	body := b[headerSize:]
	switch command := b[12] & 0xF; command {
	case 0: // LOCAL: the proxy itself, such as a health check; the rest is passed over
		return Header{}, nil
	case 1:
	default:
		return Header{}, fmt.Errorf("%w: command %d", ErrHeader, command)
	}
	var addresses int
	switch family := b[13]; family {
	case 0x00: // UNSPEC: the rest is passed over
		return Header{}, nil
	case 0x11:
		addresses = 2*4 + 4
	case 0x21:
		addresses = 2*16 + 4
	case 0x31: // a Unix socket of the proxy's machine
		addresses = 2 * 108
	default:
		return Header{}, fmt.Errorf("%w: family and protocol 0x%02x", ErrHeader, family)
	}
	if len(body) < addresses {
		return Header{}, fmt.Errorf("%w: its addresses are cut off", ErrHeader)
	}
	if b[13] != 0x31 {
		half := (addresses - 4) / 2
		ip, _ := netip.AddrFromSlice(body[:half])
		h.Source = netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(body[2*half:]))
	}
	return h, h.extend(b, addresses)
}

// extend reads the vectors that may stand after the addresses.
func (h *Header) extend(b []byte, addresses int) error {
	for rest := b[headerSize+addresses:]; len(rest) > 0; {
		if len(rest) < 3 || len(rest)-3 < int(binary.BigEndian.Uint16(rest[1:])) {
			return fmt.Errorf("%w: a vector is cut off", ErrHeader)
		}
		value := rest[3 : 3+binary.BigEndian.Uint16(rest[1:])]
		switch rest[0] {
		case tlvCRC:
			if len(value) != 4 {
				return fmt.Errorf("%w: a checksum of %d bytes", ErrHeader, len(value))
			}
			want := binary.BigEndian.Uint32(value)
			clear(value) // proxy-protocol.txt, section 2.2.3: the sum is of the header with zeros in its place
			if crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) != want {
				return fmt.Errorf("%w: the checksum is wrong", ErrHeader)
			}
			binary.BigEndian.PutUint32(value, want)
		case tlvSSL:
			h.Secure = len(value) > 0 && value[0]&1 != 0
		}
		rest = rest[3+len(value):]
	}
	return nil
}
