package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// WebhookRow is a row of zapier_webhooks for those who look after it. It has no secret.
type WebhookRow struct {
	ID, EventType, UserID, TenantID, TargetURL string
	Active, Signed                             bool
	Triggers, Successes, Failures              int64
	Streak                                     int // failures since the last success
	MaxRetries, BackoffSeconds, PerHour        int
	Filters, Metadata                          string // JSON
	DisabledReason                             string // why the relay switched it off
	LastTriggered, LastSuccess, LastFailure    *time.Time
	Created, Updated                           time.Time
	Waiting, Dead                              int64 // deliveries to come, and dead letters nobody replayed
}

// The row as RowToStructByPos takes it: its fields are those of WebhookRow, in order.
const selectWebhookRow = `
	select w.id, w.event_type, w.user_id, coalesce(w.tenant_id, ''), w.target_url,
	       w.status = 'active', w.signing_secret is not null,
	       w.total_triggers, w.success_count, w.failure_count, w.consecutive_failures,
	       w.max_retries, w.retry_backoff_seconds, w.max_triggers_per_hour,
	       w.filters::text, w.zapier_metadata::text, coalesce(w.zapier_metadata #>> '{disabled,reason}', ''),
	       w.last_triggered_at, w.last_success_at, w.last_failure_at, w.created_at, w.updated_at,
	       (select count(*) from webhook_deliveries d where d.webhook_id = w.id),
	       (select count(*) from webhook_dead_letters l where l.webhook_id = w.id and l.replayed_at is null)
	from zapier_webhooks w `

// WebhookQuery says which rows ListWebhooks returns.
type WebhookQuery struct {
	EventType string // empty: all
	Inactive  bool   // only those that are switched off
	Failing   bool   // only those whose last attempt failed
	Limit     int
}

// ListWebhooks returns rows, those with most failures in a row first.
func (s *Store) ListWebhooks(ctx context.Context, q WebhookQuery) ([]WebhookRow, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	// The rows are chosen before anything is counted for them.
	rows, err := s.pool.Query(ctx, selectWebhookRow+`
		join (select id from zapier_webhooks
		      where ($1 = '' or event_type = $1) and (not $2 or status <> 'active') and (not $3 or consecutive_failures > 0)
		      order by consecutive_failures desc, id limit $4) x on x.id = w.id
		order by w.consecutive_failures desc, w.id`, q.EventType, q.Inactive, q.Failing, q.Limit)
	if err != nil {
		return nil, fmt.Errorf("list webhooks: %w", grantable(err))
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[WebhookRow])
	if err != nil {
		return nil, fmt.Errorf("list webhooks: %w", grantable(err))
	}
	return all, nil
}

// FindWebhook returns one row; nil when there is none.
func (s *Store) FindWebhook(ctx context.Context, id string) (*WebhookRow, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, selectWebhookRow+`where w.id = $1`, id)
	if err != nil {
		return nil, fmt.Errorf("read webhook %q: %w", id, grantable(err))
	}
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[WebhookRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read webhook %q: %w", id, grantable(err))
	}
	return &row, nil
}

// WebhookSwitch is what SwitchWebhook found.
type WebhookSwitch struct {
	WasActive bool
	Reason    string // why the relay had switched it off
}

// SwitchWebhook makes a subscription active or inactive, and writes nothing when it is
// so already. Being made active clears why the relay had switched it off. It returns
// what the row was before; nil when there is none.
func (s *Store) SwitchWebhook(ctx context.Context, id string, active bool) (*WebhookSwitch, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	var was WebhookSwitch
	err := s.pool.QueryRow(ctx, `
		with was as (
		    select id, status = 'active' as active, coalesce(zapier_metadata #>> '{disabled,reason}', '') as reason
		    from zapier_webhooks where id = $1 for no key update
		), changed as (
		    update zapier_webhooks w
		    set status = case when $2 then 'active' else 'inactive' end,
		        zapier_metadata = case when $2 then w.zapier_metadata - 'disabled' else w.zapier_metadata end
		    from was
		    where w.id = was.id and (was.active <> $2 or $2 and w.zapier_metadata ? 'disabled')
		)
		select active, reason from was`, id, active).Scan(&was.WasActive, &was.Reason)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("switch webhook %q: %w", id, grantable(err))
	}
	return &was, nil
}
