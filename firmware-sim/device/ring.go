package device

// ringSize is how many command ids a device remembers (devices/PROTOCOL.md#commands).
const ringSize = 32

// ring is the memory of a device for the commands that it has had, newest last. The zero ring is empty.
type ring struct {
	at      int
	entries [ringSize]heard
}

// heard is what became of a command; its answer is repeated when the command comes again.
type heard struct {
	id     string
	status string
	code   string
	execMS int64
	ran    bool // its end may not be here yet
}

func (r *ring) find(id string) *heard {
	for i := range r.entries {
		if r.entries[i].id == id && id != "" {
			return &r.entries[i]
		}
	}
	return nil
}

// ended is the memory of the commands that were executed or refused: one that was only taken when
// the power went begins anew.
func (r *ring) ended() (out ring) {
	for i := range ringSize {
		h := r.entries[(r.at+i)%ringSize]
		if h.status == "acked" && h.ran {
			h.status = "done"
		}
		if h.id != "" && h.status != "acked" {
			*out.add(h.id, h.status) = h
		}
	}
	return out
}

func (r *ring) add(id, status string) *heard {
	e := &r.entries[r.at%ringSize]
	r.at++
	*e = heard{id: id, status: status}
	return e
}
