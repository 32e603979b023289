//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package natsstream

import (
	"errors"
	"os"
)

var errLocked = errors.New("locked by another process")

// lockFile refuses: without a lock that ends with the process, two relays could
// open one store.
func lockFile(*os.File) error {
	return errors.New("this platform has no flock: run a NATS server and set RELAY_NATS_URL")
}
