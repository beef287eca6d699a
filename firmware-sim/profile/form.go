package profile

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Forms is how the devices of a group write their readings. Each device has a way of its own: with
// times or without, with boot and numbers or without, in the hub's units or in others. What is
// weighed is drawn for every push.
type Forms struct {
	Kinds   []Weight   // bare, json, batch, senml, cbor
	QoS     [3]float64 // over MQTT, weights of 0, 1 and 2
	Untimed float64    // part of the devices, 0 to 1, that send no times: the hub puts its own
	Plain   float64    // part that sends neither boot nor numbers
	Units   float64    // part that measures in other units than the hub
	NoBoot  bool       // no device tells its power-ups apart
}

// FormKinds are the names of what a push can be: a bare value on r/<metric> (over MQTT, from
// devices without times), one reading or a batch of them as JSON, SenML as JSON or CBOR.
var FormKinds = []string{"bare", "json", "batch", "senml", "cbor"}

// everyForm is what a group plays that does not say.
func everyForm() Forms {
	return Forms{Kinds: []Weight{{"bare", 0.15}, {"json", 0.4}, {"batch", 0.2}, {"senml", 0.15}, {"cbor", 0.1}},
		QoS: [3]float64{0.1, 0.8, 0.1}, Untimed: 0.3, Plain: 0.3, Units: 0.2}
}

// keys are those of a group that say how readings are written.
func (f *Forms) keys() keys {
	return keys{
		"forms": func(n *yaml.Node) (err error) { f.Kinds, err = weights(n, "forms", FormKinds); return },
		"qos": func(n *yaml.Node) error {
			ws, err := weights(n, "qos", []string{"0", "1", "2"})
			f.QoS = [3]float64{}
			for _, w := range ws {
				f.QoS[w.Name[0]-'0'] = w.Weight
			}
			return err
		},
		"untimed": func(n *yaml.Node) error { return number(n, &f.Untimed, 0, 1) },
		"plain":   func(n *yaml.Node) error { return number(n, &f.Plain, 0, 1) },
		"units":   func(n *yaml.Node) error { return number(n, &f.Units, 0, 1) },
		"boot": func(n *yaml.Node) error {
			told := true
			err := boolean(n, &told)
			f.NoBoot = !told
			return err
		},
	}
}

// check reports what cannot be meant by a group's forms, and takes out what its devices cannot
// write.
func (f *Forms) check(n *yaml.Node, g *Group) error {
	asked := inside(n, "forms") != n
	allowed := func(w Weight) bool { return g.Via == nil || !g.Via.Token || w.Name == "json" || w.Name == "batch" }
	for _, w := range f.Kinds {
		if asked && !allowed(w) {
			return at(
				inside(n, "forms"),
				"forms: a bridge token has its place in json and batch alone, not in %s",
				w.Name,
			)
		}
	}
	f.Kinds = slices.DeleteFunc(f.Kinds, func(w Weight) bool { return !allowed(w) })
	if len(f.Kinds) > 1 || f.Kinds[0].Name != "bare" {
		return nil
	}
	for _, t := range g.Transport {
		if !strings.HasPrefix(t.Transport, "mqtt") {
			return at(
				inside(n, "forms"),
				"forms: bare values travel over mqtt and mqtt5 alone, not over %s",
				t.Transport,
			)
		}
	}
	f.Untimed = 1 // they have no place for a time
	return nil
}

// weights reads {name: weight, …} of known names, one of them above 0.
func weights(n *yaml.Node, what string, known []string) (out []Weight, err error) {
	sum := 0.0
	err = each(n, func(key, v *yaml.Node) error {
		w := Weight{Name: key.Value}
		if !slices.Contains(known, w.Name) {
			return at(key, "%s: %q is none of %s", what, w.Name, strings.Join(known, ", "))
		}
		err := number(v, &w.Weight, 0, 1e9)
		if w.Weight > 0 {
			out, sum = append(out, w), sum+w.Weight
		}
		return err
	})
	if err == nil && sum <= 0 {
		err = at(n, "%s: the weights add up to nothing", what)
	}
	return out, err
}
