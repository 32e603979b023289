package pgstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
)

// poke is what a running engine does every second or two.
func poke(t *testing.T, s *pgstore.Store) {
	t.Helper()
	_, _, err := s.NextDue(t.Context(), relay.Busy{})
	require.NoError(t, err)
}

func TestAnOpenTransactionOfAUserHoldsUpNobody(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	subscribe(db, "w2")
	s := open(t, db)
	tx := begin(t, db, `update zapier_webhooks set filters = '{"type": "Agent"}' where id = 'w1'`)

	start := time.Now()
	for i := range 10 {
		settle(t, s,
			outcome(delivery(id(i), "w1"), 1, relay.Delivered),
			outcome(delivery(id(i+100), "w1"), 1, relay.Retry),
			outcome(delivery(id(i), "w2"), 1, relay.Delivered))
	}
	require.Less(t, time.Since(start), 4*time.Second, "a locked row is waited for once, not for every batch")
	require.Equal(t, "10 10 0 0", counters(db, "w2"))
	require.Equal(t, "0 0 0 0", counters(db, "w1"))
	require.Len(t, statuses(db, "w1"), 20)
	require.Equal(t, 10, pgtest.One[int](db, `select count(*) from webhook_deliveries`))

	require.NoError(t, tx.Commit(t.Context()))
	require.Eventually(t, func() bool { poke(t, s); return counters(db, "w1") == "20 10 10 1" }, eventually, poll)
}

func TestCountersThatWereHeldBackAreWrittenAtTheEnd(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	s := open(t, db)
	tx := begin(t, db, `update zapier_webhooks set filters = '{"type": "Agent"}' where id = 'w1'`)
	settle(t, s, outcome(delivery("a", "w1"), 1, relay.Delivered))
	require.NoError(t, tx.Commit(t.Context()))
	s.Close()
	require.Equal(t, "1 1 0 0", counters(db, "w1"))
}

func TestALogRowFindsItsSubscriptionOnceThatIsFree(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	subscribe(db, "w2")
	s := open(t, db)
	tx := begin(t, db, `select from zapier_webhooks where id = 'w1' for update`)
	ok, dead, gone := delivery("ok", "w1"), delivery("dead", "w1"), delivery("gone", "w1")
	settle(t, s,
		outcome(ok, 1, relay.Delivered), outcome(dead, 1, relay.Dead), outcome(gone, 1, relay.Gone),
		outcome(delivery("ok", "w2"), 1, relay.Delivered))
	require.Empty(t, statuses(db, "w1"))
	require.Len(t, statuses(db, "w2"), 1)
	settled, err := s.Settled(t.Context(), []relay.Delivery{ok, dead, gone, delivery("new", "w1")})
	require.NoError(t, err)
	require.Equal(t, []bool{true, true, true, false}, settled, "meanwhile it is known by its webhook-id")

	require.NoError(t, tx.Rollback(t.Context()))
	require.Eventually(t, func() bool { poke(t, s); return len(statuses(db, "w1")) == 3 }, eventually, poll)
	require.Equal(t, "3 1 2 2", counters(db, "w1"))
	require.Equal(t, 2, pgtest.One[int](db, `select count(*) from webhook_dead_letters where webhook_id = 'w1'`))
	require.Equal(t, "inactive", pgtest.One[string](db, `select status from zapier_webhooks where id = 'w1'`))
}

func TestASubscriptionBeingDeletedHoldsUpNobody(t *testing.T) {
	for _, end := range []string{"commit", "rollback"} {
		t.Run(end, func(t *testing.T) {
			db := newDB(t)
			subscribe(db, "w1")
			s := open(t, db)
			settle(t, s, outcome(delivery("a", "w1"), 1, relay.Retry))
			due, lease := claim(t, s, 10)
			require.Len(t, due, 1)
			tx := begin(t, db, `delete from zapier_webhooks where id = 'w1'`)
			settle(t, s,
				leased(outcome(due[0], 2, relay.Delivered), lease),
				outcome(delivery("b", "w1"), 1, relay.Delivered))
			_, err := tx.Exec(t.Context(), end)
			require.NoError(t, err)
			poke(t, s)
			if end == "commit" {
				require.Equal(t, 3, pgtest.One[int](db, `select count(*) from zapier_webhook_logs where webhook_id is null`))
				return
			}
			require.Eventually(t, func() bool { poke(t, s); return counters(db, "w1") == "2 2 1 0" }, eventually, poll)
			require.Equal(t, 3, pgtest.One[int](db, `select count(*) from zapier_webhook_logs where webhook_id = 'w1'`))
		})
	}
}

