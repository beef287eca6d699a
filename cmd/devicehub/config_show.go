package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// redacted stands for a secret that is set; one that is not stays empty.
const redacted = "(set)"

// showYAML writes the effective configuration as a file that could be read
// back, secrets redacted. Behind a value that is no default stands where it
// came from.
func (l *Loaded) showYAML(w io.Writer) error {
	node, err := l.node(reflect.ValueOf(&l.Config).Elem(), "")
	if err != nil {
		return err
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(node); err != nil {
		return err
	}
	return enc.Close()
}

// showJSON writes the same as one JSON object.
func (l *Loaded) showJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(tree(reflect.ValueOf(&l.Config).Elem(), false))
}

// tree is v as maps and lists under the names of the file.
func tree(v reflect.Value, secret bool) any {
	switch v.Kind() {
	case reflect.Struct:
		out := map[string]any{}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			out[f.Tag.Get("mapstructure")] = tree(v.Field(i), hubTag(f, "secret"))
		}
		return out
	case reflect.Slice:
		out := make([]any, 0, v.Len())
		for i := range v.Len() {
			out = append(out, tree(v.Index(i), false))
		}
		return out
	}
	if secret && !v.IsZero() {
		return redacted
	}
	return plain(v)
}

// node is v as YAML in the order of the struct, with origins as comments.
func (l *Loaded) node(v reflect.Value, prefix string) (*yaml.Node, error) {
	out := &yaml.Node{Kind: yaml.MappingNode}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("mapstructure")
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: name}
		value := &yaml.Node{}
		if f.Type.Kind() == reflect.Struct {
			n, err := l.node(v.Field(i), prefix+name+".")
			if err != nil {
				return nil, err
			}
			value = n
		} else {
			if err := value.Encode(tree(v.Field(i), hubTag(f, "secret"))); err != nil {
				return nil, fmt.Errorf("%s%s: %w", prefix, name, err)
			}
			at := l.Origins[prefix+name]
			if value.Kind == yaml.SequenceNode && len(value.Content) > 0 {
				key.LineComment = at
			} else {
				value.LineComment = at
			}
		}
		out.Content = append(out.Content, key, value)
	}
	return out, nil
}
