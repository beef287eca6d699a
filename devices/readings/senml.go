package readings

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"devicehub/devices"
)

// senmlRecord is one record of a pack (RFC 8428 §4): its fields as they stand,
// base fields included.
type senmlRecord struct {
	bn, bu, n, u  *string
	bt, bv, t, ut *float64
	v             *float64
	vs            *string
	vb            *bool
	sum, data     bool
	bad           string // a field of the wrong type
}

// senmlVersion is the version that this reader knows (RFC 8428 §4.4).
const senmlVersion = 10

// senmlAbsolute is the least time that is absolute; smaller ones count from
// now (RFC 8428 §4.5.3).
const senmlAbsolute = 1 << 28

// ParseSenML reads a SenML pack (RFC 8428), JSON or CBOR, sent by dev at now.
// A record's name is the metric or urn:dev:hub:<dev>:<metric>; a record with
// another device's name, no metric's name, or no single value is refused alone
// when it is judged. A pack that is no list of records, whose version is newer
// than 10, or that has an unknown field ending in "_" is returned as an invalid
// error. "ut" is taken as the metric's expected interval.
func ParseSenML(b []byte, isCBOR bool, dev devices.ID, now time.Time) (Batch, error) {
	if err := withoutMark(b, "payload"); err != nil {
		return Batch{}, err
	}
	p := senmlPack{dev: dev, now: now.UnixMilli()}
	var err error
	if isCBOR {
		err = p.readCBOR(b)
	} else {
		err = p.readJSON(b)
	}
	if err != nil {
		return Batch{}, err
	}
	if len(p.batch.items) == 0 {
		return Batch{}, devices.Invalid("payload", "a list of one or more SenML records")
	}
	return p.batch, nil
}

// senmlPack resolves records, one after the other, against the base fields.
type senmlPack struct {
	dev    devices.ID
	now    int64
	bn, bu string
	bt, bv float64
	batch  Batch
}

func (p *senmlPack) add(r *senmlRecord) {
	if r.bn != nil {
		p.bn = *r.bn
	}
	if r.bu != nil {
		p.bu = *r.bu
	}
	if r.bt != nil {
		p.bt = *r.bt
	}
	if r.bv != nil {
		p.bv = *r.bv
	}
	var it item
	it.err = p.resolve(r, &it)
	p.batch.items = append(p.batch.items, it)
}

func (p *senmlPack) resolve(r *senmlRecord, it *item) *devices.Error {
	if r.bad != "" {
		return devices.Invalid(r.bad, senmlType(r.bad))
	}
	name := p.bn
	if r.n != nil {
		name += *r.n
	}
	if urn, ok := strings.CutPrefix(name, "urn:dev:hub:"); ok {
		id, metric, ok := strings.Cut(urn, ":")
		if !ok {
			return devices.Invalid("n", "urn:dev:hub:<id>:<metric> or a metric")
		}
		if id != string(p.dev) {
			return devices.Refuse(devices.CodeForbidden, "the record names another device").With("field", "n")
		}
		name = metric
	}
	if !devices.ValidMetricName(name) {
		return devices.Invalid("n", "urn:dev:hub:<id>:<metric> or a metric")
	}
	it.metric = name
	it.unit = p.bu
	if r.u != nil {
		it.unit = *r.u
	}
	if len(it.unit) > maxUnit || !goodName(it.unit) {
		return devices.Invalid("u", wantUnit)
	}
	if err := p.time(r, it); err != nil {
		return err
	}
	return p.value(r, it)
}

func (p *senmlPack) time(r *senmlRecord, it *item) *devices.Error {
	at := p.bt
	if r.t != nil {
		at += *r.t
	}
	if r.ut != nil {
		if !(*r.ut > 0 && *r.ut <= 31*24*3600) {
			return devices.Invalid("ut", "seconds, more than 0 and at most a month")
		}
		it.interval = max(1, int64(*r.ut*1000))
	}
	if at == 0 {
		return nil // now: the hub's stamp
	}
	ms := math.Round(at * 1000)
	if at < senmlAbsolute {
		ms += float64(p.now)
	}
	if !(ms >= 0 && ms <= maxTime) {
		return devices.Invalid("t", "seconds since 1970, or from now on below 2^28: a time between 1970 and 10000")
	}
	it.t, it.timed = int64(ms), true
	return nil
}

