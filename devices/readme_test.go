package devices

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of README.md that are made from the code")

// TestReadmeTables holds the tables of codes and of metrics in README.md to the code.
func TestReadmeTables(t *testing.T) {
	const page = "README.md"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	have, want := string(b), string(b)
	for name, table := range map[string]string{"codes": codesTable(t), "metrics": metricsTable()} {
		place := regexp.MustCompile(`(?s)(<!-- table: ` + name + ` -->\n).*?(<!-- end -->)`)
		if !place.MatchString(want) {
			t.Fatalf("%s has no place for the table of %s", page, name)
		}
		want = place.ReplaceAllStringFunc(want, func(string) string {
			return "<!-- table: " + name + " -->\n" + table + "<!-- end -->"
		})
	}
	switch {
	case have == want:
	case *update:
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("a table of %s differs from the code: go test ./devices -run TestReadmeTables -update", page)
	}
}

// codesTable has a line for each code, from the comments beside the constants.
func codesTable(t *testing.T) string {
	var s strings.Builder
	s.WriteString("| code | HTTP | try again | meaning | `details` | heard at |\n| --- | --- | --- | --- | --- | --- |\n")
	file, err := parser.ParseFile(token.NewFileSet(), "error.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		consts, ok := d.(*ast.GenDecl)
		if !ok || consts.Tok != token.CONST {
			continue
		}
		for _, spec := range consts.Specs {
			v := spec.(*ast.ValueSpec)
			code, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			said := strings.Join(strings.Fields(v.Doc.Text()), " ")
			rest, at, ok := strings.Cut(said, " At: ")
			if !ok {
				t.Errorf("%s: its comment does not say where it is heard", code)
			}
			meaning, details, _ := strings.Cut(rest, " Details: ")
			e := Refuse(Code(code), "")
			again := ""
			if e.Retryable() {
				again = "yes"
			}
			fmt.Fprintf(&s, "| `%s` | %d | %s | %s | %s | %s |\n", code, e.HTTPStatus(), again, meaning,
				strings.TrimSuffix(details, "."), strings.TrimSuffix(at, "."))
		}
	}
	return s.String()
}

// metricsTable has a line for each metric of the catalogue.
func metricsTable() string {
	var s strings.Builder
	s.WriteString("| metric | type | unit | plausible | precision | class |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, m := range Catalogue() {
		plausible, precision := "", ""
		switch {
		case m.Min != nil && m.Max != nil:
			plausible = fmt.Sprintf("%s to %s", plain(*m.Min), plain(*m.Max))
		case m.Min != nil:
			plausible = "from " + plain(*m.Min)
		}
		if m.Precision != 0 {
			precision = plain(m.Precision)
		}
		class := m.Class
		if m.StateClass == TotalIncreasing {
			class += ", a meter"
		}
		fmt.Fprintf(&s, "| `%s` | %s | %s | %s | %s | %s |\n", m.Name, m.Type, m.Unit, plausible, precision, class)
	}
	return s.String()
}

func plain(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
