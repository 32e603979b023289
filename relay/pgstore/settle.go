package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dot-do/relay/relay"
)

const (
	// setLockTimeout says how long a locked row is waited for: less than Postgres'
	// deadlock_timeout of one second, so that in a deadlock with somebody's
	// transaction it is always the ledger that gives way.
	setLockTimeout = `set local lock_timeout = '500ms'`

	// settleTries bounds how often a batch is tried before the caller hears of it.
	settleTries = 4
	firstPause  = 20 * time.Millisecond
)

// lockedError is returned by Settle when first retries cannot be written because
// somebody is deleting their subscriptions, or changing where these point to, and
// has not committed.
type lockedError struct{ subs []string }

func (*lockedError) Error() string {
	return "another transaction has locked the subscription of a delivery to be retried"
}

// Held names the subscriptions. Without their outcomes the batch can be settled.
func (e *lockedError) Held() []string { return e.subs }

// errRowBusy is met when a claimed delivery's own row is locked, though nobody
// deletes its subscription. That passes: the lease is being renewed.
var errRowBusy = errors.New("the row of a claimed delivery is locked")

// Settle commits the outcomes in one transaction: log rows, retry rows, dead
// letters, counters, deactivations. Either all are recorded or none. An outcome
// that was recorded before is recognised by its attempt and not recorded twice,
// so that a batch may be settled again when its fate is not known.
//
// Outcomes of a deleted subscription leave a log row that points to none, and
// nothing else. An outcome whose lease was lost is ignored: the delivery is in
// other hands.
//
// A subscription's row that somebody else keeps locked holds up nobody: its
// counters are added later, by this process.
func (s *Store) Settle(ctx context.Context, outcomes []relay.Outcome) error {
	if len(outcomes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	s.writeCarried(ctx, false)
	b := newBatch(outcomes, s.rules)
	skip, tested := s.locked.any(b.subs), false
	pause := firstPause
	for try := 1; ; {
		err := s.settleOnce(ctx, b, skip, try < settleTries)
		switch {
		case err == nil:
			s.log.DebugContext(ctx, "outcomes recorded", "outcomes", len(outcomes))
			return nil
		case lockTimedOut(err) && !skip:
			skip = true
			continue
		case badData(err) && !tested:
			tested = true
			if err := s.testPayloads(ctx, b); err != nil {
				return fmt.Errorf("settle %d outcomes: %w", len(outcomes), clean(err))
			}
			continue
		case !mayPass(err) || try >= settleTries:
			return fmt.Errorf("settle %d outcomes: %w", len(outcomes), clean(err))
		}
		try++
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("settle %d outcomes: %w", len(outcomes), clean(err))
		}
		pause *= 3
	}
}

// settleOnce is one transaction. With skip it does not wait for locked rows; with
// insist it fails rather than leave a delivery that was made in the queue because
// its row is locked.
func (s *Store) settleOnce(ctx context.Context, b *batch, skip, insist bool) error {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // does nothing after the commit
	v, err := look(ctx, tx, b, skip)
	if err != nil {
		return err
	}
	if skip {
		s.locked.found(b.subs, v)
		if insist && v.busy(b) {
			return errRowBusy
		}
	}
	w, err := newWriting(b, v)
	if err != nil {
		return err
	}
	if err := w.copyLogs(ctx, tx); err != nil {
		return err
	}
	full, err := w.writeRows(ctx, tx, s.off)
	if err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	s.off.tell(w.off)
	if dropped := s.carried.add(w.later); dropped > 0 {
		s.log.WarnContext(ctx, "too many subscriptions are locked, some counters are lost", "subscriptions", dropped)
	}
	if full {
		s.moveRest(ctx, w.gone)
	}
	return nil
}