func (p *senmlPack) value(r *senmlRecord, it *item) *devices.Error {
	values := 0
	if r.v != nil {
		values++
		it.typ, it.f = kindFloat, *r.v+p.bv
		if it.f == 0 {
			it.f = 0 // −0 is stored as 0
		}
		if math.IsNaN(it.f) || math.IsInf(it.f, 0) {
			return devices.Invalid("v", "a finite number")
		}
	}
	if r.vb != nil {
		values++
		it.typ, it.f = kindBool, 0
		if *r.vb {
			it.f = 1
		}
	}
	if r.vs != nil {
		values++
		it.typ, it.text = kindString, *r.vs
	}
	if values != 1 || r.data {
		return devices.Invalid("v", "one of v, vs and vb (data values and sums alone are not kept)")
	}
	return nil
}

func (p *senmlPack) readJSON(b []byte) error {
	s := scanner{b: b}
	if !s.take('[') {
		return devices.Invalid("payload", "a list of SenML records")
	}
	if s.take(']') {
		return nil
	}
	for {
		var r senmlRecord
		if err := s.object(func(name []byte) error { return s.senmlField(&r, string(name)) }); err != nil {
			return err
		}
		p.add(&r)
		if !s.take(',') {
			break
		}
	}
	if !s.take(']') {
		return s.malformed()
	}
	if !s.end() {
		return errBehind
	}
	return nil
}

func (s *scanner) senmlField(r *senmlRecord, name string) error {
	from := s.i
	var ok bool
	switch name {
	case "bn":
		ok = s.textInto(&r.bn)
	case "bu":
		ok = s.textInto(&r.bu)
	case "n":
		ok = s.textInto(&r.n)
	case "u":
		ok = s.textInto(&r.u)
	case "vs":
		ok = s.textInto(&r.vs)
	case "bt":
		ok = s.floatInto(&r.bt)
	case "bv":
		ok = s.floatInto(&r.bv)
	case "t":
		ok = s.floatInto(&r.t)
	case "ut":
		ok = s.floatInto(&r.ut)
	case "v":
		ok = s.floatInto(&r.v)
	case "s", "bs":
		var f *float64
		ok = s.floatInto(&f)
		r.sum = r.sum || name == "s"
	case "vd":
		r.data = true
		_, ok = s.str()
	case "vb":
		word := s.peek() == 't'
		r.vb = &word
		ok = s.literal("true") || s.literal("false")
	case "bver":
		n, isInt := s.integer()
		if !isInt || n < 1 || n > senmlVersion {
			return devices.Invalid("bver", "a version up to 10")
		}
		return nil
	default:
		if strings.HasSuffix(name, "_") {
			return unknownField([]byte(name), wantSenML)
		}
		return s.skip(0)
	}
	if ok {
		return nil
	}
	r.bad = name
	s.i = from
	return s.skip(0)
}

// senmlType is what a field is to be (RFC 8428 §12.2, table 1).
func senmlType(field string) string {
	switch field {
	case "bn", "bu", "n", "u", "vs":
		return "a text of UTF-8"
	case "vb":
		return "true or false"
	case "vd":
		return "data in base64"
	}
	return "a finite number"
}

// wantSenML is said of a field that must be understood (RFC 8428 §4.4).
const wantSenML = "a SenML field whose name ends in _ must be understood, and this one is not"

func (s *scanner) textInto(p **string) bool {
	text, ok := s.str()
	if ok {
		v := string(text)
		*p = &v
	}
	return ok
}

func (s *scanner) floatInto(p **float64) bool {
	text, ok := s.number()
	if !ok {
		return false
	}
	f, ok := parseFloat(text)
	*p = &f
	return ok
}

// cborMode bounds what a stranger's bytes may make the decoder hold.
var cborMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: maxDepth, MaxArrayElements: 65536, MaxMapPairs: 64,
		UTF8: cbor.UTF8RejectInvalid, IndefLength: cbor.IndefLengthAllowed,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// cborLabels are the integer labels of RFC 8428, table 4.
