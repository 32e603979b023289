package pgstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// LogRow is one row of the delivery log.
type LogRow struct {
	ID, Webhook, EventID, EventType, Status string
	Attempt                                 int
	StatusCode                              *int
	Milliseconds                            int
	Error                                   string
	At                                      time.Time
	Retry                                   *time.Time // when the next attempt was planned for
	Active                                  bool       // the webhook
}

const selectLog = `
	select l.id, l.webhook_id, coalesce(l.event_id, ''), l.event_type, l.status, l.attempt, l.response_status, coalesce(l.duration_ms, 0),
	       coalesce(l.error_message, ''), l.created_at, l.next_retry_at, w.status = 'active'
	from zapier_webhook_logs l join zapier_webhooks w on w.id = l.webhook_id `

func scanLog(row pgx.CollectableRow) (l LogRow, err error) {
	err = row.Scan(&l.ID, &l.Webhook, &l.EventID, &l.EventType, &l.Status, &l.Attempt, &l.StatusCode, &l.Milliseconds, &l.Error, &l.At, &l.Retry, &l.Active)
	return l, err
}

// LogRow reads a row of the log; nil when there is none, or its webhook is deleted.
func (s *Store) LogRow(ctx context.Context, id string) (*LogRow, error) {
	rows, err := s.logRows(ctx, selectLog+`where l.id = $1`, id)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &rows[0], nil
}

func (s *Store) logRows(ctx context.Context, sql string, args ...any) ([]LogRow, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read the delivery log: %w", grantable(err))
	}
	out, err := pgx.CollectRows(rows, scanLog)
	if err != nil {
		return nil, fmt.Errorf("read the delivery log: %w", grantable(err))
	}
	return out, nil
}

// LogQuery says which rows of the log are meant; empty fields say nothing.
type LogQuery struct {
	Webhook, Status string
	Since           time.Time
	Limit           int
}

// Logs returns the newest rows, oldest first.
func (s *Store) Logs(ctx context.Context, q LogQuery) ([]LogRow, error) {
	rows, err := s.logRows(ctx, selectLog+`
		where ($1 = '' or l.webhook_id = $1) and ($2 = '' or l.status = $2) and ($3::timestamptz is null or l.created_at >= $3)
		order by l.created_at desc, l.id desc limit $4`, q.Webhook, q.Status, timeOrNull(q.Since), q.Limit)
	slices.Reverse(rows)
	return rows, err
}
