package liveness

import (
	"time"

	"devicehub/devices"
)

// The values of a status's link, data and control.
const (
	LinkUp      = "up"
	LinkDown    = "down"
	LinkUnknown = "unknown"

	DataFresh = "fresh"
	DataStale = "stale"
	DataNone  = "none"

	ControlOK         = "ok"
	ControlUnanswered = "unanswered"
	ControlUnknown    = "unknown"
)

// Why a device has no link, or flaps. Transports give them to Close.
const (
	ClientClose       = "client_close"
	HeartbeatTimeout  = "heartbeat_timeout"
	ConnectionLost    = "connection_lost"
	Replaced          = "replaced"
	DuplicateIdentity = "duplicate_identity"
	TokenExpired      = "token_expired"
	TokenRevoked      = "token_revoked"
	DeviceDisabled    = "device_disabled"
	ServerDrain       = "server_drain"
	HubRestart        = "hub_restart"
	NodeLost          = "node_lost"
	BridgeDown        = "bridge_down"
	RateLimited       = "rate_limited"
	ProtocolError     = "protocol_error"
	SlowConsumer      = "slow_consumer"
	Kicked            = "kicked"
)

const (
	flapEpochs   = 5           // more epochs than these, but for those that ended with a goodbye
	flapWindow   = time.Minute // within this are flapping
	silentAfter  = time.Hour   // data_only of a device without an interval
	staleFactor  = 3           // intervals
	dataAskEvery = time.Second // at most so often are the readings of a fresh device looked at
	askAgain     = 10 * time.Millisecond
	minGrace     = 5 * time.Second  // for a device that wakes later than it said
	maxGrace     = 5 * time.Minute  //
	wakeAfter    = 2 * time.Second  // what is heard this long after a sleep was announced means awake
	restartWait  = 90 * time.Second // for a device known before a restart to be back
)

// Conn is what is known of a connection.
type Conn struct {
	Transport devices.Transport
	Addr      string // the peer's, without port
	Boot      string // the device's power-up, if known
	Client    string // what the client calls itself, if the transport has a word for it
	// OfflineAfter is how long after the last sign of life the transport gives
	// the connection up.
	OfflineAfter time.Duration
}

// conn is the present connection of a device.
type conn struct {
	Conn
	epoch int64
	end   func(code devices.Code, reason string, byEpoch int64) // nil for a device behind a bridge
}

// device is what is known of one device. Guarded by its shard.
type device struct {
	id     devices.ID
	status devices.Status // as last told

	epoch  int64 // the highest that was told
	conn   *conn
	reason string // why there is none
	seen   bool   // anything was ever heard of it
	linked bool   // it ever had a link

	bridge *bridge // the one it is behind
	avail  availability

	assumedUntil time.Time // link assumed after a restart
	drained      bool      // the history says offline since the last hub stopped
	quietUntil   time.Time // staleness of before the restart is not believed until
	awakeAt      int64     // announced; 0: awake
	sleptAt      time.Time
	sleepEnd     time.Time // awakeAt and some grace
	linklessTill time.Time // data without a link counts until

	stale, any bool
	nextStale  time.Time
	askAt      time.Time // readings are to be looked at
	asking     bool

	control string
	rtt     time.Duration // -1: unknown

	// When the last epochs began, a ring. That of a connection which ends with a
	// goodbye is taken back, and has room of its own for that.
	opens   [flapEpochs + 2]time.Time
	openN   int
	dup     duplicate
	offline time.Duration // OfflineAfter of the last connection

	lastSeen int64 // ms since epoch
	seenDone int64 // the lastSeen that is on disk
}

func (d *device) init(id devices.ID, epoch int64) {
	*d = device{id: id, epoch: epoch, control: ControlUnknown, rtt: -1,
		status: devices.Status{State: devices.NeverSeen, Link: LinkDown, Data: DataNone, Control: ControlUnknown, Epoch: epoch}}
}

