//go:build !unix

package sim

import (
	"os"
	"os/exec"
)

// There is no way to ask.
func terminate(p *os.Process) error { return p.Kill() }

// Apart does nothing here.
func Apart(*exec.Cmd) {}
