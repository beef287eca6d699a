//go:build !poison

package poison

import "sync"

// On tells builds with the tag from others.
const On = false

// Bytes overwrites b to the end of its memory.
func Bytes([]byte) {}

// Fill sets what b has memory for to v.
func Fill[T any](b []T, v T) {}

// Watch returns p, with buffers that are overwritten when they are put back.
func Watch(p *sync.Pool) Pool { return p }
