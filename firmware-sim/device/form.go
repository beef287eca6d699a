package device

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
)

// A Kind is a way to write readings down.
type Kind uint8

// The kinds. Bare is for MQTT alone.
const (
	Object Kind = iota // {"m":…,"v":…}, one reading
	Batch              // {"r":[[…],…]}
	SenML              // RFC 8428 in JSON
	CBOR               // RFC 8428 in CBOR
	Bare               // the value alone, on a topic that ends in the metric
)

// single reports whether a push of the kind is one reading.
func (k Kind) single() bool { return k == Object || k == Bare }

// numbers reports whether the kind has a place for a boot and a number.
func (k Kind) numbers() bool { return k == Object || k == Batch }

// A Delivery is a quality of service of MQTT (3.1.1 and 5, §4.3).
type Delivery uint8

// The deliveries. What is sent at most once is never acknowledged.
const (
	AtLeastOnce Delivery = iota
	AtMostOnce
	ExactlyOnce
)

func (q Delivery) qos() byte { return [...]byte{1, 0, 2}[q] }

// A Form is how a push of readings is written, and over MQTT how it is delivered.
type Form struct {
	Kind     Kind
	Untimed  bool // without times: the hub puts its own
	Plain    bool // without boot and number
	Delivery Delivery
}

// numbered reports whether readings of the form have a number.
func (f Form) numbered() bool { return !f.Plain && f.Kind.numbers() }

// Once reports whether a hub can tell a push that comes again: by the readings' numbers, or by
// their times. Of others it stores as many as come.
func (f Form) Once() bool { return f.numbered() || !f.Untimed }

// A Style is how a device writes its readings. What is weighed is drawn anew for each push. The
// zero Style numbers and times every reading, writes an object or a batch, whichever fits, and
// sends it with QoS 1.
type Style struct {
	Kinds   [Bare + 1]float64        // by Kind, weights
	QoS     [ExactlyOnce + 1]float64 // by Delivery, weights
	Untimed bool
	Plain   bool
}

// fits takes out what a device cannot write that sends so many readings at once: bare values have
// no time, and neither have they a place outside MQTT. What is left may be nothing; then it is as
// in the zero Style.
func (s *Style) fits(mqtt bool, batch int) {
	if !mqtt {
		s.QoS = [ExactlyOnce + 1]float64{}
	}
	if !mqtt || !s.Untimed {
		s.Kinds[Bare] = 0
	}
	if many := s.Kinds[Batch] + s.Kinds[SenML] + s.Kinds[CBOR]; batch > 1 && many > 0 {
		s.Kinds[Object], s.Kinds[Bare] = 0, 0
	}
	if slices.Max(s.Kinds[:]) <= 0 {
		s.Kinds[Object] = 1
		if batch > 1 {
			s.Kinds = [Bare + 1]float64{Batch: 1}
		}
	}
	if slices.Max(s.QoS[:]) <= 0 {
		s.QoS[AtLeastOnce] = 1
	}
}

// draw is the form of the next push; backlog says that it waits for a connection, and goes with
// others then.
func (s *Style) draw(r *rand.Rand, backlog bool) Form {
	f := Form{
		Kind:     Kind(draw(r, s.Kinds[:])),
		Delivery: Delivery(draw(r, s.QoS[:])),
		Untimed:  s.Untimed,
		Plain:    s.Plain,
	}
	if backlog && f.Kind.single() && s.Kinds[Batch] > 0 {
		f.Kind = Batch
	}
	f.Plain = !f.numbered()
	return f
}

// draw picks an index by weight. One weight alone draws nothing from r.
func draw(r *rand.Rand, weights []float64) int {
	sum, last := 0.0, 0
	for i, w := range weights {
		if w > 0 {
			sum, last = sum+w, i
		}
	}
	if sum == weights[last] {
		return last
	}
	x := r.Float64() * sum
	for i, w := range weights {
		if x -= w; x < 0 {
			return i
		}
	}
	return last
}

// encode writes a push of readings that share a form.
func encode(id string, f Form, rs []Reading) []byte {
	switch f.Kind {
	case Bare:
		if s, ok := rs[0].Value.(string); ok {
			return []byte(s)
		}
		return appendValue(nil, rs[0].Value)
	case Batch:
		return encodeBatch(f, rs)
	case SenML:
		return encodeSenML(id, f, rs)
	case CBOR:
		return encodeCBOR(id, f, rs)
	}
	return encodeObject(f, rs[0])
}

func encodeObject(f Form, r Reading) []byte {
	b := append([]byte(`{"m":`), jsonString(r.Metric)...)
	b = append(b, `,"v":`...)
	b = appendValue(b, r.Value)
	if !f.Untimed {
		b = append(b, `,"t":`...)
		b = strconv.AppendInt(b, r.T, 10)
	}
	if f.numbered() {
		b = append(b, `,"s":`...)
		b = strconv.AppendUint(b, r.Seq, 10)
	}
	if r.Unit != "" {
		b = append(b, `,"u":`...)
		b = append(b, jsonString(r.Unit)...)
	}
	if f.numbered() {
		b = append(b, `,"boot":"`...)
		b = append(append(b, r.Boot...), '"')
	}
	return append(b, '}')
}

func encodeBatch(f Form, rs []Reading) []byte {
	b := []byte{'{'}
	if f.numbered() {
		b = append(b, `"boot":"`...)
		b = append(b, rs[0].Boot...)
		b = append(b, `","s0":`...)
		b = strconv.AppendUint(b, rs[0].Seq, 10)
		b = append(b, ',')
	}
	if !f.Untimed {
		b = append(b, `"t0":`...)
		b = strconv.AppendInt(b, rs[0].T, 10)
		b = append(b, ',')
	}
	units := map[string]string{}
	for _, r := range rs {
		if r.Unit != "" {
			units[r.Metric] = r.Unit
		}
	}
	if len(units) > 0 {
		u, _ := json.Marshal(units) // strings always marshal
		b = append(append(b, `"u":`...), u...)
		b = append(b, ',')
	}
	b = append(b, `"r":[`...)
	for i, r := range rs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, '['), jsonString(r.Metric)...)
		b = appendValue(append(b, ','), r.Value)
		if !f.Untimed {
			b = strconv.AppendInt(append(b, ','), r.T-rs[0].T, 10)
		}
		b = append(b, ']')
	}
	return append(b, `]}`...)
}

func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case float64:
		return strconv.AppendFloat(b, v, 'g', -1, 64)
	case bool:
		return strconv.AppendBool(b, v)
	case string:
		return append(b, jsonString(v)...)
	}
	return append(b, "null"...)
}
