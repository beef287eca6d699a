package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"devicehub/devices"
)

// Session is one sign-in of a person. It lives for sessionLife, or until it
// was not used for sessionIdle, across restarts.
type Session struct {
	SID        string `json:"sid"`
	User       string `json:"user"`
	CreatedAt  int64  `json:"created_at"`
	LastUsedAt int64  `json:"last_used_at"`
	ExpiresAt  int64  `json:"expires_at"`
	UserAgent  string `json:"user_agent,omitempty"`
	Current    bool   `json:"current,omitempty"` // the caller's own
}

const (
	sessionLife  = 30 * 24 * time.Hour
	sessionIdle  = 7 * 24 * time.Hour
	accessLife   = 15 * time.Minute
	maxSessions  = 50 // of one person; beyond it the one unused for longest ends
	maxUserAgent = 200
	touchEvery   = time.Minute // how exactly a session's last use is known
)

// idleOut reports whether the session is over at now (ms since epoch).
func (ses *Session) over(now int64) bool {
	return now >= ses.ExpiresAt || now-ses.LastUsedAt >= sessionIdle.Milliseconds()
}

// SignIn is a login that succeeded.
type SignIn struct {
	Token     string // good for as long as the session
	ExpiresAt int64
	SID       string
	User      UserInfo
}

// Login opens a session for a person with the right password. Its errors are
// unauthorized, rate_limited and overloaded; they do not tell an unknown name
// from a wrong password.
func (s *Service) Login(ctx context.Context, o devices.Origin, name, password, userAgent string) (in SignIn, err error) {
	who := "(unknown)"
	defer func() {
		switch devices.CodeOf(err) {
		case devices.CodeRateLimited, devices.CodeOverloaded:
			s.count.limited.Add(1)
			return // not recorded: it would fill the log
		case devices.CodeUnauthorized:
			s.count.failed.Add(1)
		}
		if err == nil {
			s.count.logins.Add(1)
			if s.cfg.SignedIn != nil {
				s.cfg.SignedIn(who)
			}
		}
		s.recordLogin(o, who, err)
	}()
	if n, err := ParseName(name); err == nil {
		name = n
		if _, known := s.user(n); known {
			who = n
		}
	}
	u, err := s.authenticate(ctx, o, name, password)
	if err != nil {
		return SignIn{}, err
	}
	if u.Disabled {
		return SignIn{}, s.unauthorized("wrong user name or password")
	}
	return s.openSession(ctx, u, userAgent)
}

// authenticate returns the person of that name if the password is theirs.
func (s *Service) authenticate(ctx context.Context, o devices.Origin, name, password string) (User, error) {
	if len(password) > MaxPassword {
		password = "" // never right, and not worth hashing
	}
	if len(name) > 63 {
		name = name[:63]
	}
	wait, succeeded, err := s.limiter.begin(s.now(), o, name)
	if err != nil {
		return User{}, err
	}
	u, known := s.user(name)
	st, settle := s.repute.of(s.now(), o, name, known)
	if err := pause(ctx, wait); err != nil {
		return User{}, err
	}
	hash := s.dummy
	if known {
		hash = u.Hash
	}
	var right bool
	if err := s.hashed(ctx, st, func() { right = matches(hash, password) }); err != nil {
		if devices.CodeOf(err) == devices.CodeOverloaded {
			succeeded() // nothing was tried
			settle(false)
		}
		return User{}, err
	}
	if !known || !right {
		return User{}, s.unauthorized("wrong user name or password")
	}
	succeeded()
	settle(true)
	return u, nil
}

