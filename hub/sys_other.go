//go:build !linux

package hub

import "syscall"

// Elsewhere than on Linux the connection is read and written through package net.

func sysRead(uintptr, []byte) (int, error)  { return 0, syscall.ENOSYS }
func sysWrite(uintptr, []byte) (int, error) { return 0, syscall.ENOSYS }
func tune(syscall.RawConn)                  {}

const rawIO = false
