package commands

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"devicehub/devices"
)

const (
	allBatch = 256  // rows read at once
	allRows  = 4096 // rows looked at for one page, where few are in the scope
)

// All returns up to limit commands of the devices that a may see (50 when 0, at
// most 200), the newest first, and the cursor for those before them, "" when
// there are none. A page may be short, even empty, and yet have a cursor: where
// most commands are of devices out of a's scope. The error is forbidden, or
// invalid for the cursor.
func (d *Dispatcher) All(ctx context.Context, a devices.Actor, limit int, cursor string) (rs []Record, next string, err error) {
	if a.Rights&devices.RightRead == 0 {
		return nil, "", devices.Refuse(devices.CodeForbidden, "you may not see commands")
	}
	if limit <= 0 {
		limit = 50
	}
	limit = min(limit, 200)
	at, err := parseAllCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	rs = make([]Record, 0, limit)
	var last Row // of rs
	for range allRows / allBatch {
		rows, err := d.cfg.Store.AllCommands(ctx, at, allBatch)
		if err != nil {
			return nil, "", fmt.Errorf("commands of all devices: %w", err)
		}
		for _, row := range rows {
			if rec, ok := d.cfg.Registry.Get(row.Device); !ok || !a.May(devices.RightRead, rec) {
				continue
			}
			if len(rs) == limit {
				return rs, allCursor(last), nil
			}
			r, err := row.record()
			if err != nil {
				return nil, "", err
			}
			rs, last = append(rs, d.ahead(r)), row
		}
		if len(rows) < allBatch {
			return rs, "", nil
		}
		at = rows[len(rows)-1]
	}
	return rs, allCursor(at), nil
}

// ahead is r as it stands in memory, which is ahead of the disk.
func (d *Dispatcher) ahead(r Record) Record {
	d.table.Find(r.Device, func(e *held) {
		if c := e.State.find(r.CmdID); c != nil {
			r = c.rec
		}
	})
	return r
}

func allCursor(r Row) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s %s", r.IssuedAt, r.Device, r.CmdID))
}

func parseAllCursor(cursor string) (Row, error) {
	at, rest, err := parseCursor(cursor)
	if err != nil || at == 0 {
		return Row{}, err
	}
	id, cmdID, ok := strings.Cut(rest, " ")
	if !ok {
		return Row{}, devices.Invalid("cursor", "one that the hub gave")
	}
	return Row{IssuedAt: at, Device: devices.ID(id), CmdID: cmdID}, nil
}
