package pgstore

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// moveRows bounds how many waiting deliveries one statement turns into dead
	// letters.
	moveRows = 1000
	// maxCarried bounds the subscriptions, and for each the log rows, that are
	// remembered for later.
	maxCarried = 10_000
	maxLinks   = 1000
	// carryPause is the time between attempts to write what is carried.
	carryPause = 200 * time.Millisecond
)

// tally is what attempts change in the row of their subscription.
type tally struct {
	triggers, successes, failures int64
	succeeded                     bool // at least once: consecutive_failures begins anew
	streak                        int  // failures since the last success here
	triggered, success, failure   time.Time
	gone                          *goneAnswer
	status                        *int32   // of the last failure; nil for none
	unlinked                      []string // log rows that have to point to the subscription yet
}

// goneAnswer is a 410. It deactivates a subscription that still has the URL.
type goneAnswer struct {
	url    string
	status int
}

func (t *tally) succeed(at time.Time) {
	t.successes++
	t.succeeded, t.streak = true, 0
	t.success = later(t.success, at)
}

func (t *tally) fail(at time.Time) {
	t.failures++
	t.streak++
	t.failure = later(t.failure, at)
}

// merge adds a tally that came after t.
func (t *tally) merge(next *tally) {
	t.triggers += next.triggers
	t.successes += next.successes
	t.failures += next.failures
	if next.succeeded {
		t.succeeded, t.streak = true, 0
	}
	t.streak += next.streak
	t.triggered, t.success, t.failure = later(t.triggered, next.triggered), later(t.success, next.success), later(t.failure, next.failure)
	if next.gone != nil {
		t.gone = next.gone
	}
	if next.failures > 0 {
		t.status = next.status
	}
	room := max(maxLinks-len(t.unlinked), 0)
	t.unlinked = append(t.unlinked, next.unlinked[:min(len(next.unlinked), room)]...)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// goneEndpoints are subscriptions whose endpoint answered 410, and where it was.
type goneEndpoints struct {
	ids, urls []string
	statuses  []int32
}

// moveGone turns waiting deliveries into dead letters. What is being sent is left
// to its own outcome.
const moveGone = `
	with waiting as (
	    select d.event_id, d.webhook_id, w.target_url
	    from unnest($1::text[], $2::text[]) as x (id, url)
	    join zapier_webhooks w on w.id = x.id and w.target_url = x.url and w.status = 'inactive'
	    join webhook_deliveries d on d.webhook_id = w.id and ` + isFree + `
	    order by d.event_id, d.webhook_id limit $3 for update of d skip locked
	), moved as (
	    delete from webhook_deliveries d using waiting x
	    where d.event_id = x.event_id and d.webhook_id = x.webhook_id
	    returning d.*, x.target_url
	)
	insert into webhook_dead_letters (event_id, webhook_id, event_type, target_url, body, attempts, reason,
	                                  last_status, last_error, user_id, tenant_id)
	select event_id, webhook_id, event_type, target_url, body, attempt, '` + reasonGone + `', last_status, last_error, user_id, tenant_id
	from moved`

// queueTallies adds the counters and deactivations of subscriptions whose rows the
// transaction has locked. moved is told how many waiting deliveries were moved.
func (s switchOff) queueTallies(q *pgx.Batch, tallies map[string]*tally, off *[]disabled, moved func(int64)) goneEndpoints {
	var (
		gone                            goneEndpoints
		ids                             []string
		triggers, successes, failures   []int64
		succeeded                       []bool
		streaks                         []int32
		triggered, successAt, failureAt []*time.Time
	)
	for _, id := range slices.Sorted(maps.Keys(tallies)) {
		t := tallies[id]
		if len(t.unlinked) > 0 {
			q.Queue(`update zapier_webhook_logs set webhook_id = $1 where id = any($2) and webhook_id is null`, id, t.unlinked)
			q.Queue(`update webhook_dead_letters set webhook_id = $1 where id = any($2) and webhook_id is null`, id, t.unlinked)
		}
		if t.gone != nil {
			gone.ids, gone.urls = append(gone.ids, id), append(gone.urls, t.gone.url)
			gone.statuses = append(gone.statuses, int32(t.gone.status))
		}
		if t.triggers+t.successes+t.failures == 0 {
			continue
		}
		ids = append(ids, id)
		triggers, successes, failures = append(triggers, t.triggers), append(successes, t.successes), append(failures, t.failures)
		succeeded, streaks = append(succeeded, t.succeeded), append(streaks, int32(min(t.streak, math.MaxInt32/2)))
		triggered, successAt, failureAt = append(triggered, timeOrNull(t.triggered)), append(successAt, timeOrNull(t.success)), append(failureAt, timeOrNull(t.failure))
	}
	if len(ids) > 0 {
		q.Queue(`
			update zapier_webhooks w set
			    total_triggers = w.total_triggers + x.triggers,
			    success_count = w.success_count + x.successes,
			    failure_count = w.failure_count + x.failures,
			    consecutive_failures =
			        least(case when x.succeeded then 0 else w.consecutive_failures::bigint end + x.streak, 2147483647)::integer,
			    last_triggered_at = greatest(w.last_triggered_at, x.triggered_at),
			    last_success_at = greatest(w.last_success_at, x.success_at),
			    last_failure_at = greatest(w.last_failure_at, x.failure_at)
			from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::boolean[], $6::integer[],
			            $7::timestamptz[], $8::timestamptz[], $9::timestamptz[])
			     as x (id, triggers, successes, failures, succeeded, streak, triggered_at, success_at, failure_at)
			where w.id = x.id`,
			ids, triggers, successes, failures, succeeded, streaks, triggered, successAt, failureAt)
	}
	s.queueSwitchOff(q, tallies, gone, off)
	if len(gone.ids) > 0 {
		q.Queue(moveGone, gone.ids, gone.urls, moveRows).Exec(func(tag pgconn.CommandTag) error { moved(tag.RowsAffected()); return nil })
	}
	return gone
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// carried are the tallies of subscriptions that somebody else had locked when
// their attempts were recorded. They are lost when the process is killed: then the
// counters lag behind the log.
type carried struct {
	mu      sync.Mutex
	tallies map[string]*tally
	tried   time.Time
}

// add takes tallies over and returns for how many there was no room.
func (c *carried) add(tallies map[string]*tally) (dropped int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, next := range tallies {
		switch t := c.tallies[id]; {
		case t != nil:
			t.merge(next)
		case len(c.tallies) >= maxCarried:
			dropped++
		default:
			if c.tallies == nil {
				c.tallies = map[string]*tally{}
			}
			c.tallies[id] = next
		}
	}
	return dropped
}

// putBack returns tallies that could not be written: they come before those that
// were added meanwhile.
func (c *carried) putBack(tallies map[string]*tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, t := range tallies {
		if c.tallies == nil {
			c.tallies = map[string]*tally{}
		}
		if next := c.tallies[id]; next != nil {
			t.merge(next)
		}
		c.tallies[id] = t
	}
}

// take empties the memory, unless that was tried a moment ago.
func (c *carried) take(now bool) map[string]*tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tallies) == 0 || !now && time.Since(c.tried) < carryPause {
		return nil
	}
	t := c.tallies
	c.tallies, c.tried = nil, time.Now()
	return t
}

