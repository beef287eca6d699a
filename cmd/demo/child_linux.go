package main

import "syscall"

// ownGroup keeps the terminal's Ctrl-C from a child, and ends it should the
// demo itself be killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
