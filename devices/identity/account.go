package identity

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"devicehub/devices"
)

// Account is a program that acts on the hub with a token of its own.
type Account struct {
	Name      string
	Ver       int64 // greater than that of any account of the name before; rises with every change
	Rights    devices.Right
	Scope     devices.Scope
	Topics    []string // MQTT topic filters it may use on the hub's own broker
	JTI       string   // of its one good token
	Last4     string
	CreatedAt int64
	ExpiresAt int64 // 0: never

	told bool // those who watch know that it has expired
}

func (acc *Account) expired(now int64) bool {
	return acc.ExpiresAt != 0 && now > acc.ExpiresAt+leeway.Milliseconds()
}

// AccountInfo is a service account as administrators see it.
type AccountInfo struct {
	Name      string        `json:"name"`
	Ver       int64         `json:"ver"`
	Rights    []string      `json:"rights"`
	Scope     devices.Scope `json:"scope"`
	Topics    []string      `json:"topics"`
	CreatedAt int64         `json:"created_at"`
	ExpiresAt int64         `json:"expires_at,omitempty"`
	Last4     string        `json:"last4"`
}

func (acc *Account) info() AccountInfo {
	return AccountInfo{Name: acc.Name, Ver: acc.Ver, Rights: acc.Rights.Names(), Scope: acc.Scope, Topics: append([]string{}, acc.Topics...),
		CreatedAt: acc.CreatedAt, ExpiresAt: acc.ExpiresAt, Last4: acc.Last4}
}

// NewAccount is what a service account is made of.
type NewAccount struct {
	Name   string
	Rights devices.Right
	Scope  devices.Scope
	Topics []string
	TTL    time.Duration // 0: for ever
}

// AccountPatch changes a service account; nil leaves as it is.
type AccountPatch struct {
	Rights *devices.Right
	Scope  *devices.Scope
	Topics *[]string
	Expect devices.Expect // of the version; its error is UpdateAccount's
}

const (
	maxAccounts = 1000
	maxTopics   = 64
)

