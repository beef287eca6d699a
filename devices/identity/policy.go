package identity

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"devicehub/devices"
)

// What a password has to be follows NIST SP 800-63B (revision 3, §5.1.1.2): eight characters or more,
// of any kind, without rules of composition and without an end; none that is common, repetitive or a
// sequence, or made of what is known of the person and the service. It is the same for every role.
const (
	MinPassword = 8   // characters
	MaxPassword = 256 // bytes

	minDistinct = 4 // different characters
	minRunless  = 5 // characters that are left when runs such as 1234, aaaa and asdf count as two
	minOwn      = 4 // characters beside one's own name or the hub's
)

// common are 13,779 passwords that were found in leaks: of the 30,000 most frequent those of eight
// characters and more, and the first 3,000 of any length. They are of Mark Burnett's ten million, as
// they were counted for zxcvbn 4.4.2 (github.com/dropbox/zxcvbn, MIT licence, © Dan Wheeler and
// Dropbox, Inc.); one a line, lower case.
//
//go:embed passwords.txt.gz
var common []byte

// CheckPassword refuses what is no password for the person of that name. The detail "rule" says by
// what: length, repetitive, sequence, name or common.
func CheckPassword(name, p string) error {
	refuse := func(rule, want string) error { return devices.Invalid("password", want).With("rule", rule) }
	if !utf8.ValidString(p) || utf8.RuneCountInString(p) < MinPassword || len(p) > MaxPassword {
		return refuse("length", fmt.Sprintf("%d characters or more, and %d bytes of UTF-8 at most", MinPassword, MaxPassword))
	}
	lower := strings.ToLower(p)
	switch letters := []rune(lower); {
	case distinct(letters) < minDistinct, repeats(lower):
		return refuse("repetitive", "one that is not the same again and again")
	case runless(letters) < minRunless:
		return refuse("sequence", "one that is no sequence of digits, letters or keys")
	}
	for _, own := range []string{strings.ToLower(name), "devicehub", "device-hub"} {
		if own != "" && strings.Contains(lower, own) && utf8.RuneCountInString(lower)-utf8.RuneCountInString(own) < minOwn {
			return refuse("name", "one that is not the user name or the hub's name with a little around it")
		}
	}
	if isCommon(lower) {
		return refuse("common", "one that is not among the most common passwords")
	}
	return nil
}

func distinct(p []rune) int {
	seen := map[rune]bool{}
	for _, r := range p {
		seen[r] = true
	}
	return len(seen)
}

// repeats reports whether p is some characters and nothing but those again.
func repeats(p string) bool { return strings.Contains((p + p)[1:2*len(p)-1], p) }

// keyboards are rows of keys, to be read both ways.
var keyboards = []string{"qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiopü", "yxcvbnm", "azertyuiop", "qsdfghjklm", "1qaz2wsx3edc4rfv"}

// runless is the length of p when each run of three and more counts as two.
func runless(p []rune) (n int) {
	for i := 0; i < len(p); {
		run := 1
		for i+run < len(p) && follows(p[i:i+run+1]) {
			run++
		}
		if n++; run > 1 {
			n++
		}
		if i += run; run == 2 {
			i-- // two are no run yet: the second may begin one
			n--
		}
	}
	return n
}

// follows reports whether p, all but its last known to be a run, is one.
func follows(p []rune) bool {
	step := p[1] - p[0]
	if step >= -1 && step <= 1 {
		return p[len(p)-1]-p[len(p)-2] == step
	}
	for _, row := range keyboards {
		if strings.Contains(row, string(p)) || strings.Contains(row, reversed(p)) {
			return true
		}
	}
	return false
}

func reversed(p []rune) string {
	var b strings.Builder
	for i := len(p) - 1; i >= 0; i-- {
		b.WriteRune(p[i])
	}
	return b.String()
}

// isCommon looks for p, and for p without the digits and signs at its end, among the common
// passwords. They are unpacked each time: passwords are seldom set.
func isCommon(p string) bool {
	bare := strings.TrimRightFunc(p, func(r rune) bool { return !unicode.IsLetter(r) })
	z, err := gzip.NewReader(bytes.NewReader(common))
	if err != nil {
		panic(fmt.Errorf("the list of common passwords: %w", err)) // it is part of the program
	}
	for lines := bufio.NewScanner(z); lines.Scan(); {
		if s := lines.Text(); s == p || s == bare {
			return true
		}
	}
	return false
}
