package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"devicehub/devices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := group("audit", "Who did what", a.auditList(), a.auditExport(), a.auditPrune())
	cmd.Long = `Who did what. The audit is for people: with --url, the token must be that of one
who is signed in, and not a service account's.`
	return cmd
}

// auditFilter selects entries.
type auditFilter struct{ device, actor, action, outcome, from, to string }

func (f *auditFilter) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.device, "device", "", "what was done to the device of this `id`")
	fs.StringVar(&f.actor, "actor", "", "what this `actor` did, such as user:ana")
	fs.StringVar(&f.action, "action", "", "one `kind` of action, such as device.update")
	fs.StringVar(&f.outcome, "outcome", "", "ok, refused or failed")
	fs.StringVar(&f.from, "from", "", "since this `time`: 2026-11-01, 2026-11-01T08:00:00Z, or 30d for 30 days ago")
	fs.StringVar(&f.to, "to", "", "before this `time`")
}

func (f *auditFilter) query() (url.Values, error) {
	q := url.Values{}
	for name, v := range map[string]string{
		"device": f.device, "actor": f.actor, "action": f.action, "outcome": f.outcome,
	} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if f.outcome != "" && !slices.Contains([]string{"ok", "refused", "failed"}, f.outcome) {
		return nil, usagef("--outcome must be ok, refused or failed")
	}
	for name, v := range map[string]string{"from": f.from, "to": f.to} {
		if v == "" {
			continue
		}
		at, err := timeArg(name, v)
		if err != nil {
			return nil, err
		}
		q.Set(name, strconv.FormatInt(at.UnixMilli(), 10))
	}
	return q, nil
}

// timeArg reads a moment, or how long ago it was.
func timeArg(flag, s string) (time.Time, error) {
	if d, err := ParseDuration(s); err == nil {
		return time.Now().Add(-d.Duration()), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05", time.DateTime, "2006-01-02 15:04", time.DateOnly,
	} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("--%s: %q is no time; write 2026-11-01, 2026-11-01T08:00:00Z, or 30d for 30 days ago",
		flag, s)
}

func (a *app) auditList() *cobra.Command {
	var (
		filter auditFilter
		limit  int
		asJSON bool
	)
	show := func(ctx context.Context, c *api, _ []string) error {
		q, err := filter.query()
		if err != nil {
			return err
		}
		all, _, err := pages(ctx, c, "entries", apiPath("audit"), q, limit)
		if err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(map[string]any{"entries": all})
		}
		rows := [][]string{{"WHEN", "WHO", "DID", "TO", "OUTCOME", "TIMES", "LAST", "VIA"}}
		for _, raw := range all {
			var e devices.AuditEntry
			if err := json.Unmarshal(raw, &e); err != nil {
				return err
			}
			outcome, times := e.Outcome, ""
			if e.Code != "" {
				outcome += ": " + string(e.Code)
			}
			if e.Count > 1 {
				times = strconv.FormatInt(e.Count, 10)
			}
			rows = append(rows, []string{when(e.At), e.Actor, e.Action, e.Target, outcome, times, when(e.LastAt), e.Via})
		}
		return a.table(rows)
	}
	cmd := a.command("list", "Show who did what, the newest first", cobra.NoArgs, false, show)
	cmd.Long = `Show who did what, the newest first.

What changed something has an entry of its own. Identical refusals of an hour
share one: TIMES says how many there were, LAST when the last one was.`
	filter.add(cmd.Flags())
	cmd.Flags().IntVar(&limit, "limit", 100, "at most this `number` of entries; 0: all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if limit < 0 {
			return usagef("--limit must not be negative")
		}
		_, err := filter.query()
		return err
	}
	return cmd
}

