package devices

import (
	"encoding/json"
	"errors"
	"time"
)

// Code is a stable, machine-readable reason for a refusal. Clients branch on
// it; the wording beside it may change.
type Code string

// Every code that the hub answers with.
const (
	CodeUnauthorized        Code = "unauthorized"
	CodeTokenExpired        Code = "token_expired"
	CodeTokenRevoked        Code = "token_revoked"
	CodeForbidden           Code = "forbidden"
	CodeDeviceDisabled      Code = "device_disabled"
	CodeNotFound            Code = "not_found"
	CodeReplaced            Code = "replaced"
	CodeVersionConflict     Code = "version_conflict"
	CodeConflict            Code = "conflict"
	CodeDeviceOffline       Code = "device_offline"
	CodeExpired             Code = "expired"
	CodeTooLarge            Code = "too_large"
	CodeInvalid             Code = "invalid"
	CodeRange               Code = "range"
	CodeUnitMismatch        Code = "unit_mismatch"
	CodeTypeConflict        Code = "type_conflict"
	CodeUndeclaredMetric    Code = "undeclared_metric"
	CodeTooOld              Code = "too_old"
	CodeRateLimited         Code = "rate_limited"
	CodeTimeout             Code = "timeout"
	CodeOverloaded          Code = "overloaded"
	CodePlatformUnavailable Code = "platform_unavailable"
	CodeRetainedCommand     Code = "retained_command"
)

// Error is a refusal as the client sees it. It is not a fault of the hub:
// nobody is paged for one.
type Error struct {
	Code       Code
	Reason     string         // for people
	RetryAfter time.Duration  // 0 unless trying again later makes sense
	Details    map[string]any // shape by code, see the codes' table in the documentation
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
