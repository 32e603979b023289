package pgstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay"
)

func TestASweepTakesOldLogRowsAndSparesOpenRetriesWhileDeliveriesAreSettled(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	subscribe(db, "w1")
	db.Exec(`
		insert into zapier_webhook_logs (id, event_type, event_id, status, next_retry_at, delivered_at, created_at)
		select 'old' || n, 'thing.updated', 'e' || n, 'success', null, now(), now() - interval '40 days' from generate_series(1, 2500) n
		union all select 'open', 'thing.updated', 'o', 'retrying', now(), null, now() - interval '40 days'
		union all select 'young', 'thing.updated', 'y', 'success', null, now(), now() - interval '20 days'`)
	settled := make(chan error, 1)
	go func() {
		for range 20 {
			if err := s.Settle(t.Context(), []relay.Outcome{outcome(delivery("a", "w1"), 1, relay.Delivered)}); err != nil {
				settled <- err
				return
			}
		}
		settled <- nil
	}()
	did, err := s.SweepLogs(t.Context(), 30)
	require.NoError(t, err)
	require.EqualValues(t, 2500, did.Deleted)
	require.NoError(t, <-settled)
	require.Equal(t, []string{"open", "young"}, pgtest.All[string](db, `select id from zapier_webhook_logs where webhook_id is null order by id`))
	require.Len(t, statuses(db, "w1"), 20)
}

func TestOneProcessAtATimeSweepsTheLog(t *testing.T) {
	db := newDB(t)
	s := open(t, db)
	tx, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `select pg_advisory_xact_lock($1)`, int64(0x72656c61796c6f67))
	require.NoError(t, err)
	did, err := s.SweepLogs(t.Context(), 30)
	require.NoError(t, err)
	require.True(t, did.Elsewhere)
	require.NoError(t, tx.Rollback(t.Context()))
	for range 2 {
		did, err = s.SweepLogs(t.Context(), 30)
		require.NoError(t, err)
		require.False(t, did.Elsewhere, "a sweep gives the lock back")
	}
}