// look locks the subscriptions and the claimed deliveries of the batch, in an
// order that is always the same, and tells what was found.
func look(ctx context.Context, tx pgx.Tx, b *batch, skip bool) (*view, error) {
	v := &view{
		present: map[string]bool{}, linkable: map[string]bool{}, countable: map[string]bool{},
		recorded: map[string]bool{}, owned: map[key]bool{}, held: map[key]bool{},
	}
	skipLocked := ""
	if skip {
		skipLocked = " skip locked"
	}
	q := &pgx.Batch{}
	q.Queue(setLockTimeout)
	q.Queue(`select now()`).QueryRow(func(row pgx.Row) error { return row.Scan(&v.now) })
	q.Queue(`select id from zapier_webhooks where id = any($1) order by id for no key update`+skipLocked, b.subs).
		Query(intoSet(v.countable))
	if skip {
		q.Queue(`select id from zapier_webhooks where id = any($1) order by id for key share skip locked`, b.subs).
			Query(intoSet(v.linkable))
		q.Queue(`select id from zapier_webhooks where id = any($1)`, b.subs).Query(intoSet(v.present))
	}
	if len(b.leased) > 0 {
		events, subs, leases := make([]string, len(b.leased)), make([]string, len(b.leased)), make([]string, len(b.leased))
		for i, n := range b.leased {
			d := &b.entries[n].Delivery
			events[i], subs[i], leases[i] = d.EventID, d.SubscriptionID, b.entries[n].Leased
		}
		const leased = `
			select d.event_id, d.webhook_id
			from unnest($1::text[], $2::text[], $3::text[]) as x (event_id, webhook_id, lease)
			join webhook_deliveries d on d.event_id = x.event_id and d.webhook_id = x.webhook_id and d.locked_by = x.lease`
		q.Queue(leased+` order by d.event_id, d.webhook_id for update of d`+skipLocked, events, subs, leases).Query(intoKeys(v.held))
		if skip {
			q.Queue(leased, events, subs, leases).Query(intoKeys(v.owned))
		}
	}
	// After the locks: whoever else is recording the same batch has ended by now.
	if len(b.logIDs) > 0 {
		q.Queue(`select id from zapier_webhook_logs where id = any($1)`, b.logIDs).Query(intoSet(v.recorded))
	}
	if err := tx.SendBatch(ctx, q).Close(); err != nil {
		return nil, err
	}
	if !skip {
		v.present, v.linkable, v.owned = v.countable, v.countable, v.held
	}
	return v, nil
}

func intoSet(set map[string]bool) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var id string
		_, err := pgx.ForEachRow(rows, []any{&id}, func() error { set[id] = true; return nil })
		return err
	}
}

func intoKeys(set map[key]bool) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var k key
		_, err := pgx.ForEachRow(rows, []any{&k.event, &k.subscription}, func() error { set[k] = true; return nil })
		return err
	}
}

// testPayloads asks Postgres about every payload, one at a time, and puts a
// placeholder in the place of those that it refuses.
func (s *Store) testPayloads(ctx context.Context, b *batch) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	for i := range b.entries {
		e := &b.entries[i]
		if e.payload == nil {
			continue
		}
		var kind string
		err := conn.QueryRow(ctx, `select jsonb_typeof($1::text::jsonb)`, string(e.payload)).Scan(&kind)
		switch {
		case badData(err):
			e.payload = placeholder(e.Delivery.Body, reasonUnstorable)
		case err != nil:
			return err
		}
	}
	return nil
}

// moveRest moves what a first statement did not take of the deliveries that wait
// for endpoints that are gone. What cannot be moved stays: its subscription is
// inactive, so nobody sends it.
func (s *Store) moveRest(ctx context.Context, gone goneEndpoints) {
	for {
		ctx, cancel := context.WithTimeout(ctx, operationTimeout)
		tag, err := s.pool.Exec(ctx, moveGone, gone.ids, gone.urls, moveRows)
		cancel()
		if err != nil {
			s.log.WarnContext(ctx, "deliveries to an endpoint that is gone are left waiting", "error", clean(err))
			return
		}
		if tag.RowsAffected() < moveRows {
			return
		}
	}
}

func lockTimedOut(err error) bool { return hasCode(err, "55P03") }

// badData reports errors about a value: it cannot be parsed, stored or indexed.
func badData(err error) bool { return hasCode(err, "22") || hasCode(err, "54") }

// mayPass reports whether the same transaction may well succeed in a moment:
// connections that broke, also while committing, deadlocks, and two processes
// that recorded the same thing.
func mayPass(err error) bool {
	if _, ok := errors.AsType[*pgconn.PgError](err); !ok {
		_, locked := errors.AsType[*lockedError](err)
		return !locked && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
	}
	return hasCode(err, "08") || hasCode(err, "40") || hasCode(err, "57P0") || hasCode(err, "23505") || hasCode(err, "25P03")
}

func hasCode(err error, prefix string) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasPrefix(answer.Code, prefix)
}

// lockedRows remembers for a short while which subscriptions somebody had locked:
// the next batches do not wait for them at all.
type lockedRows struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// lockMemory is how long a locked row is believed to stay locked.
const lockMemory = 2 * time.Second

func (l *lockedRows) any(ids []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.until) == 0 {
		return false
	}
	now := time.Now()
	for _, id := range ids {
		if until, ok := l.until[id]; ok && now.Before(until) {
			return true
		}
	}
	return false
}

// found takes note of the rows that a look without waiting could not lock.
func (l *lockedRows) found(ids []string, v *view) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for id, until := range l.until {
		if now.After(until) {
			delete(l.until, id)
		}
	}
	for _, id := range ids {
		switch {
		case !v.present[id] || v.countable[id]:
			delete(l.until, id)
		case len(l.until) < maxCarried:
			if l.until == nil {
				l.until = map[string]time.Time{}
			}
			l.until[id] = now.Add(lockMemory)
		}
	}
}
