package edge

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"strings"
	"testing"
)

// v2 is a header with a body, which may be shorter than size says.
func v2(command, family byte, size int, body string) []byte {
	b := append([]byte(signature), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	return append(b, body...)
}

func unhex(s string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return string(b)
}

var (
	tcp4 = unhex("cb007109 c0000201 3039 0fa0") // 203.0.113.9:12345 to 192.0.2.1:4000
	tcp6 = unhex("20010db8000000000000000000000009 20010db8000000000000000000000001 3039 0fa0")
)

// checksummed is a header with the sum of its bytes.
func checksummed(wrong byte) []byte {
	b := v2(0x21, 0x11, len(tcp4)+7, tcp4+unhex("03 0004 00000000"))
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(b[len(b)-4:], sum)
	b[len(b)-1] ^= wrong
	return b
}

func TestReadHeader(t *testing.T) {
	for _, row := range []struct {
		name   string
		in     []byte
		source string // "" keeps the peer, "-" is an error
		secure bool
	}{
		{"IPv4", v2(0x21, 0x11, 12, tcp4), "203.0.113.9:12345", false},
		{"IPv6", v2(0x21, 0x21, 36, tcp6), "[2001:db8::9]:12345", false},
		{"IPv4 in IPv6", v2(0x21, 0x21, 36, unhex("00000000000000000000ffffcb007109 00000000000000000000ffffc0000201 3039 0fa0")), "203.0.113.9:12345", false},
		{"the proxy itself", v2(0x20, 0x00, 0, ""), "", false},
		{"the proxy itself, with addresses", v2(0x20, 0x11, 12, tcp4), "", false},
		{"no address", v2(0x21, 0x00, 0, ""), "", false},
		{"no address, and something", v2(0x21, 0x00, 3, "abc"), "", false},
		{"a Unix socket", v2(0x21, 0x31, 216, strings.Repeat("\x00", 216)), "", false},
		{"by TLS", v2(0x21, 0x11, 20, tcp4+unhex("20 0005 01 00000000")), "203.0.113.9:12345", true},
		{"not by TLS", v2(0x21, 0x11, 20, tcp4+unhex("20 0005 00 00000000")), "203.0.113.9:12345", false},
		{"an unknown vector", v2(0x21, 0x11, 17, tcp4+unhex("ea 0002 0102")), "203.0.113.9:12345", false},
		{"a checksum", checksummed(0), "203.0.113.9:12345", false},
		{"a wrong checksum", checksummed(1), "-", false},
		{"version 1", []byte("PROXY TCP4 203.0.113.9 192.0.2.1 12345 4000\r\n"), "-", false},
		{"version 3", v2(0x31, 0x11, 12, tcp4), "-", false},
		{"an unknown command", v2(0x22, 0x11, 12, tcp4), "-", false},
		{"UDP", v2(0x21, 0x12, 12, tcp4), "-", false},
		{"an unknown family", v2(0x21, 0x41, 12, tcp4), "-", false},
		{"addresses cut off", v2(0x21, 0x11, 11, tcp4[:11]), "-", false},
		{"a vector cut off", v2(0x21, 0x11, 17, tcp4+unhex("20 0005 0100")), "-", false},
		{"too long", v2(0x21, 0x11, headerMax+1, tcp4), "-", false},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: hub\r\n\r\n"), "-", false},
		{"the end of it", v2(0x21, 0x11, 12, tcp4)[:20], "-", false},
	} {
		r := bytes.NewReader(append(bytes.Clone(row.in), "rest"...))
		if row.name == "the end of it" {
			r = bytes.NewReader(row.in)
		}
		h, err := ReadHeader(r)
		switch {
		case row.source == "-":
			if !errors.Is(err, ErrHeader) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: got %+v %v, want an error", row.name, h, err)
			}
			continue
		case err != nil:
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		want := netip.AddrPort{}
		if row.source != "" {
			want = netip.MustParseAddrPort(row.source)
		}
		if h.Source != want || h.Secure != row.secure {
			t.Errorf("%s: got %+v, want %v secure %t", row.name, h, want, row.secure)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "rest" {
			t.Errorf("%s: left %q, want what comes after the header", row.name, rest)
		}
	}
}

// No header makes the hub fail, none is read beyond its end, and what is taken has an address that
// could be the client's.
func FuzzReadHeader(f *testing.F) {
	for _, b := range [][]byte{v2(0x21, 0x11, 12, tcp4), v2(0x21, 0x21, 36, tcp6), v2(0x20, 0, 0, ""), checksummed(0), v2(0x21, 0x11, 20, tcp4+unhex("20 0005 01 00000000"))} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		h, err := ReadHeader(r)
		if err != nil {
			return
		}
		if read := len(b) - r.Len(); read != headerSize+int(binary.BigEndian.Uint16(b[14:])) {
			t.Errorf("%d bytes were read", read)
		}
		if h.Source.IsValid() && b[12] != 0x21 || h.Source.Addr().Is4In6() {
			t.Errorf("got %v of %x", h.Source, b)
		}
	})
}
