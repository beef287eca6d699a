//go:build unix

package sim

import (
	"os"
	"os/exec"
	"syscall"
)

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// Apart keeps a terminal's Ctrl-C from a process that is to be started: it is meant for the one that starts it, which has yet
// to ask the hub what it has stored. Where the system can, the process ends with that one, however it ends.
func Apart(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd.SysProcAttr)
}
