package token

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"unicode/utf8"
)

// Marshal writes v in Erlang's external term format. Strings and []byte become binaries, maps have their keys in
// a fixed order (so equal data gives equal bytes), atoms are written in the form that every OTP release reads.
// It takes the types that Unmarshal returns and, besides, every Go integer type, []byte, map[string]any,
// map[string]string and []string.
func Marshal(v any) ([]byte, error) {
	return appendTerm([]byte{etfVersion}, v, 0)
}

func appendTerm(b []byte, v any, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errors.New("external term: nested too deep")
	}
	switch v := v.(type) {
	case nil:
		return appendAtom(b, "nil")
	case bool:
		if v {
			return appendAtom(b, "true")
		}
		return appendAtom(b, "false")
	case Atom:
		return appendAtom(b, string(v))
	case string:
		return appendBinary(b, v)
	case []byte:
		return appendBinary(b, v)
	case int:
		return appendInt(b, int64(v)), nil
	case int8:
		return appendInt(b, int64(v)), nil
	case int16:
		return appendInt(b, int64(v)), nil
	case int32:
		return appendInt(b, int64(v)), nil
	case int64:
		return appendInt(b, v), nil
	case uint:
		return appendBig(b, new(big.Int).SetUint64(uint64(v)))
	case uint8:
		return appendInt(b, int64(v)), nil
	case uint16:
		return appendInt(b, int64(v)), nil
	case uint32:
		return appendInt(b, int64(v)), nil
	case uint64:
		return appendBig(b, new(big.Int).SetUint64(v))
	case *big.Int:
		return appendBig(b, v)
	case float32:
		return appendFloat(b, float64(v))
	case float64:
		return appendFloat(b, v)
	case Tuple:
		if len(v) < 256 {
			b = append(b, tagSmallTuple, byte(len(v)))
		} else {
			b = binary.BigEndian.AppendUint32(append(b, tagLargeTuple), uint32(len(v)))
		}
		return appendTerms(b, v, depth)
	case []any:
		return appendList(b, v, depth)
	case []string:
		return appendList(b, v, depth)
	case map[string]any:
		return appendMap(b, v, depth)
	case map[string]string:
		return appendMap(b, v, depth)
	case map[any]any:
		return appendMap(b, v, depth)
	}
	return nil, fmt.Errorf("external term: no form for %T", v)
}

func appendInt(b []byte, n int64) []byte {
	switch {
	case n >= 0 && n < 256:
		return append(b, tagSmallInt, byte(n))
	case n >= math.MinInt32 && n <= math.MaxInt32:
		return binary.BigEndian.AppendUint32(append(b, tagInt), uint32(int32(n)))
	}
	sign, u := byte(0), uint64(n)
	if n < 0 {
		sign, u = 1, -u
	}
	at := len(b)
	b = append(b, tagSmallBig, 0, sign)
	for ; u > 0; u >>= 8 {
		b = append(b, byte(u))
		b[at+1]++
	}
	return b
}

func appendBig(b []byte, n *big.Int) ([]byte, error) {
	if n.IsInt64() {
		return appendInt(b, n.Int64()), nil
	}
	be := n.Bytes()
	if len(be) > maxBigSize {
		return nil, errors.New("external term: integer too large")
	}
	if len(be) < 256 {
		b = append(b, tagSmallBig, byte(len(be)))
	} else {
		b = binary.BigEndian.AppendUint32(append(b, tagLargeBig), uint32(len(be)))
	}
	if n.Sign() < 0 {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	slices.Reverse(be)
	return append(b, be...), nil
}

func appendFloat(b []byte, f float64) ([]byte, error) {
	if _, err := finite(f); err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint64(append(b, tagNewFloat), math.Float64bits(f)), nil
}

func appendAtom(b []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxAtom {
		return nil, fmt.Errorf("external term: %.40q is not an atom", s)
	}
	latin := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 255 {
			return append(binary.BigEndian.AppendUint16(append(b, tagAtomUTF8), uint16(len(s))), s...), nil
		}
		latin = append(latin, byte(r))
	}
	return append(binary.BigEndian.AppendUint16(append(b, tagAtomLatin1), uint16(len(latin))), latin...), nil
}

func appendBinary[T string | []byte](b []byte, s T) ([]byte, error) {
	if len(s) > math.MaxUint32 {
		return nil, errors.New("external term: binary too large")
	}
	return append(binary.BigEndian.AppendUint32(append(b, tagBinary), uint32(len(s))), s...), nil
}

func appendTerms[T any](b []byte, vs []T, depth int) ([]byte, error) {
	var err error
	for _, v := range vs {
		if b, err = appendTerm(b, v, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendList[T any](b []byte, vs []T, depth int) ([]byte, error) {
	if len(vs) == 0 {
		return append(b, tagNil), nil
	}
	b = binary.BigEndian.AppendUint32(append(b, tagList), uint32(len(vs)))
	b, err := appendTerms(b, vs, depth)
	if err != nil {
		return nil, err
	}
	return append(b, tagNil), nil
}

func appendMap[K comparable, V any](b []byte, m map[K]V, depth int) ([]byte, error) {
	type pair struct {
		key  []byte
		from K
	}
	pairs := make([]pair, 0, len(m))
	for k := range m {
		key, err := appendTerm(nil, k, depth+1)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, pair{key, k})
	}
	// Equal lengths aside this is not Erlang's term order; every decoder takes any order.
	slices.SortFunc(pairs, func(x, y pair) int { return bytes.Compare(sortKey(x.key), sortKey(y.key)) })
	b = binary.BigEndian.AppendUint32(append(b, tagMap), uint32(len(m)))
	for _, p := range pairs {
		var err error
		b = append(b, p.key...)
		if b, err = appendTerm(b, m[p.from], depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// sortKey leaves out the length of a binary, so that binaries sort by their bytes as in Erlang.
func sortKey(key []byte) []byte {
	if key[0] == tagBinary {
		return slices.Concat([]byte{255}, key[5:])
	}
	return key
}
