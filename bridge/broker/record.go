package broker

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// The kinds of records. Whatever has a number of its own is keyed by that, so
// that no key is longer than another.
const (
	recFormat       = 'v' // the version of all others
	recMessage      = 'm' // A: its number
	recRetained     = 'r' // A: of the message that is retained on its topic
	recSession      = 's' // A: its number
	recSubscription = 'f' // A: of the session, B: of the subscription
	recDelivery     = 'q' // A: of the session, B: its turn
	recReceipt      = 'x' // A: of the session, B: packet identifier
)

// recordFormat is the version of the records that this package writes.
const recordFormat = 1

var (
	errRecord    = errors.New("a record is damaged")
	errNewRecord = errors.New("a newer devicehub wrote what the broker keeps: install that version")
)

// appender builds a record.
type appender []byte

func (a *appender) byte(b byte)    { *a = append(*a, b) }
func (a *appender) num(n uint64)   { *a = binary.AppendUvarint(*a, n) }
func (a *appender) text(s string)  { a.num(uint64(len(s))); *a = append(*a, s...) }
func (a *appender) bytes(b []byte) { a.num(uint64(len(b))); *a = append(*a, b...) }
func (a *appender) time(t time.Time) { // ms since epoch; 0: never
	if t.IsZero() {
		a.num(0)
	} else {
		a.num(uint64(max(t.UnixMilli(), 1)))
	}
}

func (a *appender) flags(fs ...bool) {
	var b byte
	for i, f := range fs {
		if f {
			b |= 1 << i
		}
	}
	a.byte(b)
}

// reader takes a record apart. After the first fault it gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	b := r.b[0]
	r.b = r.b[1:]
	return b
}

func (r *reader) num() uint64 {
	n, k := binary.Uvarint(r.b)
	if k <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[k:]
	return n
}

func (r *reader) bytes() []byte {
	n := r.num()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) text() string { return string(r.bytes()) }

func (r *reader) time() time.Time {
	ms := r.num()
	if ms == 0 || ms > math.MaxInt64 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}

func (r *reader) seconds() time.Duration {
	return time.Duration(min(r.num(), math.MaxUint32)) * time.Second
}

func (r *reader) flags(fs ...*bool) {
	b := r.byte()
	for i, f := range fs {
		*f = b&(1<<i) != 0
	}
}

// count is of things of which each takes a byte at least.
func (r *reader) count() int {
	n := r.num()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *reader) err() error {
	if r.bad || len(r.b) > 0 {
		return errRecord
	}
	return nil
}

func (a *appender) owner(o Owner) {
	a.text(o.Name)
	a.text(o.Identity)
}

func (r *reader) owner() Owner { return Owner{Name: r.text(), Identity: r.text()} }

func (a *appender) message(m *Message) {
	a.text(m.Topic)
	a.bytes(m.Payload)
	a.byte(m.QoS)
	a.flags(m.Retain, m.Props.PayloadFormatFlag)
	a.time(m.Expires)
	a.num(uint64(m.lasts / time.Second))
	a.byte(m.Props.PayloadFormat)
	a.text(m.Props.ContentType)
	a.text(m.Props.ResponseTopic)
	a.bytes(m.Props.CorrelationData)
	a.num(uint64(len(m.Props.User)))
	for _, u := range m.Props.User {
		a.text(u.Key)
		a.text(u.Value)
	}
}

// message copies what it reads, but for the payload.
func (r *reader) message() (m Message) {
	m.Topic = r.text()
	m.Payload = r.bytes()
	m.QoS = r.byte() & 3
	r.flags(&m.Retain, &m.Props.PayloadFormatFlag)
	m.Expires = r.time()
	m.lasts = r.seconds()
	m.Props.PayloadFormat = r.byte()
	m.Props.ContentType = r.text()
	m.Props.ResponseTopic = r.text()
	if b := r.bytes(); len(b) > 0 {
		m.Props.CorrelationData = b
	}
	for range r.count() {
		m.Props.User = append(m.Props.User, UserProperty{r.text(), r.text()})
	}
	return m
}

func messageRecord(m *letter) []byte {
	var a appender
	if m.by != nil {
		a.owner(m.by.Owner)
	} else {
		a.owner(Owner{})
	}
	a.message(&m.Message)
	return a
}

func sessionRecord(s *Session) []byte {
	var a appender
	a.owner(s.key.owner)
	a.text(s.key.id)
	a.num(uint64(s.Expiry / time.Second))
	a.flags(s.link != nil, s.will != nil)
	a.time(s.until)
	if s.will != nil {
		a.num(uint64(s.WillDelay / time.Second))
		a.time(s.willAt)
		a.message(s.will)
	}
	return a
}

// readSession fills a session; connected says that it had a connection.
func readSession(b []byte, s *Session) (connected bool, err error) {
	r := reader{b: b}
	s.key.owner = r.owner()
	s.key.id = r.text()
	s.Owner, s.ID = s.key.owner, s.key.id
	s.Expiry = r.seconds()
	var will bool
	r.flags(&connected, &will)
	s.until = r.time()
	if will {
		s.WillDelay = r.seconds()
		s.willAt = r.time()
		m := r.message()
		s.will = &m
	}
	return connected, r.err()
}

func subscriptionRecord(name string, s *subscription) []byte {
	var a appender
	a.text(name)
	a.byte(s.qos)
	a.flags(s.noLocal, s.asPublished)
	a.num(uint64(s.id))
	return a
}

func readSubscription(b []byte) (name string, s *subscription, err error) {
	r := reader{b: b}
	s = new(subscription)
	name = r.text()
	s.qos = r.byte() & 3
	r.flags(&s.noLocal, &s.asPublished)
	s.id = int(r.num())
	group, filter, _, ok := ParseShare(name)
	if s.group, s.filter = group, filter; !ok {
		r.bad = true
	}
	return name, s, r.err()
}

func deliveryRecord(d *delivery) []byte {
	var a appender
	a.num(d.m.id)
	a.byte(d.qos)
	a.flags(d.retain, d.sent || d.dup, d.released)
	a.num(uint64(d.packetID))
	a.num(uint64(len(d.ids)))
	for _, id := range d.ids {
		a.num(uint64(id))
	}
	return a
}

// readDelivery fills a delivery and returns the number of its message.
func readDelivery(b []byte, d *delivery) (message uint64, err error) {
	r := reader{b: b}
	message = r.num()
	d.qos = r.byte() & 3
	r.flags(&d.retain, &d.dup, &d.released)
	d.packetID = uint16(r.num())
	for range r.count() {
		d.ids = append(d.ids, int(r.num()))
	}
	return message, r.err()
}
