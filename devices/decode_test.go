package devices

import "testing"

func TestDecode(t *testing.T) {
	type inner struct {
		N int `json:"n"`
	}
	type thing struct {
		Name  string         `json:"name"`
		Sizes []float64      `json:"sizes"`
		In    *inner         `json:"in"`
		Any   map[string]any `json:"any"`
	}
	for text, want := range map[string]string{ // the field that is refused, "" for none
		`{"name":"a","sizes":[1,2.5],"in":{"n":3},"any":{"Upper":1}}`: "",
		` {} `:             "",
		`null`:             "",
		``:                 "payload",
		`{"name":`:         "payload",
		`{"name":"a"} {}`:  "payload",
		`[]`:               "payload",
		`{"name":5}`:       "name",
		`{"in":{"n":"x"}}`: "in.n",
		`{"sizes":{}}`:     "sizes",
		`{"colour":"red"}`: "colour",
		`{"in":{"m":1}}`:   "m",
		`{"NAME":"a"}`:     "NAME",
	} {
		err := Decode([]byte(text), "payload", new(thing))
		var field any
		if e, refused := err.(*Error); refused {
			if field = e.Details["field"]; e.Code != CodeInvalid || e.Details["want"] == "" {
				t.Errorf("%s: got %+v", text, e)
			}
		} else if err != nil {
			t.Errorf("%s: got %v, want an invalid error", text, err)
		}
		if got, _ := field.(string); got != want {
			t.Errorf("%s: got %q refused, want %q", text, got, want)
		}
	}
}
