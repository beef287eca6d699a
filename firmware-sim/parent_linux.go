package sim

import "syscall"

// endWithParent has the kernel ask the process to end when the thread that started it is gone (prctl(2), PR_SET_PDEATHSIG).
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGTERM }
