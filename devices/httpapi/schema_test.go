package httpapi_test

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// checkAnswer holds an answer against the document.
func (r *rig) checkAnswer(method, path string, res reply) {
	r.t.Helper()
	r.checking.Lock()
	defer r.checking.Unlock()
	op, at := r.operation(method, path)
	if op == nil {
		if res.status != 404 && res.status != 405 && method != "OPTIONS" {
			r.t.Errorf("%s %s: answered %d and is not in the document", method, path, res.status)
		}
		return
	}
	response, documented := op["responses"].(map[string]any)[strconv.Itoa(res.status)].(map[string]any)
	at += "/responses/" + strconv.Itoa(res.status)
	switch {
	case documented:
	case res.status < 400:
		r.t.Errorf("%s %s: status %d is not in the document", method, path, res.status)
		return
	default:
		at = "/components/responses/Error"
		response = r.doc["components"].(map[string]any)["responses"].(map[string]any)["Error"].(map[string]any)
	}
	content, _ := response["content"].(map[string]any)
	if content["application/json"] == nil {
		if res.status == 204 && len(res.body) > 0 {
			r.t.Errorf("%s %s: 204 with a body", method, path)
		}
		return
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(res.body))
	if err != nil {
		r.t.Errorf("%s %s: %d with %q: %v", method, path, res.status, res.body, err)
		return
	}
	if err := r.schema(at + "/content/application~1json/schema").Validate(v); err != nil {
		r.t.Errorf("%s %s: %d is not as documented: %v\n%s", method, path, res.status, err, res.body)
	}
}

// schema is the one at a JSON pointer of the document.
func (r *rig) schema(pointer string) *jsonschema.Schema {
	r.t.Helper()
	const name = "https://hub/openapi.json"
	if r.schemas == nil {
		r.schemas = jsonschema.NewCompiler()
		if err := r.schemas.AddResource(name, r.doc); err != nil {
			r.t.Fatal(err)
		}
	}
	s, err := r.schemas.Compile(name + "#" + pointer)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// operation finds a route in the document, and where it stands there.
func (r *rig) operation(method, path string) (op map[string]any, pointer string) {
	got := strings.Split(path, "/")
	for template, item := range r.doc["paths"].(map[string]any) {
		want := strings.Split(template, "/")
		if len(want) != len(got) {
			continue
		}
		if slices.EqualFunc(want, got, func(w, g string) bool { return strings.HasPrefix(w, "{") || w == g }) {
			op, _ := item.(map[string]any)[strings.ToLower(method)].(map[string]any)
			if op != nil {
				escaped := strings.NewReplacer("/", "~1", "{", "%7B", "}", "%7D").Replace(template)
				return op, "/paths/" + escaped + "/" + strings.ToLower(method)
			}
		}
	}
	return nil, ""
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
GET /api/v1/readings/check
POST /api/v1/readings/repair
GET /api/v1/audit
GET /api/v1/nodes
GET /api/v1/bridges
GET /api/v1/sinks
GET /api/v1/discovered
GET /api/v1/mqtt/sessions
DELETE /api/v1/mqtt/sessions/{id}
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
		if op, _ := r.operation(method, path); op == nil {
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
}

// The document is one of OpenAPI 3.1, and its shapes are schemas: both by the
// definitions of those who made them.
func TestDocumentIsOpenAPI(t *testing.T) {
	r := newRig(t, false)
	f, err := os.Open("testdata/openapi-3.1.schema.json") // https://spec.openapis.org/oas/3.1/schema/2026-08-03
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	definition, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("openapi.json", definition); err != nil {
		t.Fatal(err)
	}
	openapi, err := c.Compile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := openapi.Validate(r.doc); err != nil {
		t.Error(err)
	}
	for name := range r.doc["components"].(map[string]any)["schemas"].(map[string]any) {
		r.schema("/components/schemas/" + name) // compiles, its references too
	}
}
