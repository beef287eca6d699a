package broker

import "time"

// retain keeps the message for those who subscribe later, or forgets what is
// kept when its payload is empty [MQTT-3.3.1-6]. It reports false when there is
// no room: then nothing is kept on the topic, rather than what is no longer so.
func (b *Broker) retain(m *letter) bool {
	b.forget(m.Topic)
	if len(m.Payload) == 0 {
		return true
	}
	if m.by == nil {
		m.by = b.account(Owner{})
	} else if m.by.rights.Gone() {
		return true
	} else {
		m.by = b.account(m.by.Owner) // it may have been forgotten since
	}
	n := m.retainedSize()
	if !b.room(m.by, n) || !m.by.hub && m.by.retained >= b.limits.AccountRetained {
		b.stats.Dropped++
		b.charge(m.by, 0)
		return false
	}
	b.setRetained(m)
	if !m.by.hub { // which says it again
		b.refer(m)
		b.journal.put(Key{recRetained, m.id, 0}, []byte{}, true)
	}
	return true
}

func (b *Broker) setRetained(m *letter) {
	t := b.retained.at(m.Topic)
	t.value, t.used = m, true
	m.by.retained++
	b.stats.Retained++
	b.charge(m.by, m.retainedSize())
}

// forget ends what is retained on a topic.
func (b *Broker) forget(topic string) {
	t := b.retained.find(topic)
	if t == nil || !t.used {
		return
	}
	m := t.value
	b.retained.remove(topic)
	b.stats.Retained--
	m.by.retained--
	b.charge(m.by, -m.retainedSize())
	if !m.by.hub {
		b.journal.del(Key{recRetained, m.id, 0})
		b.unrefer(m)
	}
}

func (b *Broker) expireRetained(now time.Time) {
	b.forgetAll(func(m *letter) bool { return m.expired(now) })
}

func (b *Broker) forgetAll(which func(m *letter) bool) {
	var gone []string
	b.retained.all(func(m *letter) {
		if which(m) {
			gone = append(gone, m.Topic)
		}
	})
	for _, topic := range gone {
		b.forget(topic)
	}
}

// refer counts one more record that names a message, which is written with the
// first.
func (b *Broker) refer(m *letter) {
	if b.journal.store == nil {
		return
	}
	if m.records++; m.records == 1 {
		m.id = b.next()
		b.journal.put(Key{recMessage, m.id, 0}, messageRecord(m), true)
	}
}

// unrefer counts one fewer; the message goes with the last.
func (b *Broker) unrefer(m *letter) {
	if b.journal.store == nil {
		return
	}
	if m.records--; m.records == 0 {
		b.journal.del(Key{recMessage, m.id, 0})
	}
}
