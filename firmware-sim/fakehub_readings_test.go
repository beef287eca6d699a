package sim_test

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"devicehub/hub"
)

// fakeReading is one as it came.
type fakeReading struct {
	metric, unit string
	v            json.RawMessage
	t            int64 // 0: none
	s            uint64
}

// units as other makers' tables have them: value × scale + offset is in the hub's.
var fakeUnits = map[string][2]float64{
	"":    {1, 0},
	"°F":  {1 / 1.8, -32 / 1.8},
	"K":   {1, -273.15},
	"Cel": {1, 0},
	"%RH": {1, 0},
	"Pa":  {.01, 0},
	"kPa": {10, 0},
	"mbar": {
		1,
		0,
	},
	"kW":   {1e3, 0},
	"Wh":   {1e-3, 0},
	"mV":   {1e-3, 0},
	"mA":   {1e-3, 0},
	"km/h": {1 / 3.6, 0},
	"lux":  {1, 0},
}

// parseReadings reads a push: of "reading" and "readings" JSON, of "senml" either.
func parseReadings(event string, b []byte) (out []fakeReading, boot string, ok bool) {
	if event == "senml" {
		out, ok = parseSenML(b)
		return out, "", ok
	}
	var in struct {
		M    string              `json:"m"`
		V    json.RawMessage     `json:"v"`
		T    int64               `json:"t"`
		S    uint64              `json:"s"`
		U    json.RawMessage     `json:"u"`
		Boot string              `json:"boot"`
		S0   uint64              `json:"s0"`
		T0   int64               `json:"t0"`
		R    [][]json.RawMessage `json:"r"`
	}
	if json.Unmarshal(b, &in) != nil {
		return nil, "", false
	}
	if in.R == nil {
		r := fakeReading{metric: in.M, v: in.V, t: in.T, s: in.S}
		json.Unmarshal(in.U, &r.unit)
		return []fakeReading{r}, in.Boot, true
	}
	units := map[string]string{}
	json.Unmarshal(in.U, &units)
	for i, e := range in.R {
		r := fakeReading{v: e[1], t: in.T0}
		json.Unmarshal(e[0], &r.metric)
		if len(e) > 2 {
			dt, _ := strconv.ParseInt(string(e[2]), 10, 64)
			r.t += dt
		}
		if r.unit = units[r.metric]; in.S0 > 0 {
			r.s = in.S0 + uint64(i)
		}
		out = append(out, r)
	}
	return out, in.Boot, true
}

func parseSenML(b []byte) (out []fakeReading, ok bool) {
	var pack []map[string]any
	if len(b) > 0 && b[0] == '[' {
		ok = json.Unmarshal(b, &pack) == nil
	} else {
		var packed []map[int64]any
		ok = cbor.Unmarshal(b, &packed) == nil
		for _, rec := range packed {
			named := map[string]any{}
			for k, name := range map[int64]string{-2: "bn", -3: "bt", 0: "n", 1: "u", 2: "v", 3: "vs", 4: "vb", 6: "t"} {
				if v, there := rec[k]; there {
					named[name] = v
				}
			}
			pack = append(pack, named)
		}
	}
	float := func(v any) float64 {
		b, _ := json.Marshal(v)
		f, _ := strconv.ParseFloat(string(b), 64)
		return f
	}
	bn, bt := "", 0.0
	for _, rec := range pack {
		if v, is := rec["bn"].(string); is {
			bn = v
		}
		if v, there := rec["bt"]; there {
			bt = float(v)
		}
		name, _ := rec["n"].(string)
		r := fakeReading{t: int64(math.Round((bt + float(rec["t"])) * 1000))}
		r.metric = (bn + name)[strings.LastIndexByte(bn+name, ':')+1:]
		r.unit, _ = rec["u"].(string)
		for _, k := range []string{"v", "vs", "vb"} {
			if v, there := rec[k]; there {
				r.v, _ = json.Marshal(v)
			}
		}
		out = append(out, r)
	}
	return out, ok
}

// valid reports whether a reading is one of a metric that the tests know.
func (r *fakeReading) valid() bool {
	switch {
	case len(r.v) == 0:
		return false
	case slices.Contains([]string{"temperature", "humidity", "energy", "wind_direction", "uptime", "power", "co2"}, r.metric):
		var f float64
		if _, known := fakeUnits[r.unit]; !known || json.Unmarshal(r.v, &f) != nil || math.IsInf(f, 0) {
			return false
		}
		if u := fakeUnits[r.unit]; u != fakeUnits[""] {
			r.v, _ = json.Marshal(f*u[0] + u[1])
		}
		return true
	}
	return r.metric == "motion" || r.metric == "mode"
}

