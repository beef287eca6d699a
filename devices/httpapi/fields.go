package httpapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"devicehub/devices"
)

// selection is which fields of the records in an answer can be asked for.
type selection struct {
	list  string // where the records stand in the answer; "": it is one itself
	names []string
}

var fieldsParam = param{name: "fields", kind: "string", what: "names of fields, joined by commas: only these of each record"}

// shape is what is read of a schema.
type shape struct {
	Ref        string           `json:"$ref"`
	Type       any              `json:"type"`
	Properties map[string]shape `json:"properties"`
	Items      *shape           `json:"items"`
}

// selections gives every GET of records, or of a list of them, the parameter fields,
// with the names that the schema of its answer has.
func selections(routes []route) {
	var known map[string]shape
	if err := json.Unmarshal(schemas, &known); err != nil { // a programmer's mistake
		panic(fmt.Errorf("schemas.json: %w", err))
	}
	for i := range routes {
		r := &routes[i]
		if r.records {
			r.selects = selectionOf(known, r.answers[200])
			r.query = append(slices.Clip(r.query), fieldsParam)
		}
	}
}

func selectionOf(known map[string]shape, schema string) selection {
	s := known[schema]
	for name, p := range s.Properties {
		if p.Items == nil || s.Properties["next_cursor"].Type == nil && len(s.Properties) > 1 {
			continue // a list within a record
		}
		record := *p.Items
		if ref := strings.TrimPrefix(record.Ref, "#/components/schemas/"); ref != "" {
			record = known[ref]
		}
		return selection{name, sortedNames(record.Properties)}
	}
	return selection{"", sortedNames(s.Properties)}
}

func sortedNames(m map[string]shape) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// readFields reads the parameter fields.
func (c *call) readFields() error {
	text := c.query(fieldsParam.name)
	if text == "" {
		return nil
	}
	for name := range strings.SplitSeq(text, ",") {
		if !slices.Contains(c.route.selects.names, name) {
			return devices.Invalid(fieldsParam.name, "some of "+strings.Join(c.route.selects.names, ", ")).With("unknown", printable(name))
		}
		if !slices.Contains(c.fields, name) {
			c.fields = append(c.fields, name)
		}
	}
	return nil
}

// wants reports whether the field is to be in the answer.
func (c *call) wants(field string) bool {
	return c.fields == nil || slices.Contains(c.fields, field)
}

// selected is the answer's body with the fields alone that were asked for, in that
// order.
func (c *call) selected(body []byte) ([]byte, error) {
	if c.route.selects.list == "" {
		return c.cut(body)
	}
	var whole map[string]json.RawMessage
	var list []json.RawMessage
	if err := json.Unmarshal(body, &whole); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(whole[c.route.selects.list], &list); err != nil {
		return nil, err
	}
	for i := range list {
		var err error
		if list[i], err = c.cut(list[i]); err != nil {
			return nil, err
		}
	}
	var err error
	if whole[c.route.selects.list], err = json.Marshal(list); err != nil {
		return nil, err
	}
	return json.Marshal(whole)
}

// cut is one record with the fields that were asked for.
func (c *call) cut(record []byte) ([]byte, error) {
	var has map[string]json.RawMessage
	if err := json.Unmarshal(record, &has); err != nil {
		return nil, err
	}
	out := []byte{'{'}
	for _, name := range c.fields {
		v, there := has[name]
		if !there {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(append(out, '"'), name...), '"', ':'), v...)
	}
	return append(out, '}'), nil
}
