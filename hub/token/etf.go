package token

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// An Atom is an Erlang atom other than nil, true and false.
type Atom string

// A Tuple is an Erlang tuple.
type Tuple []any

// Tags of the external term format (erts "External Term Format").
const (
	etfVersion     = 131
	tagNewFloat    = 70
	tagSmallInt    = 97
	tagInt         = 98
	tagFloatText   = 99
	tagAtomLatin1  = 100
	tagSmallTuple  = 104
	tagLargeTuple  = 105
	tagNil         = 106
	tagString      = 107
	tagList        = 108
	tagBinary      = 109
	tagSmallBig    = 110
	tagLargeBig    = 111
	tagSmallAtom   = 115
	tagMap         = 116
	tagAtomUTF8    = 118
	tagSmallAtomU8 = 119

	maxDepth   = 64
	maxAtom    = 255     // characters
	maxBigSize = 1 << 12 // bytes of one integer
)

var errShort = errors.New("external term: too short")

// Unmarshal reads one term of Erlang's external term format, version byte included. It becomes:
//
//	integer int64 or *big.Int · float float64 · binary string · list []any · tuple Tuple · map map[any]any ·
//	nil, true, false nil and bool · other atoms Atom
//
// Functions, pids, ports, references, bit strings, improper lists, compressed terms and maps whose keys are not scalars
// are refused, as are terms nested more than 64 deep. Atoms are strings here and are never interned.
func Unmarshal(b []byte) (any, error) {
	if len(b) == 0 || b[0] != etfVersion {
		return nil, errors.New("external term: no version byte 131")
	}
	d := decoder{b: b[1:]}
	v, err := d.term(0)
	if err == nil && len(d.b) > 0 {
		err = fmt.Errorf("external term: %d bytes left over", len(d.b))
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

type decoder struct{ b []byte }

func (d *decoder) take(n int) ([]byte, error) {
	if n < 0 || n > len(d.b) {
		return nil, errShort
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out, nil
}

// size reads an unsigned big-endian number of n bytes.
func (d *decoder) size(n int) (int, error) {
	b, err := d.take(n)
	if err != nil {
		return 0, err
	}
	v := 0
	for _, c := range b {
		v = v<<8 | int(c)
	}
	return v, nil
}

// sized reads a length of n bytes and then as many bytes.
func (d *decoder) sized(n int) ([]byte, error) {
	l, err := d.size(n)
	if err != nil {
		return nil, err
	}
	return d.take(l)
}

func (d *decoder) term(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("external term: nested too deep")
	}
	tag, err := d.size(1)
	if err != nil {
		return nil, err
	}
	switch tag {
	case tagSmallInt:
		n, err := d.size(1)
		return int64(n), err
	case tagInt:
		b, err := d.take(4)
		if err != nil {
			return nil, err
		}
		return int64(int32(binary.BigEndian.Uint32(b))), nil
	case tagSmallBig:
		return d.big(1)
	case tagLargeBig:
		return d.big(4)
	case tagNewFloat:
		b, err := d.take(8)
		if err != nil {
			return nil, err
		}
		return finite(math.Float64frombits(binary.BigEndian.Uint64(b)))
	case tagFloatText:
		b, err := d.take(31)
		if err != nil {
			return nil, err
		}
		f, err := strconv.ParseFloat(strings.TrimRight(string(b), "\x00"), 64)
		if err != nil {
			return nil, errors.New("external term: malformed float")
		}
		return finite(f)
	case tagBinary:
		b, err := d.sized(4)
		return string(b), err
	case tagAtomLatin1, tagAtomUTF8:
		return d.atom(2, tag == tagAtomUTF8)
	case tagSmallAtom, tagSmallAtomU8:
		return d.atom(1, tag == tagSmallAtomU8)
	case tagNil:
		return []any{}, nil
	case tagString:
		b, err := d.sized(2)
		if err != nil {
			return nil, err
		}
		out := make([]any, len(b))
		for i, c := range b {
			out[i] = int64(c)
		}
		return out, nil
	case tagList:
		return d.list(depth)
	case tagSmallTuple:
		return d.tuple(1, depth)
	case tagLargeTuple:
		return d.tuple(4, depth)
	case tagMap:
		return d.mapping(depth)
	}
	return nil, fmt.Errorf("external term: tag %d is not allowed", tag)
}

func finite(f float64) (any, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, errors.New("external term: float is not finite")
	}
	return f, nil
}

func (d *decoder) big(n int) (any, error) {
	l, err := d.size(n)
	if err != nil {
		return nil, err
	}
	if l > maxBigSize {
		return nil, errors.New("external term: integer too large")
	}
	sign, err := d.size(1)
	if err != nil {
		return nil, err
	}
	le, err := d.take(l)
	if err != nil {
		return nil, err
	}
	be := make([]byte, l)
	for i, c := range le {
		be[l-1-i] = c
	}
	v := new(big.Int).SetBytes(be)
	if sign != 0 {
		v.Neg(v)
	}
	if v.IsInt64() {
		return v.Int64(), nil
	}
	return v, nil
}

func (d *decoder) atom(n int, utf bool) (any, error) {
	b, err := d.sized(n)
	if err != nil {
		return nil, err
	}
	s := string(b)
	if !utf {
		r := make([]rune, len(b))
		for i, c := range b {
			r[i] = rune(c)
		}
		s = string(r)
	} else if !utf8.ValidString(s) {
		return nil, errors.New("external term: atom is not UTF-8")
	}
	if utf8.RuneCountInString(s) > maxAtom {
		return nil, errors.New("external term: atom too long")
	}
	switch s {
	case "nil":
		return nil, nil
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return Atom(s), nil
}

func (d *decoder) terms(n, depth int) ([]any, error) {
	if n < 0 || n > len(d.b) { // every term has at least one byte
		return nil, errShort
	}
	out := make([]any, n)
	for i := range out {
		v, err := d.term(depth + 1)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

func (d *decoder) list(depth int) (any, error) {
	n, err := d.size(4)
	if err != nil {
		return nil, err
	}
	out, err := d.terms(n, depth)
	if err != nil {
		return nil, err
	}
	tail, err := d.size(1)
	if err == nil && tail != tagNil {
		err = errors.New("external term: improper list")
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (d *decoder) tuple(n, depth int) (any, error) {
	l, err := d.size(n)
	if err != nil {
		return nil, err
	}
	out, err := d.terms(l, depth)
	if err != nil {
		return nil, err
	}
	return Tuple(out), nil
}

func (d *decoder) mapping(depth int) (any, error) {
	n, err := d.size(4)
	if err != nil {
		return nil, err
	}
	if n > len(d.b)/2 {
		return nil, errShort
	}
	out := make(map[any]any, n)
	for range n {
		k, err := d.term(depth + 1)
		if err != nil {
			return nil, err
		}
		switch k.(type) {
		case nil, bool, int64, float64, string, Atom:
		default:
			return nil, errors.New("external term: map key is not a scalar")
		}
		v, err := d.term(depth + 1)
		if err != nil {
			return nil, err
		}
		if _, twice := out[k]; twice {
			return nil, errors.New("external term: map key stands twice")
		}
		out[k] = v
	}
	return out, nil
}
