package bridge

import (
	"context"
	"encoding/json"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/identity"
	"devicehub/devices/quota"
	"devicehub/devices/session"
)

// Passwords verifies devices; [identity.Service] does.
type Passwords interface {
	From(addr string) identity.Verifier
}

// NewDoor is the hub's own Door: the device's token opens a [session.Session],
// in which the device is on the topics of all its kinds at once.
func NewDoor(d *session.Door, p Passwords, r *devices.Registry) Door {
	return &sessions{d, p, r}
}

type sessions struct {
	door      *session.Door
	passwords Passwords
	registry  *devices.Registry
}

func (s *sessions) Enter(ctx context.Context, a Arrival, l Link) (Session, error) {
	p, err := s.passwords.From(a.Addr).VerifyDevice(a.Device, a.Password)
	if err == nil {
		err = s.door.Connects(a.Device)
	}
	if err == nil {
		err = a.May()
	}
	if err != nil {
		s.door.Refused(devices.OverMQTT, a.Addr, a.Device, err)
		return nil, err
	}
	sess, err := s.door.Open(ctx, session.Hello{
		Principal: p, Device: a.Device, Transport: devices.OverMQTT, Addr: a.Addr, Client: a.Client, OfflineAfter: a.OfflineAfter,
		Window:   1, // one unacknowledged command over MQTT
		InFlight: a.InFlight,
	}, linked{l})
	if err != nil {
		return nil, err
	}
	dev, ok := s.registry.Get(a.Device)
	if !ok {
		sess.Close("kicked")
		return nil, devices.Refuse(devices.CodeUnauthorized, "no such device")
	}
	for _, k := range dev.Kinds {
		if _, err := sess.Join(k, session.JoinParams{Proto: "mqtt"}); err != nil {
			sess.Close("protocol_error")
			return nil, err
		}
	}
	return sess, nil
}

// linked is a Link as sessions see it.
type linked struct{ Link }

func (l linked) Send(_ devices.Kind, event string, payload any) bool {
	if e, ok := payload.(commands.Envelope); ok && event == "command" {
		return l.Command(Command{ID: e.CmdID, ExpiresAt: e.ExpiresAt, Payload: func(now time.Time) []byte {
			e.TTLMS = max(0, e.ExpiresAt-now.UnixMilli())
			b, _ := json.Marshal(e) // plain values
			return b
		}})
	}
	return l.Tell(event, payload)
}

// ServiceTokens verifies service accounts and knows their topics;
// [identity.Service] does.
type ServiceTokens interface {
	From(addr string) identity.Verifier
	ServiceAccount(name, jti string) (identity.Account, bool)
	Actor(p identity.Principal) (devices.Actor, error)
}

// NewAccounts lets the service accounts of t in, as far as q does.
func NewAccounts(t ServiceTokens, r *devices.Registry, q *quota.Quota) Accounts {
	return accounts{t, r, q}
}

// holdUpMax is how long an account's connection is held up for one message. Clients that ping
// the hub meanwhile wait longer than that for an answer.
const holdUpMax = 5 * time.Second

type accounts struct {
	tokens   ServiceTokens
	registry *devices.Registry
	quota    *quota.Quota
}

func (a accounts) SignIn(addr, name, password string) (Account, error) {
	p, err := a.tokens.From(addr).VerifyService(name, password)
	if err == nil {
		err = a.quota.Once(p.Kind, p.Name, func(own *quota.Account) error {
			_, err := own.Allow(quota.Connects)
			return err
		})
	}
	if err != nil {
		return Account{}, err
	}
	account, ok := a.Lookup(p.Name, p.JTI)
	if !ok {
		return Account{}, devices.Refuse(devices.CodeTokenRevoked, "the token was revoked")
	}
	if len(account.Filters) == 0 {
		return Account{}, errNoTopics
	}
	account.Check = func() error { _, err := a.tokens.Actor(p); return err }
	account.Wait = func() (d time.Duration) {
		_ = a.quota.Once(p.Kind, p.Name, func(own *quota.Account) error {
			d = max(own.Wait(quota.Messages), min(own.Owes(quota.Kept), holdUpMax))
			return nil
		})
		return d
	}
	account.Kept = func(bytes int) {
		_ = a.quota.Once(p.Kind, p.Name, func(own *quota.Account) error {
			own.Spend(quota.Kept, bytes)
			return nil
		})
	}
	return account, nil
}

func (a accounts) Lookup(name, jti string) (Account, bool) {
	acc, ok := a.tokens.ServiceAccount(name, jti)
	if !ok {
		return Account{}, false
	}
	may := func(right devices.Right) func(devices.ID) bool {
		return func(id devices.ID) bool {
			now, ok := a.tokens.ServiceAccount(name, jti)
			dev, exists := a.registry.Get(id)
			return ok && exists && now.Actor().May(right, dev)
		}
	}
	return Account{Name: acc.Name, Identity: acc.JTI, Filters: acc.Topics, MayRead: may(devices.RightRead), MayCommand: may(devices.RightCommand)}, true
}
