package hubtest

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// lesson is what a test is told that uses the package outside a bubble.
const lesson = `hubtest works in virtual time: the test has to run in a bubble of testing/synctest, and the
endpoint has to be made in it:

	func TestRoom(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ep := newEndpoint()
			client := hubtest.Connect(t, ep, "/socket", nil)
			…
		})
	}`

// wantBubble fails the test outside a bubble. Inside one it does not wait: the clock tells, which
// begins with the year 2000 there.
func wantBubble(t testing.TB) {
	t.Helper()
	if time.Now().Year() >= 2020 {
		settle(t)
	}
}

// settle waits until the hub has nothing more to do at this time.
func settle(t testing.TB) {
	t.Helper()
	defer func() {
		switch p := recover().(type) {
		case nil:
		case string:
			if strings.Contains(p, "not in a bubble") {
				t.Fatal(lesson)
			}
			panic(p)
		default:
			panic(p)
		}
	}()
	synctest.Wait()
}
