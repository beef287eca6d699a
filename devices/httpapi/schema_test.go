package httpapi_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// checkAnswer holds an answer against the document.
func (r *rig) checkAnswer(method, path string, res reply) {
	r.t.Helper()
	op := r.operation(method, path)
	if op == nil {
		if res.status != 404 && res.status != 405 {
			r.t.Errorf("%s %s: answered %d and is not in the document", method, path, res.status)
		}
		return
	}
	responses := op["responses"].(map[string]any)
	schema, known := contentSchema(r.doc, responses[strconv.Itoa(res.status)])
	if responses[strconv.Itoa(res.status)] == nil {
		if res.status < 400 {
			r.t.Errorf("%s %s: status %d is not in the document", method, path, res.status)
			return
		}
		schema, known = contentSchema(r.doc, responses["default"])
	}
	if !known {
		if res.status == 204 && len(res.body) > 0 {
			r.t.Errorf("%s %s: 204 with a body", method, path)
		}
		return
	}
	var v any
	if err := json.Unmarshal(res.body, &v); err != nil {
		r.t.Errorf("%s %s: %d with %q: %v", method, path, res.status, res.body, err)
		return
	}
	if err := fits(r.doc, schema, v, "answer"); err != nil {
		r.t.Errorf("%s %s: %d is not as documented: %v\n%s", method, path, res.status, err, res.body)
	}
}

// operation finds a route in the document.
func (r *rig) operation(method, path string) map[string]any {
	got := strings.Split(path, "/")
	for template, item := range r.doc["paths"].(map[string]any) {
		want := strings.Split(template, "/")
		if len(want) != len(got) {
			continue
		}
		if slices.EqualFunc(want, got, func(w, g string) bool { return strings.HasPrefix(w, "{") || w == g }) {
			op, _ := item.(map[string]any)[strings.ToLower(method)].(map[string]any)
			if op != nil {
				return op
			}
		}
	}
	return nil
}

func contentSchema(doc map[string]any, response any) (map[string]any, bool) {
	m, _ := response.(map[string]any)
	if m == nil {
		return nil, false
	}
	if ref, isRef := m["$ref"].(string); isRef {
		m = resolve(doc, ref)
	}
	content, _ := m["content"].(map[string]any)
	j, _ := content["application/json"].(map[string]any)
	if j == nil {
		return nil, false
	}
	return j["schema"].(map[string]any), true
}

func resolve(doc map[string]any, ref string) map[string]any {
	v := any(doc)
	for p := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		v = v.(map[string]any)[p]
	}
	m, _ := v.(map[string]any)
	if m == nil {
		panic("nothing at " + ref)
	}
	return m
}

// fits checks a value against the part of JSON Schema that the document uses.
func fits(doc, schema map[string]any, v any, at string) error {
	if ref, isRef := schema["$ref"].(string); isRef {
		return fits(doc, resolve(doc, ref), v, at)
	}
	for _, word := range []string{"oneOf", "anyOf"} {
		if list, has := schema[word].([]any); has {
			var errs []string
			for _, s := range list {
				err := fits(doc, s.(map[string]any), v, at)
				if err == nil {
					return nil
				}
				errs = append(errs, err.Error())
			}
			return fmt.Errorf("%s: none fits: %s", at, strings.Join(errs, "; "))
		}
	}
	if t, has := schema["type"]; has && !hasType(t, v) {
		return fmt.Errorf("%s: got %T, want %v", at, v, t)
	}
	if enum, has := schema["enum"].([]any); has && !slices.ContainsFunc(enum, func(e any) bool { return reflect.DeepEqual(e, v) }) {
		return fmt.Errorf("%s: got %v, want one of %v", at, v, enum)
	}
	switch v := v.(type) {
	case string:
		if p, has := schema["pattern"].(string); has && !regexp.MustCompile(p).MatchString(v) {
			return fmt.Errorf("%s: %q is not %s", at, v, p)
		}
	case []any:
		if items, has := schema["items"].(map[string]any); has {
			for i, e := range v {
				if err := fits(doc, items, e, fmt.Sprintf("%s[%d]", at, i)); err != nil {
					return err
				}
			}
		}
	case map[string]any:
		return fitsObject(doc, schema, v, at)
	}
	return nil
}

