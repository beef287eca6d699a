package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"devicehub/devices"
)

// MaxCreate is how many devices can be made at once.
const MaxCreate = 10_000

// Created is a device that was made, with its first token.
type Created struct {
	Device *devices.Device
	Token  DeviceToken
}

// CreateDevices registers devices, all or none, and gives each a first token.
// Its errors are those of [devices.Registry.Create] and forbidden.
// Administrators only.
func (s *Service) CreateDevices(ctx context.Context, a devices.Actor, o devices.Origin, ds []*devices.Device, opt TokenOptions) (made []Created, err error) {
	if len(ds) > MaxCreate {
		return nil, devices.Refuse(devices.CodeTooLarge, "too many devices at once").With("limit", MaxCreate)
	}
	defer func() {
		for _, d := range ds {
			s.record(a, o, "device.create", deviceTarget(safeID(d.ID)), nil, recordFacts(d, err), err)
		}
	}()
	for _, d := range ds {
		if !a.May(devices.RightAdmin, d) {
			return nil, devices.Refuse(devices.CodeForbidden, "administrators only")
		}
	}
	if err := s.reg.Create(ctx, s.now(), ds...); err != nil {
		return nil, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	made = make([]Created, len(ds))
	creds := make([]Credential, len(ds))
	rows := make([]IssuedToken, len(ds))
	var key *Key
	for i, d := range ds {
		// An id that was used before goes on counting, above what was issued then.
		c := s.credential(d.ID)
		c.advance()
		c.MinGen, c.Graces = c.GenIssued, nil
		t, row, k, err := s.mint(d.ID, c.GenIssued, opt)
		if err != nil {
			return nil, err
		}
		if k != nil {
			key = k
		}
		made[i], creds[i], rows[i] = Created{d, t}, c, row
	}
	if err := s.storeAll(ctx, creds, rows, key); err != nil {
		return nil, fmt.Errorf("the devices were registered without tokens: %w", err)
	}
	return made, nil
}

// UpdateDevice changes a device's record through change, which is given a copy.
// Administrators only.
func (s *Service) UpdateDevice(ctx context.Context, a devices.Actor, o devices.Origin, id devices.ID, change func(*devices.Device) error) (d *devices.Device, err error) {
	var before, after any
	defer func() { s.record(a, o, "device.update", deviceTarget(safeID(id)), before, after, err) }()
	if _, err := s.mayAdminister(a, id); err != nil {
		return nil, err
	}
	var old *devices.Device
	d, err = s.reg.Update(ctx, id, func(d *devices.Device) error {
		old = d.Clone()
		if err := change(d); err != nil {
			return err
		}
		if !a.May(devices.RightAdmin, d) {
			return devices.Refuse(devices.CodeForbidden, "the change would take the device out of your scope")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	before, after = differences(old, d)
	return d, nil
}

// DeleteDevice removes a device, if its version is what is expected; its tokens
// are worth nothing from now on, and its id stays taken for
// [devices.TombstoneFor]. Administrators only.
func (s *Service) DeleteDevice(ctx context.Context, a devices.Actor, o devices.Origin, id devices.ID, expect ...devices.Expect) (err error) {
	var before any
	defer func() { s.record(a, o, "device.delete", deviceTarget(safeID(id)), before, nil, err) }()
	d, err := s.mayAdminister(a, id)
	if err != nil {
		return err
	}
	before = recordFacts(d, nil)
	return s.reg.Delete(ctx, id, s.now(), expect...)
}

// TTL makes seconds a token's life for TokenOptions.
func TTL(seconds *float64) (*time.Duration, error) {
	if seconds == nil {
		return nil, nil
	}
	if !(*seconds >= 0 && *seconds <= maxTTL.Seconds()) {
		return nil, devices.OutOfRange("ttl_s", 0, maxTTL.Seconds(), "s")
	}
	d := time.Duration(*seconds * float64(time.Second))
	return &d, nil
}

// safeID is an id as it may stand in records.
func safeID(id devices.ID) devices.ID {
	if _, err := devices.ParseID(string(id)); err != nil {
		return "(not an id)"
	}
	return id
}

// recordFacts is what the audit keeps of a record: all of it, unless it was
// refused, when it may be anything.
func recordFacts(d *devices.Device, err error) any {
	if err != nil {
		return nil
	}
	return d
}

// differences returns the fields in which two records differ, beside their
// versions.
func differences(old, new *devices.Device) (before, after any) {
	x, y := fields(old), fields(new)
	delete(x, "ver")
	delete(y, "ver")
	b, a := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	for k, v := range x {
		if string(v) != string(y[k]) {
			b[k] = v
		}
	}
	for k, v := range y {
		if string(v) != string(x[k]) {
			a[k] = v
		}
	}
	return b, a
}

func fields(d *devices.Device) map[string]json.RawMessage {
	b, err := json.Marshal(d)
	if err != nil {
		return nil
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(b, &m) != nil {
		return nil
	}
	return m
}
