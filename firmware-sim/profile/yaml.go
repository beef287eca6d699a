package profile

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// at is an error that names the line of a node.
func at(n *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("line %d: %s", n.Line, fmt.Sprintf(format, args...))
}

// inside finds a value below an object by the keys on the way; the nearest one above it, if it is not there.
func inside(n *yaml.Node, path ...string) *yaml.Node {
	for i := 0; len(path) > 0 && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == path[0] {
			return inside(n.Content[i+1], path[1:]...)
		}
	}
	return n
}

// keys are the fields of an object and what reads them.
type keys map[string]func(*yaml.Node) error

// object reads a mapping whose keys are all known.
func object(n *yaml.Node, known keys) error {
	return each(n, func(key, v *yaml.Node) error {
		read, ok := known[key.Value]
		if !ok {
			return at(key, "unknown key %q; there are %s", key.Value, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		return read(v)
	})
}

// each reads a mapping, in order, each key once.
func each(n *yaml.Node, f func(key, v *yaml.Node) error) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return at(n, "want a mapping (key: value)")
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if seen[key.Value] {
			return at(key, "key %q stands twice", key.Value)
		}
		seen[key.Value] = true
		v := n.Content[i+1]
		if v.Kind == yaml.AliasNode {
			v = v.Alias
		}
		if err := f(key, v); err != nil {
			return err
		}
	}
	return nil
}

func list(n *yaml.Node, f func(*yaml.Node) error) error {
	if n.Kind != yaml.SequenceNode {
		return at(n, "want a list")
	}
	for _, v := range n.Content {
		if v.Kind == yaml.AliasNode {
			v = v.Alias
		}
		if err := f(v); err != nil {
			return err
		}
	}
	return nil
}

func scalar(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return at(n, "want a single value")
	}
	return nil
}

func text(n *yaml.Node, out *string) error {
	*out = n.Value
	return scalar(n)
}

// texts reads one string or a list of them.
func texts(n *yaml.Node) (out []string, err error) {
	if n.Kind == yaml.ScalarNode {
		return []string{n.Value}, nil
	}
	err = list(n, func(n *yaml.Node) error {
		out = append(out, n.Value)
		return scalar(n)
	})
	return out, err
}

func whole(n *yaml.Node, out *uint64) error {
	v, err := strconv.ParseUint(n.Value, 10, 64)
	if err != nil {
		return at(n, "%q is not a whole number", n.Value)
	}
	*out = v
	return nil
}

func between(n *yaml.Node, out *int, lo, hi int) error {
	v, err := strconv.Atoi(n.Value)
	if err != nil || v < lo || v > hi {
		return at(n, "%q is not a whole number from %d to %d", n.Value, lo, hi)
	}
	*out = v
	return nil
}

func number(n *yaml.Node, out *float64, lo, hi float64) error {
	v, err := strconv.ParseFloat(n.Value, 64)
	if err != nil || math.IsNaN(v) || v < lo || v > hi {
		return at(n, "%q is not a number from %g to %g", n.Value, lo, hi)
	}
	*out = v
	return nil
}

func boolean(n *yaml.Node, out *bool) error {
	switch n.Value {
	case "true":
		*out = true
	case "false":
		*out = false
	default:
		return at(n, "%q is neither true nor false", n.Value)
	}
	return nil
}

func duration(n *yaml.Node, out *time.Duration) error {
	d, err := time.ParseDuration(n.Value)
	if err != nil || d <= 0 {
		return at(n, "%q is not a duration such as 10s or 5m", n.Value)
	}
	*out = d
	return nil
}

// rate reads "200/s", "30/m" or "12/h" into a number per second.
func rate(n *yaml.Node, out *float64) error {
	v, unit, ok := strings.Cut(n.Value, "/")
	per := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	f, err := strconv.ParseFloat(v, 64)
	if !ok || per == 0 || err != nil || math.IsNaN(f) || math.IsInf(f, 0) || f <= 0 {
		return at(n, "%q is not a rate such as 200/s, 30/m or 12/h", n.Value)
	}
	*out = f / per
	return nil
}

func distribution(n *yaml.Node, out **Dist) error {
	d, err := ParseDist(n.Value)
	if err != nil {
		return at(n, "%v", err)
	}
	*out = d
	return nil
}
