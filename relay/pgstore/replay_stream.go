package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
)

// EventReplay says which events of the stream a webhook is to get once more.
type EventReplay struct {
	Webhook string
	Skipped bool // only those that met it inactive
	Again   bool // also those that it got, or that were given up
	By      string
}

// EventsReplayed is what ReplayEvents did with some events.
type EventsReplayed struct {
	Found   int64 // to be put back
	Waiting int64 // that wait already
	Had     int64 // that the webhook got, or that are dead letters
}

// ReplayEvents puts events among the deliveries that wait, with their own bytes, due
// gap apart, the first after delay. With dry it only counts. What is put back twice is
// there once.
func (s *Store) ReplayEvents(ctx context.Context, want EventReplay, events []relay.StreamMessage, dry bool, delay, gap time.Duration) (EventsReplayed, error) {
	var did EventsReplayed
	if len(events) == 0 {
		return did, nil
	}
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	ids, types, users, tenants, lsns := make([]string, len(events)), make([]string, len(events)), make([]string, len(events)), make([]string, len(events)), make([]string, len(events))
	bodies, seqs := make([][]byte, len(events)), make([]int64, len(events))
	for i := range events {
		e := &events[i].Event
		ids[i], types[i] = text(e.ID, 200), text(e.Type, 200)
		users[i], tenants[i] = text(e.Owner.UserID, math.MaxInt), text(e.Owner.TenantID, math.MaxInt)
		lsns[i], seqs[i] = e.Position.CommitLSN.String(), int64(min(events[i].Seq, math.MaxInt64))
		if !dry {
			bodies[i] = e.Body
		}
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			with x as (
			    select *, event_id in (select event_id from webhook_deliveries where webhook_id = $1 and event_id = any ($2)) as waits,
			           event_id in (select event_id from zapier_webhook_logs where webhook_id = $1 and event_id = any ($2) and status = 'skipped') as skipped,
			           event_id in (select event_id from zapier_webhook_logs where webhook_id = $1 and event_id = any ($2) and status <> 'skipped'
			                        union all select event_id from webhook_dead_letters where webhook_id = $1 and event_id = any ($2)) as had
			    from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bigint[], $8::text[])
			         with ordinality as e (event_id, event_type, user_id, tenant_id, body, seq, lsn, n)
			), meant as (
			    select * from x where not waits and (skipped or not $9::boolean) and (not had or $10::boolean)
			), put as (
			    insert into webhook_deliveries (event_id, webhook_id, event_type, user_id, tenant_id, body, stream_seq, commit_lsn, state, next_attempt_at, last_error)
			    select event_id, $1, event_type, nullif(user_id, ''), nullif(tenant_id, ''), body, nullif(seq, 0), nullif(lsn, '0/0')::pg_lsn,
			           'deferred', now() + ($11 + $12 * (row_number() over (order by n) - 1)) * interval '1 microsecond', 'replayed: put back by ' || $13
			    from meant where not $14::boolean
			    on conflict do nothing returning 1
			)
			select (select count(*) from meant), (select count(*) from x where waits and (skipped or not $9)),
			       (select count(*) from x where had and not waits and not $10 and (skipped or not $9))`,
			want.Webhook, ids, types, users, tenants, bodies, seqs, lsns, want.Skipped, want.Again,
			delay.Microseconds(), gap.Microseconds(), want.By, dry).Scan(&did.Found, &did.Waiting, &did.Had)
	})
	if err != nil {
		return EventsReplayed{}, fmt.Errorf("replay events: %w", grantable(err))
	}
	return did, nil
}

// FailedQuery says which deliveries that wait for another attempt are meant. Zero times
// are no bounds.
type FailedQuery struct {
	Webhook      string
	Since, Until time.Time // of when they were attempted last
	EventType    string    // empty: all
}

const failedMatches = `
	d.webhook_id = $1 and d.attempt > 0 and ($2::timestamptz is null or d.updated_at >= $2) and ($3::timestamptz is null or d.updated_at < $3)
	and ($4 = '' or d.event_type = $4)`

func (q *FailedQuery) args() []any {
	return []any{q.Webhook, timeOrNull(q.Since), timeOrNull(q.Until), q.EventType}
}

// CountFailed counts the deliveries.
func (s *Store) CountFailed(ctx context.Context, q FailedQuery) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	err = s.pool.QueryRow(ctx, `select count(*) from webhook_deliveries d where `+failedMatches, q.args()...).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count failed deliveries: %w", grantable(err))
	}
	return n, nil
}

// HurryFailed makes the deliveries due now, gap apart, the oldest first. Those that are
// being attempted, and those that are due sooner, are left alone. It returns how many
// were moved. Their attempts go on counting where they were.
func (s *Store) HurryFailed(ctx context.Context, q FailedQuery, gap time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	tag, err := s.pool.Exec(ctx, `
		with meant as materialized (
		    select d.event_id, d.next_attempt_at from webhook_deliveries d where `+failedMatches+` and `+isFree+`
		    for update skip locked
		), placed as (
		    select event_id, now() + $5 * (row_number() over (order by next_attempt_at, event_id) - 1) * interval '1 microsecond' as due from meant
		)
		update webhook_deliveries d set next_attempt_at = p.due
		from placed p where d.webhook_id = $1 and d.event_id = p.event_id and d.next_attempt_at > p.due`, append(q.args(), gap.Microseconds())...)
	if err != nil {
		return 0, fmt.Errorf("hurry failed deliveries: %w", grantable(err))
	}
	return tag.RowsAffected(), nil
}

// Resent is what Resend did.
type Resent struct {
	Webhook, EventID, EventType string
	Waited                      bool // the delivery waits already: it is due now
	Payload                     bool // only the log had it: the same JSON, perhaps not the same bytes
	Active                      bool // the webhook
}

// NoPayloadError is returned by Resend when the log row holds no whole payload.
type NoPayloadError struct{ Webhook, EventType string }

// Error says why there is nothing to send.
func (e *NoPayloadError) Error() string {
	return "the event is not in the stream any more, and the log row of webhook " + e.Webhook + " does not hold the whole payload: it was redacted or too large"
}

// Resend puts the delivery of a log row among those that wait, due now, its attempts
// beginning again. nil is returned when there is no such row, or its webhook is deleted.
// The bytes are those of the waiting delivery or of the dead letter, else the body that
// is given, else, when it is nil, the payload of the log.
func (s *Store) Resend(ctx context.Context, logID, by string, body []byte) (*Resent, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	var did Resent
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var payload string
		err := tx.QueryRow(ctx, `
			select l.webhook_id, l.event_id, l.event_type, coalesce(l.payload::text, ''), w.status = 'active'
			from zapier_webhook_logs l join zapier_webhooks w on w.id = l.webhook_id where l.id = $1`, logID).
			Scan(&did.Webhook, &did.EventID, &did.EventType, &payload, &did.Active)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			update webhook_deliveries set next_attempt_at = least(next_attempt_at, now()) where event_id = $1 and webhook_id = $2`, did.EventID, did.Webhook)
		if err != nil || tag.RowsAffected() > 0 {
			did.Waited = err == nil
			return err
		}
		tag, err = tx.Exec(ctx, `
			insert into webhook_deliveries (event_id, webhook_id, event_type, user_id, tenant_id, body, state, next_attempt_at, last_error)
			select event_id, webhook_id, event_type, user_id, tenant_id, body, 'deferred', now(), 'replayed: put back by ' || $3
			from webhook_dead_letters where event_id = $1 and webhook_id = $2 order by created_at desc limit 1
			on conflict do nothing`, did.EventID, did.Webhook, by)
		if err != nil || tag.RowsAffected() > 0 {
			return err
		}
		if did.Payload = body == nil; did.Payload {
			if !wholePayload(payload) {
				return &NoPayloadError{did.Webhook, did.EventType}
			}
			body = []byte(payload)
		}
		_, err = tx.Exec(ctx, `
			insert into webhook_deliveries (event_id, webhook_id, event_type, body, state, next_attempt_at, last_error)
			values ($1, $2, $3, $4, 'deferred', now(), 'replayed: put back by ' || $5) on conflict do nothing`,
			did.EventID, did.Webhook, did.EventType, body, by)
		return err
	})
	var none *NoPayloadError
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case errors.As(err, &none):
		return nil, none
	case err != nil:
		return nil, fmt.Errorf("resend log row: %w", grantable(err))
	}
	return &did, nil
}
