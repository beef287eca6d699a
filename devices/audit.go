package devices

import "context"

// AuditEntry records one action that changes something, or that was refused. Entries are only
// ever added. Identical refusals fold into one: of those, Count says how many there were and
// LastAt when the last one was. What changed something never folds, and keeps its place: what
// its actor was refused before it and after it are two.
type AuditEntry struct {
	At      int64  `json:"at"`
	LastAt  int64  `json:"last_at,omitempty"` // 0: there was one
	Count   int64  `json:"count,omitempty"`   // 0: there was one
	Actor   string `json:"actor"`
	IPHash  string `json:"ip_hash,omitempty"` // HMAC of the address with a key of the installation
	Via     string `json:"via"`               // ws, longpoll, http, mqtt, cli
	Action  string `json:"action"`            // "device.create", "command.issue", ...
	Target  string `json:"target"`            // "device:kitchen-temp", "user:ana", ...
	CmdID   string `json:"cmd_id,omitempty"`
	Before  any    `json:"before,omitempty"`
	After   any    `json:"after,omitempty"`
	Outcome string `json:"outcome"` // ok, refused, failed
	Code    Code   `json:"code,omitempty"`

	// Stranger says that nobody has verified the actor, such as of a failed sign-in: wherever it
	// comes from, it is counted with the rest of its kind.
	Stranger bool `json:"-"`
}

// Changed reports whether the action changed something.
func (e *AuditEntry) Changed() bool { return e.Outcome == "ok" }

// Last is when the last of what the entry stands for happened.
func (e *AuditEntry) Last() int64 { return max(e.At, e.LastAt) }

// Origin is by which way and from where an actor asks; it goes into the audit.
type Origin struct {
	Via  string // ws, longpoll, http, mqtt, cli
	Addr string // the peer's address, without port
	// Shared says that the address is that of a proxy which hides who calls.
	Shared bool
}

// Auditor keeps audit entries. Record fills in At when it is zero and the
// IPHash from the origin's address, and does not block on the disk.
type Auditor interface {
	Record(o Origin, e AuditEntry)
}

// AuditQuery selects entries, newest first. One that stands for several is
// selected by the time of any of them.
type AuditQuery struct {
	Device   ID
	Actor    string
	Action   string
	Outcome  string
	From, To int64 // ms since epoch; 0 is open
	Limit    int
	Cursor   string
}

// Pruned is what was taken out of an audit.
type Pruned struct {
	Refusals int64 `json:"refusals"` // entries of what changed nothing
	Changes  int64 `json:"changes"`
}

// AuditLog is an Auditor that can be asked and pruned.
type AuditLog interface {
	Auditor
	Audit(ctx context.Context, q AuditQuery) (entries []AuditEntry, next string, err error)
	// Prune takes out what is older than before (ms since epoch), and leaves an entry
	// that says so. Without before it takes out what the log's own bounds ask for.
	Prune(ctx context.Context, o Origin, actor string, before int64) (Pruned, error)
}
