package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
)

const (
	// quotaScope is the scope of these windows in rate_limit_windows.
	quotaScope = "webhook"

	thisHour = `date_trunc('hour', now(), 'UTC')`

	// The rows are there and locked, in one order for everybody, before they are read
	// for the grant: two processes never see the same rest.
	quotaMake = `
	insert into rate_limit_windows (scope, key, window_start)
	select '` + quotaScope + `', id, ` + thisHour + ` from unnest($1::text[]) as x (id) order by id
	on conflict do nothing`

	quotaLock = `
	select from rate_limit_windows where scope = '` + quotaScope + `' and window_start = ` + thisHour + ` and key = any ($1)
	order by key for update`

	quotaTake = `
	update rate_limit_windows w set used = w.used + g.granted
	from (
	    select x.n, r.key,
	           case when 2 * (x.max - r.used) > x.max then least(x.need + x.ahead, x.max - r.used)
	                else greatest(least(x.need, x.max - r.used), 0) end::integer as granted
	    from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) with ordinality as x (id, max, need, ahead, n)
	    join rate_limit_windows r on r.scope = '` + quotaScope + `' and r.key = x.id and r.window_start = ` + thisHour + `
	) as g
	where w.scope = '` + quotaScope + `' and w.key = g.key and w.window_start = ` + thisHour + `
	returning g.n, g.granted`

	// Windows are kept for a while, for whoever looks at the past day.
	quotaSweep = `
	delete from rate_limit_windows where ctid = any (array(
	    select ctid from rate_limit_windows where window_start < now() - interval '48 hours' limit 10000))`
)

// Draw takes from the present hour what is granted to each request. No more than
// its limit is ever granted for a subscription and an hour, however many processes
// ask. Hours are those of the clock, in UTC. A subscription is named once.
func (s *Store) Draw(ctx context.Context, requests []relay.QuotaRequest) (relay.QuotaGrant, error) {
	g := relay.QuotaGrant{Granted: make([]int, len(requests))}
	ids, limits, needs, ahead := make([]string, len(requests)), make([]int64, len(requests)), make([]int64, len(requests)), make([]int64, len(requests))
	for i, r := range requests {
		ids[i], limits[i], needs[i], ahead[i] = r.SubscriptionID, int64(r.Limit), int64(max(r.Need, 0)), int64(max(r.Ahead, 0))
	}
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	var micros int64
	q := &pgx.Batch{}
	q.Queue(quotaMake, ids)
	q.Queue(quotaLock, ids)
	q.Queue(quotaTake, ids, limits, needs, ahead).Query(func(rows pgx.Rows) error {
		var n, granted int64
		_, err := pgx.ForEachRow(rows, []any{&n, &granted}, func() error { g.Granted[n-1] = int(granted); return nil })
		return err
	})
	q.Queue(`select ` + thisHour + `, (extract(epoch from ` + thisHour + ` + interval '1 hour' - clock_timestamp()) * 1000000)::bigint`).
		QueryRow(func(row pgx.Row) error { return row.Scan(&g.Hour, &micros) })
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return tx.SendBatch(ctx, q).Close() })
	if err != nil {
		return relay.QuotaGrant{}, fmt.Errorf("draw from hourly quotas: %w", clean(err))
	}
	g.Left = max(time.Duration(micros)*time.Microsecond, time.Millisecond)
	if last := s.quotaHour.Swap(g.Hour.Unix()); last != g.Hour.Unix() {
		if _, err := s.pool.Exec(ctx, quotaSweep); err != nil {
			s.log.DebugContext(ctx, "old quota windows cannot be deleted, the next hour tries again", "error", clean(err))
		}
	}
	return g, nil
}

// PutBack returns what was drawn of the hour and not used.
func (s *Store) PutBack(ctx context.Context, hour time.Time, unused map[string]int) error {
	if len(unused) == 0 {
		return nil
	}
	ids, counts := make([]string, 0, len(unused)), make([]int64, 0, len(unused))
	for id, n := range unused {
		ids, counts = append(ids, id), append(counts, int64(n))
	}
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	_, err := s.pool.Exec(ctx, `
		with locked as (
		    select w.key, x.n from unnest($1::text[], $2::bigint[]) as x (id, n)
		    join rate_limit_windows w on w.scope = '`+quotaScope+`' and w.key = x.id and w.window_start = $3
		    order by w.key for update of w
		)
		update rate_limit_windows w set used = greatest(w.used - l.n, 0) from locked l
		where w.scope = '`+quotaScope+`' and w.key = l.key and w.window_start = $3`, ids, counts, hour)
	if err != nil {
		return fmt.Errorf("put back unused quota: %w", clean(err))
	}
	return nil
}
