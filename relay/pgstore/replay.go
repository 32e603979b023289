package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// LetterQuery says which dead letters are meant. Zero times are no bounds.
type LetterQuery struct {
	Webhook      string
	Since, Until time.Time // of when they were given up
	EventType    string    // empty: all
	Again        bool      // those, too, that were replayed before
}

// LetterCount is what a query finds.
type LetterCount struct {
	Letters        int64
	Bytes          int64 // of their bodies
	Oldest, Newest *time.Time
	Asked          time.Time // by the database's clock
}

// The letters of a query: $1 to $5 are its fields, $6 is when it was asked, so that what
// is replayed is not found again.
const letterMatches = `
	l.webhook_id = $1 and ($2::timestamptz is null or l.created_at >= $2) and ($3::timestamptz is null or l.created_at < $3)
	and ($4 = '' or l.event_type = $4) and (l.replayed_at is null or $5 and l.replayed_at < $6)`

func (q *LetterQuery) args(asked time.Time) []any {
	return []any{q.Webhook, timeOrNull(q.Since), timeOrNull(q.Until), q.EventType, q.Again, asked}
}

// CountLetters tells what ReplayLetters would put back.
func (s *Store) CountLetters(ctx context.Context, q LetterQuery) (LetterCount, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	var c LetterCount
	if err := s.pool.QueryRow(ctx, `select now()`).Scan(&c.Asked); err != nil {
		return c, fmt.Errorf("count dead letters: %w", grantable(err))
	}
	err := s.pool.QueryRow(ctx, `
		select count(*), coalesce(sum(octet_length(l.body)), 0)::bigint, min(l.created_at), max(l.created_at)
		from webhook_dead_letters l where `+letterMatches, q.args(c.Asked)...).Scan(&c.Letters, &c.Bytes, &c.Oldest, &c.Newest)
	if err != nil {
		return c, fmt.Errorf("count dead letters: %w", grantable(err))
	}
	return c, nil
}

// Replayed is what one call of ReplayLetters did.
type Replayed struct {
	Letters int64 // taken
	Put     int64 // of these, put back; the others' deliveries wait already
}

// ReplayLetters puts up to limit of the letters that were found when asked back among
// the deliveries that wait, oldest first, with the same bytes: their attempts begin
// again. They become due one after the other, gap apart, the first after delay. Each
// call is a transaction; a letter that was taken says by whom and is not found again.
func (s *Store) ReplayLetters(ctx context.Context, q LetterQuery, asked time.Time, by string, limit int, delay, gap time.Duration) (Replayed, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	var did Replayed
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			with taken as (
			    update webhook_dead_letters x set replayed_at = now(), replayed_by = $7
			    where x.id = any (array(
			        select l.id from webhook_dead_letters l where `+letterMatches+`
			        order by l.created_at, l.id limit $8 for update skip locked))
			    returning x.*
			), one as (
			    select distinct on (event_id) * from taken order by event_id, created_at desc
			), put as (
			    insert into webhook_deliveries (event_id, webhook_id, event_type, user_id, tenant_id, body, state, next_attempt_at, last_error)
			    select event_id, webhook_id, event_type, user_id, tenant_id, body, 'deferred',
			           now() + ($9 + $10 * (row_number() over (order by created_at, id) - 1)) * interval '1 microsecond',
			           'replayed: put back by ' || $7
			    from one
			    on conflict do nothing returning 1
			)
			select (select count(*) from taken), (select count(*) from put)`,
			append(q.args(asked), by, limit, delay.Microseconds(), gap.Microseconds())...).Scan(&did.Letters, &did.Put)
	})
	if err != nil {
		return Replayed{}, fmt.Errorf("replay dead letters: %w", grantable(err))
	}
	return did, nil
}
