package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
)

var (
	_ relay.Backfills   = (*Store)(nil)
	_ relay.BackfillLog = (*Store)(nil)
)

// BackfillRow is a Backfill as a person looks at it.
type BackfillRow struct {
	relay.Backfill
	Kind      string // backfill or snapshot
	Requested time.Time
	Started   *time.Time
	Finished  *time.Time
}

const backfillColumns = `id, slot_name, source_table, coalesce(where_sql, ''), coalesce(event_type, ''), coalesce(rate, 0), state, coalesce(note, ''),
	key_columns, cursor, chunk, coalesce(rows_estimated, 0), rows_read, rows_published, rows_overtaken, events,
	kind, requested_at, started_at, finished_at`

func scanBackfill(row pgx.CollectableRow) (b BackfillRow, err error) {
	err = row.Scan(&b.ID, &b.Slot, &b.Table, &b.Where, &b.EventType, &b.Rate, &b.State, &b.Note,
		&b.Key, &b.Cursor, &b.Chunk, &b.Estimated, &b.Rows, &b.Published, &b.Overtaken, &b.Events,
		&b.Kind, &b.Requested, &b.Started, &b.Finished)
	return b, err
}

// backfills runs one statement that returns rows of relay_backfills.
func (s *Store) backfills(ctx context.Context, what, sql string, args ...any) ([]BackfillRow, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, sql, args...)
	var out []BackfillRow
	if err == nil {
		out, err = pgx.CollectRows(rows, scanBackfill)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, clean(err))
	}
	return out, nil
}

// RequestBackfill queues a backfill and returns it with its id.
func (s *Store) RequestBackfill(ctx context.Context, b relay.Backfill) (BackfillRow, error) {
	rows, err := s.backfills(ctx, "request a backfill", `
		insert into relay_backfills (slot_name, source_table, where_sql, event_type, rate)
		values ($1, $2, nullif($3, ''), nullif($4, ''), nullif($5, 0)) returning `+backfillColumns,
		b.Slot, b.Table, b.Where, b.EventType, b.Rate)
	if err != nil {
		return BackfillRow{}, err
	}
	return rows[0], nil
}

// ListBackfills returns the newest of a slot's backfills, and all that are open,
// the oldest first.
func (s *Store) ListBackfills(ctx context.Context, slot string, newest int) ([]BackfillRow, error) {
	return s.backfills(ctx, "list backfills", `
		select `+backfillColumns+` from (
		    select *, row_number() over (order by requested_at desc) as age from relay_backfills where slot_name = $1) b
		where age <= $2 or state in ('queued', 'running') order by requested_at`, slot, newest)
}

// FindBackfill returns the slot's backfill with the id, or nil.
func (s *Store) FindBackfill(ctx context.Context, slot, id string) (*BackfillRow, error) {
	rows, err := s.backfills(ctx, "read backfill "+id, `select `+backfillColumns+` from relay_backfills where slot_name = $1 and id = $2`, slot, id)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &rows[0], nil
}

// CancelBackfill ends a backfill that is queued or running, and returns how it then
// stands; nil: there is none. What is published stays.
func (s *Store) CancelBackfill(ctx context.Context, slot, id string) (*BackfillRow, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			update relay_backfills set state = 'cancelled', finished_at = now(), updated_at = now(), note = null
			where slot_name = $1 and id = $2 and state in ('queued', 'running')`, slot, id)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		_, err = tx.Exec(ctx, `delete from relay_backfill_chunks where backfill_id = $1`, id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cancel backfill %s: %w", id, clean(err))
	}
	return s.FindBackfill(ctx, slot, id)
}

// NextBackfill implements relay.Backfills.
func (s *Store) NextBackfill(ctx context.Context, slot string, except []string) (*relay.Backfill, error) {
	rows, err := s.backfills(ctx, "look for backfills", `
		select `+backfillColumns+` from relay_backfills where slot_name = $1 and not id = any (coalesce($2::text[], '{}'))
		    and (state in ('queued', 'running') or state = 'done' and exists (select from relay_backfill_chunks where backfill_id = id))
		order by state = 'running' desc, state = 'done' desc, requested_at, id limit 1`, slot, except)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &rows[0].Backfill, nil
}

// ClaimBackfill implements relay.Backfills.
func (s *Store) ClaimBackfill(ctx context.Context, b *relay.Backfill, owner string) (barrier int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			update relay_backfills set state = 'running', owner = $2, note = null, updated_at = now(), finished_at = null, chunk = chunk + 1,
			    started_at = coalesce(started_at, now()), key_columns = coalesce(key_columns, $3), rows_estimated = coalesce(rows_estimated, $4)
			where id = $1 and state in ('queued', 'running', 'done')
			returning chunk, cursor, rows_read, rows_published, rows_overtaken, events`, b.ID, owner, b.Key, b.Estimated).
			Scan(&barrier, &b.Cursor, &b.Rows, &b.Published, &b.Overtaken, &b.Events)
		if err != nil {
			return err
		}
		return insertChunk(ctx, tx, b.ID, relay.Chunk{Number: barrier})
	})
	if err != nil {
		return 0, stopped(err, "claim backfill "+b.ID)
	}
	return barrier, nil
}