func (a *app) auditExport() *cobra.Command {
	var (
		filter auditFilter
		format string
	)
	export := func(ctx context.Context, c *api, _ []string) error {
		q, err := filter.query()
		if err != nil {
			return err
		}
		put, end := auditNDJSON(a.out)
		if format == "csv" {
			put, end = auditCSV(a.out)
		}
		q.Set("limit", "500")
		for {
			var page struct {
				Entries []json.RawMessage `json:"entries"`
				Next    string            `json:"next_cursor"`
			}
			if err := c.call(ctx, "GET", apiPath("audit"), q, nil, &page); err != nil {
				return err
			}
			for _, e := range page.Entries {
				if err := put(e); err != nil {
					return err
				}
			}
			if page.Next == "" {
				return end()
			}
			q.Set("cursor", page.Next)
		}
	}
	cmd := a.command("export", "Write out entries, the newest first", cobra.NoArgs, false, export)
	filter.add(cmd.Flags())
	cmd.Flags().StringVar(&format, "format", "ndjson", "ndjson, one JSON object a line, or csv")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if format != "ndjson" && format != "csv" {
			return usagef("--format must be ndjson or csv")
		}
		_, err := filter.query()
		return err
	}
	return cmd
}

func auditNDJSON(w io.Writer) (put func(json.RawMessage) error, end func() error) {
	return func(e json.RawMessage) error {
		_, err := fmt.Fprintf(w, "%s\n", e)
		return err
	}, func() error { return nil }
}

// auditCSV writes a line an entry below a heading. A cell that a spreadsheet would take
// for a formula begins with an apostrophe.
func auditCSV(w io.Writer) (put func(json.RawMessage) error, end func() error) {
	out := csv.NewWriter(w)
	err := out.Write([]string{
		"at", "last_at", "count", "actor", "ip_hash", "via", "action", "target", "cmd_id", "outcome", "code", "before", "after",
	})
	stamp := func(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z") }
	put = func(raw json.RawMessage) error {
		var e struct {
			devices.AuditEntry
			Before json.RawMessage `json:"before"`
			After  json.RawMessage `json:"after"`
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			return err
		}
		cells := []string{
			stamp(e.At), stamp(e.Last()), strconv.FormatInt(max(e.Count, 1), 10), e.Actor, e.IPHash, e.Via, e.Action,
			e.Target, e.CmdID, e.Outcome, string(e.Code), string(e.Before), string(e.After),
		}
		for i, s := range cells {
			if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
				cells[i] = "'" + s
			}
		}
		return out.Write(cells)
	}
	return put, func() error {
		out.Flush()
		if err != nil {
			return err
		}
		return out.Error()
	}
}

func (a *app) auditPrune() *cobra.Command {
	var before string
	prune := func(ctx context.Context, c *api, _ []string) error {
		body := map[string]int64{}
		if before != "" {
			at, err := timeArg("before", before)
			if err != nil {
				return err
			}
			body["before"] = at.UnixMilli()
		}
		var p devices.Pruned
		if err := c.call(ctx, "POST", apiPath("audit", "prune"), nil, body, &p); err != nil {
			return err
		}
		if p == (devices.Pruned{}) {
			fmt.Fprintln(a.err, "there is nothing to take out")
			return nil
		}
		fmt.Fprintf(a.err, "%d entries of changes and %d of refusals are taken out; an entry says so\n",
			p.Changes, p.Refusals)
		return nil
	}
	cmd := a.command("prune", "Take out old entries", cobra.NoArgs, false, prune)
	cmd.Long = `Take out old entries, for good: those before --before, or without it those
beyond audit.max_age and audit.max_bytes, which the hub takes out by itself once
a day or when the audit is too large.

"devicehub audit export" writes them out first. An entry says what was taken
out, by whom, and up to when; the database lets go of nothing that no such entry
names. The file does not get smaller, but what is free in it is used again.`
	cmd.Flags().StringVar(&before, "before", "",
		"entries before this `time`: 2026-11-01, 2026-11-01T08:00:00Z, or 90d for 90 days ago")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if before == "" {
			return nil
		}
		_, err := timeArg("before", before)
		return err
	}
	return cmd
}
