package relay

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"
)

// Visibility is who may receive an event at a webhook. Whoever may read the
// stream in NATS sees every event.
type Visibility uint8

// VisibleToOwner is the zero value: an event nobody decided about reaches no
// webhook but its owner's, and nobody's when it has no owner.
const (
	VisibleToOwner Visibility = iota
	VisibleToEveryone
)

// String returns "owner" or "everyone".
func (v Visibility) String() string {
	if v == VisibleToEveryone {
		return "everyone"
	}
	return "owner"
}

// Owner is whom a row belongs to. Empty fields mean that the row names none.
type Owner struct {
	UserID   string
	TenantID string
}

// Owns decides whether a subscription of subscriber may see an event of owner o
// that is visible to its owner only. A row with a user belongs to that user; a
// row with only a tenant belongs to the tenant. Where both sides name a tenant,
// the tenants must agree. A row without any owner belongs to nobody.
func (o Owner) Owns(subscriber Owner) bool {
	if o.TenantID != "" && subscriber.TenantID != "" && o.TenantID != subscriber.TenantID {
		return false
	}
	if o.UserID != "" {
		return o.UserID == subscriber.UserID
	}
	return o.TenantID != "" && o.TenantID == subscriber.TenantID
}

// Event is one registered event, rendered once. NATS subscribers and webhooks
// receive the same Body bytes.
type Event struct {
	ID          string // evt_ and 26 characters, the same after any replay
	Type        string // noun.verb
	Position    Position
	Owner       Owner
	Visibility  Visibility
	Table       string    // source table, schema.table
	Key         string    // the row's key as text, several columns joined by "/"
	Body        []byte    // rendered JSON
	OccurredAt  time.Time // what the event says of itself: the commit, or an outbox row's own time
	CommittedAt time.Time
	Lineage     string // of the slot that it was read from
	// Refilled is true when the stream may have held the event before, and lost it
	// with its end: it may have been delivered then.
	Refilled bool

	// What filters see of it, which Body says as well:
	Op       Op     // what was done to the row
	Data     []byte // the value of "data" inside Body
	Previous []byte // the value of "previous" inside Body; nil unless it is an update
	// Unavailable lists the top-level columns whose value is not in Data: the log did
	// not carry it, or it did not fit. A filter on one of them is undecided.
	Unavailable []string
	// PreviousUnavailable lists the columns that changed, or may have, and whose old
	// value is not in Previous.
	PreviousUnavailable []string
	// Unlisted is true when not even the names of all that did not fit are told:
	// nothing is known of a column that is not in Data.
	Unlisted bool

	// violation is why the registry does not let the event be published. It does not
	// leave the engine.
	violation error
}

// ControlPrefix begins the type of an announcement: a message in the event
// stream that tells delivery processes to read a row again. It carries ids only,
// is no registered event, and goes to the subject that is its type.
const ControlPrefix = "relay.control."

// ControlWebhooks announces a changed row of zapier_webhooks. Its body is an
// Announcement.
const ControlWebhooks = ControlPrefix + "webhooks"

// ControlBackfill is published at the watermark of a chunk whose rows died with the
// process that had read them. It concerns no row: once it is stored, that process can
// publish no more of them, should it only have been asleep.
const ControlBackfill = ControlPrefix + "backfill"

// ControlGap announces that a range of changes was given up on the operator's word.
// Its body is a GapRecord.
const ControlGap = ControlPrefix + "gap"

// ControlParked announces a row change that could not be mapped, or an event whose data
// violates its schema. It stands where the events, or the event, would. Its body is a
// ParkedRecord.
const ControlParked = ControlPrefix + "parked"

// IsControl reports whether the event is an announcement.
func (e *Event) IsControl() bool { return strings.HasPrefix(e.Type, ControlPrefix) }

// Announcement is the JSON body of a control message.
type Announcement struct {
	ID string `json:"id"` // of the zapier_webhooks row; empty means every row (TRUNCATE)
	Op string `json:"op"` // insert, update, delete or truncate
	// Fresh is true when the row starts to want these events here: inserted, or
	// changed in type or owner. Events before the announcement are not for it.
	Fresh bool `json:"fresh,omitempty"`
	// Paused is true when the row stops being active here, or is inserted inactive;
	// Resumed when it is activated again. Events between the two are not for it,
	// those before the pause are.
	Paused  bool `json:"paused,omitempty"`
	Resumed bool `json:"resumed,omitempty"`
	// XID is the transaction that changed the row. Its commit is in the log a
	// moment before other sessions see the row changed: whoever reads the row waits
	// for the transaction's end first.
	XID uint32 `json:"xid,omitempty"`
}

// Identity is what makes event ids of one slot unique in the world.
type Identity struct {
	SystemID string // pg_control_system().system_identifier
	Lineage  string // random, made with the slot; a re-created slot has another
}

// EventID derives the id of an event from its place in the log: evt_ and the
// base32 of the first 128 bits of SHA-256 over the identity, the transaction and
// the position. Every field is length-prefixed or of fixed width, so no two
// different places give the same input. Golden vectors freeze the formula.
func EventID(id Identity, xid uint32, commitTime time.Time, pos Position, eventType string) string {
	var buf [192]byte
	b := append(buf[:0], "relay/event/1"...)
	b = appendField(b, id.SystemID)
	b = appendField(b, id.Lineage)
	b = binary.BigEndian.AppendUint32(b, xid)
	b = binary.BigEndian.AppendUint64(b, uint64(pos.CommitLSN))
	b = binary.BigEndian.AppendUint64(b, uint64(commitTime.UnixMicro()))
	b = binary.BigEndian.AppendUint32(b, pos.Ordinal)
	b = appendField(b, eventType)
	b = binary.BigEndian.AppendUint32(b, pos.Index)
	return shortID("evt_", b)
}

// WebhookID derives the webhook-id of a delivery: msg_ and the base32 of a
// 128-bit hash of event and subscription. It is the same over retries, restarts
// and processes, so a receiver can use it as its idempotency key.
func WebhookID(eventID, subscriptionID string) string {
	var buf [128]byte
	b := append(buf[:0], "relay/message/1"...)
	b = appendField(b, eventID)
	b = appendField(b, subscriptionID)
	return shortID("msg_", b)
}

func appendField(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

func shortID(prefix string, b []byte) string {
	sum := sha256.Sum256(b)
	var out [32]byte
	return string(appendBase32(append(out[:0], prefix...), sum[:16]))
}

// appendBase32 writes 16 bytes in the lower-case alphabet of RFC 4648, without
// padding: 26 characters.
func appendBase32(dst, src []byte) []byte {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	var bits, n uint
	for _, c := range src {
		bits, n = bits<<8|uint(c), n+8
		for ; n >= 5; n -= 5 {
			dst = append(dst, alphabet[bits>>(n-5)&31])
		}
	}
	return append(dst, alphabet[bits<<(5-n)&31])
}
