// Package outbox is for applications: it states events in the transaction that
// makes them true.
//
// Append inserts events into the table outbox_events with the caller's own
// transaction. When the transaction commits, the relay publishes them, in the
// order of commits and within a transaction in the order of the calls; when it
// rolls back, they never were. Nothing is sent from here, and nothing has to be
// closed.
//
// Row changes of mapped tables become events without this package. It is for what
// no row says: that a function was called, why an order was refused.
//
// The connection's role needs SELECT on zapier_webhook_events and INSERT on
// outbox_events. Both tables are found by the search path. The outbox is
// append-only: what was wrong is corrected by another event.
package outbox

import (
	"errors"
	"time"
)

// Limits of one call. Postgres writes jsonb wider than it was given, by up to a
// half, and the message has to fit into the 1 MiB that a NATS server takes unless
// told otherwise.
const (
	MaxEvents    = 1000      // events
	MaxEventSize = 512 << 10 // bytes of JSON in payload and metadata of one event
	MaxTotalSize = 16 << 20  // bytes of JSON in all events together
	MaxNameSize  = 512       // bytes in each part of an aggregate or owner
	MaxTypeSize  = 100       // bytes in an event type
	MaxDepth     = 512       // levels of nesting in a payload or metadata
)

// Errors to test for with errors.Is. The message says which event, type or id is
// meant, and what to do.
var (
	// ErrInvalid means that an event breaks a rule of Event or a limit. Postgres
	// was not asked: the transaction is as it was.
	ErrInvalid = errors.New("invalid event")

	// ErrUnknownType means that zapier_webhook_events has no such type. As a rule
	// the transaction is as it was; if the type was deleted in the same moment,
	// Postgres has aborted it.
	ErrUnknownType = errors.New("event type is not registered")

	// ErrDisabledType means that the type is registered and not enabled. The
	// transaction is as it was.
	ErrDisabledType = errors.New("event type is disabled")

	// ErrDuplicateID means that an event has this id already. Postgres has aborted
	// the transaction, unless the same call had the id twice.
	ErrDuplicateID = errors.New("event id is taken")
)

// Event is something that happened.
type Event struct {
	// ID is evt_ and 26 characters of lower-case base32. Append makes one where it
	// is empty; give one to have a repeated call refused with ErrDuplicateID.
	ID string

	// Type is noun.verb, as registered in zapier_webhook_events and enabled there.
	Type string

	Aggregate  Aggregate // optional
	Owner      Owner     // optional; without one only a public event reaches a webhook
	Visibility Visibility

	// Payload is what subscribers receive as "data", and what their filters see.
	// encoding/json must make an object of it; json.RawMessage goes in as it is.
	// A string in it may not hold U+0000 or half of a surrogate pair, and no number
	// an exponent of more than three digits.
	Payload any

	// Metadata is sent beside the payload, under the same rules, for what subscribers
	// need not filter by: a trace, an actor. The table gives one key a meaning:
	// aggregate_version, a whole number from 1, needs an Aggregate.ID and is unique
	// within that aggregate.
	Metadata map[string]any

	// OccurredAt is kept to the microsecond. The zero time stands for the start of
	// the transaction.
	OccurredAt time.Time
}

// Aggregate is the thing that an event happened to. NS and ID need a Type.
type Aggregate struct {
	Type string
	NS   string
	ID   string
}

// Owner is whom an event belongs to. Where both are given, it belongs to the user.
type Owner struct {
	UserID   string
	TenantID string
}

// Visibility says whose webhooks may receive an event. Whoever may read the stream
// in NATS sees every event.
type Visibility string

// The visibilities. An empty one is Private.
const (
	Private  Visibility = "private"  // the owner's
	Unlisted Visibility = "unlisted" // the owner's
	Public   Visibility = "public"   // every subscriber's
)
