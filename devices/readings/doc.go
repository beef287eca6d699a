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
//
// # What is taken
//
// One rule holds for every way in: the channels' text and binary pushes, long
// polling, HTTP, MQTT with JSON, bare payloads and SenML in JSON and CBOR, to the
// hub itself and behind a bridge.
//
//   - A number is a finite one in JSON's grammar, in base ten with a point; the
//     float64 nearest to it is kept, whatever its size, and −0 as 0. NaN, an
//     infinity and what is too large for a float64 are refused: such a reading is
//     left out. CBOR's numbers are those of the same value, bignums and decimal
//     fractions among them; of its floats of 16 and 32 bits the shortest decimal
//     that they stand for.
//   - A bool is true or false, and neither 0 or 1 nor a text.
//   - A text is UTF-8 of at most 255 bytes without control characters, but for tab
//     and line ends, and without a byte order mark at its beginning. Units and boot
//     ids have no line ends either.
//   - A metric holds values of one type; another is a type_conflict. A bare payload
//     that is neither a number nor true or false is a text.
//   - An object has each field once, at any depth. JSON is UTF-8 without a byte
//     order mark and without lone surrogates. Else the whole push is refused.
//   - A time is a whole number of ms since 1970; in SenML it counts seconds, with a
//     fraction, from now on where it is below 2^28. The hub's stamp takes the place
//     of one that is more than 60 s ahead or before 2015; the reply has a hint when
//     that looks like seconds.
//
// A refusal names the field, what is wanted there and, where it can be told what
// was meant, how to write it: "write 21.4, not 21,4".
//
// # What it means
//
// A reading outside its metric's plausible range, or none of the options of its
// enum, has the quality out_of_range, or is refused, as the metric says. It is
// kept, exported and the latest one like any other, and counted by charts and
// roll-ups, but takes part in nothing that they work out.
//
// A meter is a metric with the state class total_increasing: see meter.go. A
// direction is one in a unit of angles: see direction.go. An export and a chart
// show a metric in its declared unit, and convert what was kept in another; a
// declaration that would hide readings is refused (Ingest.Guard). What is sent is
// given back as it is, in its shortest form; what is worked out (a conversion, a
// mean) has 12 significant digits, a meter's delta 14 of the meter's reading.
//
// A day is one of UTC, unless a chart is asked for in a time zone, in which it has
// 23, 24 or 25 hours.
package readings
