package tsdb

import (
	"encoding/binary"

	"devicehub/devices/readings"
)

// Keys of the chunk store: a class byte, then numbers, big-endian, so that a
// day of a class is one range.
const (
	classMeta    = 0x00 // name
	classRaw     = 0x01 // day u32 | series u32: chunk
	classQuarter = 0x02 // likewise: roll-ups of 15 minutes
	classHour    = 0x03 // likewise: roll-ups of an hour
	classMeter   = 0x04 // day/256 u32 | series u32: what a meter came to, day by day
	classDevice  = 0x10 // number u32: id
	classSeries  = 0x11 // number u32: what it is
	classState   = 0x12 // number u32 of the device: readings.Record.AppendState
	classDirty   = 0x13 // day u32 | series u32: its roll-ups are to be made again
)

// Names of metas.
const (
	metaFormat  = "format"  // u16
	metaPos     = "pos"     // u64: the log up to here is in the chunks
	metaClock   = "clock"   // wall u64 | suspect u8
	metaNumbers = "numbers" // greatest number of a device u32 | of a series u32
	metaKept    = "kept"    // by tier, the first day that is complete, u32 each
	metaRolled  = "rolled"  // day u32 follows the name: its roll-ups were made; u8, their format, none for the first
	metaMetered = "metered" // u32, the first day of which the days of meters are there
)

// formatVersion of the folder as a whole: 2 has roll-ups that know of resets,
// directions and readings out of range. A folder of an older version is read,
// and becomes one of this version when it is opened: roll-ups are made again
// where the readings are kept.
const (
	formatVersion = 2
	rollupFormat  = 2
)

func metaKey(name string) []byte { return append([]byte{classMeta}, name...) }

func rolledKey(day uint32) []byte {
	return binary.BigEndian.AppendUint32(metaKey(metaRolled), day)
}

func chunkKey(b []byte, class byte, day, series uint32) []byte {
	b = append(b[:0], class)
	b = binary.BigEndian.AppendUint32(b, day)
	return binary.BigEndian.AppendUint32(b, series)
}

func dayKey(class byte, day uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{class}, day)
}

func numberKey(class byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{class}, n)
}

func splitChunkKey(k []byte) (day, series uint32, ok bool) {
	if len(k) != 9 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(k[1:]), binary.BigEndian.Uint32(k[5:]), true
}

func classOf(t readings.Tier) byte {
	return [...]byte{readings.Raw: classRaw, readings.Quarter: classQuarter, readings.Hour: classHour}[t]
}

func dayOf(t int64) uint32 { return uint32(t / dayMS) }

func dayStart(d uint32) int64 { return int64(d) * dayMS }
