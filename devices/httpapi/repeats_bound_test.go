package httpapi

import (
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"
)

// What is kept of repeats is bounded in number and in bytes; the oldest go first.
func TestRepeatsAreBounded(t *testing.T) {
	now := time.Now()
	fill := func(n, size int) (rs *repeats, has func(i int) bool) {
		rs = newRepeats()
		key := func(i int) (k [32]byte) { binary.BigEndian.PutUint64(k[:], uint64(i)); return k }
		for i := range n {
			r, mine := rs.claim(key(i), key(i), "user:ana", now)
			if !mine {
				t.Fatal("a fresh key is known")
			}
			rs.decide(r, answer{status: 201, body: json.RawMessage(make([]byte, size))}, true, now)
		}
		return rs, func(i int) bool { return rs.kept[key(i)] != nil }
	}
	rs, has := fill(maxKept+10, 1)
	if len(rs.kept) != maxKept || rs.order.Len() != maxKept || has(9) || !has(10) {
		t.Errorf("got %d kept, the tenth: %v", len(rs.kept), has(9))
	}
	rs, has = fill(10, maxKeptBytes/4)
	if rs.bytes > maxKeptBytes || len(rs.kept) != 3 || has(6) || !has(7) {
		t.Errorf("got %d of %d bytes", len(rs.kept), rs.bytes)
	}
	rs, _ = fill(1, maxKeptBytes)
	if len(rs.kept) != 0 || rs.bytes != 0 {
		t.Errorf("what is larger than all: got %d of %d bytes", len(rs.kept), rs.bytes)
	}
	rs, _ = fill(5, 100)
	rs.forget("user:ana")
	if len(rs.kept) != 0 || rs.bytes != 0 || rs.order.Len() != 0 {
		t.Errorf("forgotten: got %d of %d bytes", len(rs.kept), rs.bytes)
	}
	// A claim that is forgotten while it is under way leaves a later one alone.
	first, _ := rs.claim([32]byte{1}, [32]byte{}, "user:ana", now)
	rs.forget("user:ana")
	second, mine := rs.claim([32]byte{1}, [32]byte{}, "user:ana", now)
	rs.decide(first, answer{}, true, now)
	if !mine || rs.kept[[32]byte{1}] != second || rs.order.Len() != 0 {
		t.Error("the claim of another was touched")
	}
}
