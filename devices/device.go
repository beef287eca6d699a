package devices

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"unicode/utf8"
)

// Device is the record of one device. Records handed out by a Registry are
// shared and must not be modified; Clone first.
type Device struct {
	ID                ID                `json:"id"`
	Ver               int64             `json:"ver"`  // 1 at first; rises with every change but those that the device reports
	Name              string            `json:"name"` // UTF-8, at most 80 characters
	Kinds             []Kind            `json:"kinds"`
	Model             string            `json:"model,omitempty"`
	Manufacturer      string            `json:"manufacturer,omitempty"`
	Firmware          string            `json:"fw,omitempty"`
	Hardware          string            `json:"hw,omitempty"`
	Labels            map[string]string `json:"labels"` // at most 16
	Area              string            `json:"area,omitempty"`
	Lat               *float64          `json:"lat,omitempty"`
	Lon               *float64          `json:"lon,omitempty"`
	CreatedAt         int64             `json:"created_at"`
	ExpectedIntervalS float64           `json:"expected_interval_s,omitempty"`
	Sleepy            bool              `json:"sleepy"`
	Enabled           bool              `json:"enabled"`
	Via               string            `json:"via"` // "direct" or the name of a bridge
	Metrics           []Metric          `json:"metrics,omitempty"`
	Undeclared        Undeclared        `json:"undeclared"`
	Light             *Light            `json:"light,omitempty"`
	ShadowPolicy      string            `json:"shadow_policy"` // local_wins or desired_wins
	Config            json.RawMessage   `json:"config,omitempty"`
	ConfigVer         int64             `json:"config_ver,omitempty"`     // rises with every change of Config
	ConfigAckVer      int64             `json:"config_ack_ver,omitempty"` // the version that the device last said it uses
	Notes             string            `json:"notes,omitempty"`
}

// Undeclared says what becomes of readings of metrics that neither the record
// nor the catalogue declares.
type Undeclared string

// The policies for undeclared metrics.
const (
	AcceptUndeclared     Undeclared = "accept"
	QuarantineUndeclared Undeclared = "quarantine" // stored, listed "undeclared", not charted
	RejectUndeclared     Undeclared = "reject"
)

// Shadow policies.
const (
	LocalWins   = "local_wins"
	DesiredWins = "desired_wins"
)

// Limits of a record.
const (
	MaxName           = 80
	MaxLabels         = 16
	MaxLabel          = 63
	MaxText           = 255
	MaxNotes          = 4096
	MaxConfig         = 8192
	MaxMetrics        = 64
	MaxUndeclared     = 16 // of them, metrics that nothing declares
	MaxStringValue    = 255
	ViaDirect         = "direct"
	maxExpectedPeriod = 366 * 24 * 3600
)

// Normalize fills the defaults of a new record and returns the first thing
// that is wrong with it, as an invalid or range error.
func (d *Device) Normalize() error {
	if _, err := ParseID(string(d.ID)); err != nil {
		return err
	}
	if err := checkKinds(d.Kinds); err != nil {
		return err
	}
	if d.Labels == nil {
		d.Labels = map[string]string{}
	}
	if len(d.Metrics) == 0 {
		d.Metrics = nil // as it comes back from a store
	}
	if d.Via == "" {
		d.Via = ViaDirect
	}
	if d.Undeclared == "" {
		d.Undeclared = QuarantineUndeclared
	}
	if d.ShadowPolicy == "" {
		d.ShadowPolicy = LocalWins
	}
	if d.Light == nil && d.Is(KindLight) {
		d.Light = &Light{Modes: []LightMode{ModeBrightness}}
	}
	return d.check()
}

