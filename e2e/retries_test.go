package e2e

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// logRow is a row of zapier_webhook_logs.
type logRow struct {
	Status   string
	Attempt  int
	EventID  string
	Payload  string
	Response *int
	Error    *string
}

func (s *stack) logRows(e *endpoint) []logRow {
	s.t.Helper()
	rows, err := s.db.Pool.Query(s.t.Context(), `
		select status, attempt, event_id, payload::text, response_status, error_message
		from zapier_webhook_logs where webhook_id = $1 order by attempt`, e.id)
	require.NoError(s.t, err)
	return must(pgx.CollectRows(rows, pgx.RowToStructByPos[logRow]))(s.t)
}

// counters of a subscription: deliveries, successful and failed attempts.
func (s *stack) counters(e *endpoint) []int64 {
	s.t.Helper()
	return pgtest.One[[]int64](s.db, `select array[total_triggers, success_count, failure_count] from zapier_webhooks where id = $1`, e.id)
}

// failFirst answers n requests of each delivery with the status.
func failFirst(n, status int) func(delivery) answer {
	var mu sync.Mutex
	seen := map[string]int{}
	return func(d delivery) answer {
		mu.Lock()
		defer mu.Unlock()
		if seen[d.ID]++; seen[d.ID] <= n {
			return answer{status: status}
		}
		return answer{status: http.StatusNoContent}
	}
}

func TestAFailedDeliveryIsRepeatedWithTheSameIDAndBytes(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_RETRY_SCHEDULE"] = "200ms"
	e := s.subscribe(hook{event: "thing.created"})
	e.answers(failFirst(2, http.StatusServiceUnavailable))
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', '1', 'Skill', $1)`, s.canary)
	e.await(3)
	s.settle(p)

	got := e.requests()
	require.Len(t, got, 3)
	for i, d := range got {
		require.Equal(t, i+1, d.Attempt)
		require.Equal(t, got[0].ID, d.ID)
		require.Equal(t, got[0].Body, d.Body)
		if i > 0 {
			require.Greater(t, d.At.Sub(got[i-1].At), 150*time.Millisecond, "200 ms, less a fifth of jitter")
		}
	}
	rows := s.logRows(e)
	require.Len(t, rows, 3)
	for i, row := range rows {
		require.Equal(t, i+1, row.Attempt)
		require.Equal(t, []string{"retrying", "retrying", "success"}[i], row.Status)
		require.Equal(t, []int{503, 503, 204}[i], *row.Response)
		require.Equal(t, got[0].Event.ID, row.EventID)
		require.JSONEq(t, string(got[0].Body), row.Payload)
		require.Equal(t, i < 2, row.Error != nil)
	}
	require.Equal(t, []int64{1, 1, 2}, s.counters(e))
	require.Zero(t, pgtest.One[int](s.db, `select consecutive_failures from zapier_webhooks where id = $1`, e.id))
	require.Zero(t, pgtest.One[int](s.db, `select count(*) from webhook_deliveries`))
	require.Zero(t, pgtest.One[int](s.db, `select count(*) from webhook_dead_letters`))
	p.stop()
}

