package sim

import (
	"encoding/json"
	"fmt"
)

// outcome is what became of a command, by the hub's word. Each command has one.
type outcome uint8

const (
	isOpen        outcome = iota // no end of it is known
	isDone                       // by the device's own word, and there was nothing to be seen of it
	isConfirmed                  // it was seen
	isUnconfirmed                // the device says that it is done, and nobody has seen it
	isFailed                     // it came to nothing, or nobody knows
	isSuperseded                 // a newer one took its place before it left
	isRefused                    // the hub did not take it
	outcomes
)

var outcomeNames = [outcomes]string{"open", "done", "confirmed", "unconfirmed", "failed", "superseded", "refused"}

// Statuses of commands, as the hub names them.
const (
	statusRefused    = "refused"
	statusDone       = "done"
	statusLateDone   = "late_done"
	statusConfirmed  = "confirmed"
	statusFailed     = "failed"
	statusRejected   = "rejected"
	statusTimedOut   = "timed_out"
	statusExpired    = "expired"
	statusCancelled  = "cancelled"
	statusSuperseded = "superseded"
	statusNever      = "never issued" // the hub has no such command

	codeUnconfirmed = "unconfirmed"
)

// ended reports whether a status is one after which nothing comes.
func ended(status string) bool {
	switch status {
	case statusConfirmed,
		statusLateDone,
		statusFailed,
		statusRejected,
		statusExpired,
		statusCancelled,
		statusSuperseded,
		statusRefused:
		return true
	}
	return false
}

func outcomeOf(status, code string) outcome {
	switch status {
	case statusConfirmed:
		return isConfirmed
	case statusDone, statusLateDone:
		if code == codeUnconfirmed {
			return isUnconfirmed
		}
		return isDone
	case statusFailed, statusRejected, statusTimedOut, statusExpired, statusCancelled:
		return isFailed
	case statusSuperseded:
		return isSuperseded
	case statusRefused, statusNever:
		return isRefused
	}
	return isOpen
}

// Commands counts them by what became of them, each once; Open are those of which no end is known.
// Executed counts on the devices, Repeats the envelopes that came again.
type Commands struct {
	Issued      int64 `json:"issued"`
	Done        int64 `json:"done"`
	Confirmed   int64 `json:"confirmed"`
	Unconfirmed int64 `json:"unconfirmed"`
	Failed      int64 `json:"failed"`
	Superseded  int64 `json:"superseded"`
	Refused     int64 `json:"refused"`
	Open        int64 `json:"open"`
	Executed    int64 `json:"executed"`
	Repeats     int64 `json:"repeats"`
	Twice       int64 `json:"run_twice"`
}

// of is the count of an outcome.
func (c *Commands) of(o outcome) *int64 {
	return [outcomes]*int64{&c.Open, &c.Done, &c.Confirmed, &c.Unconfirmed, &c.Failed, &c.Superseded, &c.Refused}[o]
}

func (c *Commands) add(o Commands) {
	for i := range outcomes {
		*c.of(i) += *o.of(i)
	}
	c.Issued += o.Issued
	c.Executed += o.Executed
	c.Repeats += o.Repeats
	c.Twice += o.Twice
}

// asRecorded takes the hub's records for what became of the commands, if they were read.
func (c *Commands) asRecorded(by [outcomes]int64) {
	sum := int64(0)
	for _, n := range by {
		sum += n
	}
	if sum == 0 {
		return
	}
	by[isOpen] += max(0, c.Issued-sum) // of which no record could be read
	for o, n := range by {
		*c.of(outcome(o)) = n
	}
}

// column is a count with its name.
type column struct {
	Name  string
	Count int64
}

// Columns are the outcomes that people ask for first, and those of the others that there are.
func (c *Commands) Columns() (out []column) {
	for _, o := range []outcome{isDone, isConfirmed, isUnconfirmed, isFailed, isSuperseded, isRefused, isOpen} {
		if n := *c.of(o); n > 0 || o <= isFailed && o != isOpen {
			out = append(out, column{outcomeNames[o], n})
		}
	}
	return out
}

// CommandRecord is a command as the hub recorded it.
type CommandRecord struct {
	ID        string          `json:"cmd_id"`
	Op        string          `json:"op"`
	Params    json.RawMessage `json:"params"`
	Status    string          `json:"status"`
	Code      string          `json:"code"`
	Attempt   int             `json:"attempt"`
	IssuedAt  int64           `json:"issued_at"`
	ExpiresAt int64           `json:"expires_at"`
}

func (r CommandRecord) String() string {
	if r.Code == "" {
		return r.Status
	}
	return fmt.Sprintf("%s (%s)", r.Status, r.Code)
}
