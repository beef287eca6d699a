//go:build unix

package intake

import "syscall"

// arrived reports whether the socket holds anything, its end or its failure
// included.
func (i *Intake) arrived() (some bool) {
	if i.raw == nil {
		return false
	}
	err := i.raw.Control(func(fd uintptr) {
		for {
			_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			if err != syscall.EINTR {
				some = err != syscall.EAGAIN
				return
			}
		}
	})
	return some || err != nil // closed: the read will say so
}
