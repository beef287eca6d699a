// Package identity says who someone is and what they may do: device tokens and
// their generations, signing keys, people with passwords, roles, scopes and
// login sessions, service accounts.
//
// A caller shows a token and gets a [Principal] ([Service.Verify]). For every
// event it asks [Service.Actor] (people and services) or [Service.Check]
// (devices) again: both answer from memory, as things stand at that moment, so
// that a right that was taken away is gone at once. [Service.Watch] tells the
// owners of live connections whom to look at again.
//
// Three kinds of token, all JWT with EdDSA, never interchangeable (claim
// "typ"): device, user, service; and bridge tokens, good on one bridge only. For
// small password fields devices have a short signed form beside it, "dh1".
//
// No token is stored or logged: kept are its id, its generation, its key and
// its last four characters.
package identity
