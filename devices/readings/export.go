package readings

import (
	"bufio"
	"context"
	"io"
	"slices"
	"strconv"
	"strings"

	"devicehub/devices"
)

// The formats of an export.
const (
	CSV    = "csv"
	NDJSON = "ndjson"
	Line   = "line"
)

// ExportQuery asks for every reading that is kept, From ≤ t < To in ms since
// epoch. Metric "" is all of the device's, To 0 is now, Format "" is csv.
type ExportQuery struct {
	Device   devices.ID
	Metric   string
	From, To int64
	Format   string
}

// Export writes readings to w while it reads them: metric after metric, each
// in rising time; misnamed series are left out. Numbers are in the unit that the metric has in a chart, the
// declared one, and are converted as there; readings in a unit that does not
// convert have their own. CSV begins with the header
// device,metric,t,v,quality,unit, NDJSON has the unit as u, and a line has none:
// what is written of one metric is in one unit, but for readings in another that
// does not convert, which carry it as the tag unit. A metric that has no reading
// and that nothing declares is not_found, as in a chart. An error before the
// first byte is a *devices.Error about the question.
func (in *Ingest) Export(ctx context.Context, w io.Writer, q ExportQuery) error {
	if q.Metric != "" && !devices.ValidMetricName(q.Metric) {
		return devices.Invalid("metric", "a metric name")
	}
	points := 1
	if err := in.span(&q.From, &q.To, &points, ""); err != nil {
		return err
	}
	if q.Metric != "" {
		if err := in.knows([]devices.ID{q.Device}, q.Metric); err != nil {
			return err
		}
	}
	var line func([]byte, *exported, *Point) []byte
	out := bufio.NewWriterSize(w, 64<<10)
	switch q.Format {
	case "", CSV:
		line = appendCSV
		if _, err := out.WriteString("device,metric,t,v,quality,unit\n"); err != nil {
			return err
		}
	case NDJSON:
		line = appendNDJSON
	case Line:
		line = appendLine
	default:
		return devices.Invalid("format", "csv, ndjson or line")
	}
	buf := make([]byte, 0, 512)
	for _, x := range in.exported(q.Device, q.Metric) {
		err := in.store.Scan(ctx, x.s, q.From, q.To, func(ps []Point) error {
			for i := range ps {
				buf = line(buf[:0], &x, x.shown(&ps[i]))
				if _, err := out.Write(buf); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	return out.Flush()
}

// exported is a series on its way out.
type exported struct {
	id      devices.ID
	s       *Series
	unit    string // in which its numbers are written
	convert bool   // they are kept in another one
	alien   bool   // the metric is shown in a unit that they do not convert to
	point   Point  // the one that was converted last
}

// shown is a reading as it is written.
func (x *exported) shown(p *Point) *Point {
	if !x.convert {
		return p
	}
	x.point = *p
	x.point.F, _ = devices.ConvertUnit(p.F, x.s.Unit, x.unit)
	return &x.point
}

// exported lists the series of a device by metric.
func (in *Ingest) exported(id devices.ID, name string) []exported {
	rec, ok := in.book.Lookup(id)
	if !ok {
		return nil
	}
	series := slices.DeleteFunc(rec.Series(), func(s *Series) bool { return name != "" && s.Metric != name })
	if n := rec.misnamed(); n > 0 && name == "" {
		in.leftOut.Do(func() {
			in.cfg.Logger.Warn("series are left out of exports: no device can have sent their names, see `devicehub readings check`", "device", id, "series", n)
		})
	}
	slices.SortFunc(series, func(a, b *Series) int {
		if c := strings.Compare(a.Metric, b.Metric); c != 0 {
			return c
		}
		return int(a.ID) - int(b.ID)
	})
	list := make([]exported, 0, len(series))
	var p picked
	for i, s := range series {
		if i == 0 || s.Metric != series[i-1].Metric {
			p = in.pick(id, s.Metric)
		}
		x := exported{id: id, s: s, unit: s.Unit}
		switch {
		case s.Type != devices.TypeFloat || s.Unit == p.unit:
		case p.typ == devices.TypeFloat && s.shownAs(p.typ, p.unit):
			x.unit, x.convert = p.unit, s.Unit != ""
		default:
			x.alien = p.typ == devices.TypeFloat
		}
		list = append(list, x)
	}
	return list
}

func appendCSV(b []byte, x *exported, p *Point) []byte {
	b = append(b, x.id...)
	b = append(b, ',')
	b = append(b, x.s.Metric...)
	b = append(b, ',')
	b = strconv.AppendInt(b, p.T, 10)
	b = append(b, ',')
	switch x.s.Type {
	case devices.TypeFloat:
		b = appendFloat(b, p.F)
	case devices.TypeBool:
		b = strconv.AppendBool(b, p.F != 0)
	default:
		b = appendCell(b, p.S)
	}
	b = append(b, ',')
	b = append(b, strings.Join(p.Q.Names(), " ")...)
	b = append(b, ',')
	b = appendCell(b, x.unit)
	return append(b, '\n')
}

// appendCell writes a text cell. One that a spreadsheet would take for a
// formula begins with an apostrophe, in quotes (OWASP: CSV injection).
func appendCell(b []byte, s string) []byte {
	formula := s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0]))
	if !formula && !strings.ContainsAny(s, ",\"\r\n") && strings.TrimSpace(s) == s {
		return append(b, s...)
	}
	b = append(b, '"')
	if formula {
		b = append(b, '\'')
	}
	b = append(b, strings.ReplaceAll(s, `"`, `""`)...)
	return append(b, '"')
}

func appendNDJSON(b []byte, x *exported, p *Point) []byte {
	b = append(b, `{"device":"`...)
	b = append(b, x.id...)
	b = append(b, `","metric":"`...)
	b = append(b, x.s.Metric...)
	b = append(b, `","t":`...)
	b = strconv.AppendInt(b, p.T, 10)
	b = append(b, `,"v":`...)
	b = Value{x.s.Type, p.F, p.S}.AppendJSON(b)
	b = append(b, `,"u":`...)
	b = appendString(b, x.unit)
	b = append(b, `,"q":`...)
	b = p.Q.appendJSON(b)
	return append(b, '}', '\n')
}

func appendLine(b []byte, x *exported, p *Point) []byte {
	unit := ""
	if x.alien {
		unit = x.unit
	}
	return append(appendPoint(b, x.id, x.s.Metric, unit, Value{x.s.Type, p.F, p.S}, p.T), '\n')
}

// AppendLine appends a reading in InfluxDB's line protocol, without the end of
// the line: measurement and tag metric are the metric, tag device the id, field
// v a float, b a bool or s a string, the time in ms.
func AppendLine(b []byte, id devices.ID, metric string, v Value, t int64) []byte {
	return appendPoint(b, id, metric, "", v, t)
}

func appendPoint(b []byte, id devices.ID, metric, unit string, v Value, t int64) []byte {
	b = append(b, metric...)
	b = append(b, ",device="...)
	b = append(b, id...)
	b = append(b, ",metric="...)
	b = append(b, metric...)
	if unit != "" {
		b = append(b, ",unit="...)
		b = append(b, tagEscapes.Replace(unit)...)
	}
	switch v.Type {
	case devices.TypeFloat:
		b = append(b, " v="...)
		b = strconv.AppendFloat(b, v.F, 'g', -1, 64)
	case devices.TypeBool:
		b = append(b, " b="...)
		b = strconv.AppendBool(b, v.F != 0)
	default:
		b = append(b, ` s="`...)
		for i := 0; i < len(v.S); i++ {
			if c := v.S[i]; c == '"' || c == '\\' {
				b = append(b, '\\')
			}
			b = append(b, v.S[i])
		}
		b = append(b, '"')
	}
	b = append(b, ' ')
	return strconv.AppendInt(b, t, 10)
}

// tagEscapes are the characters that end a tag.
var tagEscapes = strings.NewReplacer(",", `\,`, "=", `\=`, " ", `\ `)
