package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"devicehub/devices"
	"devicehub/devices/identity"
	"devicehub/devices/sqlite"
)

// unknownGens is how far a restore over nothing moves the generations of
// tokens on: those issued since the backup stay good, and none issued from now
// on is confused with one of them.
const unknownGens = 1000

// unknownEpochs is how far it moves the epochs of connections on: more than
// there can have been since, far below 2^53.
const unknownEpochs = 1 << 40

// standing is who is let in, as one registry has it.
type standing struct {
	state   *identity.State
	devices []*devices.Device
	changed []*devices.Device // records
	gone    []string          // service accounts to take out

	epoch     int64 // the next that was not reserved
	nextEpoch int64 // what it becomes
}

func readStanding(ctx context.Context, db *sqlite.DB) (*standing, error) {
	state, err := db.LoadIdentity(ctx)
	if err != nil {
		return nil, err
	}
	ds, err := db.LoadDevices(ctx)
	if err != nil {
		return nil, err
	}
	epoch, err := db.ReserveEpochs(ctx, 0)
	if err != nil {
		return nil, err
	}
	return &standing{state: state, devices: ds, epoch: epoch, nextEpoch: epoch}, nil
}

// sameHub reports whether the two are of one installation: they share a
// signing key, or one of them has none to compare.
func (s *standing) sameHub(other *standing) bool {
	if len(s.state.Keys) == 0 || len(other.state.Keys) == 0 {
		return true
	}
	for _, k := range s.state.Keys {
		for _, o := range other.state.Keys {
			if bytes.Equal(k.Public, o.Public) {
				return true
			}
		}
	}
	return false
}

// keepRevoked takes over from what is present all that was revoked, disabled
// or replaced since the backup.
func (s *standing) keepRevoked(present *standing) (facts []string) {
	s.nextEpoch = max(s.epoch, present.epoch)
	s.mergeCredentials(present.state.Credentials)
	s.mergeKeys(present.state.Keys)

	now := map[devices.ID]*devices.Device{}
	for _, d := range present.devices {
		now[d.ID] = d
	}
	for _, d := range s.devices {
		p := now[d.ID]
		if p == nil || p.Ver <= d.Ver && (p.Enabled || !d.Enabled) {
			continue
		}
		d = d.Clone()
		d.Enabled = d.Enabled && p.Enabled
		d.Ver = max(d.Ver, p.Ver) + 1 // no version is given out twice
		s.changed = append(s.changed, d)
	}

	var users []string
	for i, u := range s.state.Users {
		at := slices.IndexFunc(present.state.Users, func(o identity.User) bool { return o.Name == u.Name })
		if at >= 0 {
			s.state.Users[i] = present.state.Users[at] // password, role and scope as they are now
		} else if !u.Disabled {
			s.state.Users[i].Disabled = true
			s.state.Users[i].Ver = max(u.Ver, present.state.UserFloor) + 1
			users = append(users, u.Name)
		}
	}
	if len(users) > 0 {
		facts = append(facts, "users that were deleted since the backup are back, disabled: "+strings.Join(users, ", "))
	}
	var kept []identity.Account
	for _, a := range s.state.Accounts {
		at := slices.IndexFunc(present.state.Accounts, func(o identity.Account) bool { return o.Name == a.Name })
		if at < 0 {
			s.gone = append(s.gone, a.Name)
			continue
		}
		kept = append(kept, present.state.Accounts[at])
	}
	s.state.Accounts = kept
	if len(s.gone) > 0 {
		facts = append(facts, "service accounts that were deleted since the backup stay deleted: "+strings.Join(s.gone, ", "))
	}
	return append(facts, "what was revoked or disabled since the backup stays so")
}

