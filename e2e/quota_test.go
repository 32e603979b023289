package e2e

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

func TestAnHourlyQuotaIsExactOverProcessesKillsAndRestarts(t *testing.T) {
	t.Parallel()
	const limit, rows = 40, 150
	s := newStack(t, options{})
	if left := time.Until(time.Now().Truncate(time.Hour).Add(time.Hour)); left < 2*time.Minute {
		<-time.After(left) // the test is about one hour of the clock
	}
	limited := s.subscribe(hook{event: "thing.created", perHour: limit})
	free := s.subscribe(hook{event: "thing.created"})
	first := s.start()
	second := s.start()
	for i := range rows {
		s.db.Exec(`insert into things (ns, id, type, content) values ('n', $1, 'Skill', $2)`, strconv.Itoa(i), s.canary)
		if i == 20 {
			s.settle(first) // a delivery under way when its process is killed is counted twice, and may be sent twice
			second.kill()
			second = s.start()
		}
	}
	free.await(rows)
	waiting := func() int {
		return pgtest.One[int](s.db, `select count(*) from webhook_deliveries where webhook_id = $1 and state = 'deferred'
			and attempt = 0 and last_error like 'quota: %'`, limited.id)
	}
	require.Eventually(t, func() bool { return waiting() == rows-limit }, 2*arrivesWithin, tick, "what is beyond the quota waits")
	second.stop()
	second = s.start()
	second.awaitState(readyWithin, "standby")
	require.Len(t, limited.requests(), limit)
	require.Equal(t, limit, pgtest.One[int](s.db, `select used from rate_limit_windows where scope = 'webhook' and key = $1`, limited.id))

	// The hour is over: the next one has as much again, and no more.
	first.stop()
	second.stop()
	s.db.Exec(`update rate_limit_windows set window_start = window_start - interval '1 hour'`)
	s.db.Exec(`update webhook_deliveries set next_attempt_at = now()`)
	first = s.start()
	require.Eventually(t, func() bool { return len(limited.requests()) == 2*limit && waiting() == rows-2*limit }, 2*arrivesWithin, tick)
	first.stop()
	require.Len(t, limited.requests(), 2*limit)
	seen := map[string]bool{}
	for _, r := range limited.requests() {
		require.False(t, seen[r.ID], "nothing is sent twice")
		seen[r.ID] = true
	}
}
