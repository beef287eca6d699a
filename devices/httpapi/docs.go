package httpapi

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

//go:embed docs.html
var docsPage string

//go:embed docs.css
var docsStyle []byte

// Docs serves the API's page for people at /docs, made out of the same document as
// /api/openapi.json, with its style sheet beside it. It has no scripts and is anybody's.
func Docs() http.Handler {
	page := docsHTML()
	mux := http.NewServeMux()
	serve := func(path, kind string, body []byte) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Cache-Control", "public, max-age=300")
			_, _ = w.Write(body) // to a client who may be gone
		})
	}
	serve("/docs", "text/html; charset=utf-8", page)
	serve("/docs/style.css", "text/css; charset=utf-8", docsStyle)
	return mux
}

// docsOperation is an operation as the page shows it.
type docsOperation struct {
	ID, Method, Path, Summary, Who string
	Params                         []docsParam
	Body                           string // the schema's name
	Request, Answer                string // examples
	Call                           string // of the example
	Answers                        []docsAnswer
}

// docsParam is a parameter of the query.
type docsParam struct {
	Name, Kind, What string
	Enum             []string
	Must             bool
}

type docsAnswer struct {
	Status int
	What   string // the schema's name, a media type, or nothing
	Named  bool   // it is a schema's
}

type docsTag struct {
	Name       string
	Operations []docsOperation
}

// docsField is a line of a schema.
type docsField struct {
	Name, Type, What string
	Must             bool
}

type docsSchema struct {
	Name, Type string
	Fields     []docsField
}

func docsHTML() []byte {
	named := map[string]json.RawMessage{}
	if err := json.Unmarshal(schemas, &named); err != nil {
		panic(err) // it is built in
	}
	var b bytes.Buffer
	err := template.Must(template.New("docs").Parse(docsPage)).Execute(&b, map[string]any{
		"Tags": docsTags(named), "Schemas": docsSchemas(named), "About": document(nil)["info"].(object)["description"],
	})
	if err != nil {
		panic(err) // a page that its own parts cannot fill
	}
	return b.Bytes()
}

func docsTags(named map[string]json.RawMessage) (tags []docsTag) {
	shown, all := shownExamples(), routes()
	for i := range all {
		r := &all[i]
		e := shown[r.operationID()]
		op := docsOperation{ID: r.operationID(), Method: r.method, Path: r.path, Summary: r.summary, Who: r.who, Body: r.body,
			Request: indented(e.Request), Answer: indented(e.Answer)}
		for _, p := range r.query {
			op.Params = append(op.Params, docsParam{p.name, p.kind, p.what, p.enum, p.must})
		}
		if e.Operation != "" {
			op.Call = r.method + " " + e.Path
		}
		for _, status := range slices.Sorted(maps.Keys(r.answers)) {
			_, isSchema := named[r.answers[status]]
			op.Answers = append(op.Answers, docsAnswer{status, r.answers[status], isSchema})
		}
		at := slices.IndexFunc(tags, func(t docsTag) bool { return t.Name == r.tag })
		if at < 0 {
			at, tags = len(tags), append(tags, docsTag{Name: r.tag})
		}
		tags[at].Operations = append(tags[at].Operations, op)
	}
	return tags
}

func indented(text json.RawMessage) string {
	var b bytes.Buffer
	if text == nil || json.Indent(&b, text, "", "  ") != nil {
		return ""
	}
	return b.String()
}

// docsShape is as much of a schema as the page shows.
type docsShape struct {
	Type                 any                  `json:"type"`
	Ref                  string               `json:"$ref"`
	Description          string               `json:"description"`
	Enum                 []any                `json:"enum"`
	Properties           map[string]docsShape `json:"properties"`
	Required             []string             `json:"required"`
	Items                *docsShape           `json:"items"`
	OneOf                []docsShape          `json:"oneOf"`
	AnyOf                []docsShape          `json:"anyOf"`
	AdditionalProperties any                  `json:"additionalProperties"`
}

func docsSchemas(named map[string]json.RawMessage) (list []docsSchema) {
	for _, name := range slices.Sorted(maps.Keys(named)) {
		var s docsShape
		if err := json.Unmarshal(named[name], &s); err != nil {
			panic(err) // it is built in
		}
		d := docsSchema{Name: name}
		if d.Fields = fieldsOf("", &s); d.Fields == nil {
			d.Type = s.String()
			if s.Description != "" {
				d.Type += ": " + s.Description
			}
		}
		list = append(list, d)
	}
	return list
}

// fieldsOf are the lines of an object, those of objects within it behind their names.
func fieldsOf(prefix string, s *docsShape) (list []docsField) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		list = append(list, docsField{prefix + name, p.String(), p.Description, slices.Contains(s.Required, name)})
		switch {
		case p.Properties != nil:
			list = append(list, fieldsOf(prefix+name+".", &p)...)
		case p.Items != nil && p.Items.Properties != nil:
			list = append(list, fieldsOf(prefix+name+"[].", p.Items)...)
		}
	}
	return list
}

// String is the shape in a few words.
func (s *docsShape) String() string {
	joined := func(list []docsShape) string {
		var all []string
		for i := range list {
			all = append(all, list[i].String())
		}
		return strings.Join(all, " or ")
	}
	switch {
	case s.Ref != "":
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	case s.OneOf != nil:
		return joined(s.OneOf)
	case s.AnyOf != nil:
		return joined(s.AnyOf)
	case s.Enum != nil:
		var all []string
		for _, v := range s.Enum {
			all = append(all, strconv.Quote(fmt.Sprint(v)))
		}
		return strings.Join(all, ", ")
	}
	switch t := s.Type.(type) {
	case string:
		if t == "array" && s.Items != nil {
			return "list of " + s.Items.String()
		}
		return t
	case []any:
		var all []string
		for _, one := range t {
			all = append(all, fmt.Sprint(one))
		}
		return strings.Join(all, " or ")
	}
	return "any"
}
