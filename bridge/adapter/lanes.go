package adapter

import (
	"sync"
	"time"

	"devicehub/devices/quota"
)

// bounds of what is under way on one bus. What is read and goes beyond waits in
// its lane; what there is no room for is not taken.
type bounds struct {
	messages int // not decided
	bytes    int // of their payloads
	loose    int // of them, such as nobody would send again (QoS 0)
	laneLoose,
	laneAhead, // messages of a lane from the first undecided one to the last that is read
	laneReadings, // and the readings among them
	pushes, // under way to the store, of all lanes
	readings int
}

var defaultBounds = bounds{
	messages: 65_535, // as many as a broker can have unacknowledged (MQTT 3.1.1 §2.3.1)
	bytes:    64 << 20,
	loose:    16_384, laneLoose: 4096,
	laneAhead:    512,
	laneReadings: 4096, // the window of sequence numbers of a boot
	pushes:       8192,
	readings:     32_768, // two full commits
}

// everyone is the lane of a message that changes how others are read: those that
// came before it are read first, in every lane, and those that came after it
// then.
const everyone = ""

// lanes brings the messages of one bus to its adapters. The messages of a lane
// are read one after the other, in their order. Most are decided by that; what
// is a push of readings is handed to the store, and the next message is read
// while that waits for its commit. So the readings of one device are under way
// together, like those of a device that is connected directly.
//
// What the store refuses for now is sent again after a while, as it was read,
// and with it all that came after it in its lane: nothing overtakes it.
type lanes struct {
	max   bounds
	fault func(j *job, err error) // hears of what no refusal explains; it is tried again

	mu      sync.Mutex
	rate    *quota.Limiter // of messages that are read
	lanes   map[string]*lane
	n       int // messages not decided
	loose   int
	bytes   int
	unread  int // messages in a lane that are not read yet
	flight  flight
	starved []*lane // each has a push for which there is no room under way
	bar     *job    // the message for everyone that waits, or is being read
	held    []*job  // what came after it
	delayed int64
	over    bool
	work    sync.WaitGroup
}

// flight is what is under way to the store.
type flight struct{ pushes, readings int }

func newLanes(b bounds) *lanes {
	return &lanes{max: b, rate: quota.NewLimiter(quota.Rate{}), fault: func(*job, error) {}, lanes: map[string]*lane{}}
}

// setRate bounds how many messages are read a second, with bursts of one second;
// 0 is no bound.
func (l *lanes) setRate(perSecond int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = quota.NewLimiter(quota.Rate{PerSecond: float64(perSecond), Burst: float64(perSecond)})
}

// len is the number of messages that are not yet decided.
func (l *lanes) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// spacious reports whether half of the room is free.
func (l *lanes) spacious() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n < l.max.messages/2 && l.bytes < l.max.bytes/2
}

// slowed is how many messages had to wait for the rate.
func (l *lanes) slowed() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.delayed
}

// put hands m to the adapter in its turn, which may be now. false means that
// there is no room: the message is not taken, and nothing is told to out.
func (l *lanes) put(a Adapter, m Message, out Outcome) bool {
	j := &job{lanes: l, adapter: a, m: m, out: out, key: a.Lane(m.Topic), size: len(m.Payload), loose: m.QoS == 0}
	j.m.job = j
	l.mu.Lock()
	if !l.hasRoom(j) {
		l.mu.Unlock()
		return false
	}
	l.n++
	l.bytes += j.size
	if j.loose {
		l.loose++
	}
	if l.bar != nil {
		l.held = append(l.held, j)
		l.mu.Unlock()
		return true
	}
	if j.key == everyone {
		if l.bar = j; l.unread > 0 {
			l.mu.Unlock()
			return true
		}
	}
	ln := l.enter(j)
	l.mu.Unlock()
	l.advance(ln)
	return true
}

func (l *lanes) hasRoom(j *job) bool {
	if l.over || l.n >= l.max.messages || l.n > 0 && l.bytes+j.size > l.max.bytes {
		return false
	}
	if !j.loose {
		return true
	}
	ln := l.lanes[j.key]
	return l.loose < l.max.loose && (ln == nil || ln.loose < l.max.laneLoose)
}

// enter puts a message at the end of its lane. The lock is held.
func (l *lanes) enter(j *job) *lane {
	ln := l.lanes[j.key]
	if ln == nil {
		ln = &lane{key: j.key}
		l.lanes[j.key] = ln
	}
	j.lane = ln
	ln.jobs = append(ln.jobs, j)
	if j.loose {
		ln.loose++
	}
	l.unread++
	return ln
}

// passed says that a message has been read: its lane goes on, and so do those
// that waited for it. The lock is held.
func (l *lanes) passed(j *job) {
	j.lane.read++
	l.unread--
	switch {
	case j == l.bar:
		l.bar = nil
		l.release()
	case l.bar != nil && l.unread == 0:
		l.kick(l.enter(l.bar))
	}
}

// release puts what was held into the lanes, up to the next message for everyone.
// The lock is held.
func (l *lanes) release() {
	for len(l.held) > 0 && l.bar == nil {
		j := l.held[0]
		l.held[0] = nil
		l.held = l.held[1:]
		if j.key == everyone {
			if l.bar = j; l.unread > 0 {
				return
			}
		}
		l.kick(l.enter(j))
	}
	if len(l.held) == 0 {
		l.held = nil
	}
}

// kick has a lane advanced by a goroutine of its own, if there is something to
// do there that nobody is at. The lock is held.
func (l *lanes) kick(ln *lane) {
	if l.over || ln.busy || ln.kicked || ln.timer != nil || ln.broken && ln.flying > 0 {
		return
	}
	if !ln.broken && ln.sent == ln.read && ln.read == len(ln.jobs) {
		return
	}
	ln.kicked = true
	l.work.Go(func() { l.advance(ln) })
}

// feed advances lanes for which there was no room under way. Each push that
// lands feeds a few; what is left waits for the next. The lock is held.
func (l *lanes) feed() {
	for n := 0; len(l.starved) > 0 && (n < 4 || l.flight.pushes == 0); n++ {
		ln := l.starved[0]
		l.starved[0] = nil
		if l.starved = l.starved[1:]; len(l.starved) == 0 {
			l.starved = nil
		}
		ln.starved = false
		l.kick(ln)
	}
}

// advance does what there is to do in a lane, unless somebody is at it.
func (l *lanes) advance(ln *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln.kicked = false
	if ln.busy {
		return
	}
	ln.busy = true
	for j, do := l.next(ln); j != nil; j, do = l.next(ln) {
		l.mu.Unlock()
		do(j)
		l.mu.Lock()
	}
	ln.busy = false
	l.sweep(ln)
}

// sweep forgets a lane that is empty. The lock is held.
func (l *lanes) sweep(ln *lane) {
	if len(ln.jobs) == 0 && !ln.busy && l.lanes[ln.key] == ln {
		delete(l.lanes, ln.key)
	}
}

// pause leaves a lane alone for a while. The lock is held.
func (l *lanes) pause(ln *lane, d time.Duration) {
	ln.timer = time.AfterFunc(d, func() {
		l.mu.Lock()
		ln.timer = nil
		l.mu.Unlock()
		l.advance(ln)
	})
}

// close drops what waits, and returns when nothing is read any more. What was
// not decided is not acknowledged: it comes again.
func (l *lanes) close() {
	l.mu.Lock()
	l.over = true
	for _, ln := range l.lanes {
		if ln.timer != nil {
			ln.timer.Stop()
		}
	}
	l.mu.Unlock()
	l.work.Wait()
}
