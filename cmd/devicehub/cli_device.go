package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"devicehub/devices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) deviceCommand() *cobra.Command {
	return group("device", "Devices and their records",
		a.deviceAdd(), a.deviceList(), a.deviceShow(), a.deviceUpdate(),
		a.deviceEnable("disable", "Refuse devices until they are enabled again", false),
		a.deviceEnable("enable", "Let disabled devices in again", true),
		a.deviceRemove())
}

// recordFlags are the fields of a record that add and update share.
type recordFlags struct {
	name, area, via, notes, undeclared, policy, interval, config string
	labels                                                       []string
	lat, lon                                                     float64
	sleepy                                                       bool
	modes, effects                                               []string
	minKelvin, maxKelvin                                         int
}

func (r *recordFlags) add(f *pflag.FlagSet) {
	f.StringVar(&r.name, "name", "", "name for people")
	f.StringArrayVar(&r.labels, "label", nil, "label `k=v`, as often as needed")
	f.StringVar(&r.area, "area", "", "where it stands")
	f.StringVar(&r.via, "via", "", "bridge it arrives through (default direct)")
	f.StringVar(&r.interval, "expected-interval", "", "`duration` between two readings")
	f.BoolVar(&r.sleepy, "sleepy", false, "it sleeps between readings")
	f.StringVar(&r.undeclared, "undeclared", "", "metrics that nothing declares: accept, quarantine or reject")
	f.StringVar(&r.policy, "shadow-policy", "", "local_wins or desired_wins")
	f.StringVar(&r.notes, "notes", "", "notes for people")
	f.StringVar(&r.config, "device-config", "", "configuration that the device is told, a `JSON` object; update merges it into what there is, null takes a field away")
	f.Float64Var(&r.lat, "lat", 0, "latitude in degrees")
	f.Float64Var(&r.lon, "lon", 0, "longitude in degrees")
	f.StringSliceVar(&r.modes, "mode", nil, "how a light can shine: "+strings.Join(lightModes(), ", "))
	f.StringSliceVar(&r.effects, "effect", nil, "effect of a light")
	f.IntVar(&r.minKelvin, "min-kelvin", 0, "warmest white of a light")
	f.IntVar(&r.maxKelvin, "max-kelvin", 0, "coldest white of a light")
}

func lightModes() []string {
	return []string{"onoff", "brightness", "color_temp", "hs", "rgb", "rgbw", "rgbww", "xy", "white"}
}

// body puts the flags that were given under the API's names.
func (r *recordFlags) body(f *pflag.FlagSet) (map[string]any, error) {
	body := map[string]any{}
	for flag, field := range map[string]struct {
		key   string
		value any
	}{
		"name": {"name", r.name}, "area": {"area", r.area}, "via": {"via", r.via}, "notes": {"notes", r.notes},
		"undeclared": {"undeclared", r.undeclared}, "shadow-policy": {"shadow_policy", r.policy},
		"lat": {"lat", r.lat}, "lon": {"lon", r.lon}, "sleepy": {"sleepy", r.sleepy},
	} {
		if f.Changed(flag) {
			body[field.key] = field.value
		}
	}
	if f.Changed("expected-interval") {
		d, err := ParseDuration(r.interval)
		if err != nil {
			return nil, usagef("--expected-interval: %v", err)
		}
		body["expected_interval_s"] = d.Duration().Seconds()
	}
	if f.Changed("device-config") {
		var object map[string]any
		if err := json.Unmarshal([]byte(r.config), &object); err != nil {
			return nil, usagef("--device-config: must be a JSON object: %v", err)
		}
		body["config"] = json.RawMessage(r.config)
	}
	if f.Changed("mode") || f.Changed("effect") || f.Changed("min-kelvin") || f.Changed("max-kelvin") {
		light := map[string]any{"modes": r.modes}
		if len(r.modes) == 0 {
			return nil, usagef("a light's --effect, --min-kelvin and --max-kelvin need its --mode too")
		}
		for _, m := range r.modes {
			if !slices.Contains(lightModes(), m) {
				return nil, usagef("--mode: unknown mode %q; known are %s", m, strings.Join(lightModes(), ", "))
			}
		}
		if r.minKelvin > 0 {
			light["min_kelvin"] = r.minKelvin
		}
		if r.maxKelvin > 0 {
			light["max_kelvin"] = r.maxKelvin
		}
		if len(r.effects) > 0 {
			light["effects"] = r.effects
		}
		body["light"] = light
	}
	return body, nil
}