func (s *standing) mergeCredentials(present []identity.Credential) {
	at := map[devices.ID]int{}
	for i, c := range s.state.Credentials {
		at[c.Device] = i
	}
	for _, p := range present {
		i, ok := at[p.Device]
		if !ok {
			s.state.Credentials = append(s.state.Credentials, p)
			continue
		}
		c := &s.state.Credentials[i]
		if p.GenIssued >= c.GenIssued {
			c.Graces, c.NewBoot = p.Graces, p.NewBoot
			c.UsedAt, c.PrevUsedAt = p.UsedAt, p.PrevUsedAt
		}
		c.GenIssued = max(c.GenIssued, p.GenIssued)
		c.MinGen = max(c.MinGen, p.MinGen)
	}
}

func (s *standing) mergeKeys(present []identity.Key) {
	for _, p := range present {
		i := slices.IndexFunc(s.state.Keys, func(k identity.Key) bool { return k.KID == p.KID })
		if i < 0 {
			s.state.Keys = append(s.state.Keys, p)
			continue
		}
		k := &s.state.Keys[i]
		k.LastExpS = max(k.LastExpS, p.LastExpS)
		k.RetiredAt = cmp.Or(k.RetiredAt, p.RetiredAt)
		if p.RevokedAt != 0 {
			k.RevokedAt, k.Seed = p.RevokedAt, nil
		}
	}
}

// unknownSince is for a restore over nothing: what was revoked since the backup
// cannot be known, nor which epochs were given out.
func (s *standing) unknownSince() []string {
	s.nextEpoch = s.epoch + unknownEpochs
	for i := range s.state.Credentials {
		c := &s.state.Credentials[i]
		c.GenIssued += unknownGens
		c.UsedAt, c.PrevUsedAt = 0, 0 // those of the generations from before
	}
	return []string{"what was revoked since the backup is unknown and is good again; `devicehub restore --revoke-all` ends every older token"}
}

// revokeAll ends every token of a device or service account.
func (s *standing) revokeAll() string {
	for i := range s.state.Credentials {
		c := &s.state.Credentials[i]
		c.GenIssued++
		c.MinGen, c.Graces, c.NewBoot = c.GenIssued, nil, ""
		c.UsedAt, c.PrevUsedAt = 0, c.UsedAt
	}
	for _, a := range s.state.Accounts {
		s.gone = append(s.gone, a.Name)
	}
	s.state.Accounts = nil
	text := "every older token is revoked: `devicehub token issue ID` makes new ones"
	if len(s.gone) > 0 {
		text += "; service accounts to add again: " + strings.Join(s.gone, ", ")
	}
	return text
}

// oneActiveKey retires all but the newest of the keys that sign.
func (s *standing) oneActiveKey(now time.Time) {
	active := -1
	for i, k := range s.state.Keys {
		if k.RetiredAt != 0 || k.RevokedAt != 0 {
			continue
		}
		old := i
		if active < 0 || k.CreatedAt > s.state.Keys[active].CreatedAt {
			active, old = i, active
		}
		if old >= 0 {
			s.state.Keys[old].RetiredAt = now.UnixMilli()
		}
	}
}

// write puts s into its registry. Sessions of people end: which of them ended
// since the backup, no one knows.
func (s *standing) write(ctx context.Context, db *sqlite.DB) error {
	if _, err := db.ReserveEpochs(ctx, s.nextEpoch-s.epoch); err != nil {
		return err
	}
	if err := db.PutCredentials(ctx, s.state.Credentials, nil, s.state.Keys); err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	if len(s.changed) > 0 {
		if err := db.PutDevices(ctx, s.changed); err != nil {
			return fmt.Errorf("devices: %w", err)
		}
	}
	var errs []error
	for _, u := range s.state.Users {
		errs = append(errs, db.PutUser(ctx, u))
	}
	for _, a := range s.state.Accounts {
		errs = append(errs, db.PutAccount(ctx, a))
	}
	for _, name := range s.gone {
		errs = append(errs, db.DeleteAccount(ctx, name))
	}
	var sids []string
	for _, ses := range s.state.Sessions {
		sids = append(sids, ses.SID)
	}
	return errors.Join(append(errs, db.DeleteSessions(ctx, sids))...)
}