func fitsObject(doc, schema, v map[string]any, at string) error {
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, has := v[name.(string)]; !has {
			return fmt.Errorf("%s: %s is missing", at, name)
		}
	}
	props, _ := schema["properties"].(map[string]any)
	for name, e := range v {
		s, known := props[name].(map[string]any)
		if !known {
			switch extra := schema["additionalProperties"].(type) {
			case bool:
				if !extra {
					return fmt.Errorf("%s: %s is not in the document", at, name)
				}
			case map[string]any:
				s, known = extra, true
			}
		}
		if known {
			if err := fits(doc, s, e, at+"."+name); err != nil {
				return err
			}
		}
	}
	return nil
}

func hasType(want, v any) bool {
	if list, isList := want.([]any); isList {
		return slices.ContainsFunc(list, func(w any) bool { return hasType(w, v) })
	}
	switch v := v.(type) {
	case nil:
		return want == "null"
	case bool:
		return want == "boolean"
	case string:
		return want == "string"
	case float64:
		return want == "number" || want == "integer" && v == float64(int64(v))
	case []any:
		return want == "array"
	case map[string]any:
		return want == "object"
	}
	return false
}

// contract is the table of routes of the product's description.
const contract = `POST /api/v1/login
POST /api/v1/logout
POST /api/v1/refresh
GET /api/v1/me
GET /api/v1/devices
POST /api/v1/devices
GET /api/v1/devices/{id}
PATCH /api/v1/devices/{id}
DELETE /api/v1/devices/{id}
POST /api/v1/devices/{id}/tokens
DELETE /api/v1/devices/{id}/tokens
GET /api/v1/devices/{id}/latest
GET /api/v1/devices/{id}/shadow
GET /api/v1/devices/{id}/events
GET /api/v1/devices/{id}/trace
PATCH /api/v1/devices/{id}/shadow
GET /api/v1/devices/{id}/series
GET /api/v1/series
GET /api/v1/devices/{id}/export
POST /api/v1/devices/{id}/readings
POST /api/v1/devices/{id}/commands
GET /api/v1/devices/{id}/commands
GET /api/v1/devices/{id}/commands/{cmd_id}
DELETE /api/v1/devices/{id}/commands/{cmd_id}
GET /api/v1/users
POST /api/v1/users
PATCH /api/v1/users/{name}
DELETE /api/v1/users/{name}
GET /api/v1/apitokens
POST /api/v1/apitokens
PATCH /api/v1/apitokens/{name}
DELETE /api/v1/apitokens/{name}
GET /api/v1/keys
POST /api/v1/keys
DELETE /api/v1/keys/{kid}
GET /api/v1/sessions
DELETE /api/v1/sessions/{sid}
POST /api/v1/clock/accept
GET /api/v1/audit
GET /api/v1/nodes
GET /api/v1/bridges
GET /api/v1/sinks
GET /api/v1/discovered
POST /api/v1/backup
GET /healthz
GET /readyz
GET /metrics
GET /api/openapi.json`

func TestDocumentHoldsTheRoutes(t *testing.T) {
	r := newRig(t, false)
	if r.doc["openapi"] != "3.1.0" {
		t.Errorf("got version %v", r.doc["openapi"])
	}
	for line := range strings.SplitSeq(contract, "\n") {
		method, path, _ := strings.Cut(line, " ")
		if r.operation(method, path) == nil {
			t.Errorf("%s is not in the document", line)
		}
	}
	ids := map[string]bool{}
	for path, item := range r.doc["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			op := op.(map[string]any)
			id := op["operationId"].(string)
			if ids[id] {
				t.Errorf("operationId %s twice", id)
			}
			ids[id] = true
			// Every documented route is served: not signed in is the worst that may come.
			probe := strings.NewReplacer("{id}", "x", "{cmd_id}", "x", "{name}", "x", "{kid}", "x", "{sid}", "x").Replace(path)
			res := r.do(strings.ToUpper(method), probe, "", nil)
			open := op["security"] != nil
			if !open && res.status != 401 || res.status == 405 || open && res.status == 404 && path != "/metrics" {
				t.Errorf("%s %s: got %d %s", method, path, res.status, res.body)
			}
		}
	}
	// Every reference leads somewhere.
	b, err := json.Marshal(r.doc)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range regexp.MustCompile(`"\$ref":"([^"]+)"`).FindAllStringSubmatch(string(b), -1) {
		resolve(r.doc, ref[1])
	}
}
