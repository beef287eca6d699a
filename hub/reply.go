package hub

// Reply answers a join or a message. The zero Reply answers nothing (and accepts a join).
type Reply struct {
	status  string
	payload any
}

// OK is the reply with status "ok". The payload is anything that json.Marshal takes, a
// json.RawMessage or Binary; nil is {}.
func OK(payload any) Reply { return Reply{"ok", payload} }

// Error is the reply with status "error", with a payload as in OK.
func Error(payload any) Reply { return Reply{"error", payload} }

// Refuse is Error with the payload {"reason": reason}.
func Refuse(reason string) Reply { return Reply{"error", map[string]string{"reason": reason}} }

// Status is a reply with a status of its own. Stock clients act on "ok" and "error" alone,
// and one of them throws on anything else.
func Status(status string, payload any) Reply { return Reply{status, payload} }

// IsZero reports whether r answers nothing.
func (r Reply) IsZero() bool { return r.status == "" }
