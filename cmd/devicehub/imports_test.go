package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// importRow says what the packages of one row may import of this module.
// Patterns are as those of the go command: "hub/..." is hub and all below it.
// The row of the longest pattern holds for a package. A package may always
// import what lies below itself.
type importRow struct {
	packages string
	may      []string
	not      []string // taken out of may
	std      bool     // nothing from outside but the standard library
}

// importRows is the order of the house, bottom up: devices has never heard of a
// socket, hub has never heard of a device, and bridge and dashboard do not know
// each other.
func importRows() []importRow {
	return []importRow{
		{packages: "hub/poison", std: true},
		{packages: "hub/logbound", std: true},

		{packages: "devices", std: true},
		{packages: "devices/...", may: []string{"devices/...", "hub/poison", "hub/logbound"}, not: []string{"devices/session", "devices/channels", "devices/httpapi"}},
		{packages: "devices/session", may: []string{"devices/..."}, not: []string{"devices/channels", "devices/httpapi"}},
		{packages: "devices/channels", may: []string{"devices/...", "hub", "hub/presence", "hub/pubsub"}, not: []string{"devices/httpapi"}},
		{packages: "devices/httpapi", may: []string{"devices/..."}, not: []string{"devices/channels"}},

		{packages: "hub/wire", std: true},
		{packages: "hub/pubsub/...", std: true, may: []string{"hub/pubsub"}},
		{packages: "hub/token"},
		{packages: "hub/intake", std: true},
		{packages: "hub/edge", std: true},
		{packages: "hub/presence", may: []string{"hub/pubsub", "hub/poison"}},
		{packages: "hub", may: []string{"hub/wire", "hub/pubsub", "hub/poison", "hub/intake", "hub/logbound"}},
		{packages: "hub/hubclient", may: []string{"hub/wire", "hub/poison"}},
		{packages: "hub/hubtest/...", may: []string{"hub/..."}},
		{packages: "hub/cmd/...", may: []string{"hub/..."}},
		{packages: "hub/examples/...", may: []string{"hub/..."}},

		{packages: "bridge/...", may: []string{"bridge/...", "devices/...", "hub/pubsub", "hub/presence", "hub/poison", "hub/intake", "hub/logbound"}, not: []string{"devices/channels", "devices/httpapi"}},
		{packages: "dashboard", std: true},
		{packages: "firmware-sim/...", may: []string{"firmware-sim/...", "hub/hubclient", "hub/poison"}},
		{packages: "cmd/...", may: []string{"..."}, not: []string{"cmd/..."}},
	}
}

// patternCovers reports whether pattern matches the package.
func patternCovers(pattern, pkg string) bool {
	if pattern == "..." {
		return true
	}
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == tree || strings.HasPrefix(pkg, tree+"/")
	}
	return pkg == pattern
}

func anyPattern(patterns []string, pkg string) bool {
	for _, p := range patterns {
		if patternCovers(p, pkg) {
			return true
		}
	}
	return false
}

// rowOf is the row that holds for pkg.
func rowOf(rows []importRow, pkg string) (importRow, bool) {
	best, length := importRow{}, -1
	for _, r := range rows {
		n := 2 * len(strings.TrimSuffix(r.packages, "/..."))
		if !strings.HasSuffix(r.packages, "/...") {
			n++ // before the tree of the same name
		}
		if patternCovers(r.packages, pkg) && n > length {
			best, length = r, n
		}
	}
	return best, length >= 0
}

// allows reports whether a package of the row may import another, named
// without the module; external says that it is of another module.
func (r importRow) allows(pkg, imported string, external bool) bool {
	if external {
		return !r.std
	}
	if strings.HasPrefix(imported, pkg+"/") && pkg != "devices" && pkg != "hub" {
		return true
	}
	return anyPattern(r.may, imported) && !anyPattern(r.not, imported)
}

// Imports point up the list only.
func TestImportsPointUp(t *testing.T) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,Standard", "-deps", "devicehub/...")
	out, err := cmd.Output()
	if err != nil {
		var ee *exec.ExitError
		if errors.As(err, &ee) {
			t.Fatalf("go list: %v: %s", err, ee.Stderr)
		}
		t.Fatal(err)
	}
	type listed struct {
		ImportPath string
		Imports    []string
		Standard   bool
	}
	standard := map[string]bool{"C": true}
	var own []listed
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		standard[p.ImportPath] = p.Standard
		if strings.HasPrefix(p.ImportPath, "devicehub/") {
			own = append(own, p)
		}
	}
	if len(own) < 10 {
		t.Fatalf("got %d packages, want the whole module", len(own))
	}
	rows := importRows()
	for _, p := range own {
		pkg := strings.TrimPrefix(p.ImportPath, "devicehub/")
		row, ok := rowOf(rows, pkg)
		if !ok {
			t.Errorf("%s stands in no row: give it one in importRows", pkg)
			continue
		}
		for _, imported := range p.Imports {
			in, ours := strings.CutPrefix(imported, "devicehub/")
			if !ours && standard[imported] {
				continue
			}
			if !row.allows(pkg, in, !ours) {
				t.Errorf("%s imports %s, which breaks the row %s", pkg, in, row)
			}
		}
	}
}

func (r importRow) String() string {
	s := fmt.Sprintf("%q: may import %s", r.packages, strings.Join(r.may, ", "))
	if len(r.may) == 0 {
		s = fmt.Sprintf("%q: may import nothing of this module", r.packages)
	}
	if len(r.not) > 0 {
		s += " but not " + strings.Join(r.not, ", ")
	}
	if r.std {
		s += ", and the standard library alone"
	}
	return s
}

// The rows say no where they should.
func TestImportRows(t *testing.T) {
	rows := importRows()
	for _, tt := range []struct {
		pkg, imports string
		external, ok bool
	}{
		{"devices", "devices/readings", false, false},
		{"devices", "github.com/x/y", true, false},
		{"devices/readings", "devices", false, true},
		{"devices/readings", "devices/session", false, false},
		{"devices/readings", "hub", false, false},
		{"devices/tsdb", "devices/tsdb/ingestlog", false, true},
		{"devices/session", "devices/httpapi", false, false},
		{"devices/channels", "hub/presence", false, true},
		{"devices/channels", "bridge", false, false},
		{"hub", "devices", false, false},
		{"hub", "hub/hubclient", false, false},
		{"hub/wire", "hub", false, false},
		{"hub/hubtest/peer", "hub", false, true},
		{"hub/pubsub/pubsubtest", "hub/pubsub", false, true},
		{"bridge", "dashboard", false, false},
		{"bridge", "hub", false, false},
		{"dashboard", "devices", false, false},
		{"firmware-sim", "hub/hubclient", false, true},
		{"firmware-sim", "hub", false, false},
		{"cmd/devicehub", "bridge", false, true},
		{"cmd/devicehub", "cmd/demo", false, false},
	} {
		row, ok := rowOf(rows, tt.pkg)
		if !ok || row.allows(tt.pkg, tt.imports, tt.external) != tt.ok {
			t.Errorf("%s importing %s: got %t by the row %s, want %t", tt.pkg, tt.imports, !tt.ok, row, tt.ok)
		}
	}
}
