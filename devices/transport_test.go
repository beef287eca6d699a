package devices

import "testing"

func TestHost(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "192.0.2.1": "192.0.2.1", "[::ffff:192.0.2.1]:80": "192.0.2.1",
		"[2001:db8::1]:80": "2001:db8::1", "2001:db8::1": "2001:db8::1", "bridge:house": "bridge:house", "": "",
	} {
		if got := Host(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// The audit has its own word for one of them.
func TestVia(t *testing.T) {
	for in, want := range map[Transport]string{OverWebSocket: "ws", OverLongPoll: "longpoll", OverMQTT: "mqtt", OverBridge("z2m"): "bridge:z2m"} {
		if got := in.Via(); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}
