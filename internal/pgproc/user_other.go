//go:build !unix

package pgproc

import (
	"errors"
	"syscall"
)

func ownedByServerUser(string) (*syscall.SysProcAttr, error) {
	return nil, errors.New("private Postgres servers need a Unix system")
}

func giveToServer(string, *syscall.SysProcAttr) error { return nil }
