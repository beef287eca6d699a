package devices

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// Decode reads one JSON value into v, strictly: unknown fields, other types,
// anything behind the value, and all that [CheckJSON] refuses are invalid. Where
// no field is to blame, whole names the value: "body", "payload". The fields of a
// struct are taken in their own case alone.
func Decode(b []byte, whole string, v any) error {
	if err := CheckJSON(b, whole); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return decodeError(err, whole)
	}
	if _, more := dec.Token(); more != io.EOF {
		return Invalid(whole, "one JSON value")
	}
	if reflect.TypeOf(v).Elem().Kind() == reflect.Struct {
		return lowerCase(b)
	}
	return nil
}

func decodeError(err error, whole string) error {
	var wrong *json.UnmarshalTypeError
	var refused *Error
	switch {
	case errors.As(err, &refused): // by a type that reads itself
		return refused
	case errors.As(err, &wrong):
		field := wrong.Field
		if field == "" {
			field = whole
		}
		return Invalid(field, jsonType(wrong.Type.Kind()))
	case errors.Is(err, io.EOF):
		return Invalid(whole, "a JSON object")
	}
	if name, found := strings.CutPrefix(err.Error(), "json: unknown field "); found {
		if s, unquoted := strconv.Unquote(name); unquoted == nil {
			name = s
		}
		return UnknownField(name)
	}
	return Invalid(whole, "well-formed JSON")
}

// lowerCase refuses what encoding/json takes for a field of ours, which are all
// in lower case, in another.
func lowerCase(b []byte) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(b, &fields) != nil {
		return nil // null
	}
	for name := range fields {
		if name != strings.ToLower(name) {
			return UnknownField(name)
		}
	}
	return nil
}

// UnknownField refuses a field that is none.
func UnknownField(name string) *Error {
	return Refuse(CodeInvalid, "unknown field "+strconv.Quote(name)).With("field", name).With("want", "a known field")
}

// jsonType names a kind as JSON knows it.
func jsonType(k reflect.Kind) string {
	switch {
	case k == reflect.Struct || k == reflect.Map:
		return "an object"
	case k == reflect.Slice || k == reflect.Array:
		return "a list"
	case k == reflect.Bool:
		return "true or false"
	case k >= reflect.Int && k <= reflect.Uint64:
		return "a whole number"
	case k == reflect.Float32 || k == reflect.Float64:
		return "a number"
	}
	return "a string"
}
