//go:build !linux

package sim

import "errors"

// StoreOutage is possible on Linux only.
func (p *Process) StoreOutage(bool) error {
	return errors.New("store_outage needs Linux")
}
