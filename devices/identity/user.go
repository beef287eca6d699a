package identity

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"devicehub/devices"
)

// User is a person.
type User struct {
	Name      string
	Ver       int64 // greater than that of anybody of the name before; rises with every change
	Role      devices.Role
	Scope     devices.Scope
	Hash      string // of the password, see hashPassword
	CreatedAt int64
	Disabled  bool
}

// UserInfo is a person as others see them.
type UserInfo struct {
	Name      string        `json:"name"`
	Ver       int64         `json:"ver"`
	Role      devices.Role  `json:"role"`
	Scope     devices.Scope `json:"scope"`
	CreatedAt int64         `json:"created_at"`
	Disabled  bool          `json:"disabled,omitempty"`
}

func (u *User) info() UserInfo {
	return UserInfo{Name: u.Name, Ver: u.Ver, Role: u.Role, Scope: u.Scope, CreatedAt: u.CreatedAt, Disabled: u.Disabled}
}

// NewUser is what a person is made of.
type NewUser struct {
	Username string
	Password string
	Role     devices.Role
	Scope    devices.Scope
}

// UserPatch changes a person; nil leaves as it is.
type UserPatch struct {
	Role     *devices.Role
	Scope    *devices.Scope
	Password *string
	Enabled  *bool
	Expect   devices.Expect // of the version; its error is UpdateUser's
	// CurrentPassword is needed by people who change their own password and are
	// not administrators.
	CurrentPassword string
}

const maxUsers = 10_000

// ParseName returns a user or account name in the form it is kept in: lower
// case, 1 to 63 of letters, digits and . _ @ + -, beginning with a letter or
// digit.
func ParseName(s string) (string, error) {
	s = strings.ToLower(s)
	ok := len(s) >= 1 && len(s) <= 63
	for i, c := range s {
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("._@+-", c)) {
			ok = false
		}
	}
	if !ok {
		return "", devices.Invalid("username", "1 to 63 of letters, digits and . _ @ + -, beginning with a letter or digit")
	}
	return s, nil
}

