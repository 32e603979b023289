package pgstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
)

// leases are the deliveries that this process has claimed. The lease column has no
// index, so that taking a lease stays an update in place; Renew finds the rows by
// their keys instead.
type leases struct {
	mu     sync.Mutex
	byName map[string]*lease
}

type lease struct {
	events, subs []string
	forget       time.Time // by then it has been over for long
}

func newLease() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (l *leases) add(name string, deliveries []relay.Delivery, hold time.Duration) {
	events, subs := pairs(deliveries)
	l.set(name, &lease{events: events, subs: subs, forget: time.Now().Add(2 * hold)})
}

// set replaces what is known about a lease, and forgets those that ran out.
func (l *leases) set(name string, known *lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for other, it := range l.byName {
		if now.After(it.forget) {
			delete(l.byName, other)
		}
	}
	if l.byName == nil {
		l.byName = map[string]*lease{}
	}
	if l.byName[name] = known; len(known.events) == 0 {
		delete(l.byName, name)
	}
}

func (l *leases) get(name string) *lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byName[name]
}

// Renew keeps everything that is still held under the leases, which this Store
// gave out, for another hold. A row that somebody is settling or deleting at this
// moment is passed over.
func (s *Store) Renew(ctx context.Context, names []string, hold time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	q := &pgx.Batch{}
	renewed := map[string]*lease{}
	for _, name := range names {
		known := s.leases.get(name)
		if known == nil || renewed[name] != nil {
			continue
		}
		now := &lease{forget: time.Now().Add(2 * hold)}
		renewed[name] = now
		q.Queue(`
			with mine as (
			    select d.event_id, d.webhook_id
			    from unnest($1::text[], $2::text[]) as x (event_id, webhook_id)
			    join webhook_deliveries d on d.event_id = x.event_id and d.webhook_id = x.webhook_id
			    where d.locked_by = $3
			), free as (
			    select d.event_id, d.webhook_id from mine
			    join webhook_deliveries d on d.event_id = mine.event_id and d.webhook_id = mine.webhook_id
			    where d.locked_by = $3
			    for update of d skip locked
			), renewed as (
			    update webhook_deliveries d set locked_until = now() + $4::bigint * interval '1 microsecond'
			    from free where d.event_id = free.event_id and d.webhook_id = free.webhook_id
			)
			select event_id, webhook_id from mine`,
			known.events, known.subs, name, hold.Microseconds()).Query(func(rows pgx.Rows) error {
			var k key
			_, err := pgx.ForEachRow(rows, []any{&k.event, &k.subscription}, func() error {
				now.events, now.subs = append(now.events, k.event), append(now.subs, k.subscription)
				return nil
			})
			return err
		})
	}
	if q.Len() == 0 {
		return nil
	}
	if err := s.pool.SendBatch(ctx, q).Close(); err != nil {
		return fmt.Errorf("renew %d leases: %w", len(renewed), clean(err))
	}
	for name, now := range renewed {
		s.leases.set(name, now)
	}
	return nil
}

// Free gives claimed deliveries back unattempted, due at once. What the lease does
// not hold any more is left alone.
func (s *Store) Free(ctx context.Context, lease string, deliveries []relay.Delivery) error {
	if len(deliveries) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	events, subs := pairs(deliveries)
	// A row may be locked for long, by somebody who deletes its subscription and
	// does not commit: its lease runs out instead.
	err := s.free(ctx, "", lease, events, subs)
	if lockTimedOut(err) {
		err = s.free(ctx, "skip locked", lease, events, subs)
	}
	if err != nil {
		return fmt.Errorf("free %d deliveries: %w", len(deliveries), clean(err))
	}
	return nil
}

func (s *Store) free(ctx context.Context, skipLocked, lease string, events, subs []string) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		q := &pgx.Batch{}
		q.Queue(setLockTimeout)
		q.Queue(`
			with held as (
			    select d.event_id, d.webhook_id
			    from unnest($2::text[], $3::text[]) as x (event_id, webhook_id)
			    join webhook_deliveries d on d.event_id = x.event_id and d.webhook_id = x.webhook_id and d.locked_by = $1
			    order by d.event_id, d.webhook_id for update of d `+skipLocked+`
			)
			update webhook_deliveries d set locked_by = null, locked_until = null, updated_at = now()
			from held where d.event_id = held.event_id and d.webhook_id = held.webhook_id`, lease, events, subs)
		return tx.SendBatch(ctx, q).Close()
	})
}
