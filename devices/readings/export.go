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
// in rising time. Misnamed series are left out. CSV begins with the header device,metric,t,v,quality. An
// error before the first byte is a *devices.Error about the question.
func (in *Ingest) Export(ctx context.Context, w io.Writer, q ExportQuery) error {
	if q.Metric != "" && !devices.ValidMetricName(q.Metric) {
		return devices.Invalid("metric", "a metric name")
	}
	points := 1
	if err := in.span(&q.From, &q.To, &points, ""); err != nil {
		return err
	}
	var line func([]byte, devices.ID, *Series, *Point) []byte
	out := bufio.NewWriterSize(w, 64<<10)
	switch q.Format {
	case "", CSV:
		line = appendCSV
		if _, err := out.WriteString("device,metric,t,v,quality\n"); err != nil {
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
	for _, s := range in.exported(q.Device, q.Metric) {
		err := in.store.Scan(ctx, s, q.From, q.To, func(ps []Point) error {
			for i := range ps {
				buf = line(buf[:0], q.Device, s, &ps[i])
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

// exported lists the series of a device by metric.
func (in *Ingest) exported(id devices.ID, name string) []*Series {
	rec, ok := in.book.Lookup(id)
	if !ok {
		return nil
	}
	list := slices.DeleteFunc(rec.Series(), func(s *Series) bool { return name != "" && s.Metric != name })
	if n := rec.misnamed(); n > 0 && name == "" {
		in.leftOut.Do(func() {
			in.cfg.Logger.Warn("series are left out of exports: no device can have sent their names, see `devicehub readings check`", "device", id, "series", n)
		})
	}
	slices.SortFunc(list, func(a, b *Series) int {
		if c := strings.Compare(a.Metric, b.Metric); c != 0 {
			return c
		}
		return int(a.ID) - int(b.ID)
	})
	return list
}

func appendCSV(b []byte, id devices.ID, s *Series, p *Point) []byte {
	b = append(b, id...)
	b = append(b, ',')
	b = append(b, s.Metric...)
	b = append(b, ',')
	b = strconv.AppendInt(b, p.T, 10)
	b = append(b, ',')
	switch s.Type {
	case devices.TypeFloat:
		b = appendFloat(b, p.F)
	case devices.TypeBool:
		b = strconv.AppendBool(b, p.F != 0)
	default:
		b = appendCell(b, p.S)
	}
	b = append(b, ',')
	b = append(b, strings.Join(p.Q.Names(), " ")...)
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

func appendNDJSON(b []byte, id devices.ID, s *Series, p *Point) []byte {
	b = append(b, `{"device":"`...)
	b = append(b, id...)
	b = append(b, `","metric":"`...)
	b = append(b, s.Metric...)
	b = append(b, `","t":`...)
	b = strconv.AppendInt(b, p.T, 10)
	b = append(b, `,"v":`...)
	b = Value{s.Type, p.F, p.S}.AppendJSON(b)
	b = append(b, `,"q":`...)
	b = p.Q.appendJSON(b)
	return append(b, '}', '\n')
}

func appendLine(b []byte, id devices.ID, s *Series, p *Point) []byte {
	return append(AppendLine(b, id, s.Metric, Value{s.Type, p.F, p.S}, p.T), '\n')
}

// AppendLine appends a reading in InfluxDB's line protocol, without the end of
// the line: measurement and tag metric are the metric, tag device the id, field
// v a float, b a bool or s a string, the time in ms.
func AppendLine(b []byte, id devices.ID, metric string, v Value, t int64) []byte {
	b = append(b, metric...)
	b = append(b, ",device="...)
	b = append(b, id...)
	b = append(b, ",metric="...)
	b = append(b, metric...)
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
