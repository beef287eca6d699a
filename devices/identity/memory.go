package identity

import (
	"context"
	"maps"
	"slices"
	"sync"

	"devicehub/devices"
	"devicehub/devices/internal/groupcommit"
)

// Memory is a Store that forgets everything with the process.
type Memory struct {
	writer groupcommit.Writer

	mu       sync.Mutex
	creds    map[devices.ID]Credential
	tokens   []IssuedToken
	keys     map[string]Key
	users    map[string]User
	sessions map[string]Session
	accounts map[string]Account

	userFloor, accountFloor int64
}

// Writer writes at once.
func (m *Memory) Writer() *groupcommit.Writer { return &m.writer }

var _ Store = (*Memory)(nil)

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

// LoadIdentity returns what was put so far.
func (m *Memory) LoadIdentity(context.Context) (*State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &State{
		Credentials: slices.Collect(maps.Values(m.creds)),
		Keys:        slices.Collect(maps.Values(m.keys)),
		Users:       slices.Collect(maps.Values(m.users)),
		Sessions:    slices.Collect(maps.Values(m.sessions)),
		Accounts:    slices.Collect(maps.Values(m.accounts)),
		UserFloor:   m.userFloor, AccountFloor: m.accountFloor,
	}, nil
}

// PutCredentials implements Store.
func (m *Memory) PutCredentials(_ context.Context, cs []Credential, issued []IssuedToken, keys []Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range cs {
		c.Graces = slices.Clone(c.Graces)
		put(&m.creds, c.Device, c)
	}
	m.tokens = append(m.tokens, issued...)
	m.tokens = slices.DeleteFunc(m.tokens, func(t IssuedToken) bool {
		return slices.ContainsFunc(cs, func(c Credential) bool { return c.Device == t.Device && t.Gen < c.MinGen })
	})
	for _, k := range keys {
		put(&m.keys, k.KID, k)
	}
	return nil
}

// Tokens implements Store.
func (m *Memory) Tokens(_ context.Context, id devices.ID, limit int) ([]IssuedToken, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ts []IssuedToken
	for _, t := range slices.Backward(m.tokens) {
		if t.Device == id && len(ts) < limit {
			ts = append(ts, t)
		}
	}
	return ts, nil
}

// Stranded implements Store.
func (m *Memory) Stranded(_ context.Context, kid string, nowS int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	under, elsewhere := map[devices.ID]bool{}, map[devices.ID]bool{}
	for _, t := range m.tokens {
		k := m.keys[t.KID]
		if t.Gen < m.creds[t.Device].MinGen || t.ExpS != 0 && t.ExpS <= nowS || k.RevokedAt != 0 && t.KID != kid {
			continue
		}
		if t.KID == kid {
			under[t.Device] = true
		} else {
			elsewhere[t.Device] = true
		}
	}
	n := 0
	for id := range under {
		if !elsewhere[id] {
			n++
		}
	}
	return n, nil
}

// SweepTokens implements Store.
func (m *Memory) SweepTokens(_ context.Context, beforeS int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens = slices.DeleteFunc(m.tokens, func(t IssuedToken) bool { return t.ExpS != 0 && t.ExpS < beforeS })
	return nil
}

// PutKeys implements Store.
func (m *Memory) PutKeys(_ context.Context, ks []Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range ks {
		put(&m.keys, k.KID, k)
	}
	return nil
}

// DeleteKey implements Store.
func (m *Memory) DeleteKey(_ context.Context, kid string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys, kid)
	return nil
}

// PutUser implements Store.
func (m *Memory) PutUser(_ context.Context, u User) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	put(&m.users, u.Name, u)
	return nil
}

// DeleteUser implements Store.
func (m *Memory) DeleteUser(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.userFloor = max(m.userFloor, m.users[name].Ver)
	delete(m.users, name)
	maps.DeleteFunc(m.sessions, func(_ string, s Session) bool { return s.User == name })
	return nil
}

// PutSession implements Store.
func (m *Memory) PutSession(_ context.Context, s Session) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	put(&m.sessions, s.SID, s)
	return nil
}

// TouchSessions implements Store.
func (m *Memory) TouchSessions(_ context.Context, last map[string]int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for sid, at := range last {
		if s, ok := m.sessions[sid]; ok {
			s.LastUsedAt = at
			m.sessions[sid] = s
		}
	}
	return nil
}

// DeleteSessions implements Store.
func (m *Memory) DeleteSessions(_ context.Context, sids []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, sid := range sids {
		delete(m.sessions, sid)
	}
	return nil
}

// PutAccount implements Store.
func (m *Memory) PutAccount(_ context.Context, a Account) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	put(&m.accounts, a.Name, a)
	return nil
}

// DeleteAccount implements Store.
func (m *Memory) DeleteAccount(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accountFloor = max(m.accountFloor, m.accounts[name].Ver)
	delete(m.accounts, name)
	return nil
}
