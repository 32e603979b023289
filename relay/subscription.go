package relay

import (
	"errors"
	"slices"
	"time"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/internal/secret"
)

// Subscription is one row of zapier_webhooks, ready to be matched.
type Subscription struct {
	ID         string
	Owner      Owner
	EventType  string
	Filter     *filters.Filter // nil when broken: the subscription matches nothing
	Broken     error           // why Filter is nil, or why the row cannot be used (secret that cannot be opened)
	TargetURL  string          // a capability: never logged
	Secrets    []secret.String // signing secrets, newest first; empty: sent unsigned
	Retiring   *RetiringSecret // the one before the newest, nil when there is none
	Active     bool
	MaxRetries int           // attempts after the first
	Backoff    time.Duration // first retry delay when no global schedule is set
	MaxPerHour int           // deliveries begun in an hour of the clock; 0 for any number
	Ordered    bool          // deliveries of one key go out one after the other, in the stream's order

	// CreatedAt is when the row's transaction began. It counts only while Since is
	// zero: delivery may learn of a row before the stream announces it, and events
	// committed before are not for it.
	CreatedAt time.Time

	// Since is the stream sequence of the announcement that made the row want
	// events; earlier events are not for it. Zero when it was known before.
	Since uint64

	// Gaps are the pauses that the stream tells of, oldest first. Active is the
	// status now and decides what is sent; the gaps decide what is wanted, so that
	// an event from before a pause is for the row however late it is matched.
	Gaps []Gap
}

// RetiringSecret is the signing secret before the newest: receivers may go on
// verifying with it until then.
type RetiringSecret struct {
	Secret secret.String
	Until  time.Time
}

// SecretsAt are the secrets that sign a request sent at that time, newest first. A
// subscription without a secret is sent unsigned, whatever it had before.
func (s *Subscription) SecretsAt(at time.Time) []secret.String {
	if s.Retiring == nil || len(s.Secrets) == 0 || !at.Before(s.Retiring.Until) {
		return s.Secrets
	}
	return append(slices.Clip(s.Secrets), s.Retiring.Secret)
}

// Gap is a pause of a subscription, by the stream sequences of its announcements.
// From 0 is a pause from before every event that is still to be matched; To 0 is
// one that goes on.
type Gap struct{ From, To uint64 }

func (g Gap) holds(streamSeq uint64) bool {
	return g.From < streamSeq && (g.To == 0 || streamSeq < g.To)
}

// FilterError says why the filter of a subscription or a mapping cannot be used. It
// tells the code and the place of the first mistake and does not quote what the filter
// compares with: this error is logged.
type FilterError struct {
	Code    string
	Pointer string // JSON Pointer into the filter; empty is the whole
}

// NewFilterError names the first mistake of what filters.Compile returned.
func NewFilterError(err error) *FilterError {
	first, ok := errors.AsType[*filters.Error](err)
	if !ok {
		return &FilterError{Code: "unknown"}
	}
	return &FilterError{Code: string(first.Code), Pointer: first.Pointer}
}

// Error tells code and place.
func (e *FilterError) Error() string {
	if e.Pointer == "" {
		return "filter cannot be used: " + e.Code
	}
	return "filter cannot be used: " + e.Code + " at " + e.Pointer
}

// Quarantined reports whether the subscription matches nothing because of its filter.
func (s *Subscription) Quarantined() bool {
	_, is := errors.AsType[*FilterError](s.Broken)
	return is
}

// Wants decides whether the event is for this subscription by everything but its
// filter: type, activity at the event's place in the stream, time and audience.
func (s *Subscription) Wants(e *Event, streamSeq uint64) bool {
	return s.addressed(e, streamSeq) && !s.paused(streamSeq)
}

// Misses decides whether Wants would be true, were it not for a pause.
func (s *Subscription) Misses(e *Event, streamSeq uint64) bool {
	return s.addressed(e, streamSeq) && s.paused(streamSeq)
}

func (s *Subscription) addressed(e *Event, streamSeq uint64) bool {
	return s.Filter != nil && s.EventType == e.Type && s.precedes(e, streamSeq) &&
		(e.Visibility == VisibleToEveryone || e.Owner.Owns(s.Owner))
}

// precedes reports whether the row was there when the event was committed. The
// stream's order says so exactly. Only where it is silent are clocks compared: a
// clock that was set back must cost no event.
func (s *Subscription) precedes(e *Event, streamSeq uint64) bool {
	if s.Since > 0 {
		return streamSeq > s.Since
	}
	return !e.CommittedAt.Before(s.CreatedAt)
}

// paused reports whether the row was inactive at that place of the stream.
func (s *Subscription) paused(streamSeq uint64) bool {
	for _, g := range s.Gaps {
		if g.holds(streamSeq) {
			return true
		}
	}
	return false
}
