package bridge

import (
	"context"
	"time"

	"devicehub/devices"
)

// Door lets devices in and takes what they say.
type Door interface {
	// Enter checks the device's password and lets it in. The link is used from
	// then on, by any goroutine, also before Enter returns. The error is a
	// *devices.Error, or a fault of the hub.
	Enter(ctx context.Context, a Arrival, l Link) (Session, error)
}

// Arrival is what the listener knows of a device that connects.
type Arrival struct {
	Device       devices.ID
	Password     string
	Addr         string        // the peer's address
	Client       string        // the client id that it sent, "" for none
	OfflineAfter time.Duration // how long after its last packet the device is given up
	InFlight     int           // how many publishes may wait for their decision at once
	// May is asked once the device is known to be who it says, and before it is in: an
	// error keeps it out. Strangers are not told what it would say.
	May func() error
}

// Session is one device that was let in.
type Session interface {
	// Handle takes an event of the device. event and payload may be kept. reply is called
	// exactly once, from any goroutine, when the event is decided for good or
	// refused for now.
	Handle(event string, payload []byte, binary bool, reply func(answer any, err error))
	// HandleBare takes the value of one metric as a bare number, true, false or
	// text. metric and payload may be kept.
	HandleBare(metric string, payload []byte, reply func(answer any, err error))
	// Answered says that the device answered the end of this connection, which was
	// replaced; sure, that this cannot have been on its way before.
	Answered(sure bool)
	// Listen says that the device hears commands from now on, Attend what it is told
	// beside them.
	Listen()
	Attend()
	// Stale reports whether the answer to an event, given over an earlier connection
	// and not acknowledged, is of no use to the device any more.
	Stale(event string, answer any) bool
	// Close says that the connection is gone, and why, in the reasons that
	// statuses show.
	Close(reason string)
}

// Link is how a device is told something. No method but Settle blocks; each may be called
// from any goroutine, also after the connection is gone.
type Link interface {
	// Command sends a command; false when the device does not listen, its queue
	// is full or the connection is gone.
	Command(c Command) bool
	// Tell sends {"e":event,…payload's fields} on the device's sys/down.
	Tell(event string, payload any) bool
	// Knows reports whether the device has acknowledged just this event, and knows it
	// still: its session was resumed.
	Knows(event string, payload any) bool
	// Settle waits until what the device has sent is handled, as far as it has
	// arrived, and reports whether the connection is over. One that is held up is
	// given patience, any other at most most. It alone blocks.
	Settle(patience, most time.Duration) (over bool)
	// End tells the device why and ends the connection.
	End(code devices.Code, reason string, byEpoch int64)
}

// Command is one command for a device.
type Command struct {
	ID        string
	ExpiresAt int64 // ms since epoch; 0 never
	// Payload is the envelope, with the time that it has left at now.
	Payload func(now time.Time) []byte
}

// Accounts lets service accounts in.
type Accounts interface {
	// SignIn verifies what follows "service:" in the user name, and the
	// password, for a peer at addr. The error is a *devices.Error, or a fault of the
	// hub.
	SignIn(addr, name, password string) (Account, error)
	// Lookup is an account as it is now; false when there is none of that name
	// and identity any more. It must not block.
	Lookup(name, identity string) (Account, bool)
}

// Account is a service account as it is at one moment.
type Account struct {
	Name     string
	Identity string   // tells it from an earlier account of that name
	Filters  []string // topics that it may use
	Except   []string // what it may not subscribe to all the same
	// Check, if set, is asked from time to time whether the account still is
	// what it was.
	Check func() error
	// Wait, if set, is asked for every message that the account publishes, how long
	// its connection is held up before it is taken.
	Wait func() time.Duration
	// Kept, if set, is told how many bytes what it publishes and subscribes to leaves
	// on the disk. It must not block.
	Kept func(bytes int)
	// MayRead, if set, says whether the account may read a device, at the moment
	// of the call. It must not block.
	MayRead func(id devices.ID) bool
	// MayCommand, if set, says whether the account may command a device, in Home
	// Assistant's way, at the moment of the call.
	MayCommand func(id devices.ID) bool
}
