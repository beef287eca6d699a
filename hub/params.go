package hub

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Params are the parameters of a connect: strings, lists ([]any) and maps (Params), nested as
// the query has it: a=1, a[]=1&a[]=2, a[b]=1.
type Params map[string]any

// Get returns the parameter if it is a string, else "".
func (p Params) Get(key string) string {
	s, _ := p[key].(string)
	return s
}

// Map returns the parameter if it is a map, else nil.
func (p Params) Map(key string) Params {
	m, _ := p[key].(Params)
	return m
}

// List returns the parameter if it is a list, else nil.
func (p Params) List(key string) []any {
	l, _ := p[key].([]any)
	return l
}

var errQuery = errors.New("malformed query")

// Limits of what strangers may nest and name.
const (
	maxParams     = 1000
	maxParamDepth = 32
)

// ParseParams decodes a query string as Plug does: of parameters with the same name the last
// counts, and bracketed names nest. It returns an error for bad percent-encoding, text that is
// not UTF-8, and absurd numbers of parameters.
// Source: plug lib/plug/conn/query.ex.
func ParseParams(query string) (Params, error) {
	p := Params{}
	n := 0
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		if n++; n > maxParams {
			return nil, errQuery
		}
		rawKey, rawValue, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(rawKey)
		if err != nil || !utf8.ValidString(key) {
			return nil, errQuery
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil || !utf8.ValidString(value) {
			return nil, errQuery
		}
		if strings.Count(key, "[") > maxParamDepth {
			return nil, errQuery
		}
		name, path := splitKey(key)
		p[name] = put(p[name], path, strings.Clone(value)) // who keeps it keeps no request with it
	}
	return p, nil
}

// splitKey turns a[b][] into a and [b, ""]. A key that is not well formed is a name as it is.
func splitKey(key string) (name string, path []string) {
	open := strings.IndexByte(key, '[')
	if open <= 0 || !strings.HasSuffix(key, "]") {
		return key, nil
	}
	return key[:open], strings.Split(key[open+1:len(key)-1], "][")
}

// put returns old with value at path.
func put(old any, path []string, value string) any {
	if len(path) == 0 {
		return value
	}
	if path[0] == "" {
		list, _ := old.([]any)
		return append(list, put(nil, path[1:], value))
	}
	m, ok := old.(Params)
	if !ok {
		m = Params{}
	}
	m[path[0]] = put(m[path[0]], path[1:], value)
	return m
}

// String returns the parameters' names, for logs: values may be secrets.
func (p Params) String() string {
	names := make([]string, 0, len(p))
	for name := range p {
		names = append(names, strconv.Quote(name))
	}
	return "[" + strings.Join(names, " ") + "]"
}