// take decides a push of readings, and answers as the hub does; unheard says that nobody will hear
// it. The lock is held.
func (h *fakeHub) take(d *fakeDevice, in []fakeReading, boot string, unheard bool) (reply map[string]any, live []any) {
	dup, accepted := 0, 0
	rejected := []any{}
	for i, r := range in {
		n := h.n + 1
		if !r.valid() || h.lie.refuse != nil && h.lie.refuse(n) {
			h.n = n
			rejected = append(rejected, map[string]any{"i": i, "code": "invalid"})
			continue
		}
		accepted++
		if r.s > 0 && boot != "" {
			key := boot + "/" + strconv.FormatUint(r.s, 10)
			if d.seen[key] {
				dup++
				accepted--
				continue
			}
			d.seen[key] = true
			for d.seen[boot+"/"+strconv.FormatUint(d.ack[boot]+1, 10)] {
				d.ack[boot]++
			}
		}
		h.n = n
		if h.lie.lose != nil && h.lie.lose(n) || h.lie.loseUnheard && unheard {
			continue
		}
		if h.lie.rename != nil && h.lie.rename(n) {
			r.metric = "{\"m\":\"temp"
		}
		if h.lie.alter != nil && h.lie.alter(n) {
			r.v = json.RawMessage("99.5")
		}
		if told := h.store(d, r, n); told != nil {
			live = append(live, told)
		}
	}
	code := "ok"
	if accepted+dup == 0 {
		code = "invalid"
	}
	return map[string]any{
		"code":     code,
		"ack":      d.ack[boot],
		"accepted": accepted,
		"dup":      dup,
		"rejected": rejected,
	}, live
}

// store keeps a reading, and returns it as it is told to people, or nil if it is late. The
// lock is held.
func (h *fakeHub) store(d *fakeDevice, r fakeReading, n int) map[string]any {
	rows := d.stored[r.metric]
	stamped := r.t < 1_420_070_400_000
	if stamped {
		if r.t = time.Now().UnixMilli(); len(rows) > 0 {
			r.t = max(r.t, rows[len(rows)-1].t+1)
		}
	}
	late := len(rows) > 0 && r.t < rows[len(rows)-1].t
	put := func(row fakeRow) {
		i, there := slices.BinarySearchFunc(rows, row.t, func(x fakeRow, t int64) int { return cmp.Compare(x.t, t) })
		if there {
			rows[i] = row
		} else {
			rows = slices.Insert(rows, i, row)
		}
	}
	put(fakeRow{r.t, r.v})
	if last := len(rows) - 1; h.lie.swap && stamped && last > 0 && n%10 == 0 {
		rows[last].v, rows[last-1].v = rows[last-1].v, rows[last].v
	}
	if h.lie.twice != nil && h.lie.twice(n) {
		put(fakeRow{r.t + 1, r.v})
	}
	d.stored[r.metric] = rows
	if late {
		return nil
	}
	if h.lie.backwards {
		r.t -= int64(n) * 1000
	}
	return map[string]any{"m": r.metric, "v": r.v, "t": r.t}
}

func (h *fakeHub) series(w http.ResponseWriter, r *http.Request, d *fakeDevice) {
	metric := r.FormValue("metric")
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(r.FormValue(name), 10, 64)
		return n
	}
	from, to := number("from"), number("to")
	step := max(1, (to-from)/number("points"))
	by := map[int64][]float64{}
	delta := map[int64]float64{}
	high := math.NaN()
	for _, row := range d.stored[metric] {
		var f float64
		if json.Unmarshal(row.v, &f) != nil && string(row.v) == "true" {
			f = 1
		}
		in := row.t >= from && row.t < to
		b := row.t - row.t%step
		if in {
			by[b] = append(by[b], f)
		}
		if h.lie.shortSum && !in {
			continue
		}
		switch { // a small fall is none
		case math.IsNaN(high):
		case f < 0.9*high:
			delta[b] += map[bool]float64{true: f}[in]
		case f < high:
			continue
		default:
			delta[b] += map[bool]float64{true: f - high}[in]
		}
		high = f
	}
	buckets := []map[string]any{}
	for _, t := range slices.Sorted(maps.Keys(by)) {
		vs, sum, x, y := by[t], 0.0, 0.0, 0.0
		for _, v := range vs {
			sum += v
			sin, cos := math.Sincos(v * math.Pi / 180)
			x, y = x+cos, y+sin
		}
		b := map[string]any{
			"t":     t,
			"count": len(vs),
			"mean":  sum / float64(len(vs)),
			"min":   slices.Min(vs),
			"max":   slices.Max(vs),
			"delta": delta[t],
		}
		if metric == "wind_direction" && !h.lie.straight {
			b["mean"] = math.Mod(math.Atan2(y, x)*180/math.Pi+360, 360)
		}
		buckets = append(buckets, b)
	}
	if h.lie.miscount && len(buckets) > 0 {
		buckets[len(buckets)/2]["count"] = buckets[len(buckets)/2]["count"].(int) - 1
	}
	answer(w, 200, map[string]any{"step_ms": step, "buckets": buckets})
}

