package bridge

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"devicehub/bridge/broker"
	"devicehub/bridge/packet"
	"devicehub/devices"
)

// SessionInfo is a client that is connected, or whose session is kept.
type SessionInfo struct {
	ID     string     // names it for EndSession: device:<id> or service:<name>:<number>
	Device devices.ID // empty: a service account's
	broker.SessionInfo
}

const (
	devicePrefix = "device:"
	clientIDMax  = 128 // bytes of a device's client id that are remembered, which is told and nothing else
)

// Sessions lists the sessions by ID.
func (s *Server) Sessions() []SessionInfo {
	var list []SessionInfo
	for _, i := range s.broker.Sessions() {
		list = append(list, SessionInfo{ID: servicePrefix + i.Account + ":" + i.Number, SessionInfo: i})
	}
	s.mu.Lock()
	all := make(map[devices.ID]memory, len(s.memories))
	for id, m := range s.memories {
		all[id] = m.glance()
	}
	s.mu.Unlock()
	now := time.Now()
	for id, m := range all {
		if m.owner != nil || now.Before(m.until) {
			list = append(list, deviceSession(id, m))
		}
	}
	slices.SortFunc(list, func(a, b SessionInfo) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// glance is what can be told of a memory without its owner's lock. s.mu is held.
func (m *memory) glance() memory {
	if m.owner != nil {
		return memory{owner: m.owner, keep: m.keep}
	}
	return memory{cmd: m.cmd, down: m.down, keep: m.keep, until: m.until}
}

func deviceSession(id devices.ID, m memory) SessionInfo {
	i := SessionInfo{ID: devicePrefix + string(id), Device: id}
	d := m.owner
	if d == nil {
		i.Expires, i.Since = m.until, m.until.Add(-m.keep)
		i.Subscriptions = m.subscriptions()
		return i
	}
	i.ClientID, i.Connected, i.Since, i.Expiry = d.clientID, true, d.since, m.keep
	i.Transport, i.Addr = d.transport(), d.addr()
	d.mu.Lock()
	defer d.mu.Unlock()
	i.Subscriptions = d.state.subscriptions()
	i.Queued = len(d.queue) + len(d.unacked)
	for _, q := range d.queue {
		i.Bytes += len(q.body)
	}
	return i
}

func (m *memory) subscriptions() (n int) {
	for _, s := range []subscription{m.cmd, m.down} {
		if s.on {
			n++
		}
	}
	return n
}

// EndSession ends a session and its connection; false: there is none with that
// ID. A will is not published.
func (s *Server) EndSession(id string) (SessionInfo, bool) {
	if name, ok := strings.CutPrefix(id, devicePrefix); ok {
		return s.endDevice(devices.ID(name))
	}
	rest, _ := strings.CutPrefix(id, servicePrefix)
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return SessionInfo{}, false
	}
	info, ok := s.broker.EndSession(rest[:i], rest[i+1:])
	return SessionInfo{ID: id, SessionInfo: info}, ok
}

func (s *Server) endDevice(id devices.ID) (SessionInfo, bool) {
	s.mu.Lock()
	m := s.memories[id]
	if m == nil {
		s.mu.Unlock()
		return SessionInfo{}, false
	}
	was := m.glance()
	delete(s.memories, id)
	s.mu.Unlock()
	info := deviceSession(id, was)
	if was.owner != nil {
		was.owner.end(ending{reason: "kicked", code: packet.AdministrativeAction, text: broker.ByAdministrator})
	}
	return info, true
}
