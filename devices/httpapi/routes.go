package httpapi

import "slices"

// route is one line of the API: what the multiplexer and the OpenAPI document
// are made of.
type route struct {
	method, path string
	tag, summary string
	who          string // for the document; the services decide
	open         bool   // answered also to who is not signed in
	query        []param
	body         string // schema of the request's body
	bodyOptional bool
	plain        bool           // a GET whose answer is not to be compressed, or is already
	merges       bool           // the body is a merge patch (RFC 7396) of the record
	records      bool           // a GET of a record or a list of them, of which fields can be chosen
	selects      selection      // and which
	once         bool           // a POST that makes something, once under an Idempotency-Key
	versioned    bool           // what it is about has a version, which If-Match can ask for
	bodyLimit    int64          // where it is more than any body may be
	answers      map[int]string // status -> schema, or media type, or "" for no body
	handle       func(*call) (answer, error)
}

type param struct {
	name, kind, what string // kind: string, integer, boolean
	enum             []string
	must             bool // has to be given
	many             bool // may be given more than once
	blank            bool // may be given without a value
}

var (
	pageParams = []param{{name: "limit", kind: "integer", what: "entries a page, 1 to 500"}, {name: "cursor", kind: "string", what: "next_cursor of the page before; empty for the first", blank: true}}
	spanParams = []param{{name: "from", kind: "string", what: "RFC 3339 with its zone, or ms since epoch"}, {name: "to", kind: "string", what: "RFC 3339 with its zone, or ms since epoch, not included; now when absent"}}
	aggParam   = param{name: "agg", kind: "string", what: "what will be drawn", enum: []string{"minmax", "mean", "last"}}
	zoneParam  = param{name: "tz", kind: "string", what: "time zone, such as Europe/Berlin, on whose clocks buckets of an hour and more begin; UTC when absent"}
	pointParam = param{name: "points", kind: "integer", what: "at most so many buckets"}
	hideParam  = param{name: "hide_readings", kind: "boolean",
		what: "go on though a metric gets a type or unit in which what was measured so far shows no more; exports have it"}
	reuseParam = param{name: "reuse", kind: "boolean", what: "take the ids of deleted devices, which stay taken for 30 days otherwise; their tokens stay worth nothing"}
	ifVerParam = param{name: "if_ver", kind: "integer", what: "the version that is meant; another is version_conflict"}
	labelParam = param{name: "label", kind: "string", what: "key:value; all that are given must hold", many: true}
)

const (
	base      = "/api/v1"
	device    = base + "/devices/{id}"
	listLimit = 4 << 20 // bytes of a list of devices to make
)

// with joins parameter lists.
func with(lists ...[]param) []param { return slices.Concat(lists...) }

func routes() []route {
	return slices.Concat(openRoutes(), deviceRoutes(), historyRoutes(), commandRoutes(), peopleRoutes(), operatorRoutes())
}

func openRoutes() []route {
	return []route{
		{method: "GET", path: "/healthz", tag: "health", summary: "The process answers", who: "anybody", open: true,
			answers: map[int]string{200: "Health"}, handle: (*call).healthz},
		{method: "GET", path: "/readyz", tag: "health", summary: "Logs are replayed and every listener accepts; detail for administrators and services", who: "anybody", open: true,
			answers: map[int]string{200: "Ready", 503: "Ready"}, handle: (*call).readyz},
		{method: "GET", path: "/metrics", plain: true, tag: "health", summary: "Prometheus metrics", who: "loopback, else as http.metrics says", open: true,
			answers: map[int]string{200: "text/plain"}, handle: (*call).metrics},
		{method: "GET", path: "/api/openapi.json", plain: true, tag: "health", summary: "This document", who: "anybody", open: true,
			answers: map[int]string{200: "OpenAPI"}, handle: (*call).openapi},
		{method: "POST", path: base + "/login", tag: "session", summary: "Open a login session; with X-Requested-With: devicehub it is kept in a cookie", who: "anybody", open: true,
			body: "Login", answers: map[int]string{200: "LoggedIn"}, handle: (*call).login},
		{method: "POST", path: base + "/logout", tag: "session", summary: "End the login session", who: "people",
			answers: map[int]string{204: ""}, handle: (*call).logout},
		{method: "POST", path: base + "/refresh", tag: "session", summary: "A new token for 15 minutes", who: "people",
			answers: map[int]string{200: "Access"}, handle: (*call).refresh},
		{method: "GET", path: base + "/me", plain: true, tag: "session", summary: "Who is signed in, with a token for the socket", who: "people",
			answers: map[int]string{200: "Me"}, handle: (*call).me},
		{method: "GET", path: base + "/sessions", records: true, tag: "session", summary: "Login sessions: one's own, for administrators everybody's", who: "people",
			query: pageParams, answers: map[int]string{200: "Sessions"}, handle: (*call).sessions},
		{method: "DELETE", path: base + "/sessions/{sid}", tag: "session", summary: "End a login session", who: "people",
			answers: map[int]string{204: ""}, handle: (*call).endSession},
	}
}