func (s *Service) openSession(ctx context.Context, u User, userAgent string) (SignIn, error) {
	now := s.now()
	if len(userAgent) > maxUserAgent {
		userAgent = strings.ToValidUTF8(userAgent[:maxUserAgent], "")
	}
	ses := Session{SID: s.newID(), User: u.Name, CreatedAt: now.UnixMilli(), LastUsedAt: now.UnixMilli(),
		ExpiresAt: now.Add(sessionLife).UnixMilli(), UserAgent: userAgent}
	token, err := s.userToken(u.Name, ses.SID, now, now.Add(sessionLife))
	if err != nil {
		return SignIn{}, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	// The person may have been disabled or given another password while the
	// old one was being hashed.
	if cur, ok := s.user(u.Name); !ok || cur.Disabled || cur.Hash != u.Hash {
		return SignIn{}, s.unauthorized("wrong user name or password")
	}
	if err := s.store.PutSession(ctx, ses); err != nil {
		return SignIn{}, fmt.Errorf("store session: %w", err)
	}
	s.mu.Lock()
	s.sessions[ses.SID] = &ses
	oldest := s.surplus(u.Name)
	s.mu.Unlock()
	if oldest != "" {
		if err := s.dropSessions(ctx, func(ses *Session) bool { return ses.SID == oldest }); err != nil {
			return SignIn{}, err
		}
	}
	return SignIn{Token: token, ExpiresAt: ses.ExpiresAt, SID: ses.SID, User: u.info()}, nil
}

// surplus names the session of a person that is one too many, if one is. It
// needs s.mu.
func (s *Service) surplus(user string) string {
	var oldest *Session
	n := 0
	for _, ses := range s.sessions {
		if ses.User != user {
			continue
		}
		n++
		if oldest == nil || ses.LastUsedAt < oldest.LastUsedAt || ses.LastUsedAt == oldest.LastUsedAt && ses.SID < oldest.SID {
			oldest = ses
		}
	}
	if n <= maxSessions {
		return ""
	}
	return oldest.SID
}

func (s *Service) userToken(name, sid string, now, exp time.Time) (string, error) {
	c := &claims{Subject: "user:" + name, Typ: typUser, SID: sid, JTI: s.newID(), IssuedAt: now.Unix(), Expires: exp.Unix()}
	token, _, err := s.sign(c)
	return token, err
}

// Access is a token for a quarter of an hour, out of a session that lives.
type Access struct {
	Token     string
	ExpiresAt int64
	User      UserInfo
}

// Refresh gives the person that p speaks for a new short token.
func (s *Service) Refresh(p Principal) (Access, error) {
	if p.Kind != devices.ActorUser {
		return Access{}, devices.Refuse(devices.CodeForbidden, "people only")
	}
	if _, err := s.Actor(p); err != nil {
		return Access{}, err
	}
	now := s.now()
	exp := now.Add(accessLife)
	if !p.Exp.IsZero() && p.Exp.Before(exp) {
		exp = p.Exp
	}
	token, err := s.userToken(p.Name, p.SID, now, exp)
	if err != nil {
		return Access{}, err
	}
	u, _ := s.user(p.Name)
	return Access{Token: token, ExpiresAt: exp.Unix() * 1000, User: u.info()}, nil
}

// userActor is Actor for people. A session that is over ends here too, so that
// it does not matter when the sweep comes by.
func (s *Service) userActor(p Principal) (devices.Actor, error) {
	now := s.now().UnixMilli()
	s.mu.RLock()
	u, ses := s.users[p.Name], s.sessions[p.SID]
	var a devices.Actor
	var stale bool
	if u != nil && ses != nil {
		a = devices.Actor{Kind: devices.ActorUser, Name: u.Name, Role: u.Role, Rights: u.Role.Rights(), Scope: u.Scope}
		stale = now-s.lastUsed(ses) >= touchEvery.Milliseconds()
	}
	gone := u == nil || u.Disabled || ses == nil || ses.User != p.Name
	over := !gone && !s.suspect() && (now >= ses.ExpiresAt || now-s.lastUsed(ses) >= sessionIdle.Milliseconds())
	s.mu.RUnlock()
	switch {
	case gone:
		return devices.Actor{}, devices.Refuse(devices.CodeTokenRevoked, "the session has ended")
	case over:
		return devices.Actor{}, devices.Refuse(devices.CodeTokenExpired, "the session has ended")
	}
	if stale {
		s.mu.Lock()
		if s.sessions[p.SID] != nil {
			s.touched[p.SID] = now
			s.behind.Due(learnedAfter)
		}
		s.mu.Unlock()
	}
	return a, nil
}

// lastUsed needs s.mu.
func (s *Service) lastUsed(ses *Session) int64 { return max(ses.LastUsedAt, s.touched[ses.SID]) }

// Logout ends the session that p speaks for.
func (s *Service) Logout(ctx context.Context, p Principal, o devices.Origin) (err error) {
	a := devices.Actor{Kind: p.Kind, Name: p.Name}
	defer func() { s.record(a, o, "logout", p.String(), nil, nil, err) }()
	if p.Kind != devices.ActorUser {
		return devices.Refuse(devices.CodeForbidden, "people only")
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.dropSessions(ctx, func(ses *Session) bool { return ses.SID == p.SID })
}

// Sessions lists the sessions that a may see: a person their own, an
// administrator everybody's. sid is the caller's own. The newest come first, at
// most limit, after the sid in cursor.
func (s *Service) Sessions(a devices.Actor, sid string, limit int, cursor string) (list []Session, next string, err error) {
	all := needAdmin(a) == nil
	if !all && a.Kind != devices.ActorUser {
		return nil, "", devices.Refuse(devices.CodeForbidden, "people only")
	}
	now := s.now().UnixMilli()
	s.mu.RLock()
	list = []Session{}
	for _, ses := range s.sessions {
		if !all && ses.User != a.Name {
			continue
		}
		c := *ses
		c.LastUsedAt, c.Current = s.lastUsed(ses), ses.SID == sid
		if !c.over(now) && (cursor == "" || c.SID < cursor) {
			list = append(list, c)
		}
	}
	s.mu.RUnlock()
	// A sid begins with the time it was made at.
	slices.SortFunc(list, func(x, y Session) int { return cmp.Compare(y.SID, x.SID) })
	if len(list) > limit {
		return list[:limit], list[limit-1].SID, nil
	}
	return list, "", nil
}

// EndSession ends one session: one's own, or as an administrator anybody's.
func (s *Service) EndSession(ctx context.Context, a devices.Actor, o devices.Origin, sid string) (err error) {
	defer func() { s.record(a, o, "session.end", "session:"+target(sid), nil, nil, err) }()
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.RLock()
	ses := s.sessions[sid]
	s.mu.RUnlock()
	own := ses != nil && a.Kind == devices.ActorUser && ses.User == a.Name
	if !own && needAdmin(a) != nil || ses == nil {
		return devices.NotFound("session")
	}
	return s.dropSessions(ctx, func(ses *Session) bool { return ses.SID == sid })
}

// dropSessions ends the sessions that which picks. It needs s.writing.
func (s *Service) dropSessions(ctx context.Context, which func(*Session) bool) error {
	var sids []string
	s.mu.RLock()
	for sid, ses := range s.sessions {
		if which(ses) {
			sids = append(sids, sid)
		}
	}
	s.mu.RUnlock()
	if len(sids) == 0 {
		return nil
	}
	if err := s.store.DeleteSessions(ctx, sids); err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	s.mu.Lock()
	for _, sid := range sids {
		delete(s.sessions, sid)
		delete(s.touched, sid)
	}
	s.mu.Unlock()
	s.tellEnded(sids)
	return nil
}

func (s *Service) tellEnded(sids []string) {
	for _, sid := range sids {
		s.tell(Change{SID: sid, Reason: devices.CodeTokenRevoked})
	}
}

// endSessions ends sessions, and service accounts' live connections, whose time
// is over.
func (s *Service) endSessions(ctx context.Context) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	now := s.now().UnixMilli()
	err := s.dropSessions(ctx, func(ses *Session) bool {
		c := *ses
		c.LastUsedAt = s.lastUsed(ses)
		return c.over(now)
	})
	s.mu.Lock()
	var over []string
	for name, acc := range s.accounts {
		if acc.expired(now) && !acc.told {
			acc.told = true
			over = append(over, name)
		}
	}
	s.mu.Unlock()
	for _, name := range over {
		s.tell(Change{Kind: devices.ActorService, Name: name, Reason: devices.CodeTokenExpired})
	}
	return errors.Join(err)
}
