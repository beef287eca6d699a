//go:build unix && !linux

package sim

import "syscall"

func endWithParent(*syscall.SysProcAttr) {}
