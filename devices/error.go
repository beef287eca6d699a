package devices

import (
	"encoding/json"
	"errors"
	"time"
)

// Code is a stable, machine-readable reason for a refusal. Clients branch on
// it; the wording beside it may change.
type Code string

// Every code that the hub answers with. The table in README.md is made of these comments:
// "Details" are the members of Error.Details, "At" is where clients hear it.
const (
	// There is no token, or it is not one of this hub. Details: server_time, nonce. At: sign-in and
	// connect, HTTP.
	CodeUnauthorized Code = "unauthorized"
	// The token was good and has run out. A device may still connect to refresh it. At: sign-in and
	// connect, every event of a device, HTTP, disconnect.
	CodeTokenExpired Code = "token_expired"
	// The token was revoked, or who it names was deleted. At: sign-in and connect, HTTP, disconnect.
	CodeTokenRevoked Code = "token_revoked"
	// The caller is known and may not do this: the role, the scope, the topic, or a device that comes
	// another way than its via. At: joins, events, MQTT topics, HTTP, disconnect.
	CodeForbidden Code = "forbidden"
	// An administrator has disabled the device. At: sign-in and connect, events, commands,
	// disconnect.
	CodeDeviceDisabled Code = "device_disabled"
	// There is no such thing, or the caller may not know of it. Details: field, or what was asked
	// for. At: HTTP, ack.
	CodeNotFound Code = "not_found"
	// A newer connection of the device took over. At: disconnect.
	CodeReplaced Code = "replaced"
	// The record has changed since it was read. Details: current. At: HTTP (412 where If-Match said
	// so), shadow_update, command with if_ver.
	CodeVersionConflict Code = "version_conflict"
	// The name or id is taken, or the id of a command or an Idempotency-Key stands for another
	// request. Details: id, cmd_id or status. At: HTTP, command, cancel.
	CodeConflict Code = "conflict"
	// The device is not there, and the command's policy is not to wait. Details: status. At: command.
	CodeDeviceOffline Code = "device_offline"
	// It came too late to be done. At: MQTT, on Home Assistant's set topics.
	CodeExpired Code = "expired"
	// There is more of it than the hub takes. Details: limit. At: readings, state, config, HTTP,
	// disconnect.
	CodeTooLarge Code = "too_large"
	// It is malformed: no JSON, an unknown or missing field, a wrong type, an unknown event. Details:
	// field, want. At: everywhere.
	CodeInvalid Code = "invalid"
	// A number is outside its interval, or a text none of the options. Details: field, min, max,
	// unit. At: readings, state, command, HTTP.
	CodeRange Code = "range"
	// The unit does not convert to the metric's. Details: field, expect. At: readings.
	CodeUnitMismatch Code = "unit_mismatch"
	// The metric holds values of another type. Details: field, expect. At: readings.
	CodeTypeConflict Code = "type_conflict"
	// The device takes declared metrics only, or has its 16 undeclared ones. Details: field, limit.
	// At: readings.
	CodeUndeclaredMetric Code = "undeclared_metric"
	// It was measured longer ago than readings.late_max. Details: field, expect. At: readings.
	CodeTooOld Code = "too_old"
	// It was one too many for a limit. At: everywhere.
	CodeRateLimited Code = "rate_limited"
	// The command had not come to its end when the caller's time was over. Details: cmd_id. At: HTTP,
	// command with wait.
	CodeTimeout Code = "timeout"
	// More waits than the hub can keep. At: readings, shadow, sign-in, MQTT.
	CodeOverloaded Code = "overloaded"
	// The hub cannot do it now: a full or failing disk, a stop, a fault of its own. At: everywhere.
	CodePlatformUnavailable Code = "platform_unavailable"
	// A device published with retain, or a command was. At: MQTT.
	CodeRetainedCommand Code = "retained_command"
)

// Error is a refusal as the client sees it. It is not a fault of the hub:
// nobody is paged for one.
type Error struct {
	Code       Code
	Reason     string         // for people
	RetryAfter time.Duration  // 0 unless trying again later makes sense
	Details    map[string]any // shape by code: see the table of codes in README.md
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Reason }

// Is reports whether target is an *Error of the same code, so that
// errors.Is(err, &Error{Code: CodeNotFound}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Retryable reports whether the same request may succeed later unchanged: the
// device keeps what it sent and tries again.
func (e *Error) Retryable() bool {
	switch e.Code {
	case CodeOverloaded, CodePlatformUnavailable, CodeRateLimited:
		return true
	}
	return false
}

// HTTPStatus is the status of an HTTP response that carries the refusal.
func (e *Error) HTTPStatus() int {
	switch e.Code {
	case CodeUnauthorized, CodeTokenExpired, CodeTokenRevoked:
		return 401
	case CodeForbidden, CodeDeviceDisabled:
		return 403
	case CodeNotFound:
		return 404
	case CodeReplaced, CodeVersionConflict, CodeConflict, CodeDeviceOffline:
		return 409
	case CodeExpired:
		return 410
	case CodeTooLarge:
		return 413
	case CodeRateLimited:
		return 429
	case CodeTimeout:
		return 504
	case CodeOverloaded, CodePlatformUnavailable:
		return 503
	}
	return 422
}

// MarshalJSON writes {"reason","code","retry_after_ms"?,"details"?}.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Reason       string         `json:"reason"`
		Code         Code           `json:"code"`
		RetryAfterMS int64          `json:"retry_after_ms,omitempty"`
		Details      map[string]any `json:"details,omitempty"`
	}{e.Reason, e.Code, e.RetryAfter.Milliseconds(), e.Details})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (e *Error) UnmarshalJSON(b []byte) error {
	var w struct {
		Reason       string         `json:"reason"`
		Code         Code           `json:"code"`
		RetryAfterMS int64          `json:"retry_after_ms"`
		Details      map[string]any `json:"details"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*e = Error{Code: w.Code, Reason: w.Reason, RetryAfter: time.Duration(w.RetryAfterMS) * time.Millisecond, Details: w.Details}
	return nil
}

// CodeOf returns the code of the *Error in err's chain, or "" if there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Refuse returns a refusal with a code and a reason for people.
func Refuse(code Code, reason string) *Error { return &Error{Code: code, Reason: reason} }

// With returns a copy of e with one more detail.
func (e *Error) With(key string, value any) *Error {
	c := *e
	c.Details = make(map[string]any, len(e.Details)+1)
	for k, v := range e.Details {
		c.Details[k] = v
	}
	c.Details[key] = value
	return &c
}

// After returns a copy of e that says when to try again.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// Invalid refuses a field, saying what is wanted in its place.
func Invalid(field, want string) *Error {
	return &Error{Code: CodeInvalid, Reason: field + ": want " + want, Details: map[string]any{"field": field, "want": want}}
}

// OutOfRange refuses a number outside its interval.
func OutOfRange(field string, min, max float64, unit string) *Error {
	return &Error{Code: CodeRange, Reason: field + " is out of range",
		Details: map[string]any{"field": field, "min": min, "max": max, "unit": unit}}
}

// NotFound refuses for a thing that does not exist, or that the caller may not
// know to exist.
func NotFound(what string) *Error { return Refuse(CodeNotFound, "no such "+what) }
