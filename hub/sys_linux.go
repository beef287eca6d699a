package hub

import (
	"syscall"
	"unsafe"
)

// The descriptors here are non-blocking, so that a system call returns at once and the scheduler
// need not be told of it.

func sysRead(fd uintptr, b []byte) (int, error) {
	return retry(syscall.SYS_READ, fd, b)
}

func sysWrite(fd uintptr, b []byte) (int, error) {
	return retry(syscall.SYS_WRITE, fd, b)
}

func retry(call, fd uintptr, b []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// notSentLowat is TCP_NOTSENT_LOWAT (tcp(7)): how much the kernel holds that is not yet sent.
const (
	notSentLowat = 25
	notSentBytes = 128 << 10
)

// tune keeps the kernel from holding megabytes for a client that does not read.
func tune(raw syscall.RawConn) {
	raw.Control(func(fd uintptr) {
		syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, notSentLowat, notSentBytes)
	})
}

// rawIO says that sysRead and sysWrite work.
const rawIO = true
