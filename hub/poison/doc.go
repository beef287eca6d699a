// Package poison overwrites memory that is given back to be used again, in
// builds with the tag poison, as the race run of the tests is. Who still reads
// what was given back then reads a pattern, every time and not only when
// somebody else has written there meanwhile. Without the tag nothing is done,
// and nothing costs anything.
package poison

import "sync"

// Byte is the pattern. It stands in no UTF-8 text, in no name and in no JSON.
const Byte = 0xFB

// Text is what the strings in a value that is given back become.
const Text = "\xFB\xFBgiven back\xFB\xFB"

// Pool is a pool of buffers of another library, such as the write buffers of a
// WebSocket.
type Pool interface {
	Get() any
	Put(any)
}

var _ Pool = (*sync.Pool)(nil)
