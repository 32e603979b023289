//go:build unix

package pgproc

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// ownedByServerUser returns how the server's processes are started. For a root
// caller it picks an ordinary user and gives it the directory.
func ownedByServerUser(dir string) (*syscall.SysProcAttr, error) {
	// An own process group: a terminal's Ctrl-C must reach the caller only, which
	// then stops the server after its clients.
	attr := &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(attr)
	if os.Geteuid() != 0 {
		return attr, nil
	}
	u, err := serverUser()
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	if err := reachable(filepath.Dir(dir), u.Username, uint32(uid)); err != nil {
		return nil, err
	}
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr, giveToServer(dir, attr)
}

// giveToServer makes the server's user the owner of a path, where that is not the caller.
func giveToServer(path string, attr *syscall.SysProcAttr) error {
	if attr.Credential == nil {
		return nil
	}
	return os.Chown(path, int(attr.Credential.Uid), int(attr.Credential.Gid))
}

func serverUser() (*user.User, error) {
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return u, nil
		}
	}
	return nil, fmt.Errorf("postgres cannot run as root, and neither user postgres nor nobody exists: run as an ordinary user")
}

// reachable refuses a directory below one that the server's user may not enter.
func reachable(dir, name string, uid uint32) error {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm()&0o001 == 0 && (!ok || owner.Uid != uid) {
			return fmt.Errorf("user %s, who runs postgres for root, may not enter %s: choose another directory, or run as an ordinary user", name, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}
