package broker

import (
	"maps"
	"slices"
	"sync"
)

// Store keeps records for the broker, which alone knows what they mean. Package
// brokerlog has the durable form, [Memory] one for tests; package storetest
// holds both to this.
type Store interface {
	// Load calls each with every record, in no order, until it returns an
	// error. A value may be kept.
	Load(each func(k Key, value []byte) error) error
	// Commit writes records, or deletes those whose Value is nil, all or
	// nothing. When it returns nil they are durable. It is called by one
	// goroutine at a time, with each key once. After an error it may be tried
	// again.
	Commit(changes []Change) error
}

// Key names a record.
type Key struct {
	Kind byte
	A, B uint64
}

// Change is a record to write; a Value of nil deletes it.
type Change struct {
	Key   Key
	Value []byte
}

// Memory is a Store that lasts as long as the process. The zero value is empty.
type Memory struct {
	mu      sync.Mutex
	records map[Key][]byte
}

// Load is the Store's.
func (m *Memory) Load(each func(Key, []byte) error) error {
	m.mu.Lock()
	all := maps.Clone(m.records)
	m.mu.Unlock()
	for k, v := range all {
		if err := each(k, v); err != nil {
			return err
		}
	}
	return nil
}

// Commit is the Store's.
func (m *Memory) Commit(changes []Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records == nil {
		m.records = map[Key][]byte{}
	}
	for _, c := range changes {
		if c.Value == nil {
			delete(m.records, c.Key)
		} else {
			m.records[c.Key] = slices.Clone(c.Value)
		}
	}
	return nil
}

// Len is the number of records.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.records)
}
