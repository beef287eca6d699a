package devices

import "unicode/utf8"

// WantText is what every text is to be that a device or a person gives.
const WantText = "UTF-8 without control characters (tab and line ends are taken) " +
	"and without a byte order mark at its beginning"

// GoodText reports whether s is UTF-8 without control characters, but for tab
// and line ends, and does not begin with a byte order mark: what databases,
// spreadsheets and terminals take as well, and what people can see.
func GoodText(s string) bool {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= 0x20 && s[i] < 0x7f
	}
	if plain {
		return true
	}
	for i, r := range s {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
		case r < 0x20 || r >= 0x7f && r <= 0x9f: // C0, DEL and C1
			return false
		case r == '\ufeff' && i == 0:
			return false
		}
	}
	return utf8.ValidString(s)
}
