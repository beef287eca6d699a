//go:build !unix

package sim

import "os"

// There is no way to ask.
func terminate(p *os.Process) error { return p.Kill() }