// derive is the status as of now, without seq and since, and when it may change
// by itself (zero: not).
func (d *device) derive(now time.Time) (st devices.Status, next time.Time) {
	until := func(at time.Time) bool {
		if at.IsZero() || !at.After(now) {
			return false
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
		return true
	}
	if !d.assumedUntil.IsZero() && d.conn != nil {
		d.assumedUntil = time.Time{}
	}
	assumed := until(d.assumedUntil)
	if !assumed && !d.assumedUntil.IsZero() {
		d.assumedUntil, d.reason = time.Time{}, HubRestart
	}
	if d.awakeAt != 0 && !until(d.sleepEnd) {
		d.wake()
	}
	linkless := until(d.linklessTill)
	if !linkless && !d.linklessTill.IsZero() {
		d.linklessTill = time.Time{}
		if d.reason == "" && d.conn == nil && !assumed {
			d.reason = HeartbeatTimeout
		}
	}
	if !d.askAt.IsZero() && !until(d.askAt) && !d.asking {
		next = now // look at the readings at once
	}
	until(d.nextStale)

	st = devices.Status{Epoch: d.epoch, Link: LinkDown, Data: DataNone, Control: d.control}
	switch stale := d.stale && !until(d.quietUntil); {
	case d.any && stale:
		st.Data = DataStale
	case d.any:
		st.Data = DataFresh
	}
	switch {
	case d.conn != nil:
		st.Link, st.Transport = LinkUp, d.conn.Transport
	case assumed:
		st.Link, st.Unverified, st.Transport = LinkUp, true, d.status.Transport
	case linkless || d.bridge.unknown(d.avail) || d.bridge == nil && d.seen && !d.linked:
		st.Link = LinkUnknown
	}
	if d.openN > flapEpochs {
		st.Flapping = until(d.opens[(d.openN-flapEpochs-1)%len(d.opens)].Add(flapWindow))
	}
	held := until(d.dup.until)
	st.Flapping = st.Flapping || held
	st.State = d.state(st, linkless)
	switch {
	case st.State == devices.Offline:
		st.Reason = d.reason
	case st.State == devices.Sleeping:
		st.AwakeAt = d.awakeAt
	case held:
		st.Reason = DuplicateIdentity
	}
	return st, next
}

// state is the first rule that holds.
func (d *device) state(st devices.Status, linkless bool) devices.State {
	switch {
	case !d.seen:
		return devices.NeverSeen
	case d.awakeAt != 0:
		return devices.Sleeping
	case st.Link != LinkUp && !linkless:
		return devices.Offline
	case st.Link != LinkUp:
		return devices.DataOnly
	case d.control == ControlUnanswered:
		return devices.Unresponsive
	case st.Data == DataStale:
		return devices.Quiet
	}
	return devices.Online
}

// open makes c the connection of the device.
func (d *device) open(c *conn, now time.Time) {
	d.conn, d.epoch, d.reason = c, c.epoch, ""
	d.seen, d.linked = true, true
	d.offline = c.OfflineAfter
	// A new connection is a new chance: what an earlier one left unanswered
	// says nothing of it.
	d.control, d.rtt = ControlUnknown, -1
	d.wake()
	d.linklessTill = time.Time{}
	d.opens[d.openN%len(d.opens)] = now
	d.openN++
	d.heard(now)
}

func (d *device) close(reason string) {
	// A device that says goodbye, or that it sleeps, does not flap, however often.
	if d.conn != nil && d.openN > 0 && (reason == ClientClose || d.awakeAt != 0) {
		d.openN--
	}
	d.conn, d.reason, d.rtt = nil, reason, -1
}

func (d *device) wake() { d.awakeAt, d.sleptAt, d.sleepEnd = 0, time.Time{}, time.Time{} }

func (d *device) heard(now time.Time) { d.seen, d.lastSeen = true, now.UnixMilli() }

// rttMS is the round trip of the last ping over the present connection.
func (d *device) rttMS() *int64 {
	if d.rtt < 0 || d.conn == nil {
		return nil
	}
	ms := d.rtt.Milliseconds()
	return &ms
}

// wantsData reports whether the readings are to be looked at.
func (d *device) wantsData(now time.Time) bool {
	due := func(at time.Time) bool { return !at.IsZero() && !at.After(now) }
	return due(d.askAt) || due(d.nextStale)
}

// data takes over what the readings said as of now.
func (d *device) data(stale, any bool, next, now time.Time) {
	if !next.IsZero() && !next.After(now) {
		next = now.Add(askAgain) // on the verge
	}
	d.stale, d.any, d.nextStale = stale, any, next
	if any && !stale {
		d.quietUntil = time.Time{}
	}
}

// ender returns what tells the present connection to end, to be called outside
// the lock; nil if there is nobody to tell.
func (d *device) ender(code devices.Code, reason string, byEpoch int64) func() {
	if d.conn == nil || d.conn.end == nil {
		return nil
	}
	end := d.conn.end
	return func() { end(code, reason, byEpoch) }
}

func (d *device) known() Known {
	return Known{Device: d.id, State: d.status.State, Control: d.control, Reason: d.reason, Since: d.status.Since,
		Epoch: d.epoch, Transport: d.status.Transport, OfflineAfter: d.offline, AwakeAt: d.awakeAt, LastSeen: d.lastSeen, Linked: d.linked}
}