// fakeChannel is a device's topic, or a person's view of it.
type fakeChannel struct {
	h      *fakeHub
	kind   string
	d      *fakeDevice
	person bool
	s      *hub.Socket
	link   *fakeLink
}

func (c *fakeChannel) Join(ctx context.Context, s *hub.Socket, p hub.Payload) (hub.Reply, error) {
	time.Sleep(c.h.lied().slowJoin)
	id := strings.TrimPrefix(s.Topic(), c.kind+":")
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.d, c.s = c.h.devices[id], s
	c.person = ctx.Value(fakeKey{}) == ""
	if c.d == nil || !c.person && c.h.lie.deny || !c.person && ctx.Value(fakeKey{}) != id ||
		!slices.Contains(c.d.kinds, c.kind) {
		return hub.Refuse("unauthorized"), nil
	}
	if c.person {
		return hub.OK(map[string]any{}), nil
	}
	var params struct {
		Reported *fakeState `json:"reported"`
	}
	if p.Decode(&params) == nil && params.Reported != nil {
		c.h.report(c.d, *params.Reported)
	}
	if c.d.link == nil || c.d.link.push == nil {
		c.link = &fakeLink{push: func(event string, v any) { s.Push(event, v) }, end: func() {}}
		c.h.open(c.d, c.link)
	} else { // the other topic of the same socket, or a socket that came back before its old one was missed
		c.link = &fakeLink{push: func(event string, v any) { s.Push(event, v) }, end: func() {}}
		c.d.link = c.link
		c.h.resendTo(c.d)
	}
	var through []any
	for boot, n := range c.d.ack {
		through = append(through, map[string]any{"boot": boot, "s": n})
	}
	return hub.OK(map[string]any{"server_time": time.Now().UnixMilli(), "ack_through": through}), nil
}

func (c *fakeChannel) HandleIn(_ context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	time.Sleep(c.h.lied().slow + c.h.suffers())
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	switch {
	case c.person && event == "get":
		return hub.OK(map[string]string{"all": strings.Repeat("x", 4096)}), nil
	case c.person:
		return hub.Error(map[string]any{"code": "forbidden"}), nil
	case event != "ack" && event != "state" && c.h.over(c.d):
		return hub.Error(map[string]any{"code": "rate_limited"}), nil
	case strings.HasPrefix(event, "no_such"):
		return hub.Error(map[string]any{"code": "invalid"}), nil
	}
	switch event {
	case "reading", "readings", "senml":
		return c.readings(s, event, p), nil
	case "ack":
		var in struct {
			ID     string `json:"cmd_id"`
			Status string `json:"status"`
		}
		p.Decode(&in)
		c.h.answered(c.d, in.ID, in.Status)
	case "state":
		var st fakeState
		p.Decode(&st)
		c.h.report(c.d, st)
		return hub.OK(map[string]int{"ver": 1}), nil
	}
	return hub.OK(nil), nil
}

func (c *fakeChannel) readings(s *hub.Socket, event string, p hub.Payload) hub.Reply {
	in, boot, ok := parseReadings(event, p.Bytes())
	if !ok {
		return hub.Error(map[string]any{"code": "invalid", "reason": "malformed"})
	}
	if c.h.lie.ignore {
		return hub.Reply{}
	}
	reply, live := c.h.take(c.d, in, boot, false)
	if reply["code"] != "ok" {
		return hub.Error(reply)
	}
	told := map[string]any{"device": c.d.id, "r": live}
	if c.h.lie.leak {
		s.Push("reading", told)
	}
	if wait := c.h.lie.slowFeed; wait > 0 {
		time.AfterFunc(wait, func() { s.BroadcastFrom("reading", told) })
	} else {
		s.BroadcastFrom("reading", told)
	}
	return hub.OK(reply)
}

// Devices get no broadcasts.
func (c *fakeChannel) Intercepts() []string { return []string{"reading"} }

func (c *fakeChannel) HandleOut(_ context.Context, s *hub.Socket, event string, p hub.Payload) error {
	if !c.person {
		return nil
	}
	return s.Push(event, json.RawMessage(p.Bytes()))
}

func (c *fakeChannel) Terminate(*hub.Socket, error) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	if c.d != nil && c.link != nil {
		c.h.closed(c.d, c.link, "client_close")
	}
}
