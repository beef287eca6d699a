// Package httpapi is the hub's HTTP API: requests into calls of the services
// under devices, and back. It decides nothing about devices; services check
// the rights themselves, on every call.
//
// Every route stands in one table (routes), out of which come the multiplexer
// and the OpenAPI document at /api/openapi.json.
//
// A caller is known by a bearer token, by the dashboard's session cookie, or by
// who opened the connection ([WithActor]): the command line speaks this same
// API over the admin socket.
//
// # What holds for every call
//
// Nothing of a request is passed over. A parameter that is unknown, malformed,
// empty or given twice is invalid (422), and so are an unknown field, null for a
// body, and a body where none is taken. A body is JSON in UTF-8: another
// Content-Type or a Content-Encoding is 415.
//
// Records (devices, users, service accounts, shadows) have a version, ver, which
// rises with every change that people make. An edit names the version that it was
// made to, by if_ver in the body (for DELETE, in the query) or by If-Match. When
// somebody was faster the answer is version_conflict with the present record in
// details.current: 409 for if_ver, 412 for If-Match. An edit that names none is made
// to whatever is there.
//
// PATCH of devices, users and accounts merges as RFC 7396 says, under
// application/json and application/merge-patch+json alike: labels, light and config
// field by field, lists (metrics, rights, topics) as a whole. null takes away a label,
// a field of light or config, and of a device's record what can be absent: name,
// labels, area, lat, lon, expected_interval_s, metrics, undeclared, light,
// shadow_policy, config, via, notes. What is always there (enabled, sleepy, and every
// field of users and accounts) cannot be null. PATCH of a shadow has an envelope, and
// its desired fields are set or, by null, deleted one by one.
//
// A POST that makes something may carry an Idempotency-Key: see repeats.
//
// A GET of records takes fields=, answers If-None-Match with 304, and is compressed
// for who takes gzip, unless there are tokens in the answer.
package httpapi
