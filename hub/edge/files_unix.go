//go:build unix

package edge

import (
	"math"
	"syscall"
)

// Files is how many descriptors the process may have, 0 if there is no bound. The runtime has
// raised it to what the system allows by then.
func Files() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return 0
	}
	return int(limit.Cur)
}