// labelArgs reads k=v pairs.
func labelArgs(pairs []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, usagef("--label: %q must be k=v", p)
		}
		labels[k] = v
	}
	return labels, nil
}

func (a *app) deviceAdd() *cobra.Command {
	var (
		kinds  []string
		record recordFlags
		asJSON bool
		reuse  bool
	)
	var cmd *cobra.Command
	cmd = a.command("add ID --kind KIND", "Register a device and print its first token", oneDevice, true,
		func(ctx context.Context, c *api, args []string) error {
			body, err := record.body(cmd.Flags())
			if err != nil {
				return err
			}
			if len(record.labels) > 0 {
				if body["labels"], err = labelArgs(record.labels); err != nil {
					return err
				}
			}
			body["id"], body["kinds"] = args[0], kinds
			query := url.Values{}
			if reuse {
				query.Set("reuse", "true")
			}
			var raw json.RawMessage
			if err := c.call(ctx, "POST", apiPath("devices"), query, body, &raw); err != nil {
				return err
			}
			if asJSON {
				return a.printRaw(raw)
			}
			return a.printToken(raw, "device "+args[0]+" is registered as "+strings.Join(kinds, " and "))
		})
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if len(kinds) == 0 {
			return usagef("give --kind sensor, --kind light or both")
		}
		for _, k := range kinds {
			if !slices.Contains(devices.Kinds(), devices.Kind(k)) {
				return usagef("--kind: unknown kind %q; known are sensor and light", k)
			}
		}
		return nil
	}
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "sensor or light; both for a device that is both")
	record.add(cmd.Flags())
	cmd.Flags().BoolVar(&reuse, "reuse", false, "take the id of a deleted device, which stays taken for 30 days otherwise")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the whole answer as JSON")
	return cmd
}

// printToken puts the token of an answer on stdout, alone, and the facts that
// stand beside it on stderr.
func (a *app) printToken(raw json.RawMessage, fact string) error {
	var got struct {
		Token     string          `json:"token"`
		Gen       int64           `json:"gen"`
		ExpiresAt json.RawMessage `json:"expires_at"`
		Issuer    string          `json:"issuer"`
		GraceTill int64           `json:"grace_until"`
	}
	if err := json.Unmarshal(raw, &got); err != nil || got.Token == "" {
		return fmt.Errorf("the hub's answer holds no token; use the devicehub of the same version")
	}
	if got.Gen > 0 {
		fact += ", generation " + strconv.FormatInt(got.Gen, 10)
	}
	if ms, err := strconv.ParseInt(string(got.ExpiresAt), 10, 64); err == nil && ms > 0 {
		fact += ", good until " + when(ms)
	} else {
		fact += ", without end"
	}
	if got.GraceTill > 0 {
		fact += "; the old generation ends " + when(got.GraceTill)
	}
	fmt.Fprintln(a.err, fact)
	fmt.Fprintln(a.err, "the token is shown this once:")
	_, err := fmt.Fprintln(a.out, got.Token)
	return err
}

// deviceRow is what tables show of a device.
type deviceRow struct {
	ID     string            `json:"id"`
	Name   string            `json:"name"`
	Kinds  []string          `json:"kinds"`
	Labels map[string]string `json:"labels"`
	Area   string            `json:"area"`
	Status struct {
		State    string `json:"state"`
		Reason   string `json:"reason"`
		Since    int64  `json:"since"`
		Flapping bool   `json:"flapping"`
	} `json:"status"`
	Latest map[string]struct {
		V     any    `json:"v"`
		U     string `json:"u"`
		Stale bool   `json:"stale"`
	} `json:"latest"`
	Enabled *bool `json:"enabled"`
}

func (d *deviceRow) status() string {
	s := d.Status.State
	if d.Status.Reason != "" {
		s += " (" + d.Status.Reason + ")"
	}
	if d.Status.Flapping {
		s += " flapping"
	}
	if d.Enabled != nil && !*d.Enabled {
		s = "disabled"
	}
	return s
}

