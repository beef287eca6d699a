// Package readings is the path of what devices measure: it reads the pushes of
// the wire (Parse…), judges every reading by the rules of units, types, ranges,
// clocks and sequences (Ingest), has a Store keep what is accepted, and answers
// questions about it: latest, series, one metric over many devices, export.
//
// One goroutine, that of Ingest.Run, judges and appends. It takes whatever
// pushes wait, decides them one after the other against what it remembers of
// each device, hands the outcome to the store as one Group, and answers when
// that group is durable. When the store refuses a group, what was decided in
// it is forgotten again: nothing that a device is told, and nothing that
// anybody can ask for, rests on a reading that the store has not kept.
//
// What the store has kept of a device besides its history (the latest value of
// each metric, the sequence windows of its boots) is a Record in the store's
// Book, which the in-memory store and the durable one share.
package readings