func deviceRoutes() []route {
	return []route{
		{method: "GET", path: base + "/devices", records: true, tag: "devices", summary: "Devices in one's scope", who: "viewer",
			query: with([]param{{name: "q", kind: "string", what: "search, in the language of the dashboard's search box", blank: true},
				{name: "kind", kind: "string", what: "of this kind", enum: []string{"sensor", "light"}},
				{name: "status", kind: "string", what: "in this state", enum: []string{"online", "quiet", "unresponsive", "data_only", "sleeping", "offline", "never_seen"}},
				labelParam, {name: "sort", kind: "string", what: "order", enum: sorts}}, pageParams),
			answers: map[int]string{200: "Devices"}, handle: (*call).listDevices},
		{method: "POST", path: base + "/devices", once: true, tag: "devices", summary: "Make a device, or all of a list or none, each with its first token", who: "admin",
			query: []param{hideParam, reuseParam}, body: "NewDevices", bodyLimit: listLimit, answers: map[int]string{201: "CreatedDevices"}, handle: (*call).createDevices},
		{method: "GET", path: device, versioned: true, records: true, tag: "devices", summary: "One device", who: "viewer",
			answers: map[int]string{200: "Device"}, handle: (*call).getDevice},
		{method: "PATCH", path: device, versioned: true, merges: true, tag: "devices", summary: "Change a record as RFC 7396 merges: labels, light and config field by field, metrics as a whole; null takes a field away", who: "admin",
			query: []param{hideParam}, body: "DevicePatch", answers: map[int]string{200: "Device"}, handle: (*call).updateDevice},
		{method: "DELETE", path: device, versioned: true, tag: "devices", summary: "Delete a device; its id stays taken for 30 days", who: "admin",
			query:   []param{{name: "keep_readings", kind: "boolean", what: "keep what it measured"}, ifVerParam},
			answers: map[int]string{204: ""}, handle: (*call).deleteDevice},
		{method: "GET", path: device + "/tokens", versioned: true, tag: "tokens", summary: "What is kept of a device's tokens", who: "admin",
			answers: map[int]string{200: "Tokens"}, handle: (*call).tokens},
		{method: "POST", path: device + "/tokens", once: true, versioned: true, tag: "tokens", summary: "A token of a new generation (rotate), or one more of the present one (issue)", who: "admin",
			body: "NewToken", bodyOptional: true, answers: map[int]string{201: "Token"}, handle: (*call).makeToken},
		{method: "DELETE", path: device + "/tokens", versioned: true, tag: "tokens", summary: "Revoke every token; live sessions end at once", who: "admin",
			answers: map[int]string{204: ""}, handle: (*call).revokeTokens},
		{method: "POST", path: device + "/readings", tag: "readings", summary: "Send readings, or one; the answer comes when they are durable", who: "the device",
			body: "ReadingOrReadings", answers: map[int]string{200: "ReadingsReply"}, handle: (*call).postReadings},
	}
}

func historyRoutes() []route {
	return []route{
		{method: "GET", path: device + "/latest", tag: "readings", summary: "The latest reading of each metric", who: "viewer",
			answers: map[int]string{200: "Latest"}, handle: (*call).latest},
		{method: "GET", path: device + "/series", tag: "readings", summary: "One metric of one device in buckets", who: "viewer",
			query: with([]param{{name: "metric", kind: "string", what: "the metric", must: true}}, spanParams, []param{pointParam, aggParam, zoneParam}), answers: map[int]string{200: "Series"}, handle: (*call).series},
		{method: "GET", path: base + "/series", tag: "readings", summary: "One metric of many devices, taken together", who: "viewer",
			query:   with([]param{{name: "metric", kind: "string", what: "the metric", must: true}, {name: "ids", kind: "string", what: "device ids, each once, joined by commas; all devices when absent"}, labelParam}, spanParams, []param{pointParam, aggParam, zoneParam}),
			answers: map[int]string{200: "Series"}, handle: (*call).across},
		{method: "GET", path: device + "/export", tag: "readings", summary: "Every reading that is kept, streamed", who: "viewer",
			query:   with([]param{{name: "metric", kind: "string", what: "the metric; all when absent"}}, spanParams, []param{{name: "format", kind: "string", what: "how", enum: []string{"csv", "ndjson", "line"}}}),
			answers: map[int]string{200: "text/csv"}, handle: (*call).export},
		{method: "GET", path: device + "/events", records: true, tag: "devices", summary: "History of connections, the newest first", who: "viewer",
			query: pageParams, answers: map[int]string{200: "Events"}, handle: (*call).events},
		{method: "GET", path: device + "/trace", plain: true, tag: "devices", summary: "What the device sends and gets, live, secrets redacted", who: "admin",
			answers: map[int]string{200: "application/x-ndjson"}, handle: (*call).trace},
		{method: "GET", path: device + "/shadow", versioned: true, records: true, tag: "shadow", summary: "Desired and reported state", who: "viewer",
			answers: map[int]string{200: "Shadow"}, handle: (*call).getShadow},
		{method: "PATCH", path: device + "/shadow", versioned: true, tag: "shadow", summary: "Change what is desired; null takes a field away", who: "operator",
			body: "ShadowPatch", answers: map[int]string{200: "Shadow"}, handle: (*call).patchShadow},
	}
}

