package relay

import (
	"errors"
	"fmt"
)

// Retrying is the default for every error; the types below opt out of it.

// HaltError stops the relay until a person decides: the promise cannot be kept
// any more (slot lost, gap in the log, diverged stream). The process exits with
// code 3.
type HaltError struct {
	Reason string // one word: slot_missing, slot_lost, stream_gap, diverged, …
	Err    error  // what was found, with the affected range
	Remedy string // what the operator can do
}

// Error returns reason, finding and remedy in one line.
func (e *HaltError) Error() string {
	return fmt.Sprintf("halted (%s): %v; %s", e.Reason, e.Err, e.Remedy)
}

// Unwrap returns the finding.
func (e *HaltError) Unwrap() error { return e.Err }

// Halt builds a HaltError.
func Halt(reason string, err error, remedy string) error {
	return &HaltError{Reason: reason, Err: err, Remedy: remedy}
}

// SetupError stops the process at start: something outside the relay is not as
// it must be (privileges, wal_level, a missing piece), and trying again will not
// help. The process exits with code 1.
type SetupError struct {
	Err    error
	Remedy string // a command or SQL to run; may have several lines
}

// Error returns finding and remedy.
func (e *SetupError) Error() string { return fmt.Sprintf("%v; %s", e.Err, e.Remedy) }

// Unwrap returns the finding.
func (e *SetupError) Unwrap() error { return e.Err }

// ErrSlotActive is returned by a Source's opener while another process holds the
// slot: this process is a standby.
var ErrSlotActive = errors.New("slot is held by another process")

// ErrFenced is returned by Stream.Append when somebody else wrote to the stream:
// the expected last sequence did not match. Nothing after the last acknowledged
// event was stored by this call, unless a lost acknowledgement hid it; read the
// Tail to know.
var ErrFenced = errors.New("stream was written by someone else")

// ErrStreamReplaced is returned by a feed whose stream was deleted and made anew:
// a sequence names another event from then on. Whoever reads events begins anew,
// with another feed and nothing remembered.
var ErrStreamReplaced = errors.New("stream was deleted and made anew")
