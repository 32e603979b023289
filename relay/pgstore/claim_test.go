package pgstore_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
)

func TestTwoProcessesNeverClaimTheSameDelivery(t *testing.T) {
	db := newDB(t)
	for i := range 5 {
		subscribe(db, id(i))
	}
	stores := []*pgstore.Store{open(t, db), open(t, db)}
	var batch []relay.Outcome
	for i := range 1000 {
		batch = append(batch, outcome(delivery(fmt.Sprint(i), id(i%5)), 1, relay.Retry))
	}
	settle(t, stores[0], batch...)
	var mu sync.Mutex
	seen, leases := map[string]int{}, map[string]bool{}
	var g errgroup.Group
	for n := range 6 {
		g.Go(func() error {
			for {
				mu.Lock()
				all := len(seen) == 1000
				mu.Unlock()
				if all {
					return nil
				}
				due, lease, err := stores[n%2].Claim(t.Context(), 37, time.Minute, relay.Busy{})
				if err != nil {
					return err
				}
				mu.Lock()
				if leases[lease] {
					return fmt.Errorf("lease %s was given out twice", lease)
				}
				leases[lease] = true
				for _, d := range due {
					seen[d.EventID]++
				}
				mu.Unlock()
			}
		})
	}
	require.NoError(t, g.Wait())
	for event, n := range seen {
		require.Equal(t, 1, n, event)
	}
}

func TestABacklogThatNobodyMayTakeHidesNothing(t *testing.T) {
	db := newDB(t)
	subscribe(db, "busy")
	subscribe(db, "paused")
	subscribe(db, "w1")
	db.Exec(`update zapier_webhooks set status = 'inactive' where id = 'paused'`)
	db.Exec(`insert into webhook_deliveries (event_id, webhook_id, event_type, body, state, next_attempt_at)
	         select 'evt_' || n, sub, 'thing.updated', '{}', 'deferred', now() - interval '1 hour'
	         from generate_series(1, 3000) n, unnest(array['busy', 'paused']) sub`)
	s := open(t, db)
	_, some, err := s.NextDue(t.Context(), relay.Busy{All: []string{"busy"}})
	require.NoError(t, err)
	require.False(t, some)

	settle(t, s, delayed(outcome(delivery("late", "w1"), 1, relay.Retry), time.Hour))
	wait, some, err := s.NextDue(t.Context(), relay.Busy{All: []string{"busy"}})
	require.NoError(t, err)
	require.True(t, some)
	require.InDelta(t, time.Hour, wait, float64(time.Minute))

	elapse(db, 2*time.Hour)
	due, _ := claim(t, s, 10, "busy")
	require.Len(t, due, 1)
	require.Equal(t, "evt_late", due[0].EventID)
	wait, some, err = s.NextDue(t.Context(), relay.Busy{})
	require.NoError(t, err)
	require.True(t, some)
	require.Zero(t, wait)
	due, _ = claim(t, s, 10)
	require.Len(t, due, 10)
}

func TestARowMadeDueByHandIsClaimed(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	s := open(t, db)
	settle(t, s, delayed(outcome(delivery("a", "w1"), 1, relay.Retry), time.Hour))
	db.Exec(`update webhook_deliveries set next_attempt_at = '-infinity'`)
	wait, some, err := s.NextDue(t.Context(), relay.Busy{})
	require.NoError(t, err)
	require.True(t, some)
	require.Zero(t, wait)
	due, lease := claim(t, s, 10)
	require.Len(t, due, 1)
	require.NoError(t, s.Renew(t.Context(), []string{lease}, time.Minute))
	settle(t, s, leased(outcome(due[0], 2, relay.Delivered), lease))
	require.Equal(t, []string{"1 retrying", "2 success"}, statuses(db, "w1"))
}

func TestSettledAnswersForAnEventWithManySubscribers(t *testing.T) {
	db := newDB(t)
	db.Exec(`insert into zapier_webhooks (id, user_id, target_url, event_type)
	         select 'w' || lpad(n::text, 6, '0'), 'u1', 'https://hooks.example.com/' || n, 'thing.updated' from generate_series(0, 19999) n`)
	s := open(t, db)
	var all []relay.Delivery
	for i := range 20_000 {
		all = append(all, delivery("a", id(i)))
	}
	for start := 0; start < 10_000; start += 2500 {
		var batch []relay.Outcome
		for _, d := range all[start : start+2500] {
			batch = append(batch, outcome(d, 1, relay.Delivered))
		}
		settle(t, s, batch...)
	}
	begun := time.Now()
	settled, err := s.Settled(t.Context(), all)
	require.NoError(t, err)
	t.Logf("20,000 deliveries looked up in %s", time.Since(begun).Round(time.Millisecond))
	for i, yes := range settled {
		require.Equal(t, i < 10_000, yes, i)
	}
	require.Less(t, time.Since(begun), 5*time.Second)
}
