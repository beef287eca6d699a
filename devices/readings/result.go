package readings

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"devicehub/devices"
)

// Result is the reply to a push. Accepted counts what was stored, Late those
// among them that came late; Accepted + Dup + len(Rejected) is what was sent.
type Result struct {
	Ack      int64 // greatest number of the boot up to which all is decided; 0: none
	Accepted int
	Late     int
	Dup      int
	Rejected []Rejection
	Hint     string // what looks wrong with what was taken; "" for nothing
	Boot     string // the boot that Ack is of; not in the reply
}

// Rejection is one reading that was refused for good; I counts from 0.
type Rejection struct {
	I   int
	Err *devices.Error
}

// MarshalJSON writes {"ack"?,"accepted","late","dup","rejected":[{"i","code",
// "reason",…details}],"hint"?}.
func (r Result) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

// AppendJSON appends what MarshalJSON writes.
func (r *Result) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	if r.Ack > 0 {
		b = append(b, `"ack":`...)
		b = strconv.AppendInt(b, r.Ack, 10)
		b = append(b, ',')
	}
	return append(r.appendCounts(b), '}')
}

func (r *Result) appendCounts(b []byte) []byte {
	b = append(b, `"accepted":`...)
	b = strconv.AppendInt(b, int64(r.Accepted), 10)
	b = append(b, `,"late":`...)
	b = strconv.AppendInt(b, int64(r.Late), 10)
	b = append(b, `,"dup":`...)
	b = strconv.AppendInt(b, int64(r.Dup), 10)
	b = append(b, `,"rejected":[`...)
	for i := range r.Rejected {
		if i > 0 {
			b = append(b, ',')
		}
		b = r.Rejected[i].appendJSON(b)
	}
	b = append(b, ']')
	if r.Hint != "" {
		b = append(b, `,"hint":`...)
		b = appendString(b, r.Hint)
	}
	return b
}

func (r *Rejection) appendJSON(b []byte) []byte {
	b = append(b, `{"i":`...)
	b = strconv.AppendInt(b, int64(r.I), 10)
	b = append(b, `,"code":`...)
	b = appendString(b, string(r.Err.Code))
	b = append(b, `,"reason":`...)
	b = appendString(b, r.Err.Reason)
	for _, k := range slices.Sorted(maps.Keys(r.Err.Details)) {
		v, err := json.Marshal(r.Err.Details[k])
		if err != nil {
			continue // only numbers, strings and lists of strings are put there
		}
		b = append(b, ',')
		b = appendString(b, k)
		b = append(b, ':')
		b = append(b, v...)
	}
	return append(b, '}')
}

// Refusal is the reply to a push of which nothing was stored: the error, with
// the counts and rejections of the result beside it.
type Refusal struct {
	Err    *devices.Error
	Result Result
}

// Refusal is the refusal of those readings of a push that were not taken, while
// others may have been; ok is false where none was refused.
func (r *Result) Refusal() (refused Refusal, ok bool) {
	if len(r.Rejected) == 0 {
		return Refusal{}, false
	}
	reason := fmt.Sprintf("%d of %d readings were refused", len(r.Rejected), r.Accepted+r.Dup+len(r.Rejected))
	return Refusal{Err: devices.Refuse(r.Rejected[0].Err.Code, reason), Result: *r}, true
}

// On writes the refusal as devices hear it on sys/down where no reply could carry it:
// {"topic",…what MarshalJSON writes}. At most limit of the rejections are listed, and
// "omitted" says how many more there are. A refusal that is of no readings, or of
// the only one, has no counts.
func (r Refusal) On(topic string, limit int) json.RawMessage {
	omitted := 0
	if r.Result.Accepted+r.Result.Dup == 0 && len(r.Result.Rejected) == 1 {
		r = Refusal{Err: r.Result.Rejected[0].Err}
	}
	if n := len(r.Result.Rejected); n > limit {
		omitted = n - limit
		r.Result.Rejected = r.Result.Rejected[:limit]
	}
	var rest []byte
	if len(r.Result.Rejected)+omitted > 0 {
		rest, _ = r.MarshalJSON() // plain values
	} else {
		rest, _ = r.Err.MarshalJSON()
	}
	b := []byte("{")
	if topic != "" {
		b = append(appendString(append(b, `"topic":`...), topic), ',')
	}
	if omitted > 0 {
		b = append(strconv.AppendInt(append(b, `"omitted":`...), int64(omitted), 10), ',')
	}
	return append(b, rest[1:]...)
}

// MarshalJSON writes {"code","reason","retry_after_ms"?,"details"?,"ack"?,
// "accepted","late","dup","rejected"}.
func (r Refusal) MarshalJSON() ([]byte, error) {
	b, err := r.Err.MarshalJSON()
	if err != nil {
		return nil, err
	}
	b = append(b[:len(b)-1], ',')
	if r.Result.Ack > 0 {
		b = append(b, `"ack":`...)
		b = strconv.AppendInt(b, r.Result.Ack, 10)
		b = append(b, ',')
	}
	return append(r.Result.appendCounts(b), '}'), nil
}
