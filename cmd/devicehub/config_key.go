package main

import (
	"reflect"
	"strings"
)

// configKey is one leaf of Config.
type configKey struct {
	Path   string // "http.listen"
	Index  []int  // of the field, for reflect.Value.FieldByIndex
	Type   reflect.Type
	Secret bool
	Live   bool // a SIGHUP changes it
}

// configKeys lists every leaf of Config in the order of the struct. A list is
// one leaf.
func configKeys() []configKey {
	return appendKeys(nil, reflect.TypeFor[Config](), "", nil, false)
}

func appendKeys(keys []configKey, t reflect.Type, prefix string, index []int, live bool) []configKey {
	for i := range t.NumField() {
		f := t.Field(i)
		k := configKey{
			Path:   prefix + f.Tag.Get("mapstructure"),
			Index:  append(append([]int(nil), index...), i),
			Type:   f.Type,
			Secret: hubTag(f, "secret"),
			Live:   live || hubTag(f, "live"),
		}
		if f.Type.Kind() == reflect.Struct {
			keys = appendKeys(keys, f.Type, k.Path+".", k.Index, k.Live)
		} else {
			keys = append(keys, k)
		}
	}
	return keys
}

func hubTag(f reflect.StructField, word string) bool {
	for w := range strings.SplitSeq(f.Tag.Get("hub"), ",") {
		if w == word {
			return true
		}
	}
	return false
}

// List reports whether the key holds a list, which only the file can give.
func (k configKey) List() bool { return k.Type.Kind() == reflect.Slice }

// Env is the environment variable of the key.
func (k configKey) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.Path, ".", "_"))
}

// Flag is the name of the key's flag.
func (k configKey) Flag() string { return strings.ReplaceAll(k.Path, "_", "-") }

// In returns the key's value in c.
func (k configKey) In(c *Config) reflect.Value {
	return reflect.ValueOf(c).Elem().FieldByIndex(k.Index)
}

// fieldByKey finds the field of struct type t with the given name in the file.
func fieldByKey(t reflect.Type, name string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("mapstructure") == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// nearest is the candidate that name was probably meant to be, or "".
func nearest(name string, candidates []string) string {
	best, at := "", 3
	for _, c := range candidates {
		if d := editDistance(name, c); d < at && d < len(c) {
			best, at = c, d
		}
	}
	return best
}

// editDistance counts the letters to insert, delete or replace between a and b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d++
			}
			diagonal = row[j+1]
			row[j+1] = min(d, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
