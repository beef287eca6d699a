package presence

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/hub/poison"
)

// refMaker makes phx_refs: 12 bytes, of which 8 are the time, 2 are this tracker's and 2 count,
// in URL-safe base64.
type refMaker struct {
	own  uint16
	tick atomic.Uint32
}

func (r *refMaker) seed() {
	r.own = uint16(rand.Uint32())
	r.tick.Store(rand.Uint32())
}

func (r *refMaker) next() string {
	var b [12]byte
	binary.BigEndian.PutUint64(b[:], uint64(time.Now().UnixNano()))
	binary.BigEndian.PutUint16(b[8:], r.own)
	binary.BigEndian.PutUint16(b[10:], uint16(r.tick.Add(1)))
	return base64.URLEncoding.EncodeToString(b[:])
}

// encodeMeta returns the JSON text of meta with its refs, which are the tracker's alone to set.
func encodeMeta(meta Meta, ref, prev string) ([]byte, error) {
	_, has := meta["phx_ref"]
	if _, hasPrev := meta["phx_ref_prev"]; has || hasPrev {
		meta = maps.Clone(meta)
		delete(meta, "phx_ref")
		delete(meta, "phx_ref_prev")
	}
	refs := `"phx_ref":"` + ref + `"}`
	if prev != "" {
		refs = `"phx_ref":"` + ref + `","phx_ref_prev":"` + prev + `"}`
	}
	if len(meta) == 0 {
		return []byte("{" + refs), nil
	}
	e := encoders.Get().(*encoder)
	defer e.free()
	text, err := e.encode(meta)
	if err != nil {
		return nil, err
	}
	text[len(text)-1] = ','
	return append(append(make([]byte, 0, len(text)+len(refs)), text...), refs...), nil
}

// encoder is json.Marshal without the escaping for HTML.
type encoder struct {
	buf bytes.Buffer
	enc *json.Encoder
}

var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.enc = json.NewEncoder(&e.buf)
	e.enc.SetEscapeHTML(false)
	return e
}}

func (e *encoder) free() {
	poison.Bytes(e.buf.Bytes())
	encoders.Put(e)
}

// encode returns text that is valid until the encoder is used again.
func (e *encoder) encode(v any) ([]byte, error) {
	e.buf.Reset()
	if err := e.enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(e.buf.Bytes(), []byte("\n")), nil
}

// marshal returns the JSON text of v, in memory of just its size: that of a meta is kept for as
// long as its owner is there.
func marshal(v any) ([]byte, error) {
	e := encoders.Get().(*encoder)
	defer e.free()
	text, err := e.encode(v)
	if err != nil {
		return nil, err
	}
	return append(make([]byte, 0, len(text)), text...), nil
}

// appendString appends the JSON text of s. Most keys stand for themselves.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			text, _ := marshal(s) // a string always encodes
			return append(dst, text...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

func decodeMetas(texts [][]byte) []Meta {
	metas := make([]Meta, 0, len(texts))
	for _, text := range texts {
		var m Meta
		if json.Unmarshal(text, &m) == nil { // the tracker encoded it
			metas = append(metas, m)
		}
	}
	return metas
}

func entries(changes []change) map[string]Entry {
	texts := make(map[string][][]byte)
	for _, c := range changes {
		texts[c.key] = append(texts[c.key], c.meta)
	}
	out := make(map[string]Entry, len(texts))
	for key, metas := range texts {
		out[key] = Entry{Metas: decodeMetas(metas)}
	}
	return out
}

// MarshalJSON implements json.Marshaler: the extra fields stand beside the metas.
func (e Entry) MarshalJSON() ([]byte, error) {
	m := make(map[string]any, len(e.Extra)+1)
	maps.Copy(m, e.Extra)
	m["metas"] = e.Metas
	if e.Metas == nil {
		m["metas"] = []Meta{}
	}
	return marshal(m)
}

func (t *Tracker) fetchedDiff(topic string, joins, leaves []change) ([]byte, error) {
	side := func(changes []change) map[string]Entry {
		if len(changes) == 0 {
			return map[string]Entry{}
		}
		return t.fetch(topic, entries(changes))
	}
	return marshal(struct {
		Joins  map[string]Entry `json:"joins"`
		Leaves map[string]Entry `json:"leaves"`
	}{side(joins), side(leaves)})
}

func (t *Tracker) fetchedState(tp *topic) ([]byte, error) {
	all := make(map[string]Entry, len(tp.groups))
	for _, g := range tp.groups {
		all[g.key] = Entry{Metas: decodeMetas(g.metas())}
	}
	return marshal(t.fetch(tp.name, all))
}
