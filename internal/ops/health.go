package ops

import (
	"maps"
	"slices"
	"sync"
)

// State is how a part of the process, or the whole, is doing.
type State string

// States from best to worst. Streaming and Standby are ready: a standby waits for
// the slot that another process holds, and takes over when it is free.
const (
	Streaming State = "streaming"
	Standby   State = "standby"
	Degraded  State = "degraded" // something is away and is being retried
	Halted    State = "halted"   // a person must decide
)

func (s State) rank() int {
	switch s {
	case Streaming:
		return 0
	case Standby:
		return 1
	case Halted:
		return 3
	case Degraded:
	}
	return 2
}

const starting = "starting"

// Part is the state of one role of the process, with the reason when it is not
// streaming.
type Part struct {
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"`
}

// Health collects the states of the process's parts.
type Health struct {
	mu    sync.Mutex
	parts map[string]Part
}

// NewHealth returns a Health in which every named part is starting.
func NewHealth(parts ...string) *Health {
	h := &Health{parts: map[string]Part{}}
	for _, p := range parts {
		h.parts[p] = Part{State: Degraded, Reason: starting}
	}
	return h
}

// Set records the state of a part and reports whether it changed.
func (h *Health) Set(part string, state State, reason string) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := Part{State: state, Reason: reason}
	changed = h.parts[part] != next
	h.parts[part] = next
	return changed
}

// Is reports whether a part is in the state.
func (h *Health) Is(part string, state State) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.parts[part].State == state
}

// report is the body of /readyz.
type report struct {
	State  State           `json:"state"`
	Reason string          `json:"reason"`
	Parts  map[string]Part `json:"parts,omitempty"`
}

// report tells the worst state and its reason. Of several parts in that state the
// first by name speaks, and one that is merely starting only when it is alone.
func (h *Health) report() report {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := report{State: Streaming, Parts: maps.Clone(h.parts)}
	waiting := false // the reason so far is only that a part is starting
	for _, name := range slices.Sorted(maps.Keys(h.parts)) {
		p := h.parts[name]
		worse := p.State.rank() > r.State.rank()
		if worse || (waiting && p.State == r.State && p.Reason != starting) {
			r.State, r.Reason, waiting = p.State, name+": "+p.Reason, p.Reason == starting
		}
	}
	return r
}

// Ready reports whether the whole process does its work, or waits to.
func (h *Health) Ready() bool {
	s := h.report().State
	return s == Streaming || s == Standby
}
