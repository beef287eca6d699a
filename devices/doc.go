// Package devices holds what every part of the hub agrees on: what a device is
// ([Device], [ID], [Kind]), what it measures ([Metric], the default catalogue,
// units), what a light can do ([Light]), who may do what ([Actor], [Scope]),
// how things are refused ([Error]) and what is told to those who watch
// ([Event], [Feed]).
//
// The package decides and remembers; it has never heard of a socket, an HTTP
// request or an MQTT packet. A noun that fills more than a file has its own
// package below this one: readings, commands, lights, shadow, liveness,
// identity, fleet. Everything durable goes through small store interfaces with
// an in-memory form beside them.
//
// Times in the records are milliseconds since the Unix epoch; fields ending in
// _ms and _s are durations.
package devices
