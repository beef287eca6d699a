package sim

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// StoreOutage makes every write of the hub to a file fail (EFBIG), as a disk does that is full, until it is called with
// false: it sets the process's limit on the size of files to nothing. Reading, and sockets, go on.
func (p *Process) StoreOutage(on bool) error {
	pid := p.Pid()
	if pid == 0 {
		return errors.New("the " + p.what + " does not run")
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &limit); err != nil {
		return fmt.Errorf("limit of file sizes: %w", err)
	}
	limit.Cur = limit.Max
	if on {
		limit.Cur = 0 // below Max, so that it can be raised again without rights
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
		return fmt.Errorf("limit of file sizes: %w", err)
	}
	return nil
}
