package tsdb

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const blockBytes = int(unsafe.Sizeof(headBlock{}))

// newBlock maps a block of zeros. A block holds no pointers, which is what
// allows it to be outside the heap.
func newBlock() *headBlock {
	b, err := unix.Mmap(-1, 0, blockBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return new(headBlock) // and freeBlock fails, which leaves it to the collector
	}
	return (*headBlock)(unsafe.Pointer(unsafe.SliceData(b)))
}

// freeBlock unmaps a block that nobody uses any more.
func freeBlock(b *headBlock) {
	// Munmap knows only what Mmap has given: another block is refused.
	_ = unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(b)), blockBytes))
}
