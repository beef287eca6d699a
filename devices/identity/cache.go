package identity

import (
	"crypto/sha256"
	"sync"
)

// cache remembers tokens whose signature held, by their hash, so that a fleet
// that reconnects does not verify every signature again. It remembers what the
// token says, never whether it is still good: that is asked every time.
//
// Two maps make it bounded: when the young one is full it becomes the old one,
// and what was in the old one and not asked for meanwhile is forgotten.
type cache struct {
	mu         sync.Mutex
	young, old map[[sha256.Size]byte]*signed
}

// cacheHalf is how many tokens each of the two maps holds: one holds the tokens
// of 100,000 devices, some 350 bytes each. A fleet that is larger than one map
// and comes in the same order every time would miss.
const cacheHalf = 1 << 17

func (c *cache) get(token string) *signed {
	h := sha256.Sum256([]byte(token))
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.young[h]; g != nil {
		return g
	}
	g := c.old[h]
	if g != nil {
		c.add(h, g)
	}
	return g
}

func (c *cache) put(token string, g *signed) {
	h := sha256.Sum256([]byte(token))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(h, g)
}

// add needs c.mu.
func (c *cache) add(h [sha256.Size]byte, g *signed) {
	if c.young == nil {
		c.young = map[[sha256.Size]byte]*signed{}
	}
	if len(c.young) >= cacheHalf {
		c.old, c.young = c.young, map[[sha256.Size]byte]*signed{}
	}
	c.young[h] = g
}
