package readings

import (
	"strconv"
	"strings"

	"devicehub/devices"
)

// Event is the payload of the events "reading" and "backfill": readings of one
// push, as {"device","r":[{"m","v","u","t","q"?}],"server_time"}.
type Event struct {
	Device     devices.ID
	ServerTime int64
	Readings   []Stored // those with a series
	late       bool     // of a whole push, take the late ones, or the others
}

// All calls f for each reading of the event until f returns false.
func (e *Event) All(f func(metric, unit string, v Value, t int64, q Quality) bool) {
	for i := range e.Readings {
		r := &e.Readings[i]
		if r.S == nil || (r.Point.Q&Late != 0) != e.late {
			continue
		}
		if !f(r.S.Metric, r.S.Unit, Value{r.S.Type, r.Point.F, r.Point.S}, r.Point.T, r.Point.Q) {
			return
		}
	}
}

// MarshalJSON writes the event as told above.
func (e *Event) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 64+80*len(e.Readings))
	b = append(b, `{"device":`...)
	b = appendString(b, string(e.Device))
	b = append(b, `,"r":[`...)
	first := true
	e.All(func(metric, unit string, v Value, t int64, q Quality) bool {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, `{"m":"`...)
		b = append(b, metric...)
		b = append(b, `","v":`...)
		b = v.AppendJSON(b)
		b = append(b, `,"u":`...)
		b = appendString(b, unit)
		b = append(b, `,"t":`...)
		b = strconv.AppendInt(b, t, 10)
		if q != 0 {
			b = append(b, `,"q":`...)
			b = q.appendJSON(b)
		}
		b = append(b, '}')
		return true
	})
	b = append(b, `],"server_time":`...)
	b = strconv.AppendInt(b, e.ServerTime, 10)
	return append(b, '}'), nil
}

// publish tells those who watch of what was stored.
func (in *Ingest) publish(j *job) {
	if j.v.stored == 0 {
		return
	}
	kinds := j.src.Device.Kinds
	if j.src.Device.Is(devices.KindSensor) {
		kinds = sensorOnly
	}
	for _, late := range [...]bool{false, true} {
		if late && j.v.result.Late == 0 || !late && j.v.result.Late == j.v.stored {
			continue
		}
		e := &Event{Device: j.src.Device.ID, ServerTime: in.cfg.Now().UnixMilli(), Readings: j.v.entry.Items, late: late}
		name := "reading"
		if late {
			name = "backfill"
		}
		in.cfg.Feed.Publish(devices.Event{Device: e.Device, Kinds: kinds, Name: name, Payload: e, Key: e.key()})
	}
}

var sensorOnly = []devices.Kind{devices.KindSensor}

// key names the event and its metrics: a newer event of the same name and metrics
// may take its place with those who cannot keep up.
func (e *Event) key() string {
	var names []string
	e.All(func(metric, _ string, _ Value, _ int64, _ Quality) bool {
		for _, n := range names {
			if n == metric {
				return true
			}
		}
		names = append(names, metric)
		return true
	})
	kind := "r/"
	if e.late {
		kind = "b/"
	}
	if len(names) == 1 {
		return kind + names[0]
	}
	return kind + strings.Join(names, ",")
}
