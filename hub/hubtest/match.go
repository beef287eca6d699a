package hubtest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"devicehub/hub"
)

// Any stands for any value inside a wanted payload.
const Any = "\x00any"

// match holds a payload against what is wanted.
func match(want any, got hub.Payload) error {
	switch w := want.(type) {
	case nil:
		return nil
	case func(hub.Payload) error:
		return w(got)
	case hub.Binary:
		if !got.Binary() || string(got.Bytes()) != string(w) {
			return fmt.Errorf("got %q (binary %v), want binary %q", got.Bytes(), got.Binary(), []byte(w))
		}
		return nil
	}
	text, err := json.Marshal(want)
	if err != nil {
		return err
	}
	var w, g any
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	if err := got.Decode(&g); err != nil {
		return err
	}
	if !equal(w, g) {
		return fmt.Errorf("got %s, want %s", got.Bytes(), strings.ReplaceAll(string(text), `"\u0000any"`, "any"))
	}
	return nil
}

func equal(want, got any) bool {
	switch w := want.(type) {
	case string:
		return w == Any || want == got
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for name := range w {
			v, there := g[name]
			if !there || !equal(w[name], v) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i := range w {
			if !equal(w[i], g[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(want, got)
}
