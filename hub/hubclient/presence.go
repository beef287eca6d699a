package hubclient

import (
	"encoding/json"
	"maps"
	"slices"
)

// PresenceEntry is what stands under one key. Metas are the raw objects, oldest first; each has a phx_ref.
type PresenceEntry struct {
	Metas []json.RawMessage `json:"metas"`
}

// Presence keeps a topic's presence list from the events presence_state and presence_diff, as phoenix.js does: diffs that
// come before the state of the present join wait for it. Those events do not reach OnMessage.
type Presence struct {
	ch    *Channel
	on    func(PresenceChange)
	state map[string]PresenceEntry
	early []presenceDiff
	ready bool
}

// A PresenceChange is one step of a list: the metas that came and went, by key. After a join it is what changed while the
// client was away.
type PresenceChange struct {
	Joins, Leaves map[string]PresenceEntry
}

type presenceDiff struct {
	Joins  map[string]PresenceEntry `json:"joins"`
	Leaves map[string]PresenceEntry `json:"leaves"`
}

// Diffs that may wait for a presence_state; the state makes up for those beyond.
const maxEarlyDiffs = 1024

// Presence starts to keep the channel's list; on, if not nil, hears of every change. It is called before Join, once.
func (ch *Channel) Presence(on func(PresenceChange)) *Presence {
	p := &Presence{ch: ch, on: on, state: map[string]PresenceEntry{}}
	ch.client.mu.Lock()
	ch.presence = p
	ch.client.mu.Unlock()
	return p
}

// List returns the list as it stands.
func (p *Presence) List() map[string]PresenceEntry {
	p.ch.client.mu.Lock()
	defer p.ch.client.mu.Unlock()
	return maps.Clone(p.state)
}

// joining forgets what belongs to an earlier join, but not the list: the next state is compared with it.
func (p *Presence) joining() {
	if p != nil {
		p.ready, p.early = false, nil
	}
}

// message takes a presence event, and reports whether it was one. The client's lock is held.
func (p *Presence) message(c *Client, event string, payload []byte) bool {
	switch event {
	case "presence_state":
		state := map[string]PresenceEntry{}
		if json.Unmarshal(payload, &state) != nil {
			return true
		}
		p.sync(c, state)
		p.ready = true
		for _, d := range p.early {
			p.apply(c, d)
		}
		p.early = nil
	case "presence_diff":
		var d presenceDiff
		if json.Unmarshal(payload, &d) != nil {
			return true
		}
		if p.ready {
			p.apply(c, d)
		} else if len(p.early) < maxEarlyDiffs {
			p.early = append(p.early, d)
		}
	default:
		return false
	}
	return true
}

// sync moves the list to a full state, as a diff.
func (p *Presence) sync(c *Client, state map[string]PresenceEntry) {
	d := presenceDiff{Joins: map[string]PresenceEntry{}, Leaves: map[string]PresenceEntry{}}
	for key, now := range state {
		if came := without(now.Metas, refs(p.state[key].Metas)); len(came) > 0 {
			d.Joins[key] = PresenceEntry{came}
		}
	}
	for key, before := range p.state {
		if went := without(before.Metas, refs(state[key].Metas)); len(went) > 0 {
			d.Leaves[key] = PresenceEntry{went}
		}
	}
	p.apply(c, d)
}

// apply adds the joins, then takes away the leaves.
func (p *Presence) apply(c *Client, d presenceDiff) {
	if len(d.Joins)+len(d.Leaves) == 0 {
		return
	}
	for key, e := range d.Joins {
		kept := without(p.state[key].Metas, refs(e.Metas))
		p.state[key] = PresenceEntry{slices.Concat(kept, e.Metas)}
	}
	for key, e := range d.Leaves {
		before, ok := p.state[key]
		if !ok {
			continue
		}
		if left := without(before.Metas, refs(e.Metas)); len(left) > 0 {
			p.state[key] = PresenceEntry{left}
		} else {
			delete(p.state, key)
		}
	}
	if p.on != nil {
		c.calls = append(c.calls, func() { p.on(PresenceChange(d)) })
	}
}

func refs(metas []json.RawMessage) map[string]bool {
	out := make(map[string]bool, len(metas))
	for _, m := range metas {
		out[phxRef(m)] = true
	}
	return out
}

// without returns the metas whose phx_ref is not among refs.
func without(metas []json.RawMessage, refs map[string]bool) []json.RawMessage {
	var out []json.RawMessage
	for _, m := range metas {
		if !refs[phxRef(m)] {
			out = append(out, m)
		}
	}
	return out
}

func phxRef(meta json.RawMessage) string {
	var m struct {
		Ref string `json:"phx_ref"`
	}
	_ = json.Unmarshal(meta, &m) // a meta without one is equal to no other
	return m.Ref
}
