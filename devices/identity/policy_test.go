package identity

import (
	"errors"
	"strings"
	"testing"

	"devicehub/devices"
)

func TestPasswordPolicy(t *testing.T) {
	for _, row := range []struct{ name, password, rule string }{
		{"ana", "correct horse battery staple", ""},
		{"ana", "maple-42-river", ""},
		{"ana", "Schlüssel7", ""},
		{"ana", "ключ от дома", ""},
		{"ana", "🔑🚪🏠🪟🛋🛏🚿🧹", ""},
		{"ana", "wrong-but-fine", ""},
		{"ana", "x7!q", "length"},
		{"ana", "schloß!", "length"},
		{"ana", "äöüß", "length"},
		{"ana", strings.Repeat("long ", 60), "length"},
		{"ana", "bad\xffbytes", "length"},
		{"ana", "        ", "repetitive"},
		{"ana", "aaaaaaaaaaaa", "repetitive"},
		{"ana", "abababab", "repetitive"},
		{"ana", "kettkettkett", "repetitive"},
		{"ana", "12345678", "sequence"},
		{"ana", "87654321", "sequence"},
		{"ana", "abcdefgh", "sequence"},
		{"ana", "1234abcd", "sequence"},
		{"ana", "qwertyuiop", "sequence"},
		{"ana", "asdfghjk", "sequence"},
		{"ana", "1111aaaa", "repetitive"},
		{"gardener", "gardener", "name"},
		{"gardener", "Gardener1", "name"},
		{"gardener", "my gardener has a long one", ""},
		{"ana", "devicehub", "name"},
		{"ana", "DeviceHub!1", "name"},
		{"ana", "password", "common"},
		{"ana", "Password", "common"},
		{"ana", "password1", "common"},
		{"ana", "Password2024!", "common"},
		{"ana", "sunshine", "common"},
		{"ana", "Dragon1!", "common"},
		{"ana", "iloveyou", "common"},
	} {
		err := CheckPassword(row.name, row.password)
		var e *devices.Error
		errors.As(err, &e)
		switch {
		case row.rule == "" && err != nil:
			t.Errorf("%q: got %v, want it taken", row.password, err)
		case row.rule != "" && (e == nil || e.Code != devices.CodeInvalid || e.Details["field"] != "password" || e.Details["rule"] != row.rule):
			t.Errorf("%q: got %v, want invalid by %s", row.password, err, row.rule)
		case e != nil && row.password != "password" && strings.Contains(e.Reason, row.password):
			t.Errorf("%q is said again", row.password)
		}
	}
}
