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
package httpapi
