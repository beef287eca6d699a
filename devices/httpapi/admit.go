package httpapi

import (
	"net/http"

	"devicehub/devices"
	"devicehub/devices/quota"
)

// admit takes a call from what the caller may ask for, over all its connections, and an event
// for what changes something. What devices send is counted where it is taken. The connection of
// one that goes on beyond its rates is closed. The owner's own calls are not counted.
func (c *call) admit() (done func(), err error) {
	if c.who.Kind == "" {
		return func() {}, nil
	}
	account := c.api.s.Quota.Hold(c.who.Kind, c.who.Name)
	leave := func() {}
	cut, err := account.Allow(quota.Calls)
	if err == nil && c.who.Kind != devices.ActorDevice && c.Method != http.MethodGet && c.Method != http.MethodHead {
		cut, err = account.Allow(quota.Events)
	}
	if err == nil {
		leave, err = account.Enter(quota.AtOnce)
	}
	if err != nil {
		account.Release()
		if cut {
			c.w.Header().Set("Connection", "close")
		}
		return nil, err
	}
	return func() {
		leave()
		account.Release()
	}, nil
}
