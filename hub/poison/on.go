//go:build poison

package poison

import (
	"reflect"
	"sync"
)

// On tells builds with the tag from others.
const On = true

// Bytes overwrites b to the end of its memory.
func Bytes(b []byte) { Fill(b, Byte) }

// Fill sets what b has memory for to v.
func Fill[T any](b []T, v T) {
	b = b[:cap(b)]
	if len(b) == 0 {
		return
	}
	b[0] = v
	for n := 1; n < len(b); n *= 2 { // in runs, which the race detector looks at as one
		copy(b[n:], b[:n])
	}
}

// Watch returns p, with buffers that are overwritten when they are put back.
func Watch(p *sync.Pool) Pool { return watched{p} }

type watched struct{ *sync.Pool }

// Put takes a struct with buffers in it: gorilla's is of a type of its own.
func (w watched) Put(x any) {
	if v := reflect.ValueOf(x); v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Uint8 {
				Bytes(f.Bytes())
			}
		}
	}
	w.Pool.Put(x)
}
