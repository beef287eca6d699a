package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time in the configuration: what time.ParseDuration
// reads, and also days, weeks and years of 365 days ("30d", "1w", "2y",
// "1d12h"). It is never negative.
type Duration time.Duration

// Calendar lengths; a year has 365 days.
const (
	Day  = Duration(24 * time.Hour)
	Year = 365 * Day
)

// Duration returns d as the standard library knows it.
func (d Duration) Duration() time.Duration { return time.Duration(d) }

// ParseDuration reads s; a bare 0 is zero.
func ParseDuration(s string) (Duration, error) {
	wrong := fmt.Errorf("%q is no duration (such as 10s, 12h, 30d or 2y)", s)
	rest := strings.TrimSpace(s)
	if rest == "" {
		return 0, wrong
	}
	if rest == "0" {
		return 0, nil
	}
	var total float64
	for rest != "" {
		i := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if i <= 0 {
			return 0, wrong
		}
		n, err := strconv.ParseFloat(rest[:i], 64)
		if err != nil {
			return 0, wrong
		}
		rest = rest[i:]
		j := strings.IndexFunc(rest, func(r rune) bool { return r >= '0' && r <= '9' || r == '.' })
		if j < 0 {
			j = len(rest)
		}
		unit, ok := durationUnit(rest[:j])
		if !ok {
			return 0, wrong
		}
		total += n * float64(unit)
		rest = rest[j:]
	}
	if total >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too long (292 years at most)", s)
	}
	return Duration(math.Round(total)), nil
}

func durationUnit(s string) (time.Duration, bool) {
	switch s {
	case "ns":
		return time.Nanosecond, true
	case "us", "µs", "μs":
		return time.Microsecond, true
	case "ms":
		return time.Millisecond, true
	case "s":
		return time.Second, true
	case "m":
		return time.Minute, true
	case "h":
		return time.Hour, true
	case "d":
		return time.Duration(Day), true
	case "w":
		return time.Duration(7 * Day), true
	case "y":
		return time.Duration(Year), true
	}
	return 0, false
}

// String writes d so that ParseDuration reads the same: whole years and days
// as such, else as the standard library does without its trailing zero units.
func (d Duration) String() string {
	switch {
	case d == 0:
		return "0"
	case d%Year == 0:
		return strconv.FormatInt(int64(d/Year), 10) + "y"
	case d%Day == 0:
		return strconv.FormatInt(int64(d/Day), 10) + "d"
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// UnmarshalText reads what ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err == nil {
		*d = v
	}
	return err
}

// MarshalText writes d as String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Size is a number of bytes in the configuration: "1048576", "64KiB", "10GB"
// (KiB, MiB, GiB, TiB are powers of 1024; kB, MB, GB, TB of 1000), or "auto".
type Size int64

// AutoSize leaves the choice to the hub, from the size of the disk.
const AutoSize = Size(-1)

// ParseSize reads s.
func ParseSize(s string) (Size, error) {
	t := strings.TrimSpace(s)
	if t == "auto" {
		return AutoSize, nil
	}
	wrong := fmt.Errorf("%q is no size (such as 1048576, 512MiB, 10GB or auto)", s)
	i := strings.IndexFunc(t, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if i < 0 {
		i = len(t)
	}
	n, err := strconv.ParseFloat(t[:i], 64)
	if err != nil {
		return 0, wrong
	}
	unit, ok := sizeUnit(strings.TrimSpace(t[i:]))
	if !ok || (unit == 1 && strings.Contains(t, ".")) {
		return 0, wrong
	}
	if n *= float64(unit); n >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too large", s)
	}
	return Size(math.Round(n)), nil
}

func sizeUnit(s string) (int64, bool) {
	switch s {
	case "", "B":
		return 1, true
	case "kB", "KB":
		return 1e3, true
	case "MB":
		return 1e6, true
	case "GB":
		return 1e9, true
	case "TB":
		return 1e12, true
	case "KiB":
		return 1 << 10, true
	case "MiB":
		return 1 << 20, true
	case "GiB":
		return 1 << 30, true
	case "TiB":
		return 1 << 40, true
	}
	return 0, false
}

// String writes s in the greatest unit of 1024 that divides it, in bytes where
// that makes no shorter number.
func (s Size) String() string {
	if s == AutoSize {
		return "auto"
	}
	for i, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if n := Size(1) << (40 - 10*i); s >= n && s%n == 0 && s/n < 100_000 {
			return strconv.FormatInt(int64(s/n), 10) + unit
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// UnmarshalText reads what ParseSize reads.
func (s *Size) UnmarshalText(b []byte) error {
	v, err := ParseSize(string(b))
	if err == nil {
		*s = v
	}
	return err
}

// MarshalText writes s as String does.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