func TestADeliveryThatKeepsFailingBecomesADeadLetter(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_RETRY_SCHEDULE"] = "100ms"
	retries, never := 2, 0
	e := s.subscribe(hook{event: "thing.created", retries: &retries})
	once := s.subscribe(hook{event: "thing.created", retries: &never})
	redirecting := s.subscribe(hook{event: "thing.created", retries: &never})
	elsewhere := s.receiver.endpoint("")
	e.answers(failFirst(100, http.StatusInternalServerError))
	once.answers(failFirst(100, http.StatusBadRequest))
	redirecting.answers(func(delivery) answer {
		return answer{status: http.StatusTemporaryRedirect, header: http.Header{"Location": {elsewhere.url}}}
	})
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', '1', 'Skill', $1)`, s.canary)
	e.await(3)
	s.settle(p)

	require.Len(t, e.requests(), 3, "max_retries 2 means three attempts")
	require.Len(t, once.requests(), 1)
	require.Len(t, redirecting.requests(), 1)
	require.Empty(t, elsewhere.requests(), "redirects are not followed")
	for endpoint, want := range map[*endpoint][]string{e: {"retrying", "retrying", "dead"}, once: {"dead"}, redirecting: {"dead"}} {
		var statuses []string
		for _, row := range s.logRows(endpoint) {
			statuses = append(statuses, row.Status)
		}
		require.Equal(t, want, statuses)
		require.Equal(t, []int64{1, 0, int64(len(want))}, s.counters(endpoint))
		require.Equal(t, len(want), pgtest.One[int](s.db, `select attempts from webhook_dead_letters where webhook_id = $1`, endpoint.id))
		require.Equal(t, endpoint.requests()[0].Body, pgtest.One[[]byte](s.db, `select body from webhook_dead_letters where webhook_id = $1`, endpoint.id))
		require.Equal(t, "active", pgtest.One[string](s.db, `select status from zapier_webhooks where id = $1`, endpoint.id))
	}

	// The endpoint works again: what was given up is sent once more.
	e.answers(nil)
	out := s.command("replay", "--webhook="+e.id)
	require.Contains(t, out, "1 dead letters")
	require.Len(t, e.requests(), 3, "without --yes nothing is done")
	s.command("replay", "--webhook="+e.id, "--yes")
	again := e.await(4)[3]
	s.settle(p)
	require.Equal(t, []any{e.requests()[0].ID, e.requests()[0].Body, 1}, []any{again.ID, again.Body, again.Attempt})
	require.Len(t, e.requests(), 4)
	require.Len(t, once.requests(), 1, "that of no other webhook")
	p.stop()
}

func TestAnEndpointThatIsGoneIsSwitchedOff(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_RETRY_SCHEDULE"] = "100ms"
	e := s.subscribe(hook{event: "thing.created"})
	other := s.subscribe(hook{event: "thing.created"})
	e.answers(func(delivery) answer { return answer{status: http.StatusGone} })
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', '1', 'Skill', $1)`, s.canary)
	require.Eventually(t, func() bool {
		return pgtest.One[string](s.db, `select status from zapier_webhooks where id = $1`, e.id) == "inactive"
	}, arrivesWithin, tick)
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', '2', 'Skill', $1)`, s.canary)
	s.settle(p)

	require.Len(t, e.requests(), 1)
	require.Len(t, other.requests(), 2)
	require.Equal(t, []string{"dead", "skipped"}, pgtest.One[[]string](s.db, `
		select array_agg(status order by created_at) from zapier_webhook_logs where webhook_id = $1`, e.id))
	require.True(t, pgtest.One[bool](s.db, `select zapier_metadata ? 'disabled' from zapier_webhooks where id = $1`, e.id))
	p.stop()
}

func TestRetryAfterIsRespectedWhenItIsLongerThanTheSchedule(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_RETRY_SCHEDULE"] = "100ms"
	e := s.subscribe(hook{event: "thing.created"})
	e.answers(func(d delivery) answer {
		switch d.Attempt {
		case 1:
			return answer{status: http.StatusTooManyRequests, header: http.Header{"Retry-After": {"2"}}}
		case 2:
			return answer{status: http.StatusServiceUnavailable, header: http.Header{"Retry-After": {"-1"}}}
		}
		return answer{status: http.StatusOK}
	})
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content) values ('n', '1', 'Skill', $1)`, s.canary)
	got := e.await(3)
	require.GreaterOrEqual(t, got[1].At.Sub(got[0].At), 2*time.Second)
	require.Less(t, got[2].At.Sub(got[1].At), 2*time.Second, "garbage asks for nothing")
	s.settle(p)
	p.stop()
}

func TestASlowEndpointTimesOutAndHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	s.env["RELAY_RETRY_SCHEDULE"], s.env["RELAY_HTTP_TIMEOUT"] = "100ms", "1s"
	never := 0
	slow := s.subscribe(hook{event: "thing.created", retries: &never})
	fast := s.subscribe(hook{event: "thing.created"})
	slow.answers(func(delivery) answer { return answer{status: http.StatusOK, wait: time.Minute} })
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content) select 'n', i, 'Skill', $1 from generate_series(1, 5) i`, s.canary)
	fast.await(5)
	s.settle(p)
	rows := s.logRows(slow)
	require.Len(t, rows, 5)
	for _, row := range rows {
		require.Equal(t, "dead", row.Status)
		require.Nil(t, row.Response)
		require.NotNil(t, row.Error)
	}
	p.stop()
}
