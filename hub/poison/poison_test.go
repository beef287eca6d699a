package poison

import (
	"bytes"
	"sync"
	"testing"
)

// kept stands for the buffer of another library.
type kept struct{ buf []byte }

func TestBytes(t *testing.T) {
	b := []byte("0123456789")
	Bytes(b[2:5])
	want := []byte("0123456789")
	if On {
		want = append([]byte("01"), bytes.Repeat([]byte{Byte}, 8)...)
	}
	if !bytes.Equal(b, want) {
		t.Errorf("got %q, want %q", b, want)
	}
}

func TestFill(t *testing.T) {
	s := []string{"a", "b", "c"}
	Fill(s[:1], Text)
	if got := s[2] == Text; got != On {
		t.Errorf("got %q, poisoned %t", s, On)
	}
}

func TestWatch(t *testing.T) {
	p := Watch(new(sync.Pool))
	k := kept{[]byte("secret")}
	p.Put(k)
	if got := k.buf[0] == Byte; got != On {
		t.Errorf("got %q, poisoned %t", k.buf, On)
	}
	if x, ok := p.Get().(kept); ok && len(x.buf) != 6 { // a pool may forget
		t.Errorf("got %v", x)
	}
}
