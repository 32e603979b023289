//go:build !failpoint

package failpoint

// Enabled tells whether this build can fail on purpose.
const Enabled = false

// Hit passes a place.
func Hit(string) {}

// Drop passes a place, and tells whether to leave out what is done there.
func Drop(string) bool { return false }