func commandRoutes() []route {
	return []route{
		{method: "POST", path: device + "/commands", tag: "commands", summary: "Send a command; with wait, answer when it is done or confirmed", who: "operator",
			query: []param{{name: "wait", kind: "string", what: "until", enum: []string{"done", "confirmed"}}, {name: "timeout_ms", kind: "integer", what: "at most so long, 1 to 60000"}},
			body:  "NewCommand", answers: map[int]string{200: "Command", 202: "Receipt"}, handle: (*call).issueCommand},
		{method: "GET", path: device + "/commands", records: true, tag: "commands", summary: "Commands, the newest first", who: "viewer",
			query: pageParams, answers: map[int]string{200: "Commands"}, handle: (*call).commands},
		{method: "GET", path: base + "/commands", records: true, tag: "commands", summary: "Commands of all devices in the caller's scope, the newest first; a short or empty page may have a next one", who: "viewer",
			query: pageParams, answers: map[int]string{200: "Commands"}, handle: (*call).allCommands},
		{method: "GET", path: device + "/commands/{cmd_id}", records: true, tag: "commands", summary: "One command", who: "viewer",
			answers: map[int]string{200: "Command"}, handle: (*call).command},
		{method: "DELETE", path: device + "/commands/{cmd_id}", tag: "commands", summary: "Cancel a command that was not sent", who: "operator",
			answers: map[int]string{200: "Command"}, handle: (*call).cancelCommand},
	}
}

func peopleRoutes() []route {
	return []route{
		{method: "GET", path: base + "/users", records: true, tag: "people", summary: "People by name", who: "admin",
			query: pageParams, answers: map[int]string{200: "Users"}, handle: (*call).users},
		{method: "POST", path: base + "/users", once: true, tag: "people", summary: "Add a person", who: "admin",
			body: "NewUser", answers: map[int]string{201: "User"}, handle: (*call).createUser},
		{method: "GET", path: base + "/users/{name}", versioned: true, records: true, tag: "people", summary: "One person", who: "admin, and the person",
			answers: map[int]string{200: "User"}, handle: (*call).user},
		{method: "PATCH", path: base + "/users/{name}", versioned: true, merges: true, tag: "people", summary: "Change a person; a new password ends their sessions", who: "admin; the person their own password, with current_password",
			body: "UserPatch", answers: map[int]string{200: "User"}, handle: (*call).updateUser},
		{method: "DELETE", path: base + "/users/{name}", versioned: true, tag: "people", summary: "Delete a person; their sessions end at once", who: "admin",
			query: []param{ifVerParam}, answers: map[int]string{204: ""}, handle: (*call).deleteUser},
		{method: "GET", path: base + "/apitokens", records: true, tag: "people", summary: "Service accounts by name", who: "admin",
			query: pageParams, answers: map[int]string{200: "Accounts"}, handle: (*call).accounts},
		{method: "POST", path: base + "/apitokens", once: true, tag: "people", summary: "Add a service account; its token is shown once", who: "admin",
			body: "NewAccount", answers: map[int]string{201: "CreatedAccount"}, handle: (*call).createAccount},
		{method: "GET", path: base + "/apitokens/{name}", versioned: true, records: true, tag: "people", summary: "One service account", who: "admin",
			answers: map[int]string{200: "Account"}, handle: (*call).account},
		{method: "PATCH", path: base + "/apitokens/{name}", versioned: true, merges: true, tag: "people", summary: "Change what a service account may do, at once", who: "admin",
			body: "AccountPatch", answers: map[int]string{200: "Account"}, handle: (*call).updateAccount},
		{method: "DELETE", path: base + "/apitokens/{name}", versioned: true, tag: "people", summary: "Delete a service account; its token is worth nothing from then on", who: "admin",
			query: []param{ifVerParam}, answers: map[int]string{204: ""}, handle: (*call).deleteAccount},
		{method: "GET", path: base + "/keys", records: true, tag: "tokens", summary: "Signing keys, the newest first", who: "admin",
			answers: map[int]string{200: "Keys"}, handle: (*call).keys},
		{method: "POST", path: base + "/keys", once: true, tag: "tokens", summary: "Make a new signing key; the old one goes on verifying", who: "admin",
			answers: map[int]string{201: "Key"}, handle: (*call).rotateKey},
		{method: "DELETE", path: base + "/keys/{kid}", tag: "tokens", summary: "End a signing key and every token under it at once", who: "admin",
			answers: map[int]string{200: "Stranded"}, handle: (*call).revokeKey},
	}
}

