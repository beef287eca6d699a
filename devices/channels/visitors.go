package channels

import (
	"sync"

	"devicehub/devices"
	"devicehub/devices/identity"
	"devicehub/hub"
)

// visitor is a live connection of a person or a service.
type visitor struct {
	principal identity.Principal
	conn      *hub.Conn

	mu       sync.Mutex
	channels map[*hub.Socket]struct{}
}

// visitors knows who is connected, so that a change of rights is felt at once.
type visitors struct {
	mu  sync.Mutex
	set map[*visitor]struct{}
}

func (vs *visitors) add(p identity.Principal, conn *hub.Conn) *visitor {
	v := &visitor{principal: p, conn: conn, channels: map[*hub.Socket]struct{}{}}
	vs.mu.Lock()
	if vs.set == nil {
		vs.set = map[*visitor]struct{}{}
	}
	vs.set[v] = struct{}{}
	vs.mu.Unlock()
	return v
}

func (vs *visitors) remove(v *visitor) {
	vs.mu.Lock()
	delete(vs.set, v)
	vs.mu.Unlock()
}

func (vs *visitors) all(match func(*visitor) bool) []*visitor {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	var list []*visitor
	for v := range vs.set {
		if match(v) {
			list = append(list, v)
		}
	}
	return list
}

func (v *visitor) join(s *hub.Socket) {
	v.mu.Lock()
	v.channels[s] = struct{}{}
	v.mu.Unlock()
}

func (v *visitor) leave(s *hub.Socket) {
	v.mu.Lock()
	delete(v.channels, s)
	v.mu.Unlock()
}

func (v *visitor) each(f func(*hub.Socket)) {
	v.mu.Lock()
	list := make([]*hub.Socket, 0, len(v.channels))
	for s := range v.channels {
		list = append(list, s)
	}
	v.mu.Unlock()
	for _, s := range list {
		f(s)
	}
}

// recheck tells a channel to look at its caller's rights again.
type recheck struct{ told bool }

// IdentityChanged makes live connections feel a change of rights: sessions that
// are over are closed, others are told rights_changed and lose the topics that
// they may no longer see. It is an [identity.Service] watcher.
func (a *App) IdentityChanged(c identity.Change) {
	a.Door.Recheck(c.Devices, c.All)
	for _, v := range a.visitors.all(func(v *visitor) bool { return concerns(c, v.principal) }) {
		if _, err := a.Identity.Actor(v.principal); err != nil {
			v.conn.Close(closeCode(devices.CodeTokenRevoked), string(devices.CodeOf(err)))
			continue
		}
		v.each(func(s *hub.Socket) { s.Send(recheck{told: true}) })
	}
}

func concerns(c identity.Change, p identity.Principal) bool {
	return c.All || c.SID != "" && c.SID == p.SID || c.Name != "" && c.Name == p.Name && c.Kind == p.Kind
}

// RegistryChanged closes topics that their watchers may no longer see. It is a
// [devices.Registry] watcher.
func (a *App) RegistryChanged(c devices.Change) {
	if c.Before == nil {
		return
	}
	topics := map[string]bool{}
	for _, k := range c.Before.Kinds {
		topics[devices.Topic(k, c.ID())] = true
	}
	for _, v := range a.visitors.all(func(*visitor) bool { return true }) {
		v.each(func(s *hub.Socket) {
			if topics[s.Topic()] {
				s.Send(recheck{})
			}
		})
	}
}
