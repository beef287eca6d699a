package hub

import "sync"

// names turns the bytes of event names into strings, without allocating for names it has met.
// It holds so many and no more, whatever strangers send.
type names struct {
	mu sync.RWMutex
	m  map[string]string
}

const (
	maxNames      = 1024
	maxNameLength = 64
)

func (n *names) intern(b []byte) string {
	n.mu.RLock()
	s, ok := n.m[string(b)]
	full := len(n.m) >= maxNames
	n.mu.RUnlock()
	if ok {
		return s
	}
	s = string(b)
	if full || len(s) > maxNameLength {
		return s
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.m == nil {
		n.m = make(map[string]string)
	}
	if len(n.m) < maxNames {
		n.m[s] = s
	}
	return s
}
