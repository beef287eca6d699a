package broker

import (
	"encoding/hex"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestPage holds FORMAT.md to the code: it has every kind of record, and its sample is one.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []byte{recFormat, recMessage, recRetained, recSession, recSubscription, recDelivery, recReceipt} {
		if !strings.Contains(string(page), "\n| `"+string(kind)+"` |") {
			t.Errorf("FORMAT.md has no kind %c", kind)
		}
	}
	if recordFormat != 1 {
		t.Error("FORMAT.md is of another version of the records")
	}
	var want []byte
	for line := range strings.Lines(string(regexp.MustCompile("(?s)```hex message\n(.*?)```").FindSubmatch(page)[1])) {
		digits := regexp.MustCompile(`^(?:[0-9a-f]{2} ?)+`).FindString(line)
		some, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, some...)
	}
	m := &letter{Message: Message{Topic: "house/lamp", Payload: []byte("on"), QoS: 1, Retain: true}, by: &account{Owner: Owner{Name: "ha", Identity: "j1"}}}
	if got := messageRecord(m); !slices.Equal(got, want) {
		t.Errorf("got % x, the page has % x", got, want)
	}
}
