package identity

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"devicehub/devices"
)

// MemoryAudit is an audit log that forgets with the process. The zero value is
// ready.
type MemoryAudit struct {
	mu      sync.Mutex
	entries []devices.AuditEntry
}

var _ devices.AuditLog = (*MemoryAudit)(nil)

// Record keeps e. The address is not kept in any form.
func (m *MemoryAudit) Record(o devices.Origin, e devices.AuditEntry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.At == 0 {
		e.At = time.Now().UnixMilli()
	}
	if e.Via == "" {
		e.Via = o.Via
	}
	m.entries = append(m.entries, e)
}

// Audit returns entries, newest first.
func (m *MemoryAudit) Audit(_ context.Context, q devices.AuditQuery) (list []devices.AuditEntry, next string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	from := len(m.entries)
	if q.Cursor != "" {
		if from, err = strconv.Atoi(q.Cursor); err != nil || from < 0 || from > len(m.entries) {
			return nil, "", devices.Invalid("cursor", "one from an earlier answer")
		}
	}
	list = []devices.AuditEntry{}
	for i, e := range slices.Backward(m.entries[:from]) {
		if !picked(q, e) {
			continue
		}
		if len(list) == q.Limit {
			return list, strconv.Itoa(i + 1), nil
		}
		list = append(list, e)
	}
	return list, "", nil
}

// Prune forgets what is older than before, and keeps an entry that says so.
func (m *MemoryAudit) Prune(
	_ context.Context, o devices.Origin, actor string, before int64,
) (p devices.Pruned, err error) {
	m.mu.Lock()
	m.entries = slices.DeleteFunc(m.entries, func(e devices.AuditEntry) bool {
		switch {
		case e.At >= before:
			return false
		case e.Changed():
			p.Changes++
		default:
			p.Refusals++
		}
		return true
	})
	m.mu.Unlock()
	if p != (devices.Pruned{}) {
		m.Record(o, devices.AuditEntry{Actor: actor, Action: "audit.prune", Target: "audit", After: p, Outcome: "ok"})
	}
	return p, nil
}

// PruneAudit takes out what is older than before (ms since epoch), or without it what the
// log's bounds ask for, if a may.
func PruneAudit(
	ctx context.Context, log devices.AuditLog, a devices.Actor, o devices.Origin, before int64,
) (p devices.Pruned, err error) {
	err = needAdmin(a)
	if err == nil && a.Kind != devices.ActorUser && a.Kind != devices.ActorCLI {
		err = devices.Refuse(devices.CodeForbidden, "people only")
	}
	if err == nil {
		if p, err = log.Prune(ctx, o, a.String(), before); err == nil {
			return p, nil // the log says so itself
		}
	}
	log.Record(o, Entry(a, "audit.prune", "audit", nil, map[string]int64{"before": before}, err))
	return p, err
}

func picked(q devices.AuditQuery, e devices.AuditEntry) bool {
	return (q.Device == "" || e.Target == deviceTarget(q.Device)) && (q.Actor == "" || e.Actor == q.Actor) &&
		(q.Action == "" || e.Action == q.Action) && (q.Outcome == "" || e.Outcome == q.Outcome) &&
		(q.From == 0 || e.At >= q.From) && (q.To == 0 || e.At < q.To)
}

// ReadAudit answers q as far as a may see: administrators everything, operators
// what concerns the devices in their scope and what they did themselves, viewers
// what they did themselves, programs nothing.
func ReadAudit(ctx context.Context, log devices.AuditLog, reg *devices.Registry, a devices.Actor, q devices.AuditQuery) (list []devices.AuditEntry, next string, err error) {
	if a.Kind != devices.ActorUser && a.Kind != devices.ActorCLI {
		return nil, "", devices.Refuse(devices.CodeForbidden, "people only")
	}
	if needAdmin(a) == nil {
		return log.Audit(ctx, q)
	}
	own := a.String()
	if a.Role != devices.RoleOperator {
		if q.Actor != "" && q.Actor != own {
			return nil, "", devices.Refuse(devices.CodeForbidden, "only your own actions")
		}
		q.Actor = own
		list, next, err = log.Audit(ctx, q)
		for i := range list {
			hide(a, &list[i])
		}
		return list, next, err
	}
	visible := func(e devices.AuditEntry) bool {
		if e.Actor == own {
			return true
		}
		id, isDevice := strings.CutPrefix(e.Target, "device:")
		if !isDevice {
			return false
		}
		d, ok := reg.Get(devices.ID(id))
		return ok && a.May(devices.RightRead, d) || !ok && a.Scope.All()
	}
	// What others did elsewhere is passed over; a page may come out short, but
	// one request reads a bounded stretch of the log.
	limit := q.Limit
	list = []devices.AuditEntry{}
	for range 20 {
		var page []devices.AuditEntry
		if page, next, err = log.Audit(ctx, q); err != nil {
			return nil, "", err
		}
		for _, e := range page {
			if visible(e) {
				hide(a, &e)
				list = append(list, e)
			}
		}
		if next == "" || len(list) >= limit {
			return list, next, nil
		}
		q.Cursor, q.Limit = next, limit-len(list)
	}
	return list, next, nil
}

// hide takes from an entry what of a device's record its reader may not see in
// the record itself.
func hide(a devices.Actor, e *devices.AuditEntry) {
	if strings.HasPrefix(e.Action, "device.") {
		e.Before, e.After = hidden(a, e.Before), hidden(a, e.After)
	}
}

func hidden(a devices.Actor, facts any) any {
	b, err := json.Marshal(facts)
	var fields map[string]json.RawMessage
	if err != nil || json.Unmarshal(b, &fields) != nil || fields == nil {
		return facts
	}
	for _, name := range devices.HiddenFrom(a) {
		delete(fields, name)
	}
	return fields
}
