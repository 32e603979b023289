package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
)

// lookAhead is how many of the oldest rows are looked at before the search goes
// subscription by subscription. Most often what is due stands in front; only a
// large backlog that nobody may take now (an endpoint that hangs, a subscription
// that was switched off) hides the rest.
const lookAhead = "512"

// The conditions under which a row d may be taken. $2 are the busy subscriptions,
// $5 those that may only try again.
const (
	unordered = `d.ordering_key is null`
	isFree    = `(d.locked_until is null or d.locked_until <= now())`

	// blocked is true when the oldest rows fill the look-ahead.
	dueBlocked = `(select count(*) from (select from webhook_deliveries d where d.next_attempt_at <= now() and ` + unordered + `
	               order by d.next_attempt_at limit ` + lookAhead + `) as head) = ` + lookAhead

	// eachSubscription lists the subscriptions that deliveries wait for, one index
	// probe for each, however many deliveries there are.
	eachSubscription = `each (id) as (
	    select (select min(d.webhook_id) from webhook_deliveries d where ` + unordered + `) where %s
	    union all
	    select (select min(d.webhook_id) from webhook_deliveries d where d.webhook_id > each.id and ` + unordered + `) from each where each.id is not null
	)`

	claimOldest = `
	with candidates as materialized (
	    select d.event_id, d.webhook_id from webhook_deliveries d
	    where d.next_attempt_at <= now() and ` + unordered + ` order by d.next_attempt_at limit ` + lookAhead + `
	), ` + claimCandidates

	claimCandidates = `picked as materialized (
	    select d.event_id, d.webhook_id, d.next_attempt_at
	    from candidates c
	    join webhook_deliveries d on d.event_id = c.event_id and d.webhook_id = c.webhook_id
	    join zapier_webhooks w on w.id = d.webhook_id and w.status = 'active'
	    where d.next_attempt_at <= now() and ` + isFree + ` and d.webhook_id <> all ($2::text[]) and (d.attempt > 0 or d.webhook_id <> all ($5::text[]))
	    order by d.next_attempt_at limit $1
	    for update of d skip locked
	)
	update webhook_deliveries d
	set locked_by = $3, locked_until = now() + $4::bigint * interval '1 microsecond', updated_at = now()
	from picked p
	where d.event_id = p.event_id and d.webhook_id = p.webhook_id
	returning d.event_id, d.webhook_id, d.event_type, coalesce(d.user_id, ''), coalesce(d.tenant_id, ''), d.body,
	          coalesce(d.stream_seq, 0), coalesce(d.commit_lsn, '0/0')::text, d.attempt, coalesce(d.ordering_key, ''),
	          greatest(d.next_attempt_at, 'epoch')`
)

func claimEach() string {
	return `with recursive ` + fmt.Sprintf(eachSubscription, dueBlocked) + `, candidates as materialized (
	    select d.event_id, d.webhook_id
	    from each
	    join zapier_webhooks w on w.id = each.id and w.status = 'active'
	    cross join lateral (
	        select d.event_id, d.webhook_id, d.next_attempt_at from webhook_deliveries d
	        where d.webhook_id = each.id and d.next_attempt_at <= now() and ` + unordered + ` and ` + isFree + ` and (d.attempt > 0 or each.id <> all ($5::text[]))
	        order by d.next_attempt_at limit $1
	    ) as d
	    where each.id <> all ($2::text[])
	    order by d.next_attempt_at limit $1
	), ` + claimCandidates
}

// Claim takes up to limit deliveries that are due and whose subscription is active
// and not among busy, oldest first. Nobody else gets them until hold is over.
func (s *Store) Claim(ctx context.Context, limit int, hold time.Duration, busy relay.Busy) ([]relay.Delivery, string, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	s.writeCarried(ctx, false)
	lease := newLease()
	if limit <= 0 {
		return nil, lease, nil
	}
	// Neither the ordered nor the others may keep the rest from being claimed.
	out, err := s.claimHeads(ctx, max(limit/2, 1), lease, hold, busy)
	if err != nil {
		return nil, "", err
	}
	for _, sql := range []string{claimOldest, claimEach()} {
		if len(out) == limit {
			break
		}
		more, err := s.claimed(ctx, sql, lease, hold, limit-len(out), listed(busy.All), lease, hold.Microseconds(), listed(busy.Fresh))
		if err != nil {
			return nil, "", err
		}
		if len(more) > 0 {
			return append(out, more...), lease, nil
		}
	}
	return out, lease, nil
}

