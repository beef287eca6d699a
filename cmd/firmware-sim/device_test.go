package main

import (
	"net"
	"strings"
	"testing"
)

// What is typed at a device that has no hub is answered, and what it could not deliver is not passed over.
func TestDeviceWithoutAHub(t *testing.T) {
	typed := "help\nblue\nNaN\nraw reading\nraw reading {\ndrop soon\n21.5\nstate\nq\n"
	want := []string{"type help for what you can do", "Type a number", `"blue" is no number`, "NaN does not exist in JSON",
		`raw reading {"m":"temperature"`, `"soon" is not a duration`, "1 reading not acknowledged", "no connection: ", "; trying again"}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, transport := range []string{"websocket", "longpoll", "mqtt", "mqtt5"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			out, stderr, code := program(t, typed, "sensor", "--device", "d", "--token", "secret", "--transport", transport,
				"--hub", "http://"+closed.Addr().String(), "--mqtt", "mqtt://"+closed.Addr().String())
			for _, w := range want {
				if !strings.Contains(out, w) {
					t.Errorf("want %q in\n%s", w, out)
				}
			}
			if code != 1 || !strings.Contains(stderr, "has not acknowledged 1 reading") {
				t.Errorf("exit code %d, %s", code, stderr)
			}
			if strings.Count(out, "no connection") > 2 {
				t.Errorf("it says so again and again:\n%s", out)
			}
		})
	}
}

func TestLightAtHand(t *testing.T) {
	out, _, code := program(t, "p\n300\nstate\n", "light", "--device", "d", "--token", "secret", "--hub", "http://127.0.0.1:1")
	if code != 0 || !strings.Contains(out, `"300" is neither p nor a brightness`) || !strings.Contains(out, `light {"on":true`) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	_, stderr, code := program(t, "", "light", "--device", "d", "--token", "secret", "--modes", "blue")
	if code != 2 || !strings.Contains(stderr, "--modes") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}