var cborLabels = map[int64]string{-1: "bver", -2: "bn", -3: "bt", -4: "bu", -5: "bv", -6: "bs", 0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb", 5: "s", 6: "t", 7: "ut", 8: "vd"}

func (p *senmlPack) readCBOR(b []byte) error {
	var pack []map[any]cbor.RawMessage
	if err := cborMode.Unmarshal(b, &pack); err != nil {
		var twice *cbor.DupMapKeyError
		if errors.As(err, &twice) {
			return devices.RepeatedField(fmt.Sprint(twice.Key))
		}
		return devices.Invalid("payload", "a list of SenML records in CBOR, texts in UTF-8")
	}
	for _, rec := range pack {
		var r senmlRecord
		for k, raw := range rec {
			v, err := cborValue(raw)
			if err != nil {
				return err
			}
			name, known := cborName(k)
			if !known {
				if strings.HasSuffix(name, "_") {
					return unknownField([]byte(name), wantSenML)
				}
				continue
			}
			if name == "bver" {
				if f, ok := cborFloat(v); !ok || f < 1 || f > senmlVersion {
					return devices.Invalid("bver", "a version up to 10")
				}
				continue
			}
			if !r.setCBOR(name, v) {
				r.bad = name
			}
		}
		p.add(&r)
	}
	return nil
}

// cborValue decodes one value. A float of 16 or 32 bits is the shortest decimal
// that it stands for: 21.4, and not 21.399999618530273.
func cborValue(raw cbor.RawMessage) (v any, err error) {
	if err := cborMode.Unmarshal(raw, &v); err != nil {
		var twice *cbor.DupMapKeyError
		if errors.As(err, &twice) {
			return nil, devices.RepeatedField(fmt.Sprint(twice.Key))
		}
		return nil, devices.Invalid("payload", "CBOR of at most 16 levels, texts in UTF-8")
	}
	if f, ok := v.(float64); ok && (raw[0] == cborFloat16 || raw[0] == cborFloat32) {
		if short, err := strconv.ParseFloat(strconv.FormatFloat(f, 'g', -1, 32), 64); err == nil {
			return short, nil
		}
	}
	return v, nil
}

// The heads of short floats (RFC 8949 §3.3).
const (
	cborFloat16 = 0xf9
	cborFloat32 = 0xfa
)

// cborName is the name of a label; a text label stands for itself.
func cborName(k any) (name string, known bool) {
	switch k := k.(type) {
	case uint64:
		name, known = cborLabels[int64(min(k, 1<<62))]
	case int64:
		name, known = cborLabels[k]
	case string:
		return k, false
	}
	return name, known
}

func (r *senmlRecord) setCBOR(name string, v any) bool {
	text, isText := v.(string)
	f, isFloat := cborFloat(v)
	switch name {
	case "bn":
		r.bn = &text
		return isText
	case "bu":
		r.bu = &text
		return isText
	case "n":
		r.n = &text
		return isText
	case "u":
		r.u = &text
		return isText
	case "vs":
		r.vs = &text
		return isText
	case "bt":
		r.bt = &f
	case "bv":
		r.bv = &f
	case "t":
		r.t = &f
	case "ut":
		r.ut = &f
	case "v":
		r.v = &f
	case "s", "bs":
		r.sum = r.sum || name == "s"
	case "vb":
		b, isBool := v.(bool)
		r.vb = &b
		return isBool
	case "vd":
		r.data = true
		_, isBytes := v.([]byte)
		return isBytes
	}
	return isFloat
}

// cborFloat reads an integer, a float or a decimal fraction (RFC 8949 §3.4.4).
func cborFloat(v any) (float64, bool) {
	switch v := v.(type) {
	case uint64:
		return float64(v), true
	case int64:
		return float64(v), true
	case float64:
		return v, true
	case big.Int: // a bignum (RFC 8949 §3.4.3)
		f, _ := new(big.Float).SetInt(&v).Float64()
		return f, !math.IsInf(f, 0)
	case cbor.Tag:
		parts, ok := v.Content.([]any)
		if v.Number != 4 || !ok || len(parts) != 2 {
			return 0, false
		}
		exp, ok1 := cborFloat(parts[0])
		mant, ok2 := cborFloat(parts[1])
		if !ok1 || !ok2 || math.Abs(exp) > 308 {
			return 0, false
		}
		if exp < 0 && -exp < float64(len(pow10)) {
			return mant / pow10[int(-exp)], true
		}
		return mant * math.Pow(10, exp), true
	}
	return 0, false
}
