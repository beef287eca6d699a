package devices

import "context"

// AuditEntry records one state-changing action. Entries are only ever added.
type AuditEntry struct {
	At      int64  `json:"at"`
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
}

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

// AuditQuery selects entries, newest first.
type AuditQuery struct {
	Device   ID
	Actor    string
	From, To int64 // ms since epoch; 0 is open
	Limit    int
	Cursor   string
}

// AuditLog is an Auditor that can be asked.
type AuditLog interface {
	Auditor
	Audit(ctx context.Context, q AuditQuery) (entries []AuditEntry, next string, err error)
}
