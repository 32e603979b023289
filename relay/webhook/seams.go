package webhook

import (
	"context"
	"time"

	"github.com/dot-do/relay/relay"
)

// Feed is what the engine reads from the stream. All methods may be called from
// several goroutines.
type Feed interface {
	Events
	Bulletin
}

// Events shares the events of the stream among all delivery processes. An event
// that is neither acked nor extended within AckWait is handed out again, here or
// elsewhere.
type Events interface {
	// Next returns at least one event and at most limit, in stream order. It waits
	// until there is one. relay.ErrStreamReplaced ends the engine: sequences name
	// other events.
	Next(ctx context.Context, limit int) ([]relay.StreamMessage, error)
	// Ack tells that every delivery of the event is in a committed ledger batch.
	Ack(ctx context.Context, m relay.StreamMessage) error
	// Extend asks for another AckWait; it is cheap and does not wait for an answer.
	Extend(m relay.StreamMessage) error
	// Return hands the event back at once, for another process or a later start.
	Return(m relay.StreamMessage) error
	// AckWait is how long an event may stay unanswered.
	AckWait() time.Duration
}

// Bulletin tells every delivery process which subscriptions changed.
type Bulletin interface {
	// Bounds returns the sequence up to which all events were acked, and the
	// sequence of the last announcement (0 for none).
	Bounds(ctx context.Context) (acked, control uint64, err error)
	// Announcements calls fn for every announcement after the sequence, in order,
	// until ctx ends or fn fails. It reconnects by itself.
	Announcements(ctx context.Context, after uint64, fn func(seq uint64, a relay.Announcement) error) error
}

// Subscriptions reads zapier_webhooks. Rows that cannot be used come with Broken
// set; they are never left out in silence.
type Subscriptions interface {
	// All calls fn for every subscription, a page at a time.
	All(ctx context.Context, fn func(relay.Subscription) error) error
	// Ended returns when the transactions have ended for every reader. The log shows
	// a commit before that: by a blink, or, while the server waits for a synchronous
	// standby, by any length of time.
	Ended(ctx context.Context, xids []uint32) error
	// Read returns the named rows as they are now; deleted ones are missing.
	Read(ctx context.Context, ids []string) ([]relay.Subscription, error)
}

// Ledger is the durable memory of the delivery engine. It is the only writer of
// the delivery tables. All methods may be called from several goroutines.
type Ledger interface {
	Outcomes
	Due
	Quotas
}

// Outcomes records what became of deliveries.
type Outcomes interface {
	// Settle commits the outcomes in one transaction: log rows, retry rows, dead
	// letters, counters, deactivations. Either all are recorded or none. Outcomes
	// of subscriptions that were deleted meanwhile are no error. An error with the
	// method Held() []string names subscriptions whose outcomes cannot be recorded
	// just now, while those of all others can.
	Settle(ctx context.Context, outcomes []relay.Outcome) error
	// Settled tells which of the deliveries were attempted or put aside before:
	// they have a log row, a retry row or a dead letter. Only EventID and
	// SubscriptionID of a delivery count; the answers stand in the same order.
	Settled(ctx context.Context, deliveries []relay.Delivery) ([]bool, error)
}

// Due hands out the deliveries that wait for another attempt, or for their first.
// The ledger's own clock decides what is due.
type Due interface {
	// Claim takes up to limit deliveries that are due and whose subscription is
	// active and not busy, oldest first. Nobody else gets them until hold is
	// over. The lease names this claim: it goes into Outcome.Leased, Renew and
	// Free. No two claims have the same one.
	//
	// Of deliveries of a subscription with the same ordering key only the first by its
	// place in the stream can be taken, whether it is due, held, or not, and only when
	// that place is not after busy.Floor.
	Claim(ctx context.Context, limit int, hold time.Duration, busy relay.Busy) (due []relay.Delivery, lease string, err error)
	// ClaimOne is Claim of the oldest due delivery of each of the subscriptions.
	ClaimOne(ctx context.Context, subscriptions []string, hold time.Duration, floor uint64) (due []relay.Delivery, lease string, err error)
	// Renew keeps everything that is still held under the leases for another hold.
	Renew(ctx context.Context, leases []string, hold time.Duration) error
	// Free gives claimed deliveries back unattempted, due at once. What the lease
	// does not hold any more is left alone.
	Free(ctx context.Context, lease string, deliveries []relay.Delivery) error
	// NextDue tells how long until the next delivery that nobody holds is due, 0
	// when one is; false when none waits. Those of busy subscriptions and of
	// inactive ones do not count.
	NextDue(ctx context.Context, busy relay.Busy) (time.Duration, bool, error)
}

// Quotas counts the deliveries that all processes begin in an hour.
type Quotas interface {
	// Draw takes from the present hour what is granted to each request. No more than
	// its limit is ever granted for a subscription and an hour.
	Draw(ctx context.Context, requests []relay.QuotaRequest) (relay.QuotaGrant, error)
	// PutBack returns what was drawn of the hour and not used.
	PutBack(ctx context.Context, hour time.Time, unused map[string]int) error
}