func (d *deviceRow) values() string {
	var out []string
	for _, m := range slices.Sorted(maps.Keys(d.Latest)) {
		l := d.Latest[m]
		s := fmt.Sprintf("%s %v", m, l.V)
		if l.U != "" {
			s += " " + l.U
		}
		if l.Stale {
			s += " (stale)"
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func (a *app) deviceList() *cobra.Command {
	var (
		q, kind, status, sort string
		labels                []string
		limit                 int
		asJSON                bool
	)
	cmd := a.command("list", "List devices", cobra.NoArgs, false, func(ctx context.Context, c *api, _ []string) error {
		query := url.Values{}
		for k, v := range map[string]string{"q": q, "kind": kind, "status": status, "sort": sort} {
			if v != "" {
				query.Set(k, v)
			}
		}
		want, err := labelArgs(labels)
		if err != nil {
			return err
		}
		for k, v := range want {
			query.Add("label", k+":"+v)
		}
		if limit < 0 {
			return usagef("--limit: must not be negative")
		}
		all, total, err := pages(ctx, c, "devices", apiPath("devices"), query, limit)
		if err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(map[string]any{"devices": all, "total": total})
		}
		rows := [][]string{{"ID", "NAME", "KINDS", "STATUS", "SINCE", "AREA", "LATEST"}}
		for _, raw := range all {
			var d deviceRow
			if err := json.Unmarshal(raw, &d); err != nil {
				return err
			}
			rows = append(rows, []string{d.ID, d.Name, strings.Join(d.Kinds, ","), d.status(), when(d.Status.Since), d.Area, d.values()})
		}
		if err := a.table(rows); err != nil {
			return err
		}
		if int64(len(all)) < total {
			fmt.Fprintf(a.err, "%d of %d devices\n", len(all), total)
		}
		return nil
	})
	f := cmd.Flags()
	f.StringVar(&q, "q", "", "`search`, such as area:kitchen battery<20")
	f.StringVar(&kind, "kind", "", "sensor or light")
	f.StringVar(&status, "status", "", "online, quiet, offline, …")
	f.StringArrayVar(&labels, "label", nil, "label `k=v`")
	f.StringVar(&sort, "sort", "", "id, name, status or last; with - in front the other way round")
	f.IntVar(&limit, "limit", 0, "at most so many (0: all)")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// pages reads a list to its end, or to limit entries. total is what the hub
// says, else how many were read.
func pages(ctx context.Context, c *api, field, path string, query url.Values, limit int) (all []json.RawMessage, total int64, err error) {
	all = []json.RawMessage{}
	if query == nil {
		query = url.Values{}
	}
	for {
		if limit > 0 {
			query.Set("limit", strconv.Itoa(min(200, limit-len(all))))
		} else if field == "devices" {
			query.Set("limit", "200")
		}
		var page map[string]json.RawMessage
		if err := c.call(ctx, "GET", path, query, nil, &page); err != nil {
			return nil, 0, err
		}
		var entries []json.RawMessage
		if err := json.Unmarshal(page[field], &entries); err != nil {
			return nil, 0, fmt.Errorf("the hub's answer holds no list of %s; use the devicehub of the same version", field)
		}
		all = append(all, entries...)
		total = int64(len(all))
		if n := page["total"]; n != nil {
			_ = json.Unmarshal(n, &total)
		}
		var next string
		if n := page["next_cursor"]; n != nil {
			_ = json.Unmarshal(n, &next)
		}
		if next == "" || len(entries) == 0 || limit > 0 && len(all) >= limit {
			return all, total, nil
		}
		query.Set("cursor", next)
	}
}

func (a *app) deviceShow() *cobra.Command {
	var asJSON bool
	cmd := a.command("show ID", "Show one device", oneDevice, false, func(ctx context.Context, c *api, args []string) error {
		id := args[0]
		var raw json.RawMessage
		if err := c.call(ctx, "GET", apiPath("devices", id), nil, nil, &raw); err != nil {
			return err
		}
		if asJSON {
			return a.printRaw(raw)
		}
		return a.showDevice(raw)
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// showDevice prints a record for people: what is known by name first, then
// every other field as it is.
func (a *app) showDevice(raw json.RawMessage) error {
	var d deviceRow
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &d); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return err
	}
	rows := [][]string{{"id", d.ID}, {"name", d.Name}, {"kinds", strings.Join(d.Kinds, ", ")}, {"status", d.status()}, {"since", when(d.Status.Since)}, {"latest", d.values()}}
	var labels []string
	for _, k := range slices.Sorted(maps.Keys(d.Labels)) {
		labels = append(labels, k+"="+d.Labels[k])
	}
	rows = append(rows, []string{"labels", strings.Join(labels, ", ")})
	for _, known := range []string{"id", "name", "kinds", "status", "latest", "labels", "enabled"} {
		delete(fields, known)
	}
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		text := string(fields[k])
		var s string
		var ms int64
		if json.Unmarshal(fields[k], &s) == nil {
			text = s
		} else if (strings.HasSuffix(k, "_at") || k == "last_seen") && json.Unmarshal(fields[k], &ms) == nil {
			text = when(ms)
		}
		rows = append(rows, []string{strings.ReplaceAll(k, "_", " "), text})
	}
	return a.table(rows)
}

func (a *app) deviceUpdate() *cobra.Command {
	var (
		record   recordFlags
		unlabels []string
		ifVer    int64
		asJSON   bool
	)
	var cmd *cobra.Command
	cmd = a.command("update ID", "Change a device's record", oneDevice, false, func(ctx context.Context, c *api, args []string) error {
		id := args[0]
		body, err := record.body(cmd.Flags())
		if err != nil {
			return err
		}
		// The hub merges them, so that nobody's label is lost who sets another meanwhile.
		labels := map[string]any{}
		set, err := labelArgs(record.labels)
		if err != nil {
			return err
		}
		for k, v := range set {
			labels[k] = v
		}
		for _, k := range unlabels {
			labels[k] = nil
		}
		if len(labels) > 0 {
			body["labels"] = labels
		}
		if len(body) == 0 {
			return usagef("nothing to change; give at least one field")
		}
		changed := strings.Join(slices.Sorted(maps.Keys(body)), ", ")
		if cmd.Flags().Changed(ifVerFlag) {
			body["if_ver"] = ifVer
		}
		var raw json.RawMessage
		if err := c.call(ctx, "PATCH", apiPath("devices", id), nil, body, &raw); err != nil {
			return changedMeanwhile(err, id)
		}
		if asJSON {
			return a.printRaw(raw)
		}
		fmt.Fprintf(a.err, "device %s is changed: %s\n", id, changed)
		return nil
	})
	record.add(cmd.Flags())
	cmd.Flags().Int64Var(&ifVer, ifVerFlag, 0, "change it only at this `version`, as `device show` tells it")
	cmd.Flags().StringArrayVar(&unlabels, "unlabel", nil, "label `k` to take away")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the record as JSON")
	return cmd
}

func (a *app) deviceEnable(use, short string, enabled bool) *cobra.Command {
	return a.command(use+" ID...", short, someDevices, false, func(ctx context.Context, c *api, args []string) error {
		for _, id := range args {
			if err := c.call(ctx, "PATCH", apiPath("devices", id), nil, map[string]any{"enabled": enabled}, nil); err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			fmt.Fprintf(a.err, "device %s is %sd\n", id, use)
		}
		return nil
	})
}

const ifVerFlag = "if-ver"

// changedMeanwhile says what to do about a version_conflict.
func changedMeanwhile(err error, id string) error {
	if devices.CodeOf(err) == devices.CodeVersionConflict {
		return fmt.Errorf("%w; look at it with `devicehub device show %s`", err, id)
	}
	return err
}

func (a *app) deviceRemove() *cobra.Command {
	var (
		keep  bool
		ifVer int64
	)
	var cmd *cobra.Command
	cmd = a.command("rm ID...", "Delete devices and their readings; an id stays taken for 30 days", someDevices, false,
		func(ctx context.Context, c *api, args []string) error {
			query := url.Values{}
			if keep {
				query.Set("keep_readings", "true")
			}
			if cmd.Flags().Changed(ifVerFlag) {
				query.Set("if_ver", strconv.FormatInt(ifVer, 10))
			}
			for _, id := range args {
				if err := c.call(ctx, "DELETE", apiPath("devices", id), query, nil, nil); err != nil {
					return fmt.Errorf("%s: %w", id, changedMeanwhile(err, id))
				}
				fmt.Fprintf(a.err, "device %s is deleted\n", id)
			}
			return nil
		})
	cmd.PreRunE = func(_ *cobra.Command, args []string) error {
		if cmd.Flags().Changed(ifVerFlag) && len(args) > 1 {
			return usagef("--%s is one device's version; name one device", ifVerFlag)
		}
		return nil
	}
	cmd.Flags().BoolVar(&keep, "keep-readings", false, "keep what it measured")
	cmd.Flags().Int64Var(&ifVer, ifVerFlag, 0, "delete it only at this `version`")
	return cmd
}
