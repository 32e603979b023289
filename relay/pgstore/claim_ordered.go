package pgstore

import (
	"context"
	"math"
	"time"

	"github.com/dot-do/relay/relay"
)

// overtakes is how long an ordered delivery waits at most for what might come before it
// and is not in the ledger. Sequences of a stream that was replaced would wait for ever.
const overtakes = `interval '10 minutes'`

// heads are the first deliveries, in the stream's order, of each subscription and key:
// the others wait for them, whether they are due or not. An index probe for each,
// however many wait behind them.
func heads(of string) string {
	return `keys (webhook_id, ordering_key) as (
	    (select d.webhook_id, d.ordering_key from webhook_deliveries d where d.ordering_key is not null and ` + of + `
	     order by d.webhook_id, d.ordering_key limit 1)
	    union all
	    select n.webhook_id, n.ordering_key from keys k cross join lateral (
	        select d.webhook_id, d.ordering_key from webhook_deliveries d
	        where d.ordering_key is not null and (d.webhook_id, d.ordering_key) > (k.webhook_id, k.ordering_key) and ` + of + `
	        order by d.webhook_id, d.ordering_key limit 1
	    ) as n
	), heads as (
	    select h.* from keys k cross join lateral (
	        select d.* from webhook_deliveries d where d.webhook_id = k.webhook_id and d.ordering_key = k.ordering_key
	        order by d.stream_seq limit 1
	    ) as h
	)`
}

// settledBefore is true for a head d that nothing can come before any more; floor is the
// parameter that holds the floor.
func settledBefore(floor string) string {
	return `(d.stream_seq <= ` + floor + `::bigint or d.created_at < now() - ` + overtakes + `)`
}

// claimable is true for a head d that may be taken.
func claimable(floor string) string {
	return `d.next_attempt_at <= now() and ` + isFree + ` and ` + settledBefore(floor)
}

// claimHeads is Claim for ordered deliveries: of each key the first, when it is due.
func (s *Store) claimHeads(ctx context.Context, limit int, lease string, hold time.Duration, busy relay.Busy) ([]relay.Delivery, error) {
	sql := `with recursive ` + heads(`true`) + `, candidates as materialized (
	    select d.event_id, d.webhook_id from heads d
	    join zapier_webhooks w on w.id = d.webhook_id and w.status = 'active'
	    where ` + claimable("$6") + ` and d.webhook_id <> all ($2::text[]) and (d.attempt > 0 or d.webhook_id <> all ($5::text[]))
	    limit $1
	), ` + claimCandidates
	return s.claimed(ctx, sql, lease, hold, limit, listed(busy.All), lease, hold.Microseconds(), listed(busy.Fresh), seqArg(busy.Floor))
}

// nextHead asks for the wait until the next head is due.
func nextHead(wait string) string {
	return `with recursive ` + heads(`true`) + `
	select ` + wait + ` from heads d
	join zapier_webhooks w on w.id = d.webhook_id and w.status = 'active'
	where ` + isFree + ` and ` + settledBefore("$3") + ` and d.webhook_id <> all ($1::text[]) and (d.attempt > 0 or d.webhook_id <> all ($2::text[]))
	order by d.next_attempt_at limit 1`
}

func seqArg(seq uint64) int64 { return int64(min(seq, math.MaxInt64)) }
