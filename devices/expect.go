package devices

import "fmt"

// Expect is asked, under the lock of the record that is about to change, whether
// the change may be made to the version that it is at. Of two who edit one
// version, only the first passes. nil expects nothing.
type Expect func(ver int64) error

// Check returns why the record at ver must not change.
func (e Expect) Check(ver int64) error {
	if e == nil {
		return nil
	}
	return e(ver)
}

// IfVer expects one version and refuses others with version_conflict. nil
// expects nothing.
func IfVer(want *int64) Expect {
	if want == nil {
		return nil
	}
	return func(ver int64) error {
		if ver != *want {
			return VersionConflict(ver)
		}
		return nil
	}
}

// VersionConflict refuses a change to a record that has meanwhile got to ver.
func VersionConflict(ver int64) *Error {
	return Refuse(CodeVersionConflict, fmt.Sprintf("it has changed meanwhile and is at version %d", ver))
}
