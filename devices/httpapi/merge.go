package httpapi

import (
	"bytes"
	"encoding/json"
)

// merged is target with a patch in it, as RFC 7396 merges: objects field by field,
// null takes a field away, all else is replaced. Both are JSON, target may be
// empty. Numbers stay as they were written.
func merged(target, patch []byte) ([]byte, error) {
	var t, p any
	if len(target) > 0 {
		if err := decodeNumbers(target, &t); err != nil {
			return nil, err
		}
	}
	if err := decodeNumbers(patch, &p); err != nil {
		return nil, err
	}
	return encode(merge(t, p))
}

// merge is MergePatch of RFC 7396 §2.
func merge(target, patch any) any {
	fields, isObject := patch.(map[string]any)
	if !isObject {
		return patch
	}
	into, isObject := target.(map[string]any)
	if !isObject {
		into = map[string]any{}
	}
	for name, v := range fields {
		if v == nil {
			delete(into, name)
		} else {
			into[name] = merge(into[name], v)
		}
	}
	return into
}

func decodeNumbers(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	return dec.Decode(v)
}

// encode is the one form of a value, whatever the order of its fields was.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(out.Bytes(), "\n"), nil
}
