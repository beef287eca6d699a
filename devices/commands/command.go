// Package commands brings what people ask of devices to the devices, and proves
// what came of it.
//
// A command is durable before it leaves. It is sent at most three times under
// one id, never after it expired, and every word of the device about it is
// taken in whatever order it comes: acked, done, failed, rejected, and the
// reported state that confirms it. After a restart the hub asks again under the
// same id; what may only happen once is not sent again, nor what is done.
//
// A command ends when its proof is there: a report that arrived after the
// command was last sent, over the same connection or a later one, speaks of what
// it asks for and shows it all, whatever else the device has said by then. If a
// command is done and a second later there is no proof, the hub asks the device
// once for its state.
//
// Commands of a group of fields go one at a time until they are done, and of
// those that wait the newest wins, so that a slider neither floods a device nor
// loses its last word.
package commands

import (
	"encoding/json"
	"maps"
	"time"

	"devicehub/devices"
	"devicehub/devices/lights"
)

// Status is where a command stands.
type Status string

// The statuses, in the order in which a command passes them.
const (
	Pending    Status = "pending" // about to be sent
	Queued     Status = "queued"  // waits for the device
	Sent       Status = "sent"
	Acked      Status = "acked"
	Done       Status = "done"
	Confirmed  Status = "confirmed" // the reported state shows it
	Refused    Status = "refused"   // never sent
	Cancelled  Status = "cancelled"
	Superseded Status = "superseded" // a newer one of its group took its place
	Rejected   Status = "rejected"   // by the device
	Failed     Status = "failed"     // at the device
	Expired    Status = "expired"    // never sent
	TimedOut   Status = "timed_out"  // sent and unanswered: it may have run
	LateDone   Status = "late_done"
)

// Codes beside a status.
const (
	CodeUnconfirmed    = "unconfirmed"     // done, and the state never showed it
	CodeOutcomeUnknown = "outcome_unknown" // timed out for good
)

// Policies for a device that is not there.
const (
	PolicyNone   = "none"   // refused
	PolicyLatest = "latest" // the newest of each group waits
	PolicyAll    = "all"    // all wait, in order
)

const (
	maxAttempts = 3
	minLife     = 10 * time.Second
	latestLife  = 10 * time.Minute
	allLife     = 24 * time.Hour
	maxLife     = 7 * 24 * time.Hour
	lateFor     = 60 * time.Second // after expires_at, an answer still counts
	restartFor  = 60 * time.Second // after expires_at, a device may still come back from a restart
	maxQueued   = 32               // with policy all
	maxOpen     = 256              // of one device, whatever their policy
	maxUnproven = 32               // done, and not shown; the oldest goes unconfirmed before its time
	maxSends    = 10               // sets a second of one device
	minSpacing  = 100 * time.Millisecond
	burst       = 3 // sets that may go without spacing after a pause
)

// ackTimeout is how long an answer may take.
func ackTimeout(transport devices.Transport) time.Duration {
	switch transport {
	case devices.OverLongPoll:
		return 15 * time.Second
	case devices.OverWebSocket, "":
		return 2 * time.Second
	}
	return 5 * time.Second // MQTT, through whichever broker
}

// Request is what people send.
type Request struct {
	Op          string          `json:"op"`
	Params      json.RawMessage `json:"params,omitempty"`
	ExpiresInMS *int64          `json:"expires_in_ms,omitempty"`
	Policy      string          `json:"policy,omitempty"`
	CmdID       string          `json:"cmd_id,omitempty"`
	IfVer       *int64          `json:"if_ver,omitempty"`
}

// Receipt is the answer to a request.
type Receipt struct {
	CmdID   string `json:"cmd_id"`
	Status  Status `json:"status"`
	Warning string `json:"warning,omitempty"`
}

// Envelope is a command as the device gets it.
type Envelope struct {
	CmdID     string         `json:"cmd_id"`
	Op        string         `json:"op"`
	Params    map[string]any `json:"params"`
	IssuedAt  int64          `json:"issued_at"`
	ExpiresAt int64          `json:"expires_at"`
	TTLMS     int64          `json:"ttl_ms"` // what is left, for devices without a clock
	Attempt   int            `json:"attempt"`
	By        string         `json:"by"`
}

// Hops are the times that a command spent on its way, in ms, as far as they are
// known: in the hub until sent, on the wire until answered, in the device until
// done, and until its state showed it.
type Hops struct {
	Hub     *int64 `json:"hub_ms,omitempty"`
	Wire    *int64 `json:"wire_ms,omitempty"`
	Device  *int64 `json:"device_ms,omitempty"`
	Confirm *int64 `json:"confirm_ms,omitempty"`
}

