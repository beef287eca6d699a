package sim

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"
)

// What follows is how the judge reads back what the hub has.

// Stored is one exported reading.
type Stored struct {
	Metric string          `json:"metric"`
	T      int64           `json:"t"`
	V      json.RawMessage `json:"v"`
	Q      []string        `json:"q"`
}

// Export streams what the hub has of a device, from that time on. Lines that are not what a line
// should be go to odd.
func (a *API) Export(
	ctx context.Context,
	id string,
	from, to time.Time,
	each func(Stored),
	odd func(line []byte),
) error {
	query := url.Values{"format": {"ndjson"}, "from": {msText(from)}, "to": {msText(to)}}
	resp, err := a.stream(ctx, "/devices/"+id+"/export", query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var s Stored
		if len(lines.Bytes()) == 0 {
			continue
		}
		if json.Unmarshal(lines.Bytes(), &s) != nil || !utf8.Valid(lines.Bytes()) {
			odd(lines.Bytes())
			continue
		}
		each(s)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("export of %s: %w", id, err)
	}
	return nil
}

// stream opens an answer that is read as it comes, when it is its turn.
func (a *API) stream(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	for began := time.Now(); ; {
		tok, err := a.bearer(ctx, false)
		if err != nil {
			return nil, err
		}
		resp, err := a.open(ctx, http.MethodGet, path, query, nil, tok)
		if !itsTurn(ctx, began, err) {
			return resp, err
		}
	}
}

// A Bucket is a stretch of a series. Of what is no number there are only the counts.
type Bucket struct {
	T     int64           `json:"t"` // where it begins
	Count int             `json:"count"`
	Min   *float64        `json:"min"`
	Max   *float64        `json:"max"`
	Mean  *float64        `json:"mean"`
	Last  json.RawMessage `json:"last"`
	Delta *float64        `json:"delta"` // of a counter
}

// A Series is a metric's readings in at most points buckets.
type Series struct {
	Step    int64    `json:"step_ms"`
	Unit    string   `json:"unit"`
	Tier    string   `json:"tier"`
	Buckets []Bucket `json:"buckets"`
}

// Count is how many readings there are in all.
func (s Series) Count() (n int) {
	for _, b := range s.Buckets {
		n += b.Count
	}
	return n
}

// Series reads a metric of a device, from ≤ t < to.
func (a *API) Series(ctx context.Context, id, metric string, from, to time.Time, points int) (Series, error) {
	var out Series
	query := url.Values{
		"metric": {metric},
		"from":   {msText(from)},
		"to":     {msText(to)},
		"points": {strconv.Itoa(points)},
	}
	err := a.patient(ctx, 10*time.Second, http.MethodGet, "/devices/"+id+"/series", query, nil, &out)
	return out, err
}

func msText(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// A Turn is an entry of a device's connection history.
type Turn struct {
	At     int64  `json:"at"`
	From   string `json:"from"`
	To     string `json:"to"`
	Reason string `json:"reason"`
}

func (t Turn) String() string {
	return fmt.Sprintf("%s  the hub: %s to %s, reason %q", stamp(time.UnixMilli(t.At)), t.From, t.To, t.Reason)
}

// Turns reads a device's connection history back to a moment.
func (a *API) Turns(ctx context.Context, id string, since time.Time, each func(Turn)) error {
	return pages(func(query url.Values) (string, bool, error) {
		var page struct {
			Events []Turn `json:"events"`
			Next   string `json:"next_cursor"`
		}
		err := a.patient(ctx, 10*time.Second, http.MethodGet, "/devices/"+id+"/events", query, nil, &page)
		if err != nil {
			return "", false, err
		}
		for _, t := range page.Events {
			each(t)
		}
		n := len(page.Events)
		return page.Next, n > 0 && page.Events[n-1].At >= since.UnixMilli(), nil
	})
}

// pages calls read with a query for one page after the other, until there are no more or read says
// that it is enough.
func pages(read func(query url.Values) (next string, more bool, err error)) error {
	cursor := ""
	for {
		query := url.Values{"limit": {"200"}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		next, more, err := read(query)
		if cursor = next; err != nil || !more || next == "" {
			return err
		}
	}
}

// Latest is the newest reading of each metric of a device, by the hub's word, and the hub's clock.
func (a *API) Latest(ctx context.Context, id string) (map[string]Stored, time.Time, error) {
	var out struct {
		Metrics map[string]Stored `json:"metrics"`
		Time    int64             `json:"server_time"`
	}
	err := a.patient(ctx, 10*time.Second, http.MethodGet, "/devices/"+id+"/latest", nil, nil, &out)
	return out.Metrics, time.UnixMilli(out.Time), err
}

// CommandByID reads a command's record.
func (a *API) CommandByID(ctx context.Context, device, id string) (CommandRecord, error) {
	var rec CommandRecord
	err := a.patient(ctx, 10*time.Second, http.MethodGet, "/devices/"+device+"/commands/"+id, nil, nil, &rec)
	return rec, err
}

// Commands reads a device's commands, the newest first, back to a moment.
func (a *API) Commands(ctx context.Context, device string, since time.Time, each func(CommandRecord)) error {
	return pages(func(query url.Values) (string, bool, error) {
		var page struct {
			Commands []CommandRecord `json:"commands"`
			Next     string          `json:"next_cursor"`
		}
		err := a.patient(ctx, 10*time.Second, http.MethodGet, "/devices/"+device+"/commands", query, nil, &page)
		if err != nil {
			return "", false, err
		}
		for _, c := range page.Commands {
			each(c)
		}
		n := len(page.Commands)
		return page.Next, n > 0 && page.Commands[n-1].IssuedAt >= since.UnixMilli(), nil
	})
}
