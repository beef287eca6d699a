package adapter

import (
	"os"
	"strings"
	"testing"
)

// TestPage wants every dialect in the table of the bridge's README.md, with what it hears.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range Kinds() {
		_, row, ok := strings.Cut(string(page), "\n| `"+kind+"` |")
		if !ok {
			t.Errorf("README.md has no dialect %s", kind)
			continue
		}
		row, _, _ = strings.Cut(row, "\n")
		a, err := New(kind, "", &Behind{Hub: Hub{Root: "<root>"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Filters() {
			if !strings.Contains(row, "`"+f+"`") {
				t.Errorf("README.md does not say that %s hears %s", kind, f)
			}
		}
	}
}
