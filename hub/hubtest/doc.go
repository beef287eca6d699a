// Package hubtest is for testing channels: clients in memory, in virtual time.
//
// It works inside a bubble of [testing/synctest] alone, with an Endpoint that is made there. Time
// stands still in it while the hub works, so that "nothing more was sent" is a fact and not a
// sleep:
//
//	func TestNews(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			ep := newEndpoint()
//			client := hubtest.Connect(t, ep, "/socket", map[string]string{"name": "ann"})
//			room := client.Join("room:a", nil)
//			room.Push("echo", map[string]int{"n": 1}).WantReply("ok", map[string]int{"n": 1})
//			ep.Broadcast("room:a", "news", map[string]int{"n": 2})
//			room.Want("news", map[string]int{"n": 2})
//			client.WantQuiet()
//		})
//	}
//
// # In order, or among others
//
// [Channel.Want] is for the very next event on a topic: it holds the channel to its order.
// [Channel.WantSoon] waits for an event among others, as assert_push in Phoenix's tests does, and
// leaves the others to be wanted. What comes by itself and is not what a test is about, such as
// presence, is left out with [Channel.Ignore]:
//
//	room := client.Join("room:a", nil)
//	room.WantSoon(presence.EventState, nil)
//	room.Ignore(presence.EventDiff)
//
// # What clients are
//
// Clients speak the protocol as it is on the wire, version 2; what they are sent has been encoded
// and decoded. They are closed at the end of the test. A channel that crashes fails the test,
// unless the test says that it wants it.
package hubtest