// ClaimOne is Claim of the oldest due delivery of each of the subscriptions.
func (s *Store) ClaimOne(ctx context.Context, subscriptions []string, hold time.Duration, floor uint64) ([]relay.Delivery, string, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	lease := newLease()
	sql := `with recursive wanted as (select distinct id from unnest($6::text[]) as x (id)), ` + heads(`d.webhook_id in (select id from wanted)`) + `, candidates as materialized (
	    select h.event_id, h.webhook_id from wanted cross join lateral (
	        (select d.event_id, d.webhook_id, d.next_attempt_at from webhook_deliveries d
	         where d.webhook_id = wanted.id and d.next_attempt_at <= now() and ` + unordered + ` and ` + isFree + ` order by d.next_attempt_at limit 1)
	        union all
	        (select d.event_id, d.webhook_id, d.next_attempt_at from heads d where d.webhook_id = wanted.id and ` + claimable("$7") + ` limit 1)
	        order by 3 limit 1
	    ) as h
	), ` + claimCandidates
	out, err := s.claimed(ctx, sql, lease, hold, len(subscriptions), []string{}, lease, hold.Microseconds(), []string{}, listed(subscriptions), seqArg(floor))
	return out, lease, err
}

// claimed runs a claim and returns what it took, oldest first.
func (s *Store) claimed(ctx context.Context, sql, lease string, hold time.Duration, args ...any) ([]relay.Delivery, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("claim due deliveries: %w", clean(err))
	}
	claimed, err := pgx.CollectRows(rows, scanClaimed)
	if err != nil {
		return nil, fmt.Errorf("claim due deliveries: %w", clean(err))
	}
	slices.SortStableFunc(claimed, func(a, b claimedRow) int { return a.due.Compare(b.due) })
	out := make([]relay.Delivery, len(claimed))
	for i := range claimed {
		out[i] = claimed[i].Delivery
	}
	if len(out) > 0 {
		s.leases.add(lease, out, hold)
	}
	return out, nil
}

type claimedRow struct {
	relay.Delivery
	due time.Time
}

func scanClaimed(row pgx.CollectableRow) (claimedRow, error) {
	var c claimedRow
	var seq int64
	var attempts int32
	var lsn string
	err := row.Scan(&c.EventID, &c.SubscriptionID, &c.EventType, &c.Owner.UserID, &c.Owner.TenantID, &c.Body,
		&seq, &lsn, &attempts, &c.OrderingKey, &c.due)
	if err != nil {
		return c, err
	}
	c.StreamSeq, c.Attempts = uint64(seq), int(attempts)
	c.CommitLSN, err = relay.ParseLSN(lsn)
	return c, err
}

