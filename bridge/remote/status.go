package remote

import "net/url"

// Status is what an operator sees of a bridge.
type Status struct {
	Name        string   `json:"name"`
	URL         string   `json:"url"`
	Connected   bool     `json:"connected"`
	Since       int64    `json:"since"` // connected, or not, since
	Error       string   `json:"error,omitempty"`
	Adapters    []string `json:"adapters"`
	Received    int64    `json:"received"`
	Redelivered int64    `json:"redelivered"` // of them, again after a connection broke, and known
	Published   int64    `json:"published"`
	Unsent      int64    `json:"unsent"`  // messages of the hub that the broker was not there for
	Waiting     int      `json:"waiting"` // messages not yet decided
	Slowed      int64    `json:"slowed"`  // messages that waited for the bridge's rate
	Dropped     int64    `json:"dropped"` // messages at QoS 0 that there was no room for
	Looped      int64    `json:"looped"`  // the hub's own that came back
	Accepted    int64    `json:"accepted"`
	Refused     int64    `json:"refused"`
	Foreign     int64    `json:"foreign"`
	Retained    int64    `json:"retained"`
}

// Status returns the bridge's.
func (b *Bridge) Status() Status {
	s := b.set.Stats()
	b.mu.Lock()
	defer b.mu.Unlock()
	st := Status{
		Name: b.cfg.Name, URL: redacted(b.cfg.URL), Connected: b.up.Load(), Since: b.since.UnixMilli(), Error: b.err,
		Received: b.received.Load(), Redelivered: b.in.redelivered(), Published: b.published.Load(), Unsent: b.unsent.Load(),
		Waiting: b.set.Waiting(), Slowed: b.set.Slowed(), Dropped: b.dropped.Load(), Looped: b.set.Looped(),
		Accepted: s.Accepted, Refused: s.Refused, Foreign: s.Foreign, Retained: s.Retained, Adapters: []string{},
	}
	for _, a := range b.cfg.Adapters {
		st.Adapters = append(st.Adapters, a.Kind)
	}
	if len(st.Adapters) == 0 {
		st.Adapters = []string{"native"}
	}
	return st
}

// redacted is a broker's URL without the password that it may carry.
func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return u.Redacted()
}