func (d *Device) check() error {
	for _, f := range []struct {
		name, text string
		max        int
	}{
		{"name", d.Name, MaxName}, {"model", d.Model, MaxText}, {"manufacturer", d.Manufacturer, MaxText},
		{"fw", d.Firmware, MaxText}, {"hw", d.Hardware, MaxText}, {"area", d.Area, MaxText}, {"notes", d.Notes, MaxNotes}, {"via", d.Via, MaxText},
	} {
		if utf8.RuneCountInString(f.text) > f.max || !utf8.ValidString(f.text) {
			return Invalid(f.name, fmt.Sprintf("at most %d characters of UTF-8", f.max))
		}
	}
	if err := checkLabels(d.Labels); err != nil {
		return err
	}
	if d.Lat != nil && !within(*d.Lat, -90, 90) {
		return OutOfRange("lat", -90, 90, "°")
	}
	if d.Lon != nil && !within(*d.Lon, -180, 180) {
		return OutOfRange("lon", -180, 180, "°")
	}
	if !within(d.ExpectedIntervalS, 0, maxExpectedPeriod) {
		return OutOfRange("expected_interval_s", 0, maxExpectedPeriod, "s")
	}
	switch d.Undeclared {
	case AcceptUndeclared, QuarantineUndeclared, RejectUndeclared:
	default:
		return Invalid("undeclared", "accept, quarantine or reject")
	}
	if d.ShadowPolicy != LocalWins && d.ShadowPolicy != DesiredWins {
		return Invalid("shadow_policy", "local_wins or desired_wins")
	}
	if len(d.Config) > MaxConfig {
		return Refuse(CodeTooLarge, "config is too large").With("limit", MaxConfig)
	}
	if err := checkMetrics(d.Metrics); err != nil {
		return err
	}
	if d.Light != nil {
		return d.Light.Check()
	}
	return nil
}

func checkLabels(labels map[string]string) error {
	if len(labels) > MaxLabels {
		return Invalid("labels", "at most 16")
	}
	for k, v := range labels {
		if k == "" || len(k) > MaxLabel || len(v) > MaxLabel || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return Invalid("labels", "keys of 1 to 63 bytes and values of at most 63, in UTF-8")
		}
	}
	return nil
}

func within(v, min, max float64) bool { return !math.IsNaN(v) && v >= min && v <= max }

// Is reports whether the device is of kind k.
func (d *Device) Is(k Kind) bool { return slices.Contains(d.Kinds, k) }

// Title is the name for people: the name, or the id where none was given.
func (d *Device) Title() string {
	if d.Name != "" {
		return d.Name
	}
	return string(d.ID)
}

// ControlTopicKinds are the kinds on whose topics commands and states are
// shown: the light's where there is one, else all of the device's.
func (d *Device) ControlTopicKinds() []Kind {
	if d.Is(KindLight) {
		return []Kind{KindLight}
	}
	return d.Kinds
}

// HiddenFrom names the fields of records that the actor may not see, of any device:
// config, which may hold secrets, is for administrators, and notes and the place
// (lat, lon) are for them and for who may control devices.
func HiddenFrom(a Actor) []string {
	switch {
	case a.Rights&RightAdmin != 0:
		return nil
	case a.Rights&RightCommand != 0:
		return []string{"config"}
	}
	return []string{"config", "notes", "lat", "lon"}
}

// SeenBy is the record without what is hidden from the actor.
func (d *Device) SeenBy(a Actor) *Device {
	hidden := HiddenFrom(a)
	if len(hidden) == 0 {
		return d
	}
	seen := *d
	for _, name := range hidden {
		switch name {
		case "config":
			seen.Config = nil
		case "notes":
			seen.Notes = ""
		case "lat":
			seen.Lat = nil
		case "lon":
			seen.Lon = nil
		}
	}
	return &seen
}

// Clone returns a copy that shares nothing with d.
func (d *Device) Clone() *Device {
	c := *d
	c.Kinds = slices.Clone(d.Kinds)
	c.Labels = maps.Clone(d.Labels)
	c.Metrics = slices.Clone(d.Metrics)
	c.Config = slices.Clone(d.Config)
	if d.Light != nil {
		l := *d.Light
		l.Modes, l.Effects = slices.Clone(l.Modes), slices.Clone(l.Effects)
		c.Light = &l
	}
	if d.Lat != nil {
		v := *d.Lat
		c.Lat = &v
	}
	if d.Lon != nil {
		v := *d.Lon
		c.Lon = &v
	}
	return &c
}
