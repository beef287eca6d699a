package identity

import (
	"context"

	"devicehub/devices"
	"devicehub/devices/internal/groupcommit"
)

// Store keeps identity. Each call is durable, and all or nothing, when it
// returns nil.
type Store interface {
	// Writer groups what is written here with what others write.
	Writer() *groupcommit.Writer

	// LoadIdentity returns everything but issued tokens, which stay on disk.
	LoadIdentity(ctx context.Context) (*State, error)

	// PutCredentials writes generations, adds tokens, forgets tokens of
	// generations below a credential's MinGen, and writes the given keys.
	PutCredentials(ctx context.Context, cs []Credential, issued []IssuedToken, keys []Key) error
	// Tokens lists what was issued to a device and is still kept, newest first, at most limit.
	Tokens(ctx context.Context, id devices.ID, limit int) ([]IssuedToken, error)
	// Stranded counts the devices that have a usable token (of a live
	// generation, not expired at nowS) under the key kid and none under another.
	Stranded(ctx context.Context, kid string, nowS int64) (int, error)
	// SweepTokens forgets tokens that expired before beforeS.
	SweepTokens(ctx context.Context, beforeS int64) error

	PutKeys(ctx context.Context, ks []Key) error
	DeleteKey(ctx context.Context, kid string) error

	PutUser(ctx context.Context, u User) error
	DeleteUser(ctx context.Context, name string) error

	PutSession(ctx context.Context, s Session) error
	// TouchSessions records when sessions were last used: sid -> ms since epoch.
	TouchSessions(ctx context.Context, last map[string]int64) error
	DeleteSessions(ctx context.Context, sids []string) error

	PutAccount(ctx context.Context, a Account) error
	DeleteAccount(ctx context.Context, name string) error
}

// State is what a Store holds.
type State struct {
	Credentials []Credential
	Keys        []Key
	Users       []User
	Sessions    []Session
	Accounts    []Account
	// The greatest versions of the users and accounts that were deleted, 0: of
	// none. A name that comes back goes on above them, so that no version is ever
	// that of two records.
	UserFloor, AccountFloor int64
}

// Credential is which generations of a device's tokens are good. It outlives
// the device, so that a token of a deleted device is none of its successor's.
type Credential struct {
	Device    devices.ID
	GenIssued int64   // the newest generation; 0: none was ever issued
	MinGen    int64   // the oldest good one
	Graces    []Grace `json:",omitempty"` // generations that die later, by ascending Below
	NewBoot   string  // the first boot that used GenIssued while a grace runs
	// When a connection was last made with GenIssued and with the generation
	// before it: ms since epoch, 0: never.
	UsedAt, PrevUsedAt int64
}

// Generation is when a generation of a device's tokens was last used.
type Generation struct {
	Gen        int64 `json:"gen"`
	LastUsedAt int64 `json:"last_used_at,omitempty"` // ms since epoch, absent: never
}

// Generations are the present one and, if there was one, the one before it.
func (c *Credential) Generations() []Generation {
	gs := []Generation{}
	if c.GenIssued > 0 {
		gs = append(gs, Generation{c.GenIssued, c.UsedAt})
	}
	if c.GenIssued > 1 {
		gs = append(gs, Generation{c.GenIssued - 1, c.PrevUsedAt})
	}
	return gs
}

// usedAt is where c keeps when gen was last used; nil: it is not kept.
func (c *Credential) usedAt(gen int64) *int64 {
	switch gen {
	case c.GenIssued:
		return &c.UsedAt
	case c.GenIssued - 1:
		return &c.PrevUsedAt
	}
	return nil
}

// use keeps that gen was used at a moment (ms since epoch), and says if that
// is news to c.
func (c *Credential) use(gen, at int64) bool {
	kept := c.usedAt(gen)
	if kept == nil || at == 0 || *kept == at {
		return false
	}
	*kept = at
	return true
}

// advance makes room for a new generation.
func (c *Credential) advance() {
	c.GenIssued++
	c.NewBoot = ""
	c.UsedAt, c.PrevUsedAt = 0, c.UsedAt
}

// Grace is that generations below Below die at Until (ms since epoch).
type Grace struct {
	Below int64 `json:"below"`
	Until int64 `json:"until"`
}

// minGen is the oldest generation that is good at now (ms since epoch).
func (c *Credential) minGen(now int64) int64 {
	g := c.MinGen
	for _, r := range c.Graces {
		if r.Until <= now {
			g = max(g, r.Below)
		}
	}
	return g
}

// IssuedToken is what is kept of a token.
type IssuedToken struct {
	JTI    string     `json:"jti"`
	Device devices.ID `json:"device"`
	Gen    int64      `json:"gen"`
	KID    string     `json:"kid"`
	Form   string     `json:"form"` // jwt, dh1 or bridge:<name>
	At     int64      `json:"issued_at"`
	ExpS   int64      `json:"-"` // seconds since epoch, 0: never
	Last4  string     `json:"last4"`
}
