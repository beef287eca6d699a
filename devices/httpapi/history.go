package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"devicehub/devices"
	"devicehub/devices/readings"
)

func (c *call) latest() (answer, error) {
	d, err := c.device(devices.RightRead)
	if err != nil {
		return answer{}, err
	}
	if c.api.s.Readings == nil {
		return unavailable("readings")
	}
	b := c.api.s.Readings.AppendLatest([]byte(`{"metrics":`), d.ID)
	return ok(json.RawMessage(fmt.Appendf(b, `,"server_time":%d}`, c.api.now().UnixMilli())))
}

// unsetSpan is how far back a chart reaches without from.
const unsetSpan = time.Hour

func (c *call) series() (answer, error) {
	d, err := c.device(devices.RightRead)
	if err != nil {
		return answer{}, err
	}
	if c.api.s.Readings == nil {
		return unavailable("readings")
	}
	q := readings.SeriesQuery{Device: d.ID, Metric: c.query("metric"), Agg: c.query("agg")}
	if q.From, q.To, err = c.span(unsetSpan); err != nil {
		return answer{}, err
	}
	if q.Points, err = c.number("points", 0, 1, readings.MaxPoints); err != nil {
		return answer{}, err
	}
	if q.Zone, err = c.zone(); err != nil {
		return answer{}, err
	}
	return c.inTurn(func() (any, error) { return c.api.s.Readings.Series(c.Context(), q) })
}

// zone reads tz: the name of a time zone, nil where none is given.
func (c *call) zone() (*time.Location, error) {
	name := c.query("tz")
	if name == "" {
		return nil, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" { // the hub's own is nobody else's
		return nil, devices.Invalid("tz", "a name of the tz database, such as Europe/Berlin")
	}
	return zone, nil
}

// maxAcross is how many devices one chart can be about.
const maxAcross = 2000

func (c *call) across() (answer, error) {
	if c.actor.Rights&devices.RightRead == 0 {
		return answer{}, devices.Refuse(devices.CodeForbidden, "not allowed")
	}
	if c.api.s.Readings == nil {
		return unavailable("readings")
	}
	ids, err := c.acrossIDs()
	if err != nil {
		return answer{}, err
	}
	q := readings.AcrossQuery{Devices: ids, Metric: c.query("metric"), Agg: c.query("agg")}
	if q.From, q.To, err = c.span(unsetSpan); err != nil {
		return answer{}, err
	}
	if q.Points, err = c.number("points", 0, 1, readings.MaxPoints); err != nil {
		return answer{}, err
	}
	if q.Zone, err = c.zone(); err != nil {
		return answer{}, err
	}
	return c.inTurn(func() (any, error) { return c.api.s.Readings.Across(c.Context(), q) })
}

// inTurn answers with a chart when it is its turn to be made: a few at a time keep every processor
// busy, and hundreds at once would only take memory.
func (c *call) inTurn(chart func() (any, error)) (answer, error) {
	select {
	case c.api.charts <- struct{}{}:
		defer func() { <-c.api.charts }()
	case <-c.Context().Done():
		return answer{}, c.Context().Err()
	}
	made, err := chart()
	if err != nil {
		return answer{}, err
	}
	return ok(json.RawMessage(marshal(made)))
}

// acrossIDs are the devices named by ids, or else those in the caller's scope
// that carry the labels.
func (c *call) acrossIDs() (ids []devices.ID, err error) {
	labels, err := c.labels()
	if err != nil {
		return nil, err
	}
	if c.params.Has("ids") {
		if len(labels) > 0 {
			return nil, devices.Invalid("ids", "ids or label, not both")
		}
		for s := range strings.SplitSeq(c.query("ids"), ",") {
			id := devices.ID(strings.TrimSpace(s))
			if id == "" {
				return nil, devices.Invalid("ids",
					"one id or more, joined by commas; without ids and label it is about all devices")
			}
			if len(ids) == maxAcross {
				return nil, tooManyDevices()
			}
			if slices.Contains(ids, id) {
				return nil, devices.Invalid("ids", "each device once")
			}
			if _, err := c.mayOver(string(id), devices.RightRead); err != nil {
				return nil, err
			}
			ids = append(ids, id)
		}
	} else {
		q := listQuery{labels: labels}
		for _, d := range c.api.lists.get(c.api.s.Registry, false) {
			if q.picks(c, d) {
				ids = append(ids, d.ID)
			}
		}
	}
	if len(ids) > maxAcross {
		return nil, tooManyDevices()
	}
	return ids, nil
}

func tooManyDevices() error {
	return devices.Refuse(devices.CodeTooLarge, "too many devices for one chart").With("limit", maxAcross)
}

func (c *call) export() (answer, error) {
	d, err := c.device(devices.RightRead)
	if err != nil {
		return answer{}, err
	}
	if c.api.s.Readings == nil {
		return unavailable("readings")
	}
	q := readings.ExportQuery{Device: d.ID, Metric: c.query("metric"), Format: c.query("format")}
	if q.From, q.To, err = c.span(0); err != nil {
		return answer{}, err
	}
	kind := map[string]string{"": "text/csv; charset=utf-8", readings.CSV: "text/csv; charset=utf-8", readings.NDJSON: "application/x-ndjson", readings.Line: "text/plain; charset=utf-8"}[q.Format]
	ext := map[string]string{"": "csv", readings.CSV: "csv", readings.NDJSON: "ndjson", readings.Line: "txt"}[q.Format]
	w := &stream{ResponseWriter: c.w, set: func(h http.Header) {
		h.Set("Content-Type", kind)
		h.Set("Content-Disposition", `attachment; filename="`+string(d.ID)+"."+ext+`"`)
	}}
	err = c.api.s.Readings.Export(c.Context(), w, q)
	switch {
	case err == nil:
		w.begin() // nothing to export is an empty file
		return streamed()
	case !w.begun:
		return answer{}, err
	}
	if c.Context().Err() == nil {
		c.api.cfg.Logger.Error("export broke off", "device", d.ID, "err", err)
	}
	panic(http.ErrAbortHandler) // the client must not take half for the whole
}

func (c *call) events() (answer, error) {
	d, err := c.device(devices.RightRead)
	if err != nil {
		return answer{}, err
	}
	if c.api.s.Liveness == nil {
		return unavailable("connection history")
	}
	limit, at, err := c.page("events")
	if err != nil {
		return answer{}, err
	}
	list, next, err := c.api.s.Liveness.History(c.Context(), d.ID, limit, at)
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]any{"events": orEmpty(list), "next_cursor": cursor("events", next)})
}

// orEmpty makes a list that is nil an empty one: [] and not null in JSON.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
