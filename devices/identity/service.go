package identity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"devicehub/devices"
	"devicehub/devices/internal/groupcommit"
	"devicehub/devices/quota"
)

// Config is what a Service needs beside its store.
type Config struct {
	Issuer   string        // claim "iss", at most 40 bytes; default "devicehub"
	TokenTTL time.Duration // life of device tokens; 0: they have no exp
	Now      func() time.Time
	Logger   *slog.Logger
	Auditor  devices.Auditor // nil: nothing is recorded
	// Strangers, if given, bounds the signatures that are checked and the refusals.
	Strangers Strangers
	// ClockSuspect, if given, says that the hub's clock is not to be trusted:
	// while it holds, exp is not judged and nothing is swept by age.
	ClockSuspect func() bool
	// SignedIn, if given, is told who has signed in with a password. It must not block.
	SignedIn func(name string)

	FailedLoginsPerAddress int // a minute; default 30
	FailedLoginsPerName    int // a minute; default 10
	// HashMemory is what hashing a password takes, in KiB; default
	// DefaultHashMemory. Hashes keep the cost that they were made with.
	HashMemory uint32
}

// DefaultHashMemory is OWASP's for argon2id with two passes.
const DefaultHashMemory = 19 * 1024

// DefaultTokenTTL is how long a device token lives unless told otherwise.
const DefaultTokenTTL = 8760 * time.Hour

const (
	audience   = "devicehub"
	leeway     = 60 * time.Second
	maxIssuer  = 40
	sweepEvery = time.Second
)

// Service knows every token's and person's standing. Reads come from memory;
// changes are durable before they are seen. Safe for concurrent use.
type Service struct {
	store     Store
	reg       *devices.Registry
	cfg       Config
	now       func() time.Time
	log       *slog.Logger
	cache     cache
	limiter   limiter
	refreshes quota.Table // of device tokens, by id
	hashing   hashQueue
	repute    repute
	dummy     string // what unknown names are compared with
	count     counters
	ids       *ulid.LockedMonotonicReader

	behind *groupcommit.Source // writes what was learned in passing

	writing sync.Mutex // held by one change at a time, across its disk write
	// The greatest versions of people and accounts that were deleted; guarded by writing.
	userFloor, accountFloor int64

	mu        sync.RWMutex
	creds     map[devices.ID]*Credential
	dirty     map[devices.ID]bool // credentials with what Used learned and is not written yet
	graces    map[devices.ID]bool // devices with a grace that runs
	nextGrace int64               // when the first of them ends, ms since epoch; earlier does no harm
	keys      map[string]*Key
	signing   *Key
	users     map[string]*User
	sessions  map[string]*Session
	accounts  map[string]*Account
	touched   map[string]int64 // sid -> last use that is not written yet
	watchers  []func(Change)
}

// Change says who is to be looked at again, because what they may do has
// changed. Exactly one of All, Devices, Name and SID is set; Name comes with
// Kind.
type Change struct {
	All     bool              // everybody: a signing key was revoked
	Devices []devices.ID      // these devices' tokens
	Kind    devices.ActorKind // ActorUser or ActorService
	Name    string            // this person or service account
	SID     string            // this login session has ended
	// Reason is why live connections that Check or Actor now refuse end; empty
	// when rights only changed.
	Reason devices.Code
}

