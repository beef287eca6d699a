package device

import (
	"encoding/binary"
	"math"
	"strconv"
)

// A SenML pack names the device in its first record and gives the time of its first reading there;
// what follows is relative to both (RFC 8428 §4.1, §4.5.3). Packs have no boot and no numbers.

// senmlAbsolute is where times begin that are not relative to the moment of arrival (RFC 8428
// §4.5.3).
const senmlAbsolute = 1 << 28 // seconds

// timeless reports whether a pack has no times: a clock that was never set has none that a pack
// could give.
func timeless(f Form, rs []Reading) bool { return f.Untimed || rs[0].T/1000 < senmlAbsolute }

// baseName is what metrics are appended to. A metric alone is a name for the hub, too; packs of one
// reading say so.
func baseName(id string, rs []Reading) string {
	if len(rs) == 1 {
		return ""
	}
	return "urn:dev:hub:" + id + ":"
}

func encodeSenML(id string, f Form, rs []Reading) []byte {
	b := []byte{'['}
	f.Untimed = timeless(f, rs)
	for i, r := range rs {
		b = append(b, '{')
		if i == 0 {
			if bn := baseName(id, rs); bn != "" {
				b = append(append(b, `"bn":`...), jsonString(bn)...)
				b = append(b, ',')
			}
			if !f.Untimed {
				b = appendSeconds(append(b, `"bt":`...), r.T)
				b = append(b, ',')
			}
		} else if dt := r.T - rs[0].T; !f.Untimed && dt != 0 {
			b = appendSeconds(append(b, `"t":`...), dt)
			b = append(b, ',')
		}
		b = append(append(b, `"n":`...), jsonString(r.Metric)...)
		if r.Unit != "" {
			b = append(append(b, `,"u":`...), jsonString(r.Unit)...)
		}
		switch r.Value.(type) {
		case bool:
			b = append(b, `,"vb":`...)
		case string:
			b = append(b, `,"vs":`...)
		default:
			b = append(b, `,"v":`...)
		}
		b = append(appendValue(b, r.Value), '}', ',')
	}
	b[len(b)-1] = ']'
	return b
}

// appendSeconds writes milliseconds as seconds.
func appendSeconds(b []byte, ms int64) []byte {
	return strconv.AppendFloat(b, float64(ms)/1000, 'f', -1, 64)
}

// The labels of RFC 8428, table 4, that are used.
const (
	labelBaseName = -2
	labelBaseTime = -3
	labelName     = 0
	labelUnit     = 1
	labelValue    = 2
	labelString   = 3
	labelBool     = 4
	labelTime     = 6
)

func encodeCBOR(id string, f Form, rs []Reading) []byte {
	b := cborHead(nil, 4, uint64(len(rs))) // RFC 8949 §3.1, an array
	f.Untimed = timeless(f, rs)
	for i, r := range rs {
		bn, bt, dt, pairs := "", false, int64(0), uint64(2)
		if i == 0 {
			bn, bt = baseName(id, rs), !f.Untimed
		} else if !f.Untimed {
			dt = r.T - rs[0].T
		}
		for _, there := range []bool{bn != "", bt, dt != 0, r.Unit != ""} {
			if there {
				pairs++
			}
		}
		b = cborHead(b, 5, pairs) // a map
		if bn != "" {
			b = cborText(cborInt(b, labelBaseName), bn)
		}
		if bt {
			b = cborFloat(cborInt(b, labelBaseTime), float64(r.T)/1000)
		}
		b = cborText(cborInt(b, labelName), r.Metric)
		if r.Unit != "" {
			b = cborText(cborInt(b, labelUnit), r.Unit)
		}
		if dt != 0 {
			b = cborFloat(cborInt(b, labelTime), float64(dt)/1000)
		}
		switch v := r.Value.(type) {
		case bool:
			b = cborInt(b, labelBool)
			if v {
				b = append(b, 0xf5)
			} else {
				b = append(b, 0xf4)
			}
		case string:
			b = cborText(cborInt(b, labelString), v)
		case float64:
			b = cborFloat(cborInt(b, labelValue), v)
		default:
			b = append(cborInt(b, labelValue), 0xf6)
		}
	}
	return b
}

// cborHead writes a major type with its argument (RFC 8949 §3).
func cborHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func cborInt(b []byte, n int) []byte {
	if n < 0 {
		return cborHead(b, 1, uint64(-1-n))
	}
	return cborHead(b, 0, uint64(n))
}

func cborText(b []byte, s string) []byte { return append(cborHead(b, 3, uint64(len(s))), s...) }

// cborFloat writes a number: whole ones as integers, as small devices do, others in double
// precision.
func cborFloat(b []byte, v float64) []byte {
	if v == math.Trunc(v) && math.Abs(v) < 1<<31 {
		return cborInt(b, int(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xfb), math.Float64bits(v))
}