func operatorRoutes() []route {
	return []route{
		{method: "GET", path: base + "/audit", records: true, tag: "operation", summary: "Who did what, the newest first", who: "admin; operators within their scope; viewers their own actions",
			query: with([]param{{name: "device", kind: "string", what: "what was done to this device"}, {name: "actor", kind: "string", what: "what this actor did, such as user:ana"},
				{name: "action", kind: "string", what: "such as device.update"}, {name: "outcome", kind: "string", enum: []string{"ok", "refused", "failed"}, what: "what became of it"}}, spanParams, pageParams),
			answers: map[int]string{200: "Audit"}, handle: (*call).audit},
		{method: "POST", path: base + "/audit/prune", tag: "operation", summary: "Take out entries that are older than a time, or those beyond audit.max_age and audit.max_bytes; an entry says so", who: "admin",
			body: "PruneAudit", bodyOptional: true, answers: map[int]string{200: "PrunedAudit"}, handle: (*call).pruneAudit},
		{method: "POST", path: base + "/clock/accept", tag: "operation", summary: "Take the hub's clock as right", who: "admin",
			answers: map[int]string{200: "Clock"}, handle: (*call).acceptClock},
		{method: "GET", path: base + "/readings/check", tag: "operation", summary: "Series of readings that no device can have sent", who: "admin",
			answers: map[int]string{200: "Findings"}, handle: (*call).checkReadings},
		{method: "POST", path: base + "/readings/repair", tag: "operation", summary: "Erase series of readings that no device can have sent", who: "admin",
			body: "Repair", bodyOptional: true, answers: map[int]string{200: "Repaired"}, handle: (*call).repairReadings},
		{method: "GET", path: base + "/nodes", tag: "operation", summary: "Nodes of the hub", who: "admin",
			answers: map[int]string{200: "Nodes"}, handle: (*call).nodes},
		{method: "GET", path: base + "/bridges", tag: "operation", summary: "Bridges to other brokers", who: "admin",
			answers: map[int]string{200: "Bridges"}, handle: (*call).bridges},
		{method: "GET", path: base + "/sinks", tag: "operation", summary: "Where readings are forwarded to", who: "admin",
			answers: map[int]string{200: "Sinks"}, handle: (*call).sinks},
		{method: "POST", path: base + "/sinks/{name}/replay", tag: "operation", summary: "Send again what a sink has put aside because it was refused for good", who: "admin",
			answers: map[int]string{200: "Replayed"}, handle: (*call).replay},
		{method: "GET", path: base + "/mqtt/sessions", records: true, tag: "operation", summary: "Clients of the MQTT listener that are connected, or whose sessions are kept", who: "admin",
			query: pageParams, answers: map[int]string{200: "MQTTSessions"}, handle: (*call).mqttSessions},
		{method: "DELETE", path: base + "/mqtt/sessions/{id}", tag: "operation", summary: "End a session of the MQTT listener and its connection; its will is not published", who: "admin",
			answers: map[int]string{204: ""}, handle: (*call).endMQTTSession},
		{method: "GET", path: base + "/discovered", tag: "operation", summary: "Devices that adapters have met and nobody has adopted", who: "admin",
			answers: map[int]string{200: "Discovered"}, handle: (*call).discovered},
		{method: "POST", path: base + "/backup", tag: "operation", summary: "Everything the hub keeps, in one file, while it runs", who: "admin",
			body: "Backup", bodyOptional: true, answers: map[int]string{200: "application/octet-stream"}, handle: (*call).backup},
	}
}
