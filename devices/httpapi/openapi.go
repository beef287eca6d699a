package httpapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

//go:embed schemas.json
var schemas []byte

// examples are calls with their answers, by operation. A test plays them.
//
//go:embed examples.json
var examples []byte

type object = map[string]any

// shownExample is what the document shows of a call.
type shownExample struct {
	Operation string          `json:"operation"`
	Path      string          `json:"path"`
	Request   json.RawMessage `json:"request"`
	Status    int             `json:"status"`
	Answer    json.RawMessage `json:"answer"`
}

// shownExamples are those of the document, by operation.
func shownExamples() map[string]shownExample {
	var list []shownExample
	if err := json.Unmarshal(examples, &list); err != nil {
		panic(err) // it is built in
	}
	m := make(map[string]shownExample, len(list))
	for _, e := range list {
		m[e.Operation] = e
	}
	return m
}

// openapi answers with the OpenAPI 3.1 document: the paths out of the table of
// routes, the shapes out of schemas.json. It is anybody's, and made once.
func (c *call) openapi() (answer, error) {
	h := c.w.Header()
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("Vary", "Accept-Encoding")
	doc := c.api.document()
	if c.answered(doc.tag) {
		return streamed()
	}
	body := doc.plain
	if takesGzip(c.Header) {
		body = doc.zipped
		h.Set("Content-Encoding", "gzip")
		h.Set("ETag", strings.TrimSuffix(doc.tag, `"`)+gzipSuffix+`"`)
	}
	h.Set("Content-Type", typeJSON)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(body) // to a client that may have gone
	return streamed()
}

// documentation is the document as it is sent, with its entity tag.
type documentation struct {
	plain, zipped []byte
	tag           string
}

func documented(routes []route) *documentation {
	body := append(marshal(document(routes)), '\n')
	sum := sha256.Sum256(body)
	var zipped bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	_, _ = zw.Write(body) // a bytes.Buffer does not fail
	_ = zw.Close()
	return &documentation{body, zipped.Bytes(), `"` + hex.EncodeToString(sum[:8]) + `"`}
}

func document(routes []route) object {
	paths, shown := object{}, shownExamples()
	for i := range routes {
		r := &routes[i]
		item, found := paths[r.path].(object)
		if !found {
			item = object{}
			paths[r.path] = item
		}
		item[strings.ToLower(r.method)] = r.operation(shown[r.operationID()])
	}
	return object{
		"openapi": "3.1.0",
		"info": object{"title": "devicehub", "version": "1", "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "Times are ms since epoch; fields ending in _ms and _s are durations. Lists are paged by opaque cursors: next_cursor is empty on the last page. " +
				"Records have a version, ver: send the one that was read as if_ver (409) or in If-Match (412), and a change is refused with version_conflict, " +
				"and the present record in details.current, when somebody was faster."},
		"paths": paths,
		"components": object{
			"schemas": json.RawMessage(schemas),
			"responses": object{"Error": object{"description": "Refused: the code says why, and the reason says it to people.",
				"content": object{"application/json": object{"schema": ref("Error")}}}},
			"securitySchemes": object{
				"bearer": object{"type": "http", "scheme": "bearer", "description": "A user's, a service account's or a device's token"},
				"cookie": object{"type": "apiKey", "in": "cookie", "name": "__Host-devicehub",
					"description": "The dashboard's session; calls that change something need the header " + CSRFHeader + ": " + CSRFValue + ". Without https the cookie is named devicehub."},
			},
		},
		"security": []object{{"bearer": []string{}}, {"cookie": []string{}}},
	}
}

func ref(schema string) object { return object{"$ref": "#/components/schemas/" + schema} }

func (r *route) operation(e shownExample) object {
	op := object{"tags": []string{r.tag}, "summary": r.summary, "description": "Who: " + r.who + ".",
		"operationId": r.operationID(), "responses": r.responses(e)}
	if params := r.parameterDocs(); len(params) > 0 {
		op["parameters"] = params
	}
	if r.body != "" {
		op["requestBody"] = object{"required": !r.bodyOptional, "content": r.bodyTypes(e)}
	}
	if r.open {
		op["security"] = []object{}
	}
	return op
}

