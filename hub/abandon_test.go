package hub_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/hub"
	"devicehub/hub/hubtest"
)

// stuck is a script whose "hang", and whose join when asked to, does not return until it is let
// go. letGo is made in the bubble of the test.
func stuck(letGo *chan struct{}, reasons *[]error) script {
	return script{
		join: func(_ context.Context, _ *hub.Socket, p hub.Payload) (hub.Reply, error) {
			var params struct{ Hang bool }
			if p.Decode(&params) == nil && params.Hang {
				<-*letGo
			}
			return hub.OK(nil), nil
		},
		in: func(_ context.Context, s *hub.Socket, event string, _ hub.Payload) (hub.Reply, error) {
			if event == "hang" {
				<-*letGo
				s.Push("too late", map[string]int{})
			}
			return hub.OK(nil), nil
		},
		terminate: func(_ *hub.Socket, reason error) { *reasons = append(*reasons, reason) },
	}
}

func TestJoinAgainDoesNotWaitForAStuckHandler(t *testing.T) {
	var letGo chan struct{}
	var reasons []error
	inBubble(t, stuck(&letGo, &reasons), func(t *testing.T, ep *hub.Endpoint) {
		letGo = make(chan struct{})
		c := hubtest.Connect(t, ep, "/socket", nil)
		old := c.Join("t:a", nil)
		done := old.Socket().Done()
		hangs, lost := old.Push("hang", nil), old.Push("before the join", nil)
		synctest.Wait()
		began := time.Now()
		fresh := c.Join("t:a", nil) // hubtest waits for the reply
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("the join was answered after %v, want 5s", took)
		}
		old.WantClose()
		select {
		case <-done:
		default:
			t.Error("the abandoned channel is not over for those who watch it")
		}
		fresh.Push("echo", nil).WantReply("ok", map[string]any{})
		if n := ep.Stats(); n.Abandoned != 1 || n.Channels != 1 {
			t.Errorf("got %d abandoned, %d channels, want 1 and 1", n.Abandoned, n.Channels)
		}
		close(letGo)
		synctest.Wait()
		hangs.WantNoReply()
		lost.WantNoReply()
		old.WantQuiet()
		if len(reasons) != 1 || !errors.Is(reasons[0], hub.ErrReplaced) {
			t.Errorf("got reasons %v, want ErrReplaced", reasons)
		}
		fresh.Push("echo", nil).WantReply("ok", map[string]any{})
		fresh.Leave()
	})
}

func TestJoinAgainDoesNotWaitForAStuckJoin(t *testing.T) {
	var letGo chan struct{}
	var reasons []error
	inBubble(t, stuck(&letGo, &reasons), func(t *testing.T, ep *hub.Endpoint) {
		letGo = make(chan struct{})
		c := hubtest.Connect(t, ep, "/socket", nil)
		c.Send(`["1","1","t:a","phx_join",{"hang":true}]`)
		synctest.Wait()
		room := c.Join("t:a", nil)
		close(letGo)
		synctest.Wait()
		room.Push("echo", nil).WantReply("ok", map[string]any{})
		c.WantQuiet() // the first join is not answered after the second
		if n := ep.Stats(); n.Joins != 1 || n.Channels != 1 {
			t.Errorf("got %d joins, %d channels, want 1 and 1", n.Joins, n.Channels)
		}
	})
}

func TestLeaveDoesNotWaitForAStuckHandler(t *testing.T) {
	var letGo chan struct{}
	var reasons []error
	inBubble(t, stuck(&letGo, &reasons), func(t *testing.T, ep *hub.Endpoint) {
		letGo = make(chan struct{})
		c := hubtest.Connect(t, ep, "/socket", nil)
		room := c.Join("t:a", nil)
		hangs := room.Push("hang", nil)
		synctest.Wait()
		c.Send(`["0","stale","t:a","phx_leave",{}]`)
		began := time.Now()
		room.Leave() // the reply, then phx_close
		lost := room.Push("before the channel is over", nil)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("the leave was answered after %v, want 5s", took)
		}
		lost.WantReply("error", map[string]string{"reason": "unmatched topic"})
		if n := ep.Stats(); n.Abandoned != 1 || n.Channels != 0 {
			t.Errorf("got %d abandoned, %d channels, want 1 and none", n.Abandoned, n.Channels)
		}
		again := c.Join("t:a", nil)
		close(letGo)
		synctest.Wait()
		hangs.WantNoReply()
		again.Push("echo", nil).WantReply("ok", map[string]any{})
		c.WantQuiet()
	})
}

func TestStuckHandlerDoesNotKeepItsConnectionUp(t *testing.T) {
	var letGo chan struct{}
	var reasons []error
	inBubble(t, stuck(&letGo, &reasons), func(t *testing.T, ep *hub.Endpoint) {
		letGo = make(chan struct{})
		c := hubtest.Connect(t, ep, "/socket", nil)
		room := c.Join("t:a", nil)
		over := make(chan struct{})
		room.Socket().OnDone(func() { close(over) })
		room.Push("hang", nil)
		synctest.Wait()
		began := time.Now()
		c.Break()
		<-over
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the channel was over after %v, want 5s", took)
		}
		if n := ep.Stats(); n.InMemory != 0 || n.Channels != 0 {
			t.Errorf("got %d connections, %d channels, want none", n.InMemory, n.Channels)
		}
		close(letGo)
		synctest.Wait()
		if len(reasons) != 1 || !errors.Is(reasons[0], hub.ErrConnectionLost) {
			t.Errorf("got reasons %v, want ErrConnectionLost", reasons)
		}
	})
}

func TestDrainLeavesAStuckHandlerBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		letGo := make(chan struct{})
		var reasons []error
		ep := hub.New()
		r := hub.NewRouter(nil)
		r.Channel("t:*", func() hub.Channel { c := stuck(&letGo, &reasons); return &c })
		ep.Socket("/socket", r)
		c := hubtest.Connect(t, ep, "/socket", nil)
		c.Join("t:a", nil).Push("hang", nil)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		if err := ep.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want DeadlineExceeded", err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("drain took %v", took)
		}
		close(letGo)
	})
}

// Whoever hears of a channel's end may ask the connection, also when the channel is abandoned.
func TestOnDoneOfAnAbandonedChannelMayAskTheConnection(t *testing.T) {
	var letGo chan struct{}
	var reasons []error
	inBubble(t, stuck(&letGo, &reasons), func(t *testing.T, ep *hub.Endpoint) {
		letGo = make(chan struct{})
		c := hubtest.Connect(t, ep, "/socket", nil)
		old := c.Join("t:a", nil)
		topics := make(chan []string, 1)
		conn := c.Conn()
		old.Socket().OnDone(func() { topics <- conn.Topics() })
		old.Push("hang", nil)
		c.Join("t:a", nil)
		if got := <-topics; len(got) != 0 {
			t.Errorf("got %v, want none joined yet", got)
		}
		close(letGo)
	})
}
