package bridge

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"devicehub/devices"
)

var update = flag.Bool("update", false, "write the table of ../devices/PROTOCOL.md that is made from the code")

// TestErrorsOverMQTT holds the table of reason codes in devices/PROTOCOL.md to the code.
func TestErrorsOverMQTT(t *testing.T) {
	const page = "../devices/PROTOCOL.md"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var s strings.Builder
	s.WriteString("| code | CONNACK of 5 | of 3.1.1 | PUBACK, PUBREC of 5 | DISCONNECT of 5 |\n| --- | --- | --- | --- | --- |\n")
	line := func(name string, c devices.Code) {
		fmt.Fprintf(&s, "| %s | 0x%02X | %d | 0x%02X | 0x%02X |\n", name, connackCode(c), connackReturn(connackCode(c)), ackCode(c), disconnectCode(c))
	}
	for _, c := range slices.Sorted(maps.Keys(reasons)) {
		line("`"+string(c)+"`", c)
	}
	line("any other", "")
	place := regexp.MustCompile(`(?s)(<!-- table: mqtt -->\n)(.*?)(<!-- end -->)`)
	m := place.FindSubmatch(b)
	switch {
	case m == nil:
		t.Fatalf("%s has no place for the table", page)
	case string(m[2]) == s.String():
	case *update:
		b = place.ReplaceAll(b, []byte("${1}"+s.String()+"${3}"))
		if err := os.WriteFile(page, b, 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("a table of %s differs from the code: go test ./bridge -run TestErrorsOverMQTT -update", page)
	}
}
