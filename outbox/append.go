package outbox

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// DB is where events are appended: a pgx.Tx, so that they share the fate of what
// else it does. A *pgx.Conn or *pgxpool.Pool outside a transaction commits the
// events of one call together.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// The columns that Append writes, in the order of insertSQL's parameters.
const (
	columnID = iota
	columnType
	columnAggregateType
	columnAggregateNS
	columnAggregateID
	columnUser
	columnTenant
	columnVisibility
	columnPayload
	columnMetadata
	columnOccurredAt
	columnCount
)

// insertSQL inserts all events or, if a type is not there to be used, none: unlike
// an error of Postgres that leaves the caller's transaction alive. Every parameter
// is a text[], which all of pgx's protocols write the same.
const insertSQL = `
insert into outbox_events (event_id, event_type, aggregate_type, aggregate_ns, aggregate_id, user_id, tenant_id,
                           visibility, payload, metadata, occurred_at)
select e.id, e.type, nullif(e.aggregate_type, ''), nullif(e.aggregate_ns, ''), nullif(e.aggregate_id, ''),
       nullif(e.user_id, ''), nullif(e.tenant_id, ''), e.visibility, e.payload::jsonb, e.metadata::jsonb,
       coalesce(nullif(e.occurred_at, '')::timestamptz, now())
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::text[], $9::text[], $10::text[], $11::text[]) with ordinality
     as e (id, type, aggregate_type, aggregate_ns, aggregate_id, user_id, tenant_id,
           visibility, payload, metadata, occurred_at, n)
where not exists (
    select from unnest($2::text[]) as wanted (type)
    left join zapier_webhook_events r on r.event_type = wanted.type
    where r.enabled is not true)
order by e.n`

// Append inserts the events in this order with one statement, all or none, and
// returns their ids. They are published when the transaction of db commits.
//
// What can be known beforehand is refused before Postgres is asked. After any error
// but ErrInvalid, ErrUnknownType and ErrDisabledType the transaction must be rolled
// back.
func Append(ctx context.Context, db DB, events ...Event) ([]string, error) {
	if len(events) == 0 {
		return nil, nil
	}
	columns, err := encode(events)
	if err != nil {
		return nil, fmt.Errorf("append events: %w", err)
	}
	args := make([]any, columnCount)
	for i := range args {
		args[i] = columns[i]
	}
	tag, err := db.Exec(ctx, insertSQL, args...)
	if err != nil {
		return nil, fmt.Errorf("append events: %w", explain(err, columns))
	}
	if n := tag.RowsAffected(); n != int64(len(events)) {
		if err := checkTypes(ctx, db, columns[columnType]); err != nil {
			return nil, fmt.Errorf("append events: %w", err)
		}
		return nil, fmt.Errorf("append events: %d of %d were inserted; roll back and try again", n, len(events))
	}
	return columns[columnID], nil
}

// checkTypes finds the type that kept insertSQL from inserting. A DB has no way to
// read rows, but their number is all that is asked for.
func checkTypes(ctx context.Context, db DB, types []string) error {
	checked := map[string]bool{}
	for _, t := range types {
		if checked[t] {
			continue
		}
		checked[t] = true
		registered, err := db.Exec(ctx, `select from zapier_webhook_events where event_type = $1`, t)
		if err != nil {
			return fmt.Errorf("look up event type %q: %w", t, err)
		}
		if registered.RowsAffected() == 0 {
			return unknownType(strconv.Quote(t))
		}
		enabled, err := db.Exec(ctx, `select from zapier_webhook_events where event_type = $1 and enabled`, t)
		if err != nil {
			return fmt.Errorf("look up event type %q: %w", t, err)
		}
		if enabled.RowsAffected() == 0 {
			return fmt.Errorf("%w: %q; set enabled in its row of zapier_webhook_events", ErrDisabledType, t)
		}
	}
	return nil
}

func unknownType(name string) error {
	return fmt.Errorf("%w: %s; insert it into zapier_webhook_events first", ErrUnknownType, name)
}

// explain gives the refusals of Postgres that a caller can do something about their
// names. The original stays in the chain.
func explain(err error, columns *[columnCount][]string) error {
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		return err
	}
	switch {
	case refusal.ConstraintName == "outbox_events_event_type_fkey": // deleted since insertSQL looked
		return fmt.Errorf("%w: %w", unknownType(culprit(refusal.Detail, "event_type", columns[columnType])), err)
	case refusal.ConstraintName == "outbox_events_event_id_key":
		return fmt.Errorf("%w: %s: %w", ErrDuplicateID, culprit(refusal.Detail, "event_id", columns[columnID]), err)
	case refusal.Code == "42P01": // undefined_table
		return fmt.Errorf("%w; run relay migrate up, or put the schema of its tables on the search path", err)
	}
	return err
}

// culprit names the value that a constraint refused. Postgres tells it, in every
// language as (column)=(value), but only to a role that may read the table.
func culprit(detail, column string, values []string) string {
	if _, rest, ok := strings.Cut(detail, "("+column+")=("); ok {
		value, _, _ := strings.Cut(rest, ")")
		return strconv.Quote(value)
	}
	if len(values) == 1 {
		return strconv.Quote(values[0])
	}
	return fmt.Sprintf("one of %d", len(values))
}

// newID is random, because nothing that the event is made of has to be unique.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return "evt_" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}
