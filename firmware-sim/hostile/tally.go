package hostile

import (
	"maps"
	"sync"
	"time"
)

// A Tally is what became of all that the parties of one kind have tried.
type Tally struct {
	mu   sync.Mutex
	c    Counts
	held time.Duration // less than a second of it
}

// Counts are the figures of a Tally. What has no answer yet, or never gets one, is only tried.
type Counts struct {
	Tried   int64            `json:"tried"`
	Taken   int64            `json:"taken"`             // the hub did as it was asked to; over MQTT 3.1.1, or says so
	Refused map[string]int64 `json:"refused,omitempty"` // by the hub's code
	CutOff  int64            `json:"cut_off"`           // connections that the hub ended
	HeldUp  int64            `json:"held_up"`           // seconds in which it took nothing from a party
}

// Checked is how often the hub has put a stop to something.
func (c Counts) Checked() int64 { return c.Denied() + c.CutOff + c.HeldUp }

// Denied is the number of refusals.
func (c Counts) Denied() (n int64) {
	for _, of := range c.Refused {
		n += of
	}
	return n
}

// Add returns the sum of two.
func (c Counts) Add(o Counts) Counts {
	c.Tried, c.Taken = c.Tried+o.Tried, c.Taken+o.Taken
	c.CutOff, c.HeldUp = c.CutOff+o.CutOff, c.HeldUp+o.HeldUp
	sum := maps.Clone(c.Refused)
	for code, n := range o.Refused {
		if sum == nil {
			sum = map[string]int64{}
		}
		sum[code] += n
	}
	c.Refused = sum
	return c
}

// Counts returns the figures of this moment.
func (t *Tally) Counts() Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.c.Add(Counts{})
}

// Restore adds what was counted before.
func (t *Tally) Restore(c Counts) { t.count(func(now *Counts) { *now = now.Add(c) }) }

func (t *Tally) count(f func(*Counts)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.c)
}

func (t *Tally) tried()  { t.count(func(c *Counts) { c.Tried++ }) }
func (t *Tally) taken()  { t.count(func(c *Counts) { c.Taken++ }) }
func (t *Tally) cutOff() { t.count(func(c *Counts) { c.CutOff++ }) }

// codes is how many codes a tally tells apart; what a hub sends is not bounded otherwise.
const codes = 50

func (t *Tally) refused(code string) {
	t.count(func(c *Counts) {
		if c.Refused == nil {
			c.Refused = map[string]int64{}
		}
		if _, known := c.Refused[code]; !known && len(c.Refused) >= codes {
			code = "others"
		}
		c.Refused[code]++
	})
}

// waited notes how long something took that takes no time unless the hub holds it up. What a busy
// machine takes is not counted.
func (t *Tally) waited(d time.Duration) {
	if d < 100*time.Millisecond {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held += d
	t.c.HeldUp += int64(t.held / time.Second)
	t.held %= time.Second
}