// Chunks implements relay.Backfills.
func (s *Store) Chunks(ctx context.Context, id string) ([]relay.Chunk, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, `select number, keys::text, redo::text from relay_backfill_chunks where backfill_id = $1 order by number`, id)
	var out []relay.Chunk
	if err == nil {
		out, err = pgx.CollectRows(rows, scanChunk)
	}
	if err != nil {
		return nil, fmt.Errorf("read relay_backfill_chunks: %w", clean(err))
	}
	return out, nil
}

// SplitChunk implements relay.BackfillLog.
func (s *Store) SplitChunk(ctx context.Context, id string, number int64, split func(*relay.Chunk) bool) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select from relay_backfills where id = $1 for update`, id); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `select number, keys::text, redo::text from relay_backfill_chunks where backfill_id = $1 and number = $2`, id, number)
		if err != nil {
			return err
		}
		c, err := pgx.CollectExactlyOneRow(rows, scanChunk)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil // it was settled, or the backfill has ended
		case err != nil || !split(&c):
			return err
		}
		if _, err := tx.Exec(ctx, `update relay_backfills set owner = null where id = $1`, id); err != nil {
			return err
		}
		return saveChunk(ctx, tx, id, c)
	})
	if err != nil {
		return fmt.Errorf("write relay_backfill_chunks: %w", clean(err))
	}
	return nil
}

// stopped tells a backfill that is not ours from other errors.
func stopped(err error, what string) error {
	if errors.Is(err, pgx.ErrNoRows) || errors.Is(err, relay.ErrBackfillStopped) {
		return relay.ErrBackfillStopped
	}
	return fmt.Errorf("%s: %w", what, clean(err))
}

func scanChunk(row pgx.CollectableRow) (c relay.Chunk, err error) {
	var keys, redo string
	if err := row.Scan(&c.Number, &keys, &redo); err != nil {
		return c, err
	}
	if err := json.Unmarshal([]byte(keys), &c.Rows); err != nil {
		return c, fmt.Errorf("relay_backfill_chunks %d, keys: %w", c.Number, err)
	}
	if err := json.Unmarshal([]byte(redo), &c.Redo); err != nil {
		return c, fmt.Errorf("relay_backfill_chunks %d, redo: %w", c.Number, err)
	}
	return c, nil
}

// insertChunk writes a watermark; its commit is the chunk's place in the log.
func insertChunk(ctx context.Context, tx pgx.Tx, id string, c relay.Chunk) error {
	keys, err := chunkRows(c.Rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		insert into relay_backfill_chunks (backfill_id, number, slot_name, keys)
		select id, $2, slot_name, $3::text::json from relay_backfills where id = $1`, id, c.Number, keys)
	return err
}

func chunkRows(rows []relay.ChunkRow) (string, error) {
	if len(rows) == 0 {
		return "[]", nil
	}
	text, err := json.Marshal(rows)
	return string(text), err
}

// AdvanceBackfill implements relay.Backfills.
func (s *Store) AdvanceBackfill(ctx context.Context, id, owner string, step relay.Step) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var number *int64
		if step.Take != nil {
			number = &step.Take.Number
		}
		tag, err := tx.Exec(ctx, `
			update relay_backfills set cursor = coalesce($3, cursor), chunk = coalesce($4, chunk), rows_read = rows_read + $5,
			    rows_published = rows_published + $6, rows_overtaken = rows_overtaken + $7, events = events + $8, updated_at = now()
			where id = $1 and owner = $2 and state = 'running'`, id, owner, []string(step.Cursor), number,
			step.Done.Rows, step.Done.Published, step.Done.Overtaken, step.Done.Events)
		switch {
		case err != nil:
			return err
		case tag.RowsAffected() == 0:
			return relay.ErrBackfillStopped
		}
		if len(step.Settled) > 0 {
			if _, err := tx.Exec(ctx, `delete from relay_backfill_chunks where backfill_id = $1 and number = any ($2)`, id, step.Settled); err != nil {
				return err
			}
		}
		if step.Redo != nil {
			redo, err := chunkRows(step.Redo.Redo)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `update relay_backfill_chunks set redo = $3::text::json where backfill_id = $1 and number = $2`, id, step.Redo.Number, redo)
			if err != nil {
				return err
			}
		}
		if step.Take == nil {
			return nil
		}
		return insertChunk(ctx, tx, id, *step.Take)
	})
	if err != nil {
		return stopped(err, "advance backfill "+id)
	}
	return nil
}

