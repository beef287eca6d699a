package broker

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"devicehub/bridge/packet"
)

// SessionInfo is what is told of a session.
type SessionInfo struct {
	Number        string // names it for EndSession, for as long as the process lives
	Account       string
	ClientID      string
	Connected     bool
	Transport     string // of a connection: tcp, tls, ws
	Addr          string
	Since         time.Time // connected, or absent
	Subscriptions int
	Queued        int           // messages that wait or are unacknowledged
	Bytes         int           // that the session takes, these included
	Expires       time.Time     // of an absent session
	Expiry        time.Duration // after its connection, of a connected one
}

// Sessions lists the sessions by account and client id.
func (b *Broker) Sessions() []SessionInfo {
	b.mu.Lock()
	list := make([]SessionInfo, 0, len(b.sessions))
	for _, s := range b.sessions {
		list = append(list, s.info())
	}
	b.mu.Unlock()
	slices.SortFunc(list, func(x, y SessionInfo) int {
		return cmp.Or(cmp.Compare(x.Account, y.Account), cmp.Compare(x.ClientID, y.ClientID))
	})
	return list
}

func (s *Session) info() SessionInfo {
	if s.number == 0 {
		s.number = s.b.next()
	}
	i := SessionInfo{
		Number: strconv.FormatUint(s.number, 10), Account: s.key.owner.Name, ClientID: s.key.id, Since: s.since,
		Subscriptions: len(s.subs), Queued: len(s.queue) + len(s.inflight), Bytes: s.ownSize() + s.subBytes + s.held,
	}
	if s.link != nil {
		i.Connected, i.Expiry = true, s.Expiry
		i.Transport, i.Addr = s.link.Address()
	} else {
		i.Expires = s.until
	}
	return i
}

// ByAdministrator is the reason that a client is told whose session was ended.
const ByAdministrator = "an administrator ended the session"

// EndSession ends the session of an account with that number, and its
// connection, without its will. It returns what it was, or false.
func (b *Broker) EndSession(account, number string) (SessionInfo, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sessions {
		if s.key.owner.Name == account && s.number != 0 && strconv.FormatUint(s.number, 10) == number {
			info := s.info()
			b.end(s, packet.AdministrativeAction, ByAdministrator)
			return info, true
		}
	}
	return SessionInfo{}, false
}

// end ends a session and its connection, without its will.
func (b *Broker) end(s *Session, code byte, why string) {
	s.setWill(nil)
	if s.link != nil {
		s.link.End(code, why)
	}
	b.drop(s)
}

// Forget ends everything that is kept for accounts that are gone: sessions,
// wills, which are not published, and retained messages.
func (b *Broker) Forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	some := false
	for _, a := range b.accounts {
		some = some || a.rights.Gone()
	}
	if !some {
		return
	}
	for _, s := range b.sessions {
		if s.account.rights.Gone() {
			b.end(s, packet.NotAuthorized, "token_revoked: the account is gone")
		}
	}
	b.forgetAll(func(m *letter) bool { return m.by.rights.Gone() })
}

// Review drops the subscriptions that accounts may no longer have, now that
// what they may do has changed, and ends the connections that had any: their
// clients are to ask again.
func (b *Broker) Review() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sessions {
		if s.review() && s.link != nil {
			s.link.End(packet.NotAuthorized, "forbidden: the account may no longer subscribe to this")
		}
	}
}
