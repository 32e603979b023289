package pgproc

import "syscall"

// dieWithParent has the kernel stop the server when its starter dies, by
// SIGQUIT: the one signal that does not wait for clients.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