// Open loads identity from the store and follows the registry: it must be
// called before the registry's first change.
func Open(ctx context.Context, store Store, reg *devices.Registry, cfg Config) (*Service, error) {
	if cfg.Issuer == "" {
		cfg.Issuer = "devicehub"
	}
	if len(cfg.Issuer) > maxIssuer {
		return nil, fmt.Errorf("auth.issuer %q is longer than %d bytes", cfg.Issuer, maxIssuer)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.HashMemory == 0 {
		cfg.HashMemory = DefaultHashMemory
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		store: store, reg: reg, cfg: cfg, now: cfg.Now, log: cfg.Logger,
		ids:      &ulid.LockedMonotonicReader{MonotonicReader: ulid.Monotonic(rand.Reader, 0)},
		hashing:  hashQueue{most: hashesAtOnce()},
		creds:    map[devices.ID]*Credential{},
		dirty:    map[devices.ID]bool{},
		graces:   map[devices.ID]bool{},
		keys:     map[string]*Key{},
		users:    map[string]*User{},
		sessions: map[string]*Session{},
		accounts: map[string]*Account{},
		touched:  map[string]int64{},
	}
	s.behind = store.Writer().Source(s.takeLearned)
	s.refreshes.Max = math.MaxInt // there are as many as devices
	s.refreshes.SetRate(refreshRate)
	s.repute.init()
	s.SetLoginLimits(cfg.FailedLoginsPerAddress, cfg.FailedLoginsPerName)
	s.dummy = s.hashOfNothing()
	state, err := store.LoadIdentity(ctx)
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	if err := s.fill(state); err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	reg.Watch(s.deviceChanged)
	return s, nil
}

func (s *Service) fill(st *State) error {
	for i := range st.Credentials {
		c := &st.Credentials[i]
		s.creds[c.Device] = c
		if len(c.Graces) > 0 {
			s.graces[c.Device] = true
		}
	}
	for i := range st.Keys {
		k := &st.Keys[i]
		if err := k.derive(); err != nil {
			return err
		}
		s.keys[k.KID] = k
		if k.RetiredAt == 0 && k.RevokedAt == 0 && (s.signing == nil || k.CreatedAt > s.signing.CreatedAt) {
			s.signing = k
		}
	}
	s.userFloor, s.accountFloor = st.UserFloor, st.AccountFloor
	for i := range st.Users {
		s.users[st.Users[i].Name] = &st.Users[i]
	}
	for i := range st.Sessions {
		s.sessions[st.Sessions[i].SID] = &st.Sessions[i]
	}
	for i := range st.Accounts {
		s.accounts[st.Accounts[i].Name] = &st.Accounts[i]
	}
	return nil
}

// FirstUser is the administrator that the first start makes.
const FirstUser = "admin"

// Setup is what the first start made.
type Setup struct {
	Created  bool   // the first user
	Password string // its password, when it was not preset; known nowhere else
}

// Prepare makes what an empty store lacks: a signing key and the user "admin"
// with the preset password or a random one.
func (s *Service) Prepare(ctx context.Context, presetPassword string) (Setup, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.RLock()
	noKey, noUsers := s.signing == nil, len(s.users) == 0
	s.mu.RUnlock()
	if noKey {
		if _, err := s.rotateKey(ctx); err != nil {
			return Setup{}, err
		}
	}
	if !noUsers {
		return Setup{}, nil
	}
	set := Setup{Created: true}
	password := presetPassword
	if password == "" {
		password = rand.Text()[:20]
		set.Password = password
	}
	if err := CheckPassword(FirstUser, password); err != nil {
		return Setup{}, fmt.Errorf("auth.initial_admin_password: %w", err)
	}
	u := User{Name: FirstUser, Ver: s.userFloor + 1, Role: devices.RoleAdmin, Hash: s.hashPassword(password), CreatedAt: s.now().UnixMilli()}
	if err := s.store.PutUser(ctx, u); err != nil {
		return Setup{}, fmt.Errorf("make the first user: %w", err)
	}
	s.mu.Lock()
	s.users[u.Name] = &u
	s.mu.Unlock()
	return set, nil
}

// Watch has f called after every change of someone's standing, before the
// change's call returns. f must not block, and may ask the service but not
// change it. Watch is for wiring, before the first change.
func (s *Service) Watch(f func(Change)) { s.watchers = append(s.watchers, f) }

func (s *Service) tell(c Change) {
	for _, f := range s.watchers {
		f(c)
	}
}

// Run ends graces and sessions when their time comes, and writes what may be
// written late, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.behind.Run(ctx) })
	s.upkeep(ctx)
	wg.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return s.flush(last)
}

func (s *Service) upkeep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var lastSlow time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("identity upkeep", "err", err)
		}
		if s.suspect() || time.Since(lastSlow) < 10*time.Minute {
			continue
		}
		lastSlow = time.Now()
		err := errors.Join(s.dropOldKeys(ctx), s.store.SweepTokens(ctx, s.now().Add(-usableAfterExpiry).Unix()))
		if err != nil && ctx.Err() == nil {
			s.log.Error("identity upkeep", "err", err)
		}
	}
}

// sweep does what must be on time.
func (s *Service) sweep(ctx context.Context) error {
	if s.suspect() {
		return nil
	}
	return errors.Join(s.endGraces(ctx), s.endSessions(ctx))
}

func (s *Service) suspect() bool { return s.cfg.ClockSuspect != nil && s.cfg.ClockSuspect() }

type counters struct{ logins, failed, limited, verified, cached atomic.Int64 }

// Stats counts what a Service has done since it was opened, and what it holds.
type Stats struct {
	Logins         int64 // that succeeded
	LoginsFailed   int64 // wrong name or password
	LoginsLimited  int64 // refused for too many failures, or too many at once
	TokensVerified int64 // signatures checked
	TokensCached   int64 // known from before
	Users          int
	Sessions       int
	Accounts       int
}

// Stats returns the counts of this moment.
func (s *Service) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Stats{
		Logins: s.count.logins.Load(), LoginsFailed: s.count.failed.Load(), LoginsLimited: s.count.limited.Load(),
		TokensVerified: s.count.verified.Load(), TokensCached: s.count.cached.Load(),
		Users: len(s.users), Sessions: len(s.sessions), Accounts: len(s.accounts),
	}
}

// Issuer is the "iss" of this hub's tokens.
func (s *Service) Issuer() string { return s.cfg.Issuer }

// newID returns a ULID: of two made one after the other, the later is greater.
func (s *Service) newID() string {
	ms := ulid.Timestamp(s.now())
	id, err := ulid.New(ms, s.ids)
	if err != nil { // so many in one millisecond that they overflow
		id = ulid.MustNew(ms, rand.Reader)
	}
	return id.String()
}

// unauthorized refuses whoever could not be recognised. The server's time lets
// a device that has none set its clock.
func (s *Service) unauthorized(reason string) *devices.Error {
	nonce := make([]byte, 8)
	rand.Read(nonce) // never fails: crypto/rand ends the program instead
	return devices.Refuse(devices.CodeUnauthorized, reason).With("server_time", s.now().UnixMilli()).With("nonce", hex.EncodeToString(nonce))
}

// needAdmin refuses who may not administer the hub as a whole: an account that
// is limited to some devices administers those only.
func needAdmin(a devices.Actor) error {
	if !a.Admin() || a.Kind == devices.ActorService && !a.Scope.All() {
		return devices.Refuse(devices.CodeForbidden, "administrators only")
	}
	return nil
}

// record writes an audit entry for an action that ended with err.
func (s *Service) record(a devices.Actor, o devices.Origin, action, target string, before, after any, err error) {
	if s.cfg.Auditor == nil {
		return
	}
	s.cfg.Auditor.Record(o, Entry(a, action, target, before, after, err))
}

// recordLogin writes an audit entry for a login as who. One that was refused is a
// stranger's.
func (s *Service) recordLogin(o devices.Origin, who string, err error) {
	if s.cfg.Auditor == nil {
		return
	}
	e := Entry(devices.Actor{Kind: devices.ActorUser, Name: who}, "login", "user:"+who, nil, nil, err)
	e.Stranger = err != nil
	s.cfg.Auditor.Record(o, e)
}

// Entry is the audit entry of an action that ended with err. What a refused or
// failed action would have changed stands in After.
func Entry(a devices.Actor, action, target string, before, after any, err error) devices.AuditEntry {
	e := devices.AuditEntry{Actor: a.String(), Action: action, Target: target, Before: before, After: after, Outcome: "ok"}
	if err != nil {
		e.Outcome, e.Code = "failed", devices.CodeOf(err)
		if e.Code != "" {
			e.Outcome = "refused"
		}
	}
	return e
}
