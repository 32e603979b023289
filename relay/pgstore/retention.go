package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	sweepLock    = 0x72656c61796c6f67 // "relaylog", of the advisory lock that one sweep holds
	sweepRows    = 1000               // that one transaction deletes
	sweepMonths  = 3                  // made ahead
	setSweepTime = `set local lock_timeout = '200ms'; set local statement_timeout = '20s'`
)

// LogSweep is what a sweep of the delivery log did.
type LogSweep struct {
	Elsewhere bool     // another process sweeps: nothing was done
	Made      int      // partitions of months to come
	Dropped   []string // partitions, as a whole
	Deleted   int64    // single rows, beside those of dropped partitions
	Released  int64    // parked events that were released before the time
}

// SweepLogs makes the partitions of the next months, and takes log rows older than
// the given days away: whole months where it can, else a few rows at a time. Open
// retries stay, and dead letters have a table of their own. Parked events that were
// released so long ago go, too. One process at a time
// does it, and it gives up on a lock before a delivery waits long behind it. With 0
// days it keeps everything.
func (s *Store) SweepLogs(ctx context.Context, days int) (LogSweep, error) {
	var did LogSweep
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return did, fmt.Errorf("sweep the delivery log: %w", clean(err))
	}
	defer conn.Release()
	var got bool
	if err := conn.QueryRow(ctx, `select pg_try_advisory_lock($1)`, int64(sweepLock)).Scan(&got); err != nil {
		return did, fmt.Errorf("sweep the delivery log: %w", clean(err))
	}
	if !got {
		did.Elsewhere = true
		return did, nil
	}
	defer endSweep(ctx, conn)
	if err := sweep(ctx, conn, days, &did); err != nil {
		return did, fmt.Errorf("sweep the delivery log: %w", clean(err))
	}
	return did, nil
}

// endSweep closes a session that cannot unlock: the pool must not hand it on.
func endSweep(ctx context.Context, conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, `select pg_advisory_unlock($1)`, int64(sweepLock)); err != nil {
		_ = conn.Conn().Close(ctx)
	}
}

// sweep does each step in a transaction of its own.
func sweep(ctx context.Context, conn *pgxpool.Conn, days int, did *LogSweep) error {
	step := func(into any, sql string, args ...any) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, setSweepTime); err != nil {
				return err
			}
			return tx.QueryRow(ctx, sql, args...).Scan(into)
		})
	}
	if err := step(&did.Made, `select ensure_zapier_webhook_log_partitions($1)`, sweepMonths); err != nil {
		return err
	}
	if days <= 0 {
		return nil
	}
	if err := step(&did.Dropped, `select drop_old_zapier_webhook_log_partitions($1)`, days); err != nil {
		return err
	}
	var cutoff time.Time
	if err := step(&cutoff, `select now() - make_interval(days => $1)`, days); err != nil {
		return err
	}
	for _, table := range []struct {
		sql     string
		deleted *int64
	}{{deleteOldLogs, &did.Deleted}, {deleteOldReleased, &did.Released}} {
		for n := int64(sweepRows); n == sweepRows; *table.deleted += n {
			if err := step(&n, table.sql, cutoff, sweepRows); err != nil {
				return err
			}
		}
	}
	return nil
}

// Those that wait stay, however old they are.
const deleteOldReleased = `
	with gone as (
	    delete from relay_parked_events p using (
	        select slot_name, event_id from relay_parked_events where released_at < $1 order by released_at limit $2) old
	    where p.slot_name = old.slot_name and p.event_id = old.event_id and p.released_at < $1 returning 1
	)
	select count(*) from gone`

const deleteOldLogs = `
	with old as (
	    select l.id, l.created_at
	    from zapier_webhook_logs l
	    where l.created_at < $1
	      and l.status <> 'pending'
	      and (l.status <> 'retrying' or exists (
	          select from zapier_webhook_logs later
	          where later.event_id = l.event_id
	            and later.webhook_id is not distinct from l.webhook_id
	            and later.attempt > l.attempt))
	    order by l.created_at, l.attempt
	    limit $2
	), gone as (
	    delete from zapier_webhook_logs l using old where l.id = old.id and l.created_at = old.created_at returning 1
	)
	select count(*) from gone`
