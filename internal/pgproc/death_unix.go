//go:build unix && !linux

package pgproc

import "syscall"

// dieWithParent does nothing where the kernel offers no parent-death signal: a
// killed starter leaves its server behind.
func dieWithParent(*syscall.SysProcAttr) {}
