// Package sqlite keeps everything durable but readings in one SQLite file:
// device records, identity, commands, shadows, connection history and audit.
//
// One noun a file. [DB] implements each noun's store interface, so that the
// packages that define those interfaces need not know SQL.
//
// # Writing
//
// There is one writer connection and a pool of readers (db.r). Those who write at
// the same time share a transaction ([DB.Writer]), in which each has a savepoint
// of its own. The journal is a write-ahead log with synchronous=FULL: what a
// store's method has returned nil for survives the loss of power. Readers never
// wait for the writer.
//
// # Schema
//
// schema/NNN_noun.sql are applied in the order of their numbers, each in a
// transaction, and recorded in the table "migrations". A number once released
// is never edited; what changes it is a new number. A table that keeps rows
// under a device's id has a trigger after the delete of the row in "devices"
// that forgets them.
package sqlite
