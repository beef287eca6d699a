// Package ingestlog is the one write-ahead log that every accepted reading goes
// through. It knows frames, segments and disks, and nothing of readings.
//
// A segment file is named for the position at which it begins, 16 hexadecimal
// digits and ".log":
//
//	header   "dhlog" 0 | version u16 | base u64 | salt u64 | created ms u64 | crc32c of those u32 | 0 u32   (40 bytes)
//	frames   length u32 | crc32c u32 | type u8 | synced uvarint | body | zeros up to a multiple of 8
//	         length counts type to body; 0 is the end of what was written (segments are allocated ahead)
//
// Integers are little-endian. The checksum (Castagnoli) runs over salt, position
// of the frame, type, synced and body, so that a frame is valid in its place
// alone and nobody outside can forge one. A position counts the bytes of all
// segments without their headers, from 0.
//
// synced is the position up to which everything was known to be on the disk
// when the frame was written. It tells a torn tail, which nobody was promised,
// from damage: a bad frame is damage when a valid one behind it was written
// after the bad one's place had been synced.
package ingestlog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// Version of the format. A reader refuses a greater one.
const Version = 1

const (
	headerLen = 40
	frameLen  = 8
	// MaxFrame bounds type, synced and body of a frame.
	MaxFrame = 16 << 20
	// DefaultSegment is how large a segment grows.
	DefaultSegment = 64 << 20
	suffix         = ".log"
	badSuffix      = ".log.bad"
)

// Errors of a log that does not take any more. Full ends when there is room
// again, the others with the process, or later.
var (
	ErrFull    = errors.New("the disk is full")
	ErrFailed  = errors.New("the disk failed")
	ErrCorrupt = errors.New("the log is damaged")
	// ErrGone is a position before the first segment kept.
	ErrGone = errors.New("the position is no longer in the log")
)

var (
	magic      = [6]byte{'d', 'h', 'l', 'o', 'g', 0}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// header is the head of a segment.
type header struct {
	base, salt, created uint64
}

func (h header) encode() []byte {
	b := make([]byte, headerLen)
	copy(b, magic[:])
	binary.LittleEndian.PutUint16(b[6:], Version)
	binary.LittleEndian.PutUint64(b[8:], h.base)
	binary.LittleEndian.PutUint64(b[16:], h.salt)
	binary.LittleEndian.PutUint64(b[24:], h.created)
	binary.LittleEndian.PutUint32(b[32:], crc32.Checksum(b[:32], castagnoli))
	return b
}

var (
	errHeader  = errors.New("no header of a log segment")
	errVersion = errors.New("written by a newer version")
)

func decodeHeader(b []byte) (h header, err error) {
	if len(b) < headerLen || [6]byte(b[:6]) != magic || binary.LittleEndian.Uint32(b[32:]) != crc32.Checksum(b[:32], castagnoli) {
		return h, errHeader
	}
	if binary.LittleEndian.Uint16(b[6:]) > Version {
		return h, errVersion
	}
	h.base = binary.LittleEndian.Uint64(b[8:])
	h.salt = binary.LittleEndian.Uint64(b[16:])
	h.created = binary.LittleEndian.Uint64(b[24:])
	return h, nil
}

// sum is the checksum of a frame.
func (h header) sum(pos uint64, content []byte) uint32 {
	var seed [16]byte
	binary.LittleEndian.PutUint64(seed[:], h.salt)
	binary.LittleEndian.PutUint64(seed[8:], pos)
	return crc32.Update(crc32.Checksum(seed[:], castagnoli), castagnoli, content)
}

// Frame is one frame as read. Body is valid until the next is read.
type Frame struct {
	Type byte
	Body []byte
	Pos  uint64 // of the frame
	Next uint64 // behind it
}

// frameState is what stands at a place in a segment.
type frameState int

const (
	frameGood frameState = iota
	frameEnd             // nothing was written here
	frameBad
)

// frameAt reads the frame at offset off of a segment's content behind the
// header.
func (h header) frameAt(b []byte, off int) (f Frame, synced uint64, size int, st frameState) {
	if len(b)-off < frameLen {
		for _, c := range b[off:] {
			if c != 0 {
				return f, 0, 0, frameBad
			}
		}
		return f, 0, 0, frameEnd
	}
	n := int(binary.LittleEndian.Uint32(b[off:]))
	if n == 0 {
		if binary.LittleEndian.Uint32(b[off+4:]) != 0 {
			return f, 0, 0, frameBad
		}
		return f, 0, 0, frameEnd
	}
	if n < 2 || n > MaxFrame || n > len(b)-off-frameLen {
		return f, 0, 0, frameBad
	}
	content := b[off+frameLen : off+frameLen+n]
	pos := h.base + uint64(off)
	if binary.LittleEndian.Uint32(b[off+4:]) != h.sum(pos, content) {
		return f, 0, 0, frameBad
	}
	synced, k := binary.Uvarint(content[1:])
	if k <= 0 {
		return f, 0, 0, frameBad
	}
	size = frameLen + (n+7)&^7
	return Frame{Type: content[0], Body: content[1+k:], Pos: pos, Next: pos + uint64(size)}, synced, size, frameGood
}
