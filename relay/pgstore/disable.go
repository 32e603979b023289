package pgstore

import (
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// reasonFailing marks deactivations after failures without end.
const reasonFailing = "failing"

// leastStreak is how many attempts in a row must have failed before a subscription is
// switched off, however long that took: few events are no proof.
const leastStreak = 20

// switchOff says when the relay switches a subscription off, and who is told.
type switchOff struct {
	after time.Duration // 0: never because of failures
	told  func(id, reason string)
}

// disabled is a subscription that was switched off.
type disabled struct{ id, reason string }

// raiseDisabled raises webhook.disabled for the rows of off (id, reason, status,
// since) in the same transaction: the event is there exactly when the deactivation is.
// Where its type was deleted or disabled, or the role may not write to the outbox, the
// subscription is switched off without it.
const raiseDisabled = `
	select off.id, case when exists (
	        select from zapier_webhook_events e where e.event_type = 'webhook.disabled' and e.enabled)
	        and has_table_privilege('outbox_events', 'insert') and has_table_privilege('outbox_events', 'select')
	    then emit_event('webhook.disabled', jsonb_build_object(
	        'webhook_id', off.id, 'event_type', off.event_type, 'reason', off.reason,
	        'at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'response_status', off.status,
	        'failing_since', to_char(off.since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')), off.user_id, off.tenant_id)
	end
	from off`

// switchOffGone switches off subscriptions whose endpoint answered 410, unless they
// point elsewhere by now.
const switchOffGone = `
	with off as (
	    update zapier_webhooks w set status = 'inactive',
	        zapier_metadata = w.zapier_metadata || jsonb_build_object('disabled',
	            jsonb_build_object('reason', '` + reasonGone + `', 'at', now(), 'response_status', x.status))
	    from unnest($1::text[], $2::text[], $3::integer[]) as x (id, url, status)
	    where w.id = x.id and w.target_url = x.url and w.status = 'active'
	    returning w.id, w.event_type, w.user_id, w.tenant_id, '` + reasonGone + `' as reason, x.status, null::timestamptz as since
	)` + raiseDisabled

// switchOffFailing switches off those of the subscriptions that have failed for too
// long. Since when is in the log: the first attempt after the last success.
const switchOffFailing = `
	with failing as (
	    select w.id, x.status, (
	        select min(l.created_at) from zapier_webhook_logs l
	        where l.webhook_id = w.id and l.created_at > coalesce(w.last_success_at, '-infinity')
	          and l.status in ('retrying', 'failed', 'dead')) as since
	    from unnest($1::text[], $2::integer[]) as x (id, status)
	    join zapier_webhooks w on w.id = x.id and w.status = 'active' and w.consecutive_failures >= $4
	), off as (
	    update zapier_webhooks w set status = 'inactive',
	        zapier_metadata = w.zapier_metadata || jsonb_build_object('disabled', jsonb_build_object(
	            'reason', '` + reasonFailing + `', 'at', now(), 'response_status', f.status, 'failing_since', f.since))
	    from failing f
	    where w.id = f.id and f.since <= now() - $3::bigint * interval '1 microsecond'
	    returning w.id, w.event_type, w.user_id, w.tenant_id, '` + reasonFailing + `' as reason, f.status, f.since
	)` + raiseDisabled

// queueSwitchOff queues the deactivations of a batch, behind its counters. What was
// switched off is appended to off when the batch is read.
func (s switchOff) queueSwitchOff(q *pgx.Batch, tallies map[string]*tally, gone goneEndpoints, off *[]disabled) {
	collect := func(reason string) func(pgx.Rows) error {
		return func(rows pgx.Rows) error {
			var id string
			var event *string
			_, err := pgx.ForEachRow(rows, []any{&id, &event}, func() error { *off = append(*off, disabled{id, reason}); return nil })
			return err
		}
	}
	if len(gone.ids) > 0 {
		q.Queue(switchOffGone, gone.ids, gone.urls, gone.statuses).Query(collect(reasonGone))
	}
	if s.after <= 0 {
		return
	}
	var ids []string
	var statuses []*int32
	for id, t := range tallies {
		if t.streak == 0 || t.gone != nil {
			continue
		}
		ids = append(ids, id)
		statuses = append(statuses, t.status)
	}
	if len(ids) > 0 {
		q.Queue(switchOffFailing, ids, statuses, min(s.after.Microseconds(), math.MaxInt64), leastStreak).Query(collect(reasonFailing))
	}
}

// tell passes on what was switched off by a transaction that is committed.
func (s switchOff) tell(off []disabled) {
	for _, d := range off {
		if s.told != nil {
			s.told(d.id, d.reason)
		}
	}
}