// writeCarried writes what is carried of subscriptions that are not locked any
// more. It is part of other calls, and its failure is not theirs.
func (s *Store) writeCarried(ctx context.Context, now bool) {
	tallies := s.carried.take(now)
	if tallies == nil {
		return
	}
	present, free := map[string]bool{}, map[string]bool{}
	committing, full := false, false
	var gone goneEndpoints
	var off []disabled
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		ids := slices.Sorted(maps.Keys(tallies))
		q := &pgx.Batch{}
		q.Queue(setLockTimeout)
		q.Queue(`select id from zapier_webhooks where id = any($1) order by id for no key update skip locked`, ids).Query(intoSet(free))
		q.Queue(`select id from zapier_webhooks where id = any($1)`, ids).Query(intoSet(present))
		if err := tx.SendBatch(ctx, q).Close(); err != nil {
			return err
		}
		ours := maps.Clone(tallies)
		maps.DeleteFunc(ours, func(id string, _ *tally) bool { return !free[id] })
		q = &pgx.Batch{}
		gone = s.off.queueTallies(q, ours, &off, func(n int64) { full = n == moveRows })
		if q.Len() > 0 {
			if err := tx.SendBatch(ctx, q).Close(); err != nil {
				return err
			}
		}
		committing = true
		return nil
	})
	switch {
	case err == nil:
		s.off.tell(off)
		maps.DeleteFunc(tallies, func(id string, _ *tally) bool { return free[id] || !present[id] })
		s.carried.putBack(tallies)
	case committing:
		// Whether it was committed is not known. Counting once or not at all is better
		// than counting twice.
		s.log.WarnContext(ctx, "counters of subscriptions may be lost", "subscriptions", len(free), "error", clean(err))
		maps.DeleteFunc(tallies, func(id string, _ *tally) bool { return free[id] })
		s.carried.putBack(tallies)
	default:
		s.log.WarnContext(ctx, "counters of subscriptions are still to be written", "subscriptions", len(tallies), "error", clean(err))
		s.carried.putBack(tallies)
	}
	if full {
		s.moveRest(ctx, gone)
	}
}
