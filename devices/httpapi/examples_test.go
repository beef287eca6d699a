package httpapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the answers of examples.json anew")

// example is one call of examples.json.
type example struct {
	Operation string          `json:"operation"`
	Path      string          `json:"path"`
	As        string          `json:"as,omitempty"` // anybody, device; an administrator unless said
	Request   json.RawMessage `json:"request,omitempty"`
	Status    int             `json:"status"`
	Answer    json.RawMessage `json:"answer,omitempty"`
}

// unplayed are operations with JSON in them that have no example: their answers are of no
// shape that can be shown, or they need what the rig has not.
var unplayed = map[string]bool{
	"get_api_openapi_json": true, "post_backup": true, "post_sinks_name_replay": true, "get_mqtt_sessions": true,
	"delete_keys_kid": true,
}

// TestExamples plays the examples of the document in their order. An answer has to have the
// fields and types that the document shows, and each operation an example.
func TestExamples(t *testing.T) {
	b, err := os.ReadFile("examples.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []example
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, false)
	device, shown := "", map[string]bool{}
	for i := range list {
		e := &list[i]
		token := map[string]string{"": r.admin, "anybody": "", "device": device}[e.As]
		var body any
		if e.Request != nil {
			body = string(e.Request)
		}
		method, _, _ := strings.Cut(e.Operation, "_")
		res := r.do(strings.ToUpper(method), e.Path, token, body)
		if res.status != e.Status {
			t.Fatalf("%s: got %d %s, want %d", e.Operation, res.status, res.body, e.Status)
		}
		if e.Operation == "post_devices" {
			var made struct{ Token string }
			r.into(res, e.Status, &made)
			device = made.Token
		}
		shown[e.Operation] = true
		var got, want any
		if err := json.Unmarshal(res.body, &got); err != nil {
			t.Fatalf("%s: %v in %s", e.Operation, err, res.body)
		}
		if *update {
			e.Answer = plainTokens(got)
			continue
		}
		if err := json.Unmarshal(e.Answer, &want); err != nil {
			t.Fatalf("%s: %v: go test ./devices/httpapi -run TestExamples -update", e.Operation, err)
		}
		if why := unlike("", got, want); why != "" {
			t.Errorf("%s: %s: go test ./devices/httpapi -run TestExamples -update", e.Operation, why)
		}
	}
	for path, item := range r.doc["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			id := op.(map[string]any)["operationId"].(string)
			text, _ := json.Marshal(op)
			if speaksJSON := bytes.Contains(text, []byte(`"application/json"`)); speaksJSON && !shown[id] && !unplayed[id] {
				t.Errorf("%s %s has no example: give %s one in examples.json", method, path, id)
			} else if speaksJSON && shown[id] && !*update && !bytes.Contains(text, []byte(`"example"`)) {
				t.Errorf("%s: the document does not show its example", id)
			}
		}
	}
	if *update {
		writeExamples(t, list)
	}
}

// plainTokens is an answer without what could be taken for a secret.
func plainTokens(v any) json.RawMessage {
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for k := range v {
				if s, ok := v[k].(string); ok && strings.Contains(k, "token") && s != "" {
					v[k] = "eyJhbGciOiJFZERTQSJ9…"
					continue
				}
				v[k] = walk(v[k])
			}
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		}
		return v
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(walk(v)) // out of JSON
	return bytes.TrimSpace(b.Bytes())
}

func writeExamples(t *testing.T, list []example) {
	t.Helper()
	var out bytes.Buffer
	out.WriteString("[\n")
	for i := range list {
		enc := new(bytes.Buffer)
		e := json.NewEncoder(enc)
		e.SetEscapeHTML(false)
		if err := e.Encode(list[i]); err != nil {
			t.Fatal(err)
		}
		comma := ","
		if i == len(list)-1 {
			comma = ""
		}
		fmt.Fprintf(&out, "\t%s%s\n", bytes.TrimSpace(enc.Bytes()), comma)
	}
	out.WriteString("]\n")
	if err := os.WriteFile("examples.json", out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// unlike says where an answer has other fields or types than the example.
func unlike(path string, got, want any) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return path + " is no object"
		}
		for k := range g {
			if _, there := w[k]; !there {
				return path + "." + k + " is not in the example"
			}
		}
		for k, v := range w {
			if _, there := g[k]; !there {
				return path + "." + k + " is missing"
			}
			if why := unlike(path+"."+k, g[k], v); why != "" {
				return why
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return path + " is another list"
		}
		for i := range w {
			if why := unlike(fmt.Sprintf("%s[%d]", path, i), g[i], w[i]); why != "" {
				return why
			}
		}
		return ""
	}
	if g, w := fmt.Sprintf("%T", got), fmt.Sprintf("%T", want); g != w {
		return fmt.Sprintf("%s is a %s, the example has a %s", path, g, w)
	}
	return ""
}
