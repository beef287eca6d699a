// Package storetest holds every commands.Store to what the dispatcher relies on.
package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"devicehub/devices"
	"devicehub/devices/commands"
)

// Test runs the suite. open returns a store in which the devices "a" and "b"
// are registered; called again it returns the same store after a restart.
func Test(t *testing.T, open func(t *testing.T) commands.Store) {
	ctx := t.Context()
	s := open(t)
	var rows []commands.Row
	for i := range 25 {
		rows = append(rows, commands.Row{Device: devices.ID([]string{"a", "b"}[i%5/4]), CmdID: fmt.Sprintf("c%02d", i), IssuedAt: int64(100 + i/3),
			Final: i%2 == 0, Body: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	if err := s.SaveCommands(ctx, rows); err != nil {
		t.Fatal(err)
	}
	rows[3].Final, rows[3].Body = true, []byte(`{"n":"changed"}`)
	if err := s.SaveCommands(ctx, rows[3:4]); err != nil {
		t.Fatal(err)
	}
	s = open(t)
	got, ok, err := s.Command(ctx, "a", "c03")
	if err != nil || !ok || string(got.Body) != `{"n":"changed"}` || !got.Final || got.IssuedAt != 101 || got.Device != "a" {
		t.Errorf("one: got %+v %t %v", got, ok, err)
	}
	if _, ok, err := s.Command(ctx, "b", "c03"); ok || err != nil {
		t.Errorf("another device's: got %t %v", ok, err)
	}

	open1, err := s.OpenCommands(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(open1), "c01 c05 c07 c09 c11 c13 c15 c17 c19 c21 c23"; got != want {
		t.Errorf("open: got %s, want %s", got, want)
	}

	var all []string
	at, id := int64(0), ""
	for {
		page, err := s.CommandHistory(ctx, "a", at, id, 6)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			all = append(all, r.CmdID)
		}
		last := page[len(page)-1]
		at, id = last.IssuedAt, last.CmdID
	}
	if len(all) != 20 || !slices.IsSortedFunc(all, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("history: got %v", all)
	}

	// Two devices may have a command of the same id and time.
	if err := s.SaveCommands(ctx, []commands.Row{{Device: "a", CmdID: "c24", IssuedAt: 108, Final: true, Body: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
	all = nil
	for below := (commands.Row{}); ; {
		page, err := s.AllCommands(ctx, below, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		below = page[0]
		all = append(all, fmt.Sprintf("%d %s %s", below.IssuedAt, below.CmdID, below.Device))
	}
	if len(all) != 26 || all[0] != "108 c24 b" || all[1] != "108 c24 a" || !slices.IsSortedFunc(all, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("of all devices: got %q", all)
	}

	if err := s.PruneCommands(ctx, 103, 4); err != nil {
		t.Fatal(err)
	}
	left, err := s.CommandHistory(ctx, "a", 0, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(left), "c24 c23 c22 c21 c20 c18 c17 c15 c13 c11 c07 c05 c01"; got != want {
		t.Errorf("pruned: got %s, want %s", got, want)
	}
}

func names(rows []commands.Row) string {
	var ids []string
	for _, r := range rows {
		ids = append(ids, r.CmdID)
	}
	return strings.Join(ids, " ")
}
