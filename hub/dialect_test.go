package hub_test

import (
	"fmt"
	"testing"

	"github.com/gorilla/websocket"
)

// Clients that join without join_ref use null or the ref of their join from then on; the
// Elixir client phoenix_client does the latter.
func TestJoinWithoutJoinRef(t *testing.T) {
	c := dial(t, newEndpoint(t))
	c.send(`[null,"1","room:a","phx_join",{}]`)
	c.want(`[null,"1","room:a","phx_reply",{"response":{},"status":"ok"}]`)
	c.send(`["1","2","room:a","echo",{"a":1}]`)
	c.want(`["1","2","room:a","phx_reply",{"response":{"a":1},"status":"ok"}]`)
	c.send(`[null,"3","room:a","echo",{"a":2}]`)
	c.want(`["1","3","room:a","phx_reply",{"response":{"a":2},"status":"ok"}]`)
	c.send(`["0","4","room:a","echo",{}]`) // of an earlier join
	c.send(`["1","5","room:a","phx_leave",{}]`)
	c.want(`["1","5","room:a","phx_reply",{"response":{},"status":"ok"}]`)
	c.want(`[null,null,"room:a","phx_close",{}]`)

	c.send(`[null,1,"room:n","phx_join",{}]`)
	c.want(`[null,1,"room:n","phx_reply",{"response":{},"status":"ok"}]`)
	c.send(`[1,2,"room:n","echo",{"a":3}]`)
	c.want(`[1,2,"room:n","phx_reply",{"response":{"a":3},"status":"ok"}]`)
}

// A frame that is malformed costs its message where its topic and ref can be read, and the
// connection elsewhere.
func TestMalformedFramesAreAnswered(t *testing.T) {
	binary := func(kind byte, lens []byte, rest string) string { return string(kind) + string(lens) + rest }
	for _, row := range []struct {
		name, version, frame string
		binary               bool
		want                 string // the beginning of the answer; "" for a close
	}{
		{"realtime-js' broadcast", "2.0.0", binary(3, []byte{1, 1, 6, 5, 0, 1}, `12room:ahello{}`), true, `["1","2","room:a","phx_reply",`},
		{"a reply", "2.0.0", binary(1, []byte{1, 1, 6, 2}, `12room:aok{}`), true, `["1","2","room:a","phx_reply",`},
		{"a broadcast", "2.0.0", binary(2, []byte{6, 1}, `room:ae{}`), true, ""},
		{"cut in the event", "2.0.0", binary(0, []byte{1, 1, 6, 9}, `12room:ae`), true, `["1","2","room:a","phx_reply",`},
		{"cut in the topic", "2.0.0", binary(0, []byte{1, 1, 9, 1}, `12room:a`), true, ""},
		{"no ref", "2.0.0", binary(3, []byte{1, 0, 6, 5, 0, 1}, `1room:ahello{}`), true, ""},
		{"topic not UTF-8", "2.0.0", binary(3, []byte{1, 1, 2, 5, 0, 1}, "12\xff\xfehello{}"), true, ""},
		{"empty", "2.0.0", "", true, ""},
		{"no payload", "2.0.0", `["1","2","room:a","echo"]`, false, `["1","2","room:a","phx_reply",`},
		{"broken payload", "2.0.0", `["1","2","room:a","echo",{oops}]`, false, `["1","2","room:a","phx_reply",`},
		{"no end", "2.0.0", `["1","2","room:a","echo",{}`, false, `["1","2","room:a","phx_reply",`},
		{"text behind it", "2.0.0", `["1","2","room:a","echo",{}]]`, false, `["1","2","room:a","phx_reply",`},
		{"no topic", "2.0.0", `["1","2"]`, false, ""},
		{"topic is a number", "2.0.0", `["1","2",3,"echo"]`, false, ""},
		{"ref is null", "2.0.0", `["1",null,"room:a","echo"]`, false, ""},
		{"an object", "2.0.0", `{"topic":"room:a","ref":"2"}`, false, ""},
		{"version 1 without payload", "1.0.0", `{"topic":"room:a","ref":"2","event":"echo"}`, false, `{"event":"phx_reply",`},
		{"version 1 without ref", "1.0.0", `{"topic":"room:a","event":"echo","payload":{}}`, false, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := dialVersion(t, newEndpoint(t), row.version)
			kind := websocket.TextMessage
			if row.binary {
				kind = websocket.BinaryMessage
			}
			if err := c.ws.WriteMessage(kind, []byte(row.frame)); err != nil {
				t.Fatal(err)
			}
			if row.want == "" {
				c.wantClose(1011)
				return
			}
			got := c.read()
			if len(got) < len(row.want) || got[:len(row.want)] != row.want {
				t.Fatalf("got %s, want %s…", got, row.want)
			}
			if row.version == "2.0.0" {
				c.send(`[null,"9","phoenix","heartbeat",{}]`)
				c.want(`[null,"9","phoenix","phx_reply",{"response":{},"status":"ok"}]`)
			}
		})
	}
}

// Who goes on sending malformed frames is cut off.
func TestMalformedFramesAreBounded(t *testing.T) {
	c := dial(t, newEndpoint(t))
	for i := range 64 {
		c.send(fmt.Sprintf(`["1","%d","room:a","echo"]`, i))
		c.want(fmt.Sprintf(`["1","%d","room:a","phx_reply",{"response":{"reason":"malformed frame: no payload","code":"invalid"},"status":"error"}]`, i))
	}
	c.send(`["1","64","room:a","echo"]`)
	c.wantClose(1011)
}