func TestAFirstRetryThatCannotBeWrittenIsRefusedAsAWhole(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	subscribe(db, "w2")
	s := open(t, db)
	tx := begin(t, db, `update zapier_webhooks set target_url = 'https://new.example.com/' where id = 'w1'`)
	batch := []relay.Outcome{outcome(delivery("a", "w1"), 1, relay.Retry), outcome(delivery("a", "w2"), 1, relay.Delivered)}
	err := s.Settle(t.Context(), batch)
	require.ErrorContains(t, err, "another transaction has locked")
	var naming interface{ Held() []string }
	require.ErrorAs(t, err, &naming)
	require.Equal(t, []string{"w1"}, naming.Held())
	require.Zero(t, pgtest.One[int](db, `select count(*) from zapier_webhook_logs`))
	require.NoError(t, tx.Commit(t.Context()))
	settle(t, s, batch...)
	require.Equal(t, []string{"1 retrying"}, statuses(db, "w1"))
	require.Equal(t, []string{"1 success"}, statuses(db, "w2"))
}

func TestASuccessIsNotSentAgainBecauseItsLeaseWasBeingRenewed(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	subscribe(db, "w2")
	s := open(t, db)
	settle(t, s, outcome(delivery("a", "w1"), 1, relay.Retry))
	due, lease := claim(t, s, 10)
	require.Len(t, due, 1)
	user := begin(t, db, `update zapier_webhooks set max_retries = 1 where id = 'w2'`) // so that no lock is waited for
	settle(t, s, outcome(delivery("a", "w2"), 1, relay.Delivered))
	renewal := begin(t, db, `update webhook_deliveries set locked_until = locked_until`)
	renewed := make(chan error, 1)
	time.AfterFunc(30*time.Millisecond, func() { renewed <- renewal.Commit(context.Background()) })
	settle(t, s, leased(outcome(due[0], 2, relay.Delivered), lease), outcome(delivery("b", "w2"), 1, relay.Delivered))
	require.NoError(t, <-renewed)
	require.NoError(t, user.Rollback(t.Context()))
	require.Equal(t, []string{"1 retrying", "2 success"}, statuses(db, "w1"))
	require.Zero(t, pgtest.One[int](db, `select count(*) from webhook_deliveries`))
}

func TestTheLedgerGivesWayInADeadlock(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	subscribe(db, "w2")
	s := open(t, db)
	tx := begin(t, db, `set local deadlock_timeout = '900ms'`) // we would be the one to find the deadlock
	_, err := tx.Exec(t.Context(), `update zapier_webhooks set max_retries = 1 where id = 'w2'`)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		done <- s.Settle(t.Context(), []relay.Outcome{
			outcome(delivery("a", "w1"), 1, relay.Delivered), outcome(delivery("a", "w2"), 1, relay.Delivered),
		})
	}()
	require.Eventually(t, func() bool {
		return pgtest.One[int](db, `select count(*) from pg_stat_activity where application_name = 'relay' and wait_event_type = 'Lock' and datname = $1`, db.Name) > 0
	}, eventually, time.Millisecond)
	// The ledger has w1 and wants w2, we have w2 and want w1.
	_, err = tx.Exec(t.Context(), `update zapier_webhooks set max_retries = 1 where id = 'w1'`)
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.NoError(t, tx.Commit(t.Context()))
	require.Eventually(t, func() bool {
		poke(t, s)
		return counters(db, "w1") == "1 1 0 0" && counters(db, "w2") == "1 1 0 0"
	}, eventually, poll)
}

func TestFreeDoesNotWaitForALockedRow(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	subscribe(db, "w2")
	s := open(t, db)
	settle(t, s, outcome(delivery("a", "w1"), 1, relay.Retry), outcome(delivery("a", "w2"), 1, relay.Retry))
	due, lease := claim(t, s, 10)
	require.Len(t, due, 2)
	tx := begin(t, db, `delete from zapier_webhooks where id = 'w1'`)
	require.NoError(t, s.Renew(t.Context(), []string{lease}, time.Minute))
	require.NoError(t, s.Free(t.Context(), lease, due))
	free, _ := claim(t, s, 10)
	require.Len(t, free, 1)
	require.Equal(t, "w2", free[0].SubscriptionID)
	require.NoError(t, tx.Rollback(t.Context()))
	elapse(db, 2*time.Minute)
	free, _ = claim(t, s, 10)
	require.Len(t, free, 2)
}

func TestTwoProcessesThatRecordAnAttemptOfALockedSubscriptionWriteOneLogRow(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	begin(t, db, `select from zapier_webhooks where id = 'w1' for update`)
	const processes = 6
	o := outcome(delivery("a", "w1"), 1, relay.Delivered)
	done := make(chan error, processes)
	for range processes {
		s := open(t, db)
		go func() { done <- s.Settle(context.Background(), []relay.Outcome{o}) }()
	}
	for range processes {
		require.NoError(t, <-done)
	}
	require.Equal(t, 1, pgtest.One[int](db, `select count(*) from zapier_webhook_logs`))
}
