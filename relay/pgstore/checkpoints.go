package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
)

// capture is the consumer whose rows of relay_checkpoints are ours.
const capture = "capture"

// Load implements relay.Checkpoints.
func (s *Store) Load(ctx context.Context, slot string) (*relay.Checkpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	var (
		c                   = relay.Checkpoint{Slot: slot}
		confirmed, position *string
		created             *time.Time
		seq, settled        int64
	)
	err := s.pool.QueryRow(ctx, `
		select coalesce(system_identifier, ''), coalesce(timeline, 0), lineage, confirmed_lsn::text, position,
		       coalesce(stream, ''), stream_created_at, coalesce(last_seq, 0),
		       coalesce(case when settled_lsn = confirmed_lsn then settled_seq end, last_seq, 0), updated_at
		from relay_checkpoints where consumer = $1 and slot_name = $2`, capture, slot).
		Scan(&c.SystemID, &c.Timeline, &c.Lineage, &confirmed, &position, &c.Stream, &created, &seq, &settled, &c.SavedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read relay_checkpoints of slot %q: %w", slot, clean(err))
	}
	c.StreamSeq, c.SettledSeq = uint64(seq), uint64(settled)
	if confirmed != nil {
		if c.Confirmed, err = relay.ParseLSN(*confirmed); err != nil {
			return nil, fmt.Errorf("relay_checkpoints of slot %q, confirmed_lsn: %w", slot, err)
		}
	}
	if position != nil {
		if c.Position, err = relay.ParsePosition(*position); err != nil {
			return nil, fmt.Errorf("relay_checkpoints of slot %q, position: %w", slot, err)
		}
	}
	if created != nil {
		c.StreamCreatedAt = created.UTC()
	}
	return &c, nil
}

// Save implements relay.Checkpoints. Postgres keeps times to the microsecond.
func (s *Store) Save(ctx context.Context, c relay.Checkpoint) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	var position *string
	if !c.Position.IsZero() {
		text := c.Position.String()
		position = &text
	}
	var created *time.Time
	if !c.StreamCreatedAt.IsZero() {
		created = &c.StreamCreatedAt
	}
	_, err := s.pool.Exec(ctx, `
		insert into relay_checkpoints (consumer, slot_name, lineage, system_identifier, timeline, confirmed_lsn, position,
		                               stream, stream_created_at, last_seq, settled_seq, settled_lsn)
		values ($1, $2, $3, nullif($4, ''), nullif($5, 0), $6::text::pg_lsn, $7, nullif($8, ''), $9, $10, $11, $6::text::pg_lsn)
		on conflict (consumer, slot_name) do update set
		    lineage = excluded.lineage, system_identifier = excluded.system_identifier, timeline = excluded.timeline,
		    confirmed_lsn = excluded.confirmed_lsn, position = excluded.position, stream = excluded.stream,
		    stream_created_at = excluded.stream_created_at, last_seq = excluded.last_seq,
		    settled_seq = excluded.settled_seq, settled_lsn = excluded.settled_lsn, updated_at = now()`,
		capture, c.Slot, c.Lineage, c.SystemID, c.Timeline, c.Confirmed.String(), position,
		c.Stream, created, int64(c.StreamSeq), int64(c.SettledSeq))
	if err != nil {
		return fmt.Errorf("write relay_checkpoints of slot %q: %w", c.Slot, clean(err))
	}
	return nil
}
