package channels

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"devicehub/devices/liveness"
)

// busy keeps every processor busy until the test ends.
func busy(t *testing.T) {
	var wg sync.WaitGroup
	var stop atomic.Bool
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !stop.Load() {
			}
		})
	}
	t.Cleanup(func() { stop.Store(true); wg.Wait() })
}

// A device that says goodbye and comes straight back is no other device, and what
// its socket had received is not lost.
func TestGoodbyeBeforeTheNextConnectionIsHeard(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls %t", secure), func(t *testing.T) {
			h := newHouse(t, nil)
			srv := httptest.NewUnstartedServer(h.app.Endpoint)
			if secure {
				srv.StartTLS()
			} else {
				srv.Start()
			}
			t.Cleanup(func() { h.stop(); srv.Close() })
			token := h.device("temp", sensor)
			busy(t)
			const rounds = 30
			dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			now := time.Now().UnixMilli()
			for i := range rounds {
				ws, _, err := dialer.Dial("ws"+strings.TrimPrefix(srv.URL, "http")+"/socket/websocket?vsn=2.0.0", http.Header{"Authorization": {"Bearer " + token}})
				if err != nil {
					t.Fatalf("round %d: %v", i, err)
				}
				say := func(frame string) {
					if err := ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
						t.Fatal(err)
					}
				}
				say(fmt.Sprintf(`["1","1","sensor:temp","phx_join",{"boot":"b%d"}]`, i)) // deep sleep: each wake-up is another boot
				if _, _, err := ws.ReadMessage(); err != nil {                           // let in
					t.Fatal(err)
				}
				for k := range 5 {
					say(fmt.Sprintf(`["1","%d","sensor:temp","reading",{"m":"temperature","v":%d,"t":%d}]`, k+2, k, now-9000+int64(i*10+k)))
				}
				if err := ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "")); err != nil {
					t.Fatal(err)
				}
				_ = ws.UnderlyingConn().Close()
			}
			deadline := time.Now().Add(10 * time.Second)
			for h.app.Readings.Stats().Accepted < rounds*5 && time.Now().Before(deadline) {
				time.Sleep(10 * time.Millisecond)
			}
			if got := h.app.Readings.Stats().Accepted; got != rounds*5 {
				t.Errorf("%d readings stored, want %d", got, rounds*5)
			}
			st := h.app.Liveness.Stats()
			if st.Replaced != 0 || st.Refused != 0 {
				t.Errorf("%d replaced, %d refused, want none", st.Replaced, st.Refused)
			}
		})
	}
}

// cloneWS connects as often as it is sent away, until it is refused.
func cloneWS(t *testing.T, base, token string) {
	for range 60 {
		ws, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(base, "http")+"/socket/websocket?vsn=2.0.0", http.Header{"Authorization": {"Bearer " + token}})
		if err != nil {
			if res == nil || res.StatusCode != http.StatusTooManyRequests {
				t.Errorf("refused with %v", err)
			}
			return
		}
		_ = ws.WriteMessage(websocket.TextMessage, []byte(`["1","1","sensor:temp","phx_join",{}]`))
		_ = ws.SetReadDeadline(time.Now().Add(5 * time.Second))
		for err == nil {
			_, _, err = ws.ReadMessage()
		}
		ws.Close()
		if !websocket.IsCloseError(err, 4409) {
			return // it stands
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// clonePoll does the same by long-polling: a poll of a session that is no more is
// answered with a new one.
func clonePoll(t *testing.T, base, token string) {
	session, began := "", time.Now()
	for range 60 {
		req, err := http.NewRequest(http.MethodGet, base+"/socket/longpoll?vsn=2.0.0&token="+session, nil)
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return // the test is over
		}
		var body struct {
			Status int
			Token  string
			Error  struct{ Code string }
		}
		err = json.NewDecoder(res.Body).Decode(&body)
		res.Body.Close()
		switch {
		case err != nil:
			t.Error(err)
			return
		case body.Status == http.StatusForbidden:
			if body.Error.Code != "rate_limited" {
				t.Errorf("refused with %s", body.Error.Code)
			}
			return
		case body.Status == http.StatusGone:
			session = body.Token
		case time.Since(began) > 5*time.Second:
			return // it stands
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Two clones behind one address, neither of which tells its boot, are recognised:
// each was there when the other pushed it out.
func TestClonesWithoutABootAreRecognised(t *testing.T) {
	for name, clone := range map[string]func(*testing.T, string, string){"websocket": cloneWS, "longpoll": clonePoll} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, base := serveHouse(t, nil)
			token := h.device("temp", sensor)
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() { clone(t, base, token) })
			}
			deadline := time.Now().Add(10 * time.Second)
			for h.app.Liveness.Status("temp").Reason != liveness.DuplicateIdentity && time.Now().Before(deadline) {
				time.Sleep(10 * time.Millisecond)
			}
			if st := h.app.Liveness.Status("temp"); st.Reason != liveness.DuplicateIdentity || !st.Flapping {
				t.Errorf("shown %+v after %+v", st, h.app.Liveness.Stats())
			}
			h.app.Endpoint.Disconnect("device:temp") // the one that stands
			wg.Wait()
		})
	}
}
