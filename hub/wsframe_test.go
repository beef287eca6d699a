package hub

import (
	"bytes"
	"testing"
)

// However a stream of frames is cut, the same messages come out, or the same error; and a frame
// never claims more than there is.
func FuzzFrameReader(f *testing.F) {
	f.Add([]byte("\x81\x82\x00\x00\x00\x00[]\x01\x81\x01\x02\x03\x04a\x89\x80\x00\x00\x00\x00\x80\x81\x01\x02\x03\x04b"), uint8(3))
	f.Add([]byte("\x82\xfe\x00\x05\x00\x00\x00\x00hello"), uint8(1))
	f.Add([]byte("\x88\x82\x00\x00\x00\x00\x03\xe8"), uint8(7))
	f.Add([]byte("\xc1\x85\x00\x00\x00\x00\xf2\x48\xcd\xc9\xc9"), uint8(2))
	type message struct {
		op   byte
		body string
	}
	read := func(stream []byte, step int) (got []message, failed bool) {
		r := frameReader{max: 200, maxMessage: 300, deflate: true}
		var buf []byte
		for len(stream) > 0 {
			n := min(step, len(stream))
			buf = append(buf, stream[:n]...)
			stream = stream[n:]
			for {
				used, m, err := r.next(buf)
				if err != nil {
					return got, true
				}
				if used == 0 {
					if r.need <= len(buf) {
						panic("needs no more and takes nothing")
					}
					break
				}
				if m.op != 0 {
					got = append(got, message{m.op, string(m.body)})
				}
				buf = buf[used:]
			}
		}
		return got, false
	}
	f.Fuzz(func(t *testing.T, stream []byte, step uint8) {
		whole, failedWhole := read(bytes.Clone(stream), len(stream)+1)
		cut, failedCut := read(bytes.Clone(stream), int(step)+1)
		if failedWhole != failedCut || len(whole) != len(cut) {
			t.Fatalf("got %v %v, want %v %v", cut, failedCut, whole, failedWhole)
		}
		for i := range whole {
			if whole[i] != cut[i] {
				t.Fatalf("message %d: got %q, want %q", i, cut[i], whole[i])
			}
		}
	})
}
