package readings

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"devicehub/devices"
)

// Why a series is one that no device can have sent.
const (
	// WhyName: its name is no metric's name.
	WhyName = "name"
	// WhyUnit: its name is a metric of the catalogue, and neither the catalogue
	// nor the device's record measures that in such a unit, or type. Another
	// metric was stored under its name; or a declaration has changed since.
	WhyUnit = "unit"
)

// Finding is a series that no device can have sent.
type Finding struct {
	Device devices.ID `json:"device"`
	// Name is the series' as it may be shown: of one that is no metric's name
	// the first bytes, escaped, since it may be a piece of a token.
	Name     string            `json:"name"`
	Bytes    int               `json:"bytes"` // of the whole name
	Why      string            `json:"why"`   // WhyName or WhyUnit
	Token    bool              `json:"token"` // the name looks like a piece of a token
	Type     devices.ValueType `json:"type"`
	Unit     string            `json:"unit"`
	Readings int64             `json:"readings"`
	First    int64             `json:"first,omitempty"` // ms since epoch
	Last     int64             `json:"last,omitempty"`

	series *Series
}

// Check lists the series that no device can have sent, by device. They come from
// builds in which a metric's name could be overwritten before it was kept.
func (in *Ingest) Check(ctx context.Context) ([]Finding, error) {
	found := []Finding{}
	for rec := range in.book.All() {
		dev := in.record(rec.ID)
		for _, s := range rec.AllSeries() {
			f, ok := finding(s, dev)
			if !ok {
				continue
			}
			if err := in.measure(ctx, &f); err != nil {
				return nil, err
			}
			found = append(found, f)
		}
	}
	slices.SortFunc(found, func(a, b Finding) int {
		return cmp.Or(strings.Compare(string(a.Device), string(b.Device)), cmp.Compare(a.series.ID, b.series.ID))
	})
	return found, nil
}

// Repair erases what Check finds for its name and, if misfiled is set, for its
// unit. It lists what it has erased, and what it has found and left.
func (in *Ingest) Repair(ctx context.Context, misfiled bool) (erased, left []Finding, err error) {
	found, err := in.Check(ctx)
	if err != nil {
		return nil, nil, err
	}
	erased, left = []Finding{}, []Finding{}
	var list []*Series
	for _, f := range found {
		if f.Why == WhyUnit && !misfiled {
			left = append(left, f)
			continue
		}
		erased, list = append(erased, f), append(list, f.series)
	}
	if len(list) > 0 {
		err = in.wait(ctx, &job{bare: true, drop: list})
	}
	return erased, left, err
}

// finding is what is wrong with a series, if anything.
func finding(s *Series, dev *devices.Device) (f Finding, ok bool) {
	if s.Dropped() {
		return f, false
	}
	f = Finding{Device: s.Rec.ID, Name: s.Metric, Bytes: len(s.Metric), Type: s.Type, Unit: s.Unit, series: s}
	switch {
	case s.Misnamed():
		f.Why, f.Name, f.Token = WhyName, beginning(s.Metric), tokenPiece.MatchString(s.Metric)
	case misfiled(s, dev):
		f.Why = WhyUnit
	default:
		return f, false
	}
	return f, true
}

// shownBytes is how much is shown of a name that may be a piece of a token.
const shownBytes = 4

// beginning is the first bytes of a text that may hold anything, escaped.
func beginning(s string) string {
	head := s[:min(len(s), shownBytes)]
	quoted := strconv.QuoteToASCII(head)
	head = quoted[1 : len(quoted)-1]
	if len(s) > shownBytes {
		head += "…"
	}
	return head
}

// tokenPiece finds what stands in tokens of any form and neither in names nor in
// JSON that devices send: a run of base64url with a capital letter in it, or the
// beginning of a short token.
var tokenPiece = regexp.MustCompile(`dh1\.|[A-Za-z0-9_-]{3,}[A-Z][A-Za-z0-9_-]*|[A-Z][A-Za-z0-9_-]{3,}`)

// misfiled reports whether a series of the catalogue's name holds values that
// the metric cannot have.
func misfiled(s *Series, dev *devices.Device) bool {
	known := catalogue[s.Metric]
	return known != nil && !fits(s, known) && !fits(s, declared(dev, s.Metric))
}

func fits(s *Series, m *devices.Metric) bool {
	if isText(s.Type) || isText(m.Type) {
		return isText(s.Type) && isText(m.Type)
	}
	if s.Type != m.Type {
		return false
	}
	_, convertible := devices.ConvertUnit(1, s.Unit, m.Unit)
	return s.Unit == m.Unit || convertible
}

func isText(t devices.ValueType) bool { return t == devices.TypeString || t == devices.TypeEnum }

// measure counts the readings of a series, in the hours' roll-ups where they are
// no longer kept themselves.
func (in *Ingest) measure(ctx context.Context, f *Finding) error {
	from := func(n, first, last int64) {
		f.Readings += n
		if f.First == 0 || first < f.First {
			f.First = first
		}
		f.Last = max(f.Last, last)
	}
	kept := in.store.Kept(Raw)
	if kept > 0 {
		err := in.store.Rollups(ctx, f.series, Hour, 0, kept, func(bs []Bucket) error {
			for i := range bs {
				from(bs[i].Count, bs[i].FirstT, bs[i].LastT)
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	return in.store.Scan(ctx, f.series, kept, maxTime+1, func(ps []Point) error {
		from(int64(len(ps)), ps[0].T, ps[len(ps)-1].T)
		return ctx.Err()
	})
}
