package tsdb

import (
	"encoding/binary"
	"errors"
	"math"
)

// errCorrupt is what the decoders of this package return for bytes that no
// encoder of it has written.
var errCorrupt = errors.New("tsdb: damaged value")

// appendInts appends small signed integers: zigzag + 1 as a uvarint each, and
// runs of three zeros or more as a 0 with the length of the run less three.
func appendInts(b []byte, vs []int64) []byte {
	for i := 0; i < len(vs); i++ {
		v := vs[i]
		if v == 0 {
			run := 1
			for i+run < len(vs) && vs[i+run] == 0 {
				run++
			}
			if run >= 3 {
				b = append(b, 0)
				b = binary.AppendUvarint(b, uint64(run-3))
				i += run - 1
				continue
			}
		}
		b = binary.AppendUvarint(b, (uint64(v)<<1^uint64(v>>63))+1)
	}
	return b
}

// readInts reads len(vs) integers and returns the bytes behind them.
func readInts(b []byte, vs []int64) ([]byte, error) {
	for i := 0; i < len(vs); {
		if len(b) == 0 {
			return nil, errCorrupt
		}
		u := uint64(b[0])
		k := 1
		if u >= 0x80 {
			if u, k = binary.Uvarint(b); k <= 0 {
				return nil, errCorrupt
			}
		}
		b = b[k:]
		if u != 0 {
			u--
			vs[i] = int64(u>>1) ^ -int64(u&1)
			i++
			continue
		}
		run, k := binary.Uvarint(b)
		if k <= 0 || run > uint64(len(vs)-i) || int(run)+3 > len(vs)-i {
			return nil, errCorrupt
		}
		b = b[k:]
		clear(vs[i : i+int(run)+3])
		i += int(run) + 3
	}
	return b, nil
}

// maxExp is the greatest power of ten that decimals are scaled by.
const maxExp = 9

var pow10 = [maxExp + 1]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}

// scale returns v·10^e as an integer, if v is that integer divided by 10^e.
func scale(v float64, e int) (int64, bool) {
	s := v * pow10[e]
	if !(s > -(1<<53) && s < 1<<53) {
		return 0, false
	}
	i := int64(math.RoundToEven(s))
	return i, float64(i)/pow10[e] == v
}

// exponent is the least power of ten that makes integers of all values.
func exponent(vs []float64) (e int, ok bool) {
	top := 0.0
	for _, v := range vs {
		top = max(top, math.Abs(v))
		for {
			if _, ok := scale(v, e); ok {
				break
			}
			if e++; e > maxExp {
				return 0, false
			}
		}
	}
	return e, top*pow10[e] < 1<<53
}

// cursor reads uvarints and bytes off a value; err sticks.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) uint() uint64 {
	u, k := binary.Uvarint(c.b)
	if k <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[k:]
	return u
}

func (c *cursor) int() int64 {
	u := c.uint()
	return int64(u>>1) ^ -int64(u&1)
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.fail()
		return 0
	}
	x := c.b[0]
	c.b = c.b[1:]
	return x
}

func (c *cursor) bytes(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.fail()
		return nil
	}
	x := c.b[:n]
	c.b = c.b[n:]
	return x
}

func (c *cursor) str() string { return string(c.bytes(c.uint())) }

func (c *cursor) float() float64 {
	x := c.bytes(8)
	if len(x) < 8 {
		return 0
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(x))
}

func (c *cursor) fail() {
	c.err = errCorrupt
	c.b = nil
}

func appendInt(b []byte, v int64) []byte {
	return binary.AppendUvarint(b, uint64(v)<<1^uint64(v>>63))
}

func appendStr(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendFloat(b []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
}