// Users lists people by name, at most limit, after the name in cursor.
// Administrators only.
func (s *Service) Users(a devices.Actor, limit int, cursor string) (us []UserInfo, next string, err error) {
	if err := needAdmin(a); err != nil {
		return nil, "", err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	names := slices.Sorted(maps.Keys(s.users))
	us = []UserInfo{}
	for _, n := range names {
		if n <= cursor {
			continue
		}
		if len(us) == limit {
			return us, us[limit-1].Name, nil
		}
		us = append(us, s.users[n].info())
	}
	return us, "", nil
}

// User returns one person. Administrators only, and the person.
func (s *Service) User(a devices.Actor, name string) (UserInfo, error) {
	if a.Kind != devices.ActorUser || a.Name != name {
		if err := needAdmin(a); err != nil {
			return UserInfo{}, err
		}
	}
	u, ok := s.user(name)
	if !ok {
		return UserInfo{}, devices.NotFound("user")
	}
	return u.info(), nil
}

func (s *Service) user(name string) (User, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	u := s.users[name]
	if u == nil {
		return User{}, false
	}
	return *u, true
}

// CreateUser adds a person. Administrators only.
func (s *Service) CreateUser(ctx context.Context, a devices.Actor, o devices.Origin, n NewUser) (info UserInfo, err error) {
	defer func() { s.record(a, o, "user.create", "user:"+target(n.Username), nil, facts(info), err) }()
	if err := needAdmin(a); err != nil {
		return UserInfo{}, err
	}
	name, err := ParseName(n.Username)
	if err != nil {
		return UserInfo{}, err
	}
	if n.Role, err = devices.ParseRole(string(n.Role)); err != nil {
		return UserInfo{}, err
	}
	if err := checkReach(n.Role, n.Scope); err != nil {
		return UserInfo{}, err
	}
	if err := CheckPassword(name, n.Password); err != nil {
		return UserInfo{}, err
	}
	u := User{Name: name, Role: n.Role, Scope: n.Scope, CreatedAt: s.now().UnixMilli()}
	if err := s.hashed(ctx, proven, func() { u.Hash = s.hashPassword(n.Password) }); err != nil {
		return UserInfo{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if _, taken := s.user(name); taken {
		return UserInfo{}, devices.Refuse(devices.CodeConflict, fmt.Sprintf("the user name %q is taken", name))
	}
	s.mu.RLock()
	full := len(s.users) >= maxUsers
	s.mu.RUnlock()
	if full {
		return UserInfo{}, devices.Refuse(devices.CodeTooLarge, "too many users").With("limit", maxUsers)
	}
	u.Ver = s.userFloor + 1
	if err := s.putUser(ctx, u); err != nil {
		return UserInfo{}, err
	}
	return u.info(), nil
}

// UpdateUser changes a person: administrators anybody, a person their own
// password. A new password ends the person's sessions, as disabling does.
func (s *Service) UpdateUser(ctx context.Context, a devices.Actor, o devices.Origin, name string, p UserPatch) (info UserInfo, err error) {
	var before any
	action := "user.update"
	if p.Password != nil {
		action = "user.passwd"
	}
	defer func() { s.record(a, o, action, "user:"+target(name), before, facts(info), err) }()
	if name, err = ParseName(name); err != nil {
		return UserInfo{}, devices.NotFound("user")
	}
	if err := s.mayPatch(ctx, a, o, name, p); err != nil {
		return UserInfo{}, err
	}
	var hash string
	if p.Password != nil {
		if err := CheckPassword(name, *p.Password); err != nil {
			return UserInfo{}, err
		}
		if err := s.hashed(ctx, proven, func() { hash = s.hashPassword(*p.Password) }); err != nil {
			return UserInfo{}, err
		}
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	u, ok := s.user(name)
	if !ok {
		return UserInfo{}, devices.NotFound("user")
	}
	if err := p.Expect.Check(u.Ver); err != nil {
		return UserInfo{}, err
	}
	before = facts(u.info())
	old := u
	if p.Role != nil {
		if u.Role, err = devices.ParseRole(string(*p.Role)); err != nil {
			return UserInfo{}, err
		}
	}
	if p.Scope != nil {
		u.Scope = *p.Scope
	}
	if p.Role != nil || p.Scope != nil {
		if err := checkReach(u.Role, u.Scope); err != nil {
			return UserInfo{}, err
		}
	}
	if p.Enabled != nil {
		u.Disabled = !*p.Enabled
	}
	if hash != "" {
		u.Hash = hash
	}
	if (u.Role != devices.RoleAdmin || u.Disabled) && s.lastAdmin(name) {
		return UserInfo{}, devices.Refuse(devices.CodeConflict, "the last administrator who can sign in")
	}
	if !u.differs(&old) {
		return u.info(), nil
	}
	u.Ver++
	if err := s.putUser(ctx, u); err != nil {
		return UserInfo{}, err
	}
	if hash != "" || u.Disabled {
		if err := s.dropSessions(ctx, func(ses *Session) bool { return ses.User == name }); err != nil {
			return UserInfo{}, err
		}
	}
	s.tell(Change{Kind: devices.ActorUser, Name: name})
	return u.info(), nil
}

// checkReach refuses a scope that would not hold: an administrator's is every
// device.
func checkReach(role devices.Role, scope devices.Scope) error {
	if role == devices.RoleAdmin && !scope.All() {
		return devices.Invalid("scope", "none for an administrator, who may do everything on every device")
	}
	return nil
}

// differs reports whether a change made another person of old.
func (u *User) differs(old *User) bool {
	return u.Role != old.Role || u.Scope.String() != old.Scope.String() || u.Hash != old.Hash || u.Disabled != old.Disabled
}

// mayPatch decides who may change what of the person name.
func (s *Service) mayPatch(ctx context.Context, a devices.Actor, o devices.Origin, name string, p UserPatch) error {
	err := needAdmin(a)
	if err == nil {
		return nil
	}
	if a.Kind != devices.ActorUser || a.Name != name || p.Password == nil || p.Role != nil || p.Scope != nil || p.Enabled != nil {
		return err
	}
	_, err = s.authenticate(ctx, o, name, p.CurrentPassword)
	return err
}

// DeleteUser removes a person, if the version is what is expected, and ends their
// sessions. Administrators only.
func (s *Service) DeleteUser(ctx context.Context, a devices.Actor, o devices.Origin, name string, expect ...devices.Expect) (err error) {
	var before any
	defer func() { s.record(a, o, "user.delete", "user:"+target(name), before, nil, err) }()
	if err := needAdmin(a); err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	u, ok := s.user(strings.ToLower(name))
	if !ok {
		return devices.NotFound("user")
	}
	for _, e := range expect {
		if err := e.Check(u.Ver); err != nil {
			return err
		}
	}
	before = facts(u.info())
	if s.lastAdmin(u.Name) {
		return devices.Refuse(devices.CodeConflict, "the last administrator who can sign in")
	}
	if err := s.store.DeleteUser(ctx, u.Name); err != nil {
		return fmt.Errorf("delete user: %w", err)
	}
	s.userFloor = max(s.userFloor, u.Ver)
	s.mu.Lock()
	delete(s.users, u.Name)
	var ended []string
	for sid, ses := range s.sessions {
		if ses.User == u.Name {
			ended = append(ended, sid)
			delete(s.sessions, sid)
		}
	}
	s.mu.Unlock()
	s.tellEnded(ended)
	s.tell(Change{Kind: devices.ActorUser, Name: u.Name, Reason: devices.CodeTokenRevoked})
	return nil
}

// lastAdmin reports whether name is the only administrator who can sign in.
func (s *Service) lastAdmin(name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	is := false
	for _, u := range s.users {
		if u.Role == devices.RoleAdmin && !u.Disabled {
			if u.Name != name {
				return false
			}
			is = true
		}
	}
	return is
}

func (s *Service) putUser(ctx context.Context, u User) error {
	if err := s.store.PutUser(ctx, u); err != nil {
		return fmt.Errorf("store user: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[u.Name] = &u
	return nil
}

// target is a name as it may stand in records: a caller may have typed
// anything, a password even.
func target(name string) string {
	if n, err := ParseName(name); err == nil {
		return n
	}
	return "(not a name)"
}

// facts is what the audit keeps of a person.
func facts(i UserInfo) any {
	if i.Name == "" {
		return nil
	}
	return map[string]any{"role": i.Role, "scope": i.Scope, "disabled": i.Disabled}
}