// CreateAccount adds a service account and returns its token, which is shown
// now or never. Administrators only.
func (s *Service) CreateAccount(ctx context.Context, a devices.Actor, o devices.Origin, n NewAccount) (info AccountInfo, token string, err error) {
	defer func() {
		s.record(a, o, "apitoken.create", "service:"+target(n.Name), nil, accountFacts(info), err)
	}()
	if err := needAdmin(a); err != nil {
		return AccountInfo{}, "", err
	}
	name, err := ParseName(n.Name)
	if err != nil {
		return AccountInfo{}, "", devices.Invalid("name", "1 to 63 of letters, digits and . _ @ + -, beginning with a letter or digit")
	}
	if n.Rights == 0 {
		return AccountInfo{}, "", devices.Invalid("rights", "at least one of read, command, ingest, admin")
	}
	if err := checkTopics(n.Topics); err != nil {
		return AccountInfo{}, "", err
	}
	if n.TTL != 0 && (n.TTL < minTTL || n.TTL > maxTTL) {
		return AccountInfo{}, "", devices.OutOfRange("ttl_s", minTTL.Seconds(), maxTTL.Seconds(), "s")
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.RLock()
	taken, full := s.accounts[name] != nil, len(s.accounts) >= maxAccounts
	s.mu.RUnlock()
	switch {
	case taken:
		return AccountInfo{}, "", devices.Refuse(devices.CodeConflict, fmt.Sprintf("the name %q is taken", name))
	case full:
		return AccountInfo{}, "", devices.Refuse(devices.CodeTooLarge, "too many service accounts").With("limit", maxAccounts)
	}
	now := s.now()
	c := &claims{Subject: "service:" + name, Typ: typService, JTI: s.newID(), IssuedAt: now.Unix()}
	acc := Account{Name: name, Ver: s.accountFloor + 1, Rights: n.Rights, Scope: n.Scope, Topics: n.Topics, JTI: c.JTI, CreatedAt: now.UnixMilli()}
	if n.TTL > 0 {
		c.Expires = now.Add(n.TTL).Unix()
		acc.ExpiresAt = c.Expires * 1000
	}
	token, kid, err := s.sign(c)
	if err != nil {
		return AccountInfo{}, "", err
	}
	acc.Last4 = last4(token)
	if key := s.keyWithExp(kid, c.Expires); key != nil {
		if err := s.storeAll(ctx, nil, nil, key); err != nil {
			return AccountInfo{}, "", err
		}
	}
	if err := s.putAccount(ctx, acc); err != nil {
		return AccountInfo{}, "", err
	}
	return acc.info(), token, nil
}

// UpdateAccount changes what a service account may do, at once. Administrators
// only.
func (s *Service) UpdateAccount(ctx context.Context, a devices.Actor, o devices.Origin, name string, p AccountPatch) (info AccountInfo, err error) {
	var before any
	defer func() {
		s.record(a, o, "apitoken.update", "service:"+target(name), before, accountFacts(info), err)
	}()
	if err := needAdmin(a); err != nil {
		return AccountInfo{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	acc, ok := s.account(name)
	if !ok {
		return AccountInfo{}, devices.NotFound("service account")
	}
	if err := p.Expect.Check(acc.Ver); err != nil {
		return AccountInfo{}, err
	}
	before = accountFacts(acc.info())
	old := acc
	if p.Rights != nil {
		if acc.Rights = *p.Rights; acc.Rights == 0 {
			return AccountInfo{}, devices.Invalid("rights", "at least one of read, command, ingest, admin")
		}
	}
	if p.Scope != nil {
		acc.Scope = *p.Scope
	}
	if p.Topics != nil {
		if err := checkTopics(*p.Topics); err != nil {
			return AccountInfo{}, err
		}
		acc.Topics = *p.Topics
	}
	if !acc.differs(&old) {
		return acc.info(), nil
	}
	acc.Ver++
	if err := s.putAccount(ctx, acc); err != nil {
		return AccountInfo{}, err
	}
	s.tell(Change{Kind: devices.ActorService, Name: acc.Name})
	return acc.info(), nil
}

// differs reports whether a change made another account of old.
func (acc *Account) differs(old *Account) bool {
	return acc.Rights != old.Rights || acc.Scope.String() != old.Scope.String() || !slices.Equal(acc.Topics, old.Topics)
}

// DeleteAccount removes a service account, if its version is what is expected;
// its token is worth nothing from now on. Administrators only.
func (s *Service) DeleteAccount(ctx context.Context, a devices.Actor, o devices.Origin, name string, expect ...devices.Expect) (err error) {
	var before any
	defer func() { s.record(a, o, "apitoken.delete", "service:"+target(name), before, nil, err) }()
	if err := needAdmin(a); err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	acc, ok := s.account(name)
	if !ok {
		return devices.NotFound("service account")
	}
	for _, e := range expect {
		if err := e.Check(acc.Ver); err != nil {
			return err
		}
	}
	before = accountFacts(acc.info())
	if err := s.store.DeleteAccount(ctx, acc.Name); err != nil {
		return fmt.Errorf("delete service account: %w", err)
	}
	s.accountFloor = max(s.accountFloor, acc.Ver)
	s.mu.Lock()
	delete(s.accounts, acc.Name)
	s.mu.Unlock()
	s.tell(Change{Kind: devices.ActorService, Name: acc.Name, Reason: devices.CodeTokenRevoked})
	return nil
}

// Accounts lists service accounts by name, at most limit, after the name in
// cursor. Administrators only.
func (s *Service) Accounts(a devices.Actor, limit int, cursor string) (list []AccountInfo, next string, err error) {
	if err := needAdmin(a); err != nil {
		return nil, "", err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	list = []AccountInfo{}
	for _, n := range slices.Sorted(maps.Keys(s.accounts)) {
		if n <= cursor {
			continue
		}
		if len(list) == limit {
			return list, list[limit-1].Name, nil
		}
		list = append(list, s.accounts[n].info())
	}
	return list, "", nil
}

// Account returns one service account. Administrators only.
func (s *Service) Account(a devices.Actor, name string) (AccountInfo, error) {
	if err := needAdmin(a); err != nil {
		return AccountInfo{}, err
	}
	acc, ok := s.account(name)
	if !ok {
		return AccountInfo{}, devices.NotFound("service account")
	}
	return acc.info(), nil
}

// ServiceAccount returns a service account as it is now, whether or not its
// token has expired; false when it is gone. jti tells it from another of the
// same name. It reads memory only.
func (s *Service) ServiceAccount(name, jti string) (Account, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	acc := s.accounts[name]
	if acc == nil || acc.JTI != jti {
		return Account{}, false
	}
	return *acc, true
}

// Actor is the account as it acts.
func (acc *Account) Actor() devices.Actor {
	return devices.Actor{Kind: devices.ActorService, Name: acc.Name, Rights: acc.Rights, Scope: acc.Scope}
}

func (s *Service) account(name string) (Account, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	acc := s.accounts[strings.ToLower(name)]
	if acc == nil {
		return Account{}, false
	}
	return *acc, true
}

func (s *Service) putAccount(ctx context.Context, acc Account) error {
	if err := s.store.PutAccount(ctx, acc); err != nil {
		return fmt.Errorf("store service account: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[acc.Name] = &acc
	return nil
}

// serviceActor is Actor for service accounts.
func (s *Service) serviceActor(p Principal) (devices.Actor, error) {
	acc, ok := s.account(p.Name)
	switch {
	case !ok || acc.JTI != p.JTI:
		return devices.Actor{}, devices.Refuse(devices.CodeTokenRevoked, "the token was revoked")
	case !s.suspect() && acc.expired(s.now().UnixMilli()):
		return devices.Actor{}, devices.Refuse(devices.CodeTokenExpired, "the token has expired")
	}
	return acc.Actor(), nil
}

// checkTopics refuses what is no MQTT topic filter (MQTT 5 §4.7.1).
func checkTopics(topics []string) error {
	bad := devices.Invalid("topics", fmt.Sprintf("at most %d MQTT topic filters", maxTopics))
	if len(topics) > maxTopics {
		return bad
	}
	for _, t := range topics {
		if t == "" || len(t) > devices.MaxText || strings.ContainsRune(t, 0) {
			return bad
		}
		levels := strings.Split(t, "/")
		for i, l := range levels {
			wild := strings.ContainsAny(l, "+#")
			if wild && len(l) > 1 || l == "#" && i != len(levels)-1 {
				return bad
			}
		}
	}
	return nil
}

// accountFacts is what the audit keeps of a service account.
func accountFacts(i AccountInfo) any {
	if i.Name == "" {
		return nil
	}
	return map[string]any{"rights": i.Rights, "scope": i.Scope, "topics": i.Topics, "last4": i.Last4}
}
