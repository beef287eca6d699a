package devices

// State is a device's availability in one word, worst first in the order in
// which the rules are asked.
type State string

// The states. The first rule that holds, in the order NeverSeen, Sleeping,
// Offline, DataOnly, Unresponsive, Quiet, Online, names the state.
const (
	NeverSeen    State = "never_seen"   // registered only
	Sleeping     State = "sleeping"     // announced its sleep and when it wakes
	Offline      State = "offline"      // no link
	DataOnly     State = "data_only"    // no known link, but data arrives
	Unresponsive State = "unresponsive" // link up, the last command unanswered
	Quiet        State = "quiet"        // link up, a metric stale
	Online       State = "online"       // link up and nothing amiss
)

// Status is what the hub derives about a device; no client ever writes it.
type Status struct {
	State      State     `json:"state"`
	Link       string    `json:"link"`    // up, down, unknown
	Data       string    `json:"data"`    // fresh, stale, none
	Control    string    `json:"control"` // ok, unanswered, unknown
	Reason     string    `json:"reason,omitempty"`
	Since      int64     `json:"since"` // ms since epoch
	Flapping   bool      `json:"flapping"`
	Unverified bool      `json:"unverified,omitempty"` // known from before a restart, not yet heard again
	AwakeAt    int64     `json:"awake_at,omitempty"`
	Epoch      int64     `json:"epoch"`
	Seq        int64     `json:"seq"`
	RTTMS      *int64    `json:"rtt_ms,omitempty"`
	Transport  Transport `json:"transport,omitempty"`
}