// SaveChunk implements relay.BackfillLog.
func (s *Store) SaveChunk(ctx context.Context, id, owner string, c relay.Chunk) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `select from relay_backfills where id = $1 and (owner = $2 or state <> 'running') for update`, id, owner)
		switch {
		case err != nil:
			return err
		case tag.RowsAffected() == 0:
			return relay.ErrBackfillStopped
		}
		return saveChunk(ctx, tx, id, c)
	})
	if err != nil {
		return stopped(err, "write relay_backfill_chunks")
	}
	return nil
}

func saveChunk(ctx context.Context, tx pgx.Tx, id string, c relay.Chunk) error {
	keys, err := chunkRows(c.Rows)
	if err != nil {
		return err
	}
	redo, err := chunkRows(c.Redo)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		update relay_backfill_chunks set keys = $3::text::json, redo = $4::text::json where backfill_id = $1 and number = $2`,
		id, c.Number, keys, redo)
	return err
}

// FinishBackfill implements relay.Backfills. A queued one can fail before anybody
// owned it.
func (s *Store) FinishBackfill(ctx context.Context, id, owner string, state relay.BackfillState, note string, last relay.Progress) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			update relay_backfills set state = $3, note = nullif($4, ''), finished_at = now(), updated_at = now(),
			    rows_published = rows_published + $5, rows_overtaken = rows_overtaken + $6, events = events + $7
			where id = $1 and (state = 'queued' or state = 'running' and (owner = $2 or $3 = 'failed'))`,
			id, owner, string(state), note, last.Published, last.Overtaken, last.Events)
		switch {
		case err != nil:
			return err
		case tag.RowsAffected() == 0:
			return relay.ErrBackfillStopped
		}
		if state == relay.BackfillDone {
			return nil
		}
		_, err = tx.Exec(ctx, `delete from relay_backfill_chunks where backfill_id = $1`, id)
		return err
	})
	if err != nil {
		return stopped(err, "finish backfill "+id)
	}
	return nil
}

// ForgetChunks implements relay.Backfills.
func (s *Store) ForgetChunks(ctx context.Context, id, owner string, numbers []int64) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	_, err := s.pool.Exec(ctx, `
		delete from relay_backfill_chunks c using relay_backfills b
		where b.id = $1 and b.owner = $2 and c.backfill_id = b.id and c.number = any ($3)`, id, owner, numbers)
	if err != nil {
		return fmt.Errorf("forget chunks of backfill %s: %w", id, clean(err))
	}
	return nil
}

// NoteBackfill implements relay.Backfills.
func (s *Store) NoteBackfill(ctx context.Context, id, note string) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	tag, err := s.pool.Exec(ctx, `update relay_backfills set note = nullif($2, ''), updated_at = now() where id = $1 and state = 'running'`, id, note)
	switch {
	case err != nil:
		return fmt.Errorf("note on backfill %s: %w", id, clean(err))
	case tag.RowsAffected() == 0:
		return relay.ErrBackfillStopped
	}
	return nil
}

// FailBackfills implements relay.Backfills.
func (s *Store) FailBackfills(ctx context.Context, slot, note string) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	_, err := s.pool.Exec(ctx, `
		with failed as (
		    update relay_backfills set state = 'failed', note = $2, finished_at = now(), updated_at = now()
		    where slot_name = $1 and (state = 'running' or state = 'done' and exists (select from relay_backfill_chunks where backfill_id = id))
		    returning id)
		delete from relay_backfill_chunks where backfill_id in (select id from failed)`, slot, note)
	if err != nil {
		return fmt.Errorf("end the backfills of slot %q: %w", slot, clean(err))
	}
	return nil
}

// RequestSnapshot implements relay.BackfillLog.
func (s *Store) RequestSnapshot(ctx context.Context, slot string, tables []string) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	_, err := s.pool.Exec(ctx, `
		insert into relay_backfills (slot_name, kind, source_table)
		select $1, 'snapshot', w.name from unnest($2::text[]) as w(name)
		where exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
		              where n.nspname = split_part(w.name, '.', 1) and c.relname = split_part(w.name, '.', 2))
		  and not exists (select from relay_backfills where slot_name = $1 and kind = 'snapshot' and state in ('queued', 'running'))`,
		slot, tables)
	if err != nil {
		return fmt.Errorf("request the initial snapshot of slot %q: %w", slot, clean(err))
	}
	return nil
}
