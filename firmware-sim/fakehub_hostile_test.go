package sim_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// What a fake hub allows those who may mean harm, unless it lies.
const (
	fakeRate     = 100 // events of one device a second, beside what it says about commands
	fakeSessions = 8   // long-poll sessions of people, and MQTT sessions of an account
	fakeKept     = 100 // retained messages of an account
)

// fakeGuests are the people and accounts that were made, and what they have used up.
type fakeGuests struct {
	passwords map[string]string // of people
	tokens    map[string]string // of accounts
	polls     int
	sessions  map[string]int
	kept      map[string]int
}

// over counts an event of a device, and reports whether it is one too many. The lock is held.
func (h *fakeHub) over(d *fakeDevice) bool {
	now := time.Now()
	if now.Sub(d.second) >= time.Second {
		d.second, d.events1s = now, 0
	}
	if d.events1s++; d.events1s > fakeRate {
		h.harmed = now
	}
	return d.events1s > fakeRate && !h.lie.tolerant
}

// suffers is how much longer a hub takes that does not keep harm from others.
func (h *fakeHub) suffers() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.harmed) > time.Second {
		return 0
	}
	return h.lie.suffer
}

// letsPoll reports whether people may have another long-poll session.
func (h *fakeHub) letsPoll() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.guests.polls++
	return h.guests.polls <= fakeSessions || h.lie.tolerant
}

func (h *fakeHub) guestRoutes(mux *http.ServeMux) {
	h.guests = fakeGuests{map[string]string{}, map[string]string{}, 0, map[string]int{}, map[string]int{}}
	make := func(pattern string, made func(name, password string) any) {
		mux.HandleFunc("POST /api/v1/"+pattern, func(w http.ResponseWriter, r *http.Request) {
			var in struct{ Username, Name, Password string }
			json.NewDecoder(r.Body).Decode(&in)
			h.mu.Lock()
			defer h.mu.Unlock()
			answer(w, 201, made(in.Username+in.Name, in.Password))
		})
	}
	remove := func(pattern string, from func() map[string]string) {
		mux.HandleFunc("DELETE /api/v1/"+pattern+"/{name}", func(w http.ResponseWriter, r *http.Request) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if _, there := from()[r.PathValue("name")]; !there {
				answer(w, 404, map[string]string{"code": "not_found"})
				return
			}
			delete(from(), r.PathValue("name"))
			w.WriteHeader(204)
		})
	}
	make("users", func(name, password string) any {
		h.guests.passwords[name] = password
		return map[string]string{"username": name}
	})
	make("apitokens", func(name, _ string) any {
		h.guests.tokens[name] = "account-" + name
		return map[string]string{"name": name, "token": h.guests.tokens[name]}
	})
	remove("users", func() map[string]string { return h.guests.passwords })
	remove("apitokens", func() map[string]string { return h.guests.tokens })
}

// guest reports whether somebody signs in over MQTT as an account, and may.
func (h *fakeHub) guest(user, password string) (is, may bool) {
	name, is := strings.CutPrefix(user, "service:")
	if !is {
		return false, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.guests.sessions[name]++
	many := h.guests.sessions[name] > fakeSessions && !h.lie.tolerant
	return true, !many && password != "" && h.guests.tokens[name] == password
}

// keeps reports whether an account may leave another retained message.
func (h *fakeHub) keeps(user string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.guests.kept[user]++
	return h.guests.kept[user] <= fakeKept || h.lie.tolerant
}
