// Package liveness knows which devices are there. It arbitrates their
// connections and derives their status from three facts kept apart: the link
// (is there a connection), the data (are the readings fresh) and the control
// (was the last command answered).
//
// Every accepted connection of a device gets an epoch, an integer that rises
// strictly per device and across restarts. The newest connection wins over all
// transports; the end of an older one changes nothing. A status is derived,
// never written, and carries (epoch, seq): whoever sees two of them knows which
// is the later.
//
// A status is told when it changes. Only transitions reach the disk, in
// batches, and once in five minutes what was heard since.
package liveness