// Record is a command as people see it, in history and in "command_status"
// events. toggle and step stand in it as the set that they came to.
type Record struct {
	CmdID     string         `json:"cmd_id"`
	Device    devices.ID     `json:"device"`
	Op        string         `json:"op"`
	Params    map[string]any `json:"params"`
	Status    Status         `json:"status"`
	At        int64          `json:"at"` // of the last transition
	Attempt   int            `json:"attempt"`
	Code      string         `json:"code,omitempty"`
	Msg       string         `json:"msg,omitempty"` // the device's words
	By        string         `json:"by"`
	IssuedAt  int64          `json:"issued_at"`
	ExpiresAt int64          `json:"expires_at"`
	Policy    string         `json:"policy,omitempty"`
	Warning   string         `json:"warning,omitempty"`
	Hops      Hops           `json:"hops"`
}

// command is one in memory. Guarded by its device's entry.
type command struct {
	rec    Record
	want   lights.Fields // what confirms it; nil: nothing does
	group  lights.Group
	hash   string // of the request, for those who send it again
	final  bool
	refuse *devices.Error // why it was refused
	system bool           // sent by the hub to bring a device to its desired state

	durable chan struct{} // closed when it is on disk, or could not be
	waiters []func(error) // called then; who calls them takes them out
	stored  bool
	moved   bool // since it was last taken to the disk
	leaving bool // of what may run once: the disk knows that it may have left
	sending bool // handed to the link at this moment
	again   bool // to be sent again
	ask     bool // from before a restart: to be sent again once, whatever its attempts
	proof   bool // the device has shown it; told once it is known to have left
	// forwarded says that an adapter passed it on in the place of a device that
	// has no word for it: nothing more is heard but the device's state.
	forwarded bool
	overtaken bool          // a newer one for some of the same is done
	replaced  bool          // and it asked for another value
	stands    lights.Fields // once done: what the device is by it, and by no newer one
	refresh   string        // the hub's own, by which it asked for the proof
	onTheWay  time.Time     // when the device last said that it is

	expires   time.Time
	confirmBy time.Time // when done or acked and not confirmed, it ends
	lateUntil time.Time

	trip
	answered bool
	issuedAt time.Time
	ackAt    time.Time
	doneAt   time.Time

	changed chan struct{} // closed at the next transition; made by those who wait
}

// trip is what sending a command sets, to be taken back when the link does not
// take it.
type trip struct {
	tries     int
	sentAt    time.Time // the attempt that was answered, until then the last
	leftAt    time.Time // the last attempt: what the device said before proves nothing
	nth       int       // of all that left to the device since the start, the last attempt
	sentEpoch int64     // of the last attempt
	sentBoot  string    // the device's boot when it was sent
	ackDue    time.Time // when it is sent again, unanswered
	silentAt  time.Time // unanswered until then, the device is unresponsive
}

func (c *command) op() lights.Op { return lights.Op(c.rec.Op) }

// waiting reports whether it was not sent yet.
func (c *command) waiting() bool {
	return (c.rec.Status == Pending || c.rec.Status == Queued) && !c.sending
}

// holds reports whether it keeps others of its groups waiting.
func (c *command) holds(now time.Time) bool {
	switch c.rec.Status {
	case Sent, Acked:
		return now.Before(c.expires)
	case Pending, Queued:
		return c.sending
	}
	return false
}

// observable reports whether something can be seen that confirms it.
func (c *command) observable() bool { return len(c.want) > 0 || c.op() == lights.Restart }

// wire is what the device gets as params: brightness, colour or effect mean on.
func (c *command) wire() map[string]any {
	if c.op() != lights.Set {
		return c.rec.Params
	}
	return lit(c.rec.Params)
}

// target is what the device is when it has done the command.
func (c *command) target() lights.Fields {
	if len(c.want) == 0 {
		return lights.Fields{}
	}
	return maps.Clone(lit(c.want))
}

// lit has the fields of a set, and on where they do not say it.
func lit[M ~map[string]any](fields M) M {
	if _, said := fields[lights.On]; said {
		return fields
	}
	f := maps.Clone(fields)
	f[lights.On] = true
	return f
}

func (c *command) envelope(now time.Time) Envelope {
	return Envelope{CmdID: c.rec.CmdID, Op: c.rec.Op, Params: c.wire(), IssuedAt: c.rec.IssuedAt, ExpiresAt: c.rec.ExpiresAt,
		TTLMS: max(0, c.expires.Sub(now).Milliseconds()), Attempt: min(c.rec.Attempt+1, maxAttempts), By: c.rec.By}
}

// deadlines sets what follows from when it expires.
func (c *command) deadlines() {
	c.lateUntil = c.expires.Add(lateFor)
	c.confirmBy = c.expires.Add(c.transition())
	if c.op() == lights.Restart {
		c.confirmBy = c.confirmBy.Add(restartFor)
	}
}

// transition is how long the device was told to take.
func (c *command) transition() time.Duration {
	return time.Duration(number(c.rec.Params["transition_ms"])) * time.Millisecond
}

// number reads a number as it was put, or as it comes back from JSON.
func number(v any) int64 {
	switch n := v.(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	}
	return 0
}

func ms(d time.Duration) *int64 {
	v := max(0, d.Milliseconds())
	return &v
}
