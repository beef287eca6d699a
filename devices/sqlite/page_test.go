package sqlite

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPage wants every table of the schema in FORMAT.md, with its columns.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "registry.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.r.QueryContext(t.Context(), `SELECT t.name, group_concat(c.name, ', ' ORDER BY c.cid) FROM sqlite_schema t, pragma_table_info(t.name) c
		WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' GROUP BY t.name ORDER BY t.name`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	tables := 0
	for rows.Next() {
		var name, columns string
		if err := rows.Scan(&name, &columns); err != nil {
			t.Fatal(err)
		}
		tables++
		if want := "\n| `" + name + "` | " + columns + " | "; !strings.Contains(string(page), want) {
			t.Errorf("FORMAT.md lacks:%s", want)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(page), "\n| `"); got != tables {
		t.Errorf("FORMAT.md has %d tables, the schema %d", got, tables)
	}
}