// NextDue tells how long until the next delivery that nobody holds is due, 0 when
// one is; false when none waits. Those of busy subscriptions and of inactive ones
// do not count.
func (s *Store) NextDue(ctx context.Context, busy relay.Busy) (time.Duration, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	s.writeCarried(ctx, false)
	// An operator may have written infinity, in either direction.
	const wait = `(extract(epoch from least(greatest(d.next_attempt_at, now()), now() + interval '1 year') - now()) * 1000000)::bigint`
	const allBlocked = `(select count(*) from (select from webhook_deliveries d
	                     where ` + unordered + ` order by d.next_attempt_at limit ` + lookAhead + `) as head) = ` + lookAhead
	nearest := `
		select ` + wait + `
		from (select * from webhook_deliveries d where ` + unordered + ` order by next_attempt_at limit ` + lookAhead + `) as d
		join zapier_webhooks w on w.id = d.webhook_id and w.status = 'active'
		where ` + isFree + ` and d.webhook_id <> all ($1::text[]) and (d.attempt > 0 or d.webhook_id <> all ($2::text[]))
		order by d.next_attempt_at limit 1`
	each := `
		with recursive ` + fmt.Sprintf(eachSubscription, allBlocked) + `
		select ` + wait + `
		from each
		join zapier_webhooks w on w.id = each.id and w.status = 'active'
		cross join lateral (
		    select d.next_attempt_at from webhook_deliveries d
		    where d.webhook_id = each.id and ` + unordered + ` and ` + isFree + ` and (d.attempt > 0 or each.id <> all ($2::text[])) order by d.next_attempt_at limit 1
		) as d
		where each.id <> all ($1::text[])
		order by d.next_attempt_at limit 1`
	soonest, some := time.Duration(0), false
	ask := func(sql string, args ...any) (found bool, err error) {
		var micros int64
		err = s.pool.QueryRow(ctx, sql, args...).Scan(&micros)
		if errors.Is(err, pgx.ErrNoRows) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("look for the next due delivery: %w", clean(err))
		}
		if in := time.Duration(micros) * time.Microsecond; !some || in < soonest {
			soonest, some = in, true
		}
		return true, nil
	}
	if _, err := ask(nextHead(wait), listed(busy.All), listed(busy.Fresh), seqArg(busy.Floor)); err != nil {
		return 0, false, err
	}
	for _, sql := range []string{nearest, each} {
		found, err := ask(sql, listed(busy.All), listed(busy.Fresh))
		if err != nil {
			return 0, false, err
		}
		if found {
			break
		}
	}
	return soonest, some, nil
}

// Settled tells which of the deliveries were attempted or put aside before: they
// have a log row, a retry row or a dead letter. Only EventID and SubscriptionID of
// a delivery count; the answers stand in the same order.
func (s *Store) Settled(ctx context.Context, deliveries []relay.Delivery) ([]bool, error) {
	out := make([]bool, len(deliveries))
	if len(deliveries) == 0 {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	events, subs := pairs(deliveries)
	messages := make([]string, len(deliveries))
	for i := range deliveries {
		messages[i] = relay.WebhookID(deliveries[i].EventID, deliveries[i].SubscriptionID)
	}
	distinct := slices.Compact(slices.Sorted(slices.Values(events)))
	// Each side is read once for all deliveries: an event may have a hundred
	// thousand of them. A log row whose subscription was locked when it was written
	// points to none; its webhook-id tells whose it is. The log is read by event alone:
	// of deleted subscriptions it may hold any number of rows that point to none.
	rows, err := s.pool.Query(ctx, `
		with logs as materialized (
		    select event_id, webhook_id, case when webhook_id is null then request_headers ->> 'webhook-id' end as message
		    from zapier_webhook_logs where event_id = any ($4))
		select x.n
		from unnest($1::text[], $2::text[], $3::text[]) with ordinality as x (event_id, webhook_id, message, n)
		where (x.event_id, x.webhook_id) in (
		        select event_id, webhook_id from logs where webhook_id is not null
		        union all
		        select event_id, webhook_id from webhook_deliveries where event_id = any ($4)
		        union all
		        select event_id, webhook_id from webhook_dead_letters where event_id = any ($4) and webhook_id is not null)
		   or x.message in (select message from logs where message is not null)`,
		events, subs, messages, distinct)
	if err != nil {
		return nil, fmt.Errorf("look up settled deliveries: %w", clean(err))
	}
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&n}, func() error { out[n-1] = true; return nil }); err != nil {
		return nil, fmt.Errorf("look up settled deliveries: %w", clean(err))
	}
	return out, nil
}

// listed is an array that is never null: nothing is unlike null.
func listed(ids []string) []string {
	if ids == nil {
		return []string{}
	}
	return ids
}

func pairs(deliveries []relay.Delivery) (events, subs []string) {
	events, subs = make([]string, len(deliveries)), make([]string, len(deliveries))
	for i := range deliveries {
		events[i], subs[i] = text(deliveries[i].EventID, 200), deliveries[i].SubscriptionID
	}
	return events, subs
}
