package pubsub

import (
	"hash/maphash"
	"sync"
)

const shards = 64

// Local is the PubSub of one process. The zero value is not usable; see NewLocal.
//
// Topics are spread over shards by their hash. A publisher copies the list of subscribers
// under its shard's lock and delivers without it, so that neither a long list nor a
// slow system call holds up those who join and leave.
type Local struct {
	seed   maphash.Seed
	shards [shards]shard
	lists  sync.Pool // *[]Subscriber
}

type shard struct {
	mu     sync.RWMutex
	topics map[string]*topic
}

type topic struct {
	name  string
	subs  []*subscription
	first [1]*subscription // where subs is kept while there is one, as there mostly is
}

type subscription struct {
	s     Subscriber
	topic *topic
	index int // in topic.subs; -1 when cancelled
}

// NewLocal returns a PubSub without subscribers.
func NewLocal() *Local {
	l := &Local{seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].topics = make(map[string]*topic)
	}
	l.lists.New = func() any { return new([]Subscriber) }
	return l
}

func (l *Local) shard(name string) *shard {
	return &l.shards[maphash.String(l.seed, name)%shards]
}

// Subscribe implements PubSub.
func (l *Local) Subscribe(name string, s Subscriber) (cancel func()) {
	sh := l.shard(name)
	sh.mu.Lock()
	t := sh.topics[name]
	if t == nil {
		t = &topic{name: name}
		t.subs = t.first[:0]
		sh.topics[name] = t
	}
	sub := &subscription{s: s, topic: t, index: len(t.subs)}
	t.subs = append(t.subs, sub)
	sh.mu.Unlock()
	return func() { sh.cancel(sub) }
}

func (sh *shard) cancel(sub *subscription) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sub.index < 0 {
		return
	}
	t := sub.topic
	last := len(t.subs) - 1
	t.subs[sub.index] = t.subs[last]
	t.subs[sub.index].index = sub.index
	t.subs[last] = nil
	t.subs = t.subs[:last]
	sub.index = -1
	if last == 0 {
		delete(sh.topics, t.name)
	} else if cap(t.subs) > 64 && last < cap(t.subs)/4 {
		t.subs = append(make([]*subscription, 0, cap(t.subs)/2), t.subs...)
	}
}

// Broadcast implements PubSub. It never fails.
func (l *Local) Broadcast(m *Message) error { return l.BroadcastFrom(nil, m) }

// LocalBroadcast implements PubSub. It never fails.
func (l *Local) LocalBroadcast(m *Message) error { return l.BroadcastFrom(nil, m) }

// BroadcastFrom implements PubSub. It never fails.
func (l *Local) BroadcastFrom(from Subscriber, m *Message) error {
	sh := l.shard(m.Topic)
	sh.mu.RLock()
	t := sh.topics[m.Topic]
	if t == nil {
		sh.mu.RUnlock()
		return nil
	}
	list := l.lists.Get().(*[]Subscriber)
	subs := (*list)[:0]
	for _, sub := range t.subs {
		subs = append(subs, sub.s)
	}
	sh.mu.RUnlock()
	for _, s := range subs {
		if _, ok := s.(SubscriberFunc); ok || s != from {
			s.Deliver(m)
		}
	}
	clear(subs)
	*list = subs
	l.lists.Put(list)
	return nil
}

// Subscribers returns how many subscriptions the topic has.
func (l *Local) Subscribers(name string) int {
	sh := l.shard(name)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if t := sh.topics[name]; t != nil {
		return len(t.subs)
	}
	return 0
}

// Topics returns how many topics have subscribers.
func (l *Local) Topics() int {
	n := 0
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.RLock()
		n += len(sh.topics)
		sh.mu.RUnlock()
	}
	return n
}
