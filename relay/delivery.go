package relay

import "time"

// Delivery is one event on its way to one subscription.
type Delivery struct {
	EventID        string
	EventType      string
	SubscriptionID string
	Owner          Owner  // of the event
	Body           []byte // the exact bytes to send, the same at every attempt
	StreamSeq      uint64 // of the event in the stream
	CommitLSN      LSN
	Attempts       int // made so far

	// OrderingKey names the deliveries of the subscription that go out one after the
	// other, in the stream's order; empty for one that waits for no other.
	OrderingKey string
}

// Busy names subscriptions whose waiting deliveries are not to be claimed just now.
type Busy struct {
	All   []string // none of theirs
	Fresh []string // only those that were attempted before: their hour's quota is used up

	// Floor is the place of the stream up to which everything is in the ledger. What is
	// ordered and comes after it might overtake something, and waits.
	Floor uint64
}

// QuotaRequest asks for a part of what a subscription may begin in the present
// hour, all processes together.
type QuotaRequest struct {
	SubscriptionID string
	Limit          int // deliveries an hour
	Need           int // as many as are left of them
	Ahead          int // so many more, while more than half of the limit is left
}

// QuotaGrant answers requests.
type QuotaGrant struct {
	Hour    time.Time     // when the hour that the grant belongs to began, by the ledger's clock
	Left    time.Duration // until it ends
	Granted []int         // for each request
}

// Attempt is one HTTP exchange, or the reason why none took place.
type Attempt struct {
	Number          int // from 1
	StartedAt       time.Time
	Duration        time.Duration
	TargetURL       string
	RequestHeaders  map[string]string // signatures and other credentials already masked
	StatusCode      int               // 0: no status line was received
	ResponseHeaders map[string]string
	ResponseBody    string // valid UTF-8, at most 16 KiB; "[truncated]" at its end where there was more
	Error           string // empty on success; never holds a URL or a secret
}

// OutcomeKind is what becomes of a delivery after an attempt.
type OutcomeKind uint8

// Outcomes. Delivered, Dead and Skipped are final; Retry and Deferred leave a
// row in webhook_deliveries that is due later.
const (
	Delivered OutcomeKind = iota + 1
	Retry                 // the attempt failed, another is planned
	Deferred              // no attempt was made: the lane was full or the process stops
	Dead                  // the attempt failed and none is left
	Gone                  // the endpoint answered 410: the subscription is deactivated too
	Skipped               // not sent, with the reason in Attempt.Error
)

// String returns the kind's name in metrics.
func (k OutcomeKind) String() string {
	switch k {
	case Delivered:
		return "delivered"
	case Retry:
		return "retry"
	case Deferred:
		return "deferred"
	case Dead:
		return "dead"
	case Gone:
		return "gone"
	case Skipped:
		return "skipped"
	}
	return "unknown"
}

// Outcome is what the ledger records. Attempt is nil for Deferred, and Reason may be
// empty then.
type Outcome struct {
	Delivery Delivery
	Kind     OutcomeKind
	Attempt  *Attempt
	Delay    time.Duration // until the next attempt, for Retry and Deferred
	Reason   string        // why it is dead: exhausted, gone, permanent …; or why it is put aside
	// Leased is the claim that the delivery came from, empty when it came
	// straight from the stream. A ledger ignores an outcome whose lease was lost.
	Leased string
}