func (r *route) bodyTypes(e shownExample) object {
	types := object{}
	for _, t := range r.takes() {
		types[t] = exemplified(object{"schema": ref(r.body)}, e.Request)
	}
	return types
}

// operationID is the method and the path in one word: get_devices_id_latest.
func (r *route) operationID() string {
	path := strings.TrimPrefix(strings.TrimPrefix(r.path, base), "/")
	return strings.ToLower(r.method) + "_" + strings.NewReplacer("/", "_", "{", "", "}", "", ".", "_").Replace(path)
}

func (r *route) parameterDocs() []object {
	var list []object
	for part := range strings.SplitSeq(r.path, "/") {
		if name, found := strings.CutPrefix(part, "{"); found {
			list = append(list, object{"name": strings.TrimSuffix(name, "}"), "in": "path", "required": true, "schema": object{"type": "string"}})
		}
	}
	for _, p := range r.query {
		schema := object{"type": p.kind}
		if p.enum != nil {
			schema["enum"] = p.enum
		}
		if p.many {
			schema = object{"type": "array", "items": schema}
		}
		doc := object{"name": p.name, "in": "query", "description": p.what, "required": p.must, "schema": schema}
		if p.blank {
			doc["allowEmptyValue"] = true
		}
		list = append(list, doc)
	}
	if r.versioned {
		name, what := "If-Match", "tags of the versions that may be changed; 412 and version_conflict when it is at none of them"
		if r.method == "GET" {
			name, what = "If-None-Match", "tags of the answers that are known; 304 when it would be one of them"
		}
		list = append(list, object{"name": name, "in": "header", "description": what, "schema": object{"type": "string"}})
	}
	what := ""
	switch {
	case r.once:
		what = "The same request under the same key, by the same caller within 24 hours, makes nothing more and gets the same answer again, token included (kept in memory); another request is a conflict"
	case strings.HasSuffix(r.path, "/commands") && r.method == "POST":
		what = "The same key with the same body is the same command"
	}
	if what != "" {
		list = append(list, object{"name": keyHeader, "in": "header", "description": what, "schema": object{"type": "string"}})
	}
	return list
}

// exemplified adds an example, if there is one.
func exemplified(content object, example json.RawMessage) object {
	if example != nil {
		content["example"] = example
	}
	return content
}

func (r *route) responses(e shownExample) object {
	list := object{"default": object{"$ref": "#/components/responses/Error"}}
	for status, what := range r.answers {
		a := object{"description": fmt.Sprintf("%s.", r.summary)}
		switch {
		case what == "":
		case strings.Contains(what, "/"):
			a["content"] = object{what: object{"schema": object{"type": "string"}}}
			if what == "text/csv" {
				a["content"] = object{what: object{"schema": object{"type": "string"}}, "application/x-ndjson": object{"schema": object{"type": "string"}}, "text/plain": object{"schema": object{"type": "string"}}}
			}
		default:
			content := object{"schema": ref(what)}
			if status == e.Status {
				content = exemplified(content, e.Answer)
			}
			a["content"] = object{"application/json": content}
		}
		if headers := r.headers(status); len(headers) > 0 {
			a["headers"] = headers
		}
		list[strconv.Itoa(status)] = a
	}
	switch {
	case r.versioned && r.method == "GET":
		list["304"] = object{"description": "It is the answer that is known already."}
	case r.versioned:
		list["412"] = object{"$ref": "#/components/responses/Error"}
	}
	return list
}

// headers are those that say something of an answer.
func (r *route) headers(status int) object {
	list := object{}
	add := func(name, what string) {
		list[name] = object{"description": what, "schema": object{"type": "string"}}
	}
	if r.versioned && status == 200 {
		add("ETag", "begins with the record's version")
	}
	if status == 201 || status == 202 {
		add("Location", "where it is found")
	}
	if r.once {
		add("Idempotent-Replayed", "true where the answer is that to an earlier request under the key")
	}
	return list
}
