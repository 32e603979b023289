package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
)

// Park implements relay.Parking.
func (s *Store) Park(ctx context.Context, slot string, events []relay.ParkedEvent) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var b pgx.Batch
		for i := range events {
			e := &events[i]
			b.Queue(`
				insert into relay_parked_events as p (slot_name, event_id, event_type, commit_lsn, ordinal, event_index, lineage,
				    source_table, subject, user_id, tenant_id, visibility, occurred_at, body, reason)
				values ($1, $2, $3, $4::text::pg_lsn, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
				on conflict (slot_name, event_id) do update
				set commit_lsn = excluded.commit_lsn, ordinal = excluded.ordinal, event_index = excluded.event_index, lineage = excluded.lineage,
				    reason = excluded.reason, parked_at = now(), released_at = null, released_by = null
				where p.lineage <> excluded.lineage
				   or (p.commit_lsn, p.ordinal, p.event_index) < (excluded.commit_lsn, excluded.ordinal, excluded.event_index)`,
				slot, e.ID, e.Type, e.Position.CommitLSN.String(), int64(e.Position.Ordinal), int64(e.Position.Index), e.Lineage,
				e.Table, e.Key, e.Owner.UserID, e.Owner.TenantID, e.Visibility.String(), e.OccurredAt, string(e.Body), e.Reason)
		}
		return tx.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		return fmt.Errorf("write relay_parked_events of slot %q: %w", slot, grantable(err))
	}
	return nil
}

// Parked is an event that waits in relay_parked_events.
type Parked struct {
	relay.ParkedEvent
	ParkedAt time.Time
}

// ParkedQuery says which of a slot's parked events are meant: those that wait, in the
// order in which they were parked.
type ParkedQuery struct {
	Slot      string
	EventType string   // empty: all
	IDs       []string // of events; none: all
}

const parkedMatches = `
	slot_name = $1 and released_at is null and ($2 = '' or event_type = $2) and ($3::text[] is null or event_id = any ($3))`

func (q *ParkedQuery) args() []any { return []any{q.Slot, q.EventType, q.IDs} }

// ParkedEvents reads up to limit of them that were parked behind the position.
func (s *Store) ParkedEvents(ctx context.Context, q ParkedQuery, after relay.Position, limit int) ([]Parked, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, `
		select event_id, event_type, commit_lsn::text || ':' || ordinal || ':' || event_index, lineage, source_table, subject, user_id, tenant_id,
		       visibility = 'everyone', occurred_at, body, reason, parked_at
		from relay_parked_events where `+parkedMatches+`
		  and (commit_lsn, ordinal, event_index) > ($4::text::pg_lsn, $5::bigint, $6::bigint)
		order by commit_lsn, ordinal, event_index limit $7`,
		append(q.args(), after.CommitLSN.String(), int64(after.Ordinal), int64(after.Index), limit)...)
	if err != nil {
		return nil, fmt.Errorf("read relay_parked_events: %w", grantable(err))
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Parked, err error) {
		var position, body string
		var everyone bool
		err = row.Scan(&p.ID, &p.Type, &position, &p.Lineage, &p.Table, &p.Key, &p.Owner.UserID, &p.Owner.TenantID,
			&everyone, &p.OccurredAt, &body, &p.Reason, &p.ParkedAt)
		if err != nil {
			return p, err
		}
		if everyone {
			p.Visibility = relay.VisibleToEveryone
		}
		p.Body, p.OccurredAt, p.ParkedAt = []byte(body), p.OccurredAt.UTC(), p.ParkedAt.UTC()
		p.Position, err = relay.ParsePosition(position)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("read relay_parked_events: %w", grantable(err))
	}
	return out, nil
}

// ParkedCount is how many events of one type wait.
type ParkedCount struct {
	EventType string
	Events    int64
	Oldest    time.Time // when the oldest was parked
}

// CountParked counts them by type.
func (s *Store) CountParked(ctx context.Context, q ParkedQuery) ([]ParkedCount, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, `
		select event_type, count(*), min(parked_at) from relay_parked_events where `+parkedMatches+` group by 1 order by 1`, q.args()...)
	if err != nil {
		return nil, fmt.Errorf("count parked events: %w", grantable(err))
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ParkedCount])
	if err != nil {
		return nil, fmt.Errorf("count parked events: %w", grantable(err))
	}
	return out, nil
}

// Release lets the relay publish the events, in this order: it reads in the log that
// they were released. It returns how many of them were waiting.
func (s *Store) Release(ctx context.Context, slot string, events []Parked, by string) (released int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var b pgx.Batch
		for i := range events {
			e := &events[i]
			b.Queue(`
				update relay_parked_events set released_at = clock_timestamp(), released_by = $3
				where slot_name = $1 and event_id = $2 and released_at is null and lineage = $4
				  and (commit_lsn, ordinal, event_index) = ($5::text::pg_lsn, $6::bigint, $7::bigint)`,
				slot, e.ID, by, e.Lineage, e.Position.CommitLSN.String(), int64(e.Position.Ordinal), int64(e.Position.Index))
		}
		results := tx.SendBatch(ctx, &b)
		for range events {
			tag, err := results.Exec()
			if err != nil {
				_ = results.Close()
				return err
			}
			released += tag.RowsAffected()
		}
		return results.Close()
	})
	if err != nil {
		return 0, fmt.Errorf("release parked events of slot %q: %w", slot, grantable(err))
	}
	return released, nil
}
