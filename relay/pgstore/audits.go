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

// LoadAudit returns what the auditor of a slot's stream remembers; nil when it never
// looked, and the holes that were found.
func (s *Store) LoadAudit(ctx context.Context, slot string) (*relay.Audit, []relay.Hole, error) {
	a, err := s.loadAudit(ctx, slot)
	if err != nil {
		return nil, nil, err
	}
	holes, err := s.Holes(ctx, slot)
	return a, holes, err
}

func (s *Store) loadAudit(ctx context.Context, slot string) (*relay.Audit, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	var (
		a               relay.Audit
		first, marks    []byte
		audited         int64
		position        string
		whole           *time.Time
		corrupt, marked error
	)
	err := s.pool.QueryRow(ctx, `
		select stream, stream_created_at, first_mark, marks, audited_seq, coalesce(audited_position, ''), whole_at
		from relay_stream_audits where slot_name = $1`, slot).
		Scan(&a.Stream, &a.Created, &first, &marks, &audited, &position, &whole)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read relay_stream_audits of slot %q: %w", slot, clean(err))
	}
	if position != "" {
		a.Audited.Position, corrupt = relay.ParsePosition(position)
	}
	marked = errors.Join(json.Unmarshal(first, &a.First), json.Unmarshal(marks, &a.Marks))
	if err := errors.Join(corrupt, marked); err != nil {
		return nil, fmt.Errorf("read relay_stream_audits of slot %q: %w", slot, err)
	}
	a.Created, a.Audited.Seq = a.Created.UTC(), uint64(audited)
	if whole != nil {
		a.Whole = whole.UTC()
	}
	return &a, nil
}

// SaveAudit keeps it.
func (s *Store) SaveAudit(ctx context.Context, slot string, a relay.Audit) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	if a.Marks == nil {
		a.Marks = []relay.Mark{}
	}
	first, err := json.Marshal(a.First)
	if err != nil {
		return fmt.Errorf("write relay_stream_audits of slot %q: %w", slot, err)
	}
	marks, err := json.Marshal(a.Marks)
	if err != nil {
		return fmt.Errorf("write relay_stream_audits of slot %q: %w", slot, err)
	}
	var whole *time.Time
	if !a.Whole.IsZero() {
		whole = &a.Whole
	}
	_, err = s.pool.Exec(ctx, `
		insert into relay_stream_audits (slot_name, stream, stream_created_at, first_mark, marks, audited_seq, audited_position, whole_at)
		values ($1, $2, $3, $4::text::json, $5::text::json, $6, nullif($7, ''), $8)
		on conflict (slot_name) do update set
		    stream = excluded.stream, stream_created_at = excluded.stream_created_at, first_mark = excluded.first_mark, marks = excluded.marks,
		    audited_seq = excluded.audited_seq, audited_position = excluded.audited_position, whole_at = excluded.whole_at, updated_at = now()`,
		slot, a.Stream, a.Created, string(first), string(marks), int64(a.Audited.Seq), positionText(a.Audited.Position), whole)
	if err != nil {
		return fmt.Errorf("write relay_stream_audits of slot %q: %w", slot, clean(err))
	}
	return nil
}

// Holes returns the holes that were found in the stream of a slot, in its order.
func (s *Store) Holes(ctx context.Context, slot string) ([]relay.Hole, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, `
		select stream, stream_created_at, reason, after_seq, coalesce(after_position, ''), before_seq, coalesce(before_position, ''),
		       coalesce(from_lsn, '0/0')::text, coalesce(to_lsn, '0/0')::text, missing, parts, found_at, coalesce(recorded_seq, 0), settled_at is not null
		from relay_stream_holes where slot_name = $1 order by before_seq, after_seq, reason`, slot)
	var out []relay.Hole
	if err == nil {
		out, err = pgx.CollectRows(rows, scanHole)
	}
	if err != nil {
		return nil, fmt.Errorf("read relay_stream_holes of slot %q: %w", slot, clean(err))
	}
	return out, nil
}

func scanHole(row pgx.CollectableRow) (h relay.Hole, err error) {
	var (
		after, missing, behind, recorded int64
		afterPos, beforePos, from, to    string
	)
	err = row.Scan(&h.Stream, &h.Created, &h.Reason, &after, &afterPos, &behind, &beforePos, &from, &to, &missing, &h.Parts, &h.Found, &recorded, &h.Settled)
	if err != nil {
		return h, err
	}
	h.After.Seq, h.Before.Seq, h.Missing, h.Recorded = uint64(after), uint64(behind), uint64(missing), uint64(recorded)
	h.Created, h.Found = h.Created.UTC(), h.Found.UTC()
	if afterPos != "" {
		if h.After.Position, err = relay.ParsePosition(afterPos); err != nil {
			return h, err
		}
	}
	if beforePos != "" {
		if h.Before.Position, err = relay.ParsePosition(beforePos); err != nil {
			return h, err
		}
	}
	if h.From, err = relay.ParseLSN(from); err != nil {
		return h, err
	}
	h.To, err = relay.ParseLSN(to)
	return h, err
}

// AddHole keeps a hole, in the place of those that lie within it. One that is there
// already stays as it is.
func (s *Store) AddHole(ctx context.Context, slot string, h relay.Hole) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	_, err := s.pool.Exec(ctx, `
		with added as (
		    insert into relay_stream_holes (slot_name, stream, stream_created_at, reason, after_seq, after_position, before_seq, before_position,
		                                    from_lsn, to_lsn, missing, parts, found_at)
		    values ($1, $2, $3, $4, $5, nullif($6, ''), $7, nullif($8, ''), nullif($9::text::pg_lsn, '0/0'), nullif($10::text::pg_lsn, '0/0'), $11, greatest($12, 1), $13)
		    on conflict do nothing
		)
		delete from relay_stream_holes
		where slot_name = $1 and stream_created_at = $3 and reason = $4 and after_seq >= $5 and before_seq <= $7
		  and (after_seq, before_seq) <> ($5, $7)`,
		slot, h.Stream, h.Created, h.Reason, int64(h.After.Seq), positionText(h.After.Position), int64(h.Before.Seq), positionText(h.Before.Position),
		h.From.String(), h.To.String(), int64(h.Missing), h.Parts, h.Found)
	if err != nil {
		return fmt.Errorf("write relay_stream_holes of slot %q: %w", slot, clean(err))
	}
	return nil
}

// NoteRecord notes the sequence of a hole's record in the stream; 0 for none.
func (s *Store) NoteRecord(ctx context.Context, slot string, h relay.Hole, seq uint64) error {
	return s.hole(ctx, slot, h, `update relay_stream_holes set recorded_seq = nullif($6, 0)`, int64(seq))
}

// DropHole forgets a hole that nobody can meet any more.
func (s *Store) DropHole(ctx context.Context, slot string, h relay.Hole) error {
	return s.hole(ctx, slot, h, `delete from relay_stream_holes`)
}

// hole changes the row of one hole.
func (s *Store) hole(ctx context.Context, slot string, h relay.Hole, statement string, more ...any) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	args := append([]any{slot, h.Created, h.Reason, int64(h.After.Seq), int64(h.Before.Seq)}, more...)
	_, err := s.pool.Exec(ctx, statement+`
		where slot_name = $1 and stream_created_at = $2 and reason = $3 and after_seq = $4 and before_seq = $5`, args...)
	if err != nil {
		return fmt.Errorf("write relay_stream_holes of slot %q: %w", slot, clean(err))
	}
	return nil
}

// positionText is empty for the position that is not known.
func positionText(p relay.Position) string {
	if p.IsZero() {
		return ""
	}
	return p.String()
}
