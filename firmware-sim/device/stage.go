package device

// A Stage is how far a device that is switched on has come towards the hub.
type Stage uint8

// The stages.
const (
	Connecting Stage = iota // dialing, or being let in
	Joining                 // connected; topics are not joined yet, or not all
	Joined
	Waiting // without a connection, before the next attempt
)

// Stage returns where the device stands at this moment; it means nothing while the device is switched off.
func (d *Device) Stage() Stage { return d.link.stage() }

func (p *phoenix) stage() Stage {
	client, _ := p.now()
	switch {
	case client.Waiting():
		return Waiting
	case client.Connected() == "":
		return Connecting
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.joined) < p.topics() {
		return Joining
	}
	return Joined
}

func (m *mqtt) stage() Stage {
	m.mu.Lock()
	waiting, connected := m.waiting, m.up != nil
	m.mu.Unlock()
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	switch {
	case waiting:
		return Waiting
	case !connected:
		return Connecting
	case !m.d.up:
		return Joining
	}
	return Joined
}
