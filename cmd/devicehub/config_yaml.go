package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlFile is a configuration file, checked against the fields of Config.
type yamlFile struct {
	Values map[string]any // nested, as viper merges it
	Lines  map[string]int // line of each key given: "http.listen", "mqtt.bridges[0].url"
}

// parseYAML reads a file's text. Every unknown or repeated key and every
// value of a wrong type is one problem, with its key and line; name is how
// the problems call the file.
func parseYAML(name string, text []byte) (yamlFile, Problems) {
	f := yamlFile{Values: map[string]any{}, Lines: map[string]int{}}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return f, nil
	} else if err != nil {
		return f, Problems{{Origin: name, Text: strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	r := yamlReader{name: name, lines: f.Lines}
	root := doc.Content[0]
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		r.add(&doc, "", "the file holds more than one YAML document; keep the first")
	}
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return f, r.problems
	}
	if root.Kind != yaml.MappingNode {
		r.add(root, "", "the file must be a list of `key: value` lines")
		return f, r.problems
	}
	f.Values = r.mapping(root, reflect.TypeFor[Config](), "")
	return f, r.problems
}

type yamlReader struct {
	name     string
	lines    map[string]int
	problems Problems
}

func (r *yamlReader) add(n *yaml.Node, key, text string) {
	r.problems = append(r.problems, Problem{Origin: r.name + ":" + strconv.Itoa(n.Line), Key: key, Text: text})
}

// mapping reads n, a mapping, as struct type t.
func (r *yamlReader) mapping(n *yaml.Node, t reflect.Type, prefix string) map[string]any {
	out := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		name := k.Value
		f, ok := fieldByKey(t, name)
		if !ok || k.Kind != yaml.ScalarNode {
			r.unknown(k, t, prefix)
			continue
		}
		if _, again := out[name]; again {
			r.add(k, prefix+name, "given twice; keep one of the two")
			continue
		}
		r.lines[prefix+name] = k.Line
		if value, given := r.value(v, f.Type, prefix+name); given {
			out[name] = value
		}
	}
	return out
}

func (r *yamlReader) unknown(k *yaml.Node, t reflect.Type, prefix string) {
	if k.Kind != yaml.ScalarNode {
		r.add(k, strings.TrimSuffix(prefix, "."), "keys must be plain words")
		return
	}
	var known []string
	for i := range t.NumField() {
		known = append(known, t.Field(i).Tag.Get("mapstructure"))
	}
	text := "unknown key; known here: " + strings.Join(known, ", ")
	if n := nearest(k.Value, known); n != "" {
		text = fmt.Sprintf("unknown key; did you mean %q?", n)
	}
	r.add(k, prefix+k.Value, text)
}

// value reads n as a value of type t; given is false where a section has
// nothing in it or a problem was noted.
func (r *yamlReader) value(n *yaml.Node, t reflect.Type, key string) (v any, given bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	null := n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
	switch t.Kind() {
	case reflect.Struct:
		if null {
			return nil, false // a heading with all its keys commented out
		}
		if n.Kind != yaml.MappingNode {
			r.wrongType(n, key, "a section with keys of its own")
			return nil, false
		}
		return r.mapping(n, t, key+"."), true
	case reflect.Slice:
		if null {
			return nil, false
		}
		if n.Kind != yaml.SequenceNode {
			r.wrongType(n, key, "a list")
			return nil, false
		}
		list := make([]any, 0, len(n.Content))
		for i, e := range n.Content {
			at := key + "[" + strconv.Itoa(i) + "]"
			r.lines[at] = e.Line
			if v, ok := r.value(e, t.Elem(), at); ok {
				list = append(list, v)
			}
		}
		return list, true
	}
	if null {
		r.add(n, key, `has no value; remove the line, or write "" for an empty text`)
		return nil, false
	}
	if n.Kind != yaml.ScalarNode {
		r.wrongType(n, key, wanted(t))
		return nil, false
	}
	switch tag := n.ShortTag(); {
	case t == reflect.TypeFor[Duration]():
		if tag != "!!str" && n.Value != "0" {
			r.wrongType(n, key, wanted(t))
			return nil, false
		}
	case t == reflect.TypeFor[Size]():
		if tag != "!!str" && tag != "!!int" {
			r.wrongType(n, key, wanted(t))
			return nil, false
		}
	case tag != map[reflect.Kind]string{reflect.String: "!!str", reflect.Int: "!!int", reflect.Bool: "!!bool"}[t.Kind()]:
		r.wrongType(n, key, wanted(t))
		return nil, false
	}
	v, err := parseValue(t, n.Value)
	if err != nil {
		r.add(n, key, err.Error())
		return nil, false
	}
	return v, true
}

func (r *yamlReader) wrongType(n *yaml.Node, key, want string) {
	got := map[yaml.Kind]string{yaml.MappingNode: "a section", yaml.SequenceNode: "a list"}[n.Kind]
	if n.Kind == yaml.ScalarNode {
		switch n.ShortTag() {
		case "!!str":
			got = "a text"
		case "!!int", "!!float":
			got = "a number"
		case "!!bool":
			got = "true or false"
		case "!!timestamp":
			got = "a date"
		default:
			got = "a " + strings.TrimLeft(n.ShortTag(), "!")
		}
		if strings.HasPrefix(want, "a text") {
			got += "; put it in quotes"
		}
	}
	r.add(n, key, "must be "+want+", not "+got)
}

// wanted names the form of a leaf of type t.
func wanted(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Duration]():
		return "a duration such as 10s, 12h, 30d or 2y"
	case t == reflect.TypeFor[Size]():
		return "a size such as 1048576, 512MiB, 10GB or auto"
	case t.Kind() == reflect.Int:
		return "a whole number"
	case t.Kind() == reflect.Bool:
		return "true or false"
	}
	return "a text"
}

// parseValue reads s, from a file, a variable or a flag, as a leaf of type t.
// Durations and sizes come back as text, which is how viper hands them on.
func parseValue(t reflect.Type, s string) (any, error) {
	switch {
	case t == reflect.TypeFor[Duration]():
		_, err := ParseDuration(s)
		return s, err
	case t == reflect.TypeFor[Size]():
		_, err := ParseSize(s)
		return s, err
	case t.Kind() == reflect.Int:
		n, err := strconv.ParseInt(s, 0, 0)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", s)
		}
		return int(n), nil
	case t.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return nil, fmt.Errorf("%q is neither true nor false", s)
		}
		return b, nil
	}
	return s, nil
}
