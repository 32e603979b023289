package rig

import "syscall"

// dieWithParent has the kernel end a server when the benchmark is killed.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
