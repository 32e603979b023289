package pgstore_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay"
)

// logLine is a log row as far as a test compares it.
type logLine struct {
	Status, EventType, TargetURL, WebhookID, Error, Response string
	Attempt, Code, Millis                                    int
	RetryIn                                                  float64 // seconds
	Delivered                                                bool
	Payload, Request, Answer                                 string
}

func logOf(t *testing.T, db *pgtest.DB, event string) logLine {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), `
		select status, event_type, coalesce(target_url, ''), coalesce(webhook_id, ''), coalesce(error_message, ''), coalesce(response_body, ''),
		       attempt, coalesce(response_status, 0), duration_ms, coalesce(extract(epoch from next_retry_at - created_at)::float8, 0),
		       delivered_at is not null, payload::text, coalesce(request_headers::text, ''), coalesce(response_headers::text, '')
		from zapier_webhook_logs where event_id = $1`, "evt_"+event)
	require.NoError(t, err)
	line, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[logLine])
	require.NoError(t, err)
	return line
}

func TestEveryAttemptLeavesALogRowThatTellsAllOfIt(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	s := open(t, db)
	settle(t, s,
		outcome(delivery("ok", "w1"), 1, relay.Delivered),
		delayed(outcome(delivery("again", "w1"), 3, relay.Retry), 90*time.Second),
		outcome(delivery("dead", "w1"), 6, relay.Dead),
		outcome(delivery("not", "w1"), 0, relay.Skipped),
		outcome(delivery("later", "w1"), 0, relay.Deferred))

	const payload = `{"id": "evt_a", "data": {"n": 12345678901234567890.10, "s": "ü"}, "type": "thing.updated"}`
	request := func(event string) string {
		return fmt.Sprintf(`{"webhook-id": %q}`, relay.WebhookID("evt_"+event, "w1"))
	}
	ok := logLine{
		Status: "success", EventType: "thing.updated", TargetURL: hookURL("w1"), WebhookID: "w1", Response: "ok",
		Attempt: 1, Code: 200, Millis: 12, Delivered: true, Payload: payload, Request: request("ok"), Answer: `{"server": "x"}`,
	}
	require.Equal(t, ok, logOf(t, db, "ok"))
	again := ok
	again.Status, again.Attempt, again.Code, again.Delivered = "retrying", 3, 503, false
	again.Error, again.RetryIn, again.Request = "status: 503 Service Unavailable", 90, request("again")
	require.Equal(t, again, logOf(t, db, "again"))
	dead := again
	dead.Status, dead.Attempt, dead.RetryIn, dead.Request = "dead", 6, 0, request("dead")
	require.Equal(t, dead, logOf(t, db, "dead"))
	skipped := logOf(t, db, "not")
	require.Equal(t, "skipped blocked: not allowed 0", fmt.Sprint(skipped.Status, " ", skipped.Error, " ", skipped.Code))
	require.Zero(t, pgtest.One[int](db, `select count(*) from zapier_webhook_logs where event_id = 'evt_later'`))

	require.Equal(t, []string{"evt_again retrying 3 503", "evt_later deferred 0 0"}, pgtest.All[string](db, `
		select concat_ws(' ', event_id, state, attempt, coalesce(last_status, 0)) from webhook_deliveries order by 1`))
	require.Equal(t, fmt.Sprintf("w1 evt_dead thing.updated %s 6 exhausted 503 u1 t1", hookURL("w1")), pgtest.One[string](db, `
		select concat_ws(' ', webhook_id, event_id, event_type, target_url, attempts, reason, last_status, user_id, tenant_id) from webhook_dead_letters`))
	require.True(t, bytes.Equal([]byte(body), pgtest.One[[]byte](db, `select body from webhook_dead_letters`)), "byte for byte")
}

func TestCountersFollowTheAttemptsAndLeaveUpdatedAtAlone(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	subscribe(db, "w2")
	before := pgtest.One[time.Time](db, `select updated_at from zapier_webhooks where id = 'w1'`)
	s := open(t, db)
	settle(t, s,
		outcome(delivery("a", "w1"), 1, relay.Retry),
		outcome(delivery("b", "w1"), 1, relay.Delivered),
		outcome(delivery("c", "w1"), 2, relay.Retry),
		outcome(delivery("d", "w1"), 1, relay.Dead),
		outcome(delivery("e", "w1"), 0, relay.Deferred),
		outcome(delivery("f", "w1"), 0, relay.Skipped),
		outcome(delivery("a", "w2"), 1, relay.Retry))
	require.Equal(t, "3 1 3 2", counters(db, "w1"), "two failures since the success")
	require.Equal(t, "1 0 1 1", counters(db, "w2"))
	settle(t, s, outcome(delivery("g", "w1"), 1, relay.Retry))
	require.Equal(t, "4 1 4 3", counters(db, "w1"))
	settle(t, s, outcome(delivery("h", "w1"), 4, relay.Delivered))
	require.Equal(t, "4 2 4 0", counters(db, "w1"))
	require.Equal(t, before, pgtest.One[time.Time](db, `select updated_at from zapier_webhooks where id = 'w1'`))
	require.True(t, pgtest.One[bool](db, `
		select last_triggered_at is not null and last_success_at <= now() and last_failure_at > created_at from zapier_webhooks where id = 'w1'`))
	require.True(t, pgtest.One[bool](db, `select last_success_at is null from zapier_webhooks where id = 'w2'`))
}

func TestASecondSettleOfTheSameOutcomesRecordsNothing(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	s := open(t, db)
	batch := []relay.Outcome{
		outcome(delivery("a", "w1"), 1, relay.Delivered),
		outcome(delivery("b", "w1"), 1, relay.Retry),
		outcome(delivery("c", "w1"), 1, relay.Dead),
		outcome(delivery("d", "w1"), 0, relay.Deferred),
	}
	settle(t, s, append(batch, batch...)...)
	settle(t, s, batch...)
	settle(t, s, append(batch, outcome(delivery("e", "w1"), 1, relay.Delivered))...)
	require.Equal(t, "4 2 2 0", counters(db, "w1"))
	require.Equal(t, 4, pgtest.One[int](db, `select count(*) from zapier_webhook_logs`))
	require.Equal(t, 2, pgtest.One[int](db, `select count(*) from webhook_deliveries`))
	require.Equal(t, 1, pgtest.One[int](db, `select count(*) from webhook_dead_letters`))
}

func TestOutcomesOfADeletedSubscriptionLeaveALogRowOnly(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	s := open(t, db)
	settle(t, s, outcome(delivery("a", "w1"), 1, relay.Retry))
	due, lease := claim(t, s, 10)
	require.Len(t, due, 1)
	db.Exec(`delete from zapier_webhooks where id = 'w1'`)
	settle(t, s,
		leased(outcome(due[0], 2, relay.Retry), lease),
		outcome(delivery("b", "w1"), 1, relay.Retry),
		outcome(delivery("c", "w1"), 1, relay.Dead),
		outcome(delivery("d", "w1"), 1, relay.Delivered),
		outcome(delivery("e", "w1"), 0, relay.Deferred),
		outcome(delivery("f", "w1"), 1, relay.Gone))
	require.Equal(t, []string{"evt_a 1 retrying", "evt_a 2 failed", "evt_b 1 failed", "evt_c 1 dead", "evt_d 1 success", "evt_f 1 dead"},
		pgtest.All[string](db, `select concat_ws(' ', event_id, attempt, status) from zapier_webhook_logs where webhook_id is null order by 1`))
	require.Zero(t, pgtest.One[int](db, `select count(*) from webhook_deliveries`))
	require.Zero(t, pgtest.One[int](db, `select count(*) from webhook_dead_letters`))
}

func TestAnEndpointThatIsGoneIsSwitchedOffWithAllThatWaits(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	subscribe(db, "w2")
	s := open(t, db)
	var batch []relay.Outcome
	for i := range 2300 {
		batch = append(batch, outcome(delivery(fmt.Sprint(i), "w1"), 1, relay.Retry))
	}
	settle(t, s, batch...)
	settle(t, s, outcome(delivery("other", "w2"), 1, relay.Retry))
	held, lease := claim(t, s, 1)
	db.Exec(`update zapier_webhooks set zapier_metadata = '{"zap": 1}'`)
	settle(t, s, outcome(delivery("gone", "w1"), 1, relay.Gone))

	require.Equal(t, "inactive", pgtest.One[string](db, `select status from zapier_webhooks where id = 'w1'`))
	require.Equal(t, `1 endpoint_gone 410 t`, pgtest.One[string](db, `
		select concat_ws(' ', zapier_metadata ->> 'zap', zapier_metadata #>> '{disabled,reason}', zapier_metadata #>> '{disabled,response_status}',
		                 (zapier_metadata #>> '{disabled,at}')::timestamptz between now() - interval '1 minute' and now())
		from zapier_webhooks where id = 'w1'`))
	require.Equal(t, 2300, pgtest.One[int](db, `
		select count(*) from webhook_dead_letters where webhook_id = 'w1' and reason = 'endpoint_gone' and target_url = $1`, hookURL("w1")))
	require.Equal(t, "active", pgtest.One[string](db, `select status from zapier_webhooks where id = 'w2'`))

	// What was being sent keeps its own outcome.
	settle(t, s, leased(outcome(held[0], 2, relay.Gone), lease))
	require.Equal(t, 2301, pgtest.One[int](db, `select count(*) from webhook_dead_letters where webhook_id = 'w1'`))
	require.Equal(t, []string{"evt_other"}, pgtest.All[string](db, `select event_id from webhook_deliveries`))
}

func TestA410OfAnOldAddressDoesNotSwitchOffTheNewOne(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	s := open(t, db)
	settle(t, s, outcome(delivery("a", "w1"), 1, relay.Retry))
	late := outcome(delivery("b", "w1"), 1, relay.Gone)
	db.Exec(`update zapier_webhooks set target_url = 'https://new.example.com/'`)
	settle(t, s, late)
	require.Equal(t, "active", pgtest.One[string](db, `select status from zapier_webhooks`))
	require.Equal(t, 1, pgtest.One[int](db, `select count(*) from webhook_deliveries`))
	require.Equal(t, []string{"1 retrying", "1 dead"}, statuses(db, "w1"))
}

func TestWhatJsonbCannotHoldDoesNotPoisonTheBatch(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	s := open(t, db)
	bodies := map[string]string{
		"nul":       `{"a":"x\u0000y"}`,
		"surrogate": `{"a":"\ud83d"}`,
		"reversed":  `{"a":"\ude00\ud83d"}`,
		"deep":      strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000),
		"exponent":  `{"a":1e400000}`,
		"digits":    `{"a":` + strings.Repeat("9", 140_000) + `}`,
		"utf8":      "{\"a\":\"\xff\"}",
		"word":      `{"a":tru}`,
		"empty":     "",
		"cut":       `{"a":"`,
	}
	var batch []relay.Outcome
	for name, b := range bodies {
		o := outcome(delivery(name, "w1"), 1, relay.Retry)
		o.Delivery.Body = []byte(b)
		batch = append(batch, o)
	}
	good := outcome(delivery("good", "w1"), 1, relay.Delivered)
	good.Delivery.Body = []byte(`{"a":"\u00fc \ud83d\ude00 \\u0000","b":1E+3,"c":[true,false,null]}`)
	dirty := outcome(delivery("dirty", "w1"), 1, relay.Dead)
	dirty.Attempt.ResponseBody = "a\x00b\xffc" + strings.Repeat("ü", 40<<10)
	dirty.Attempt.ResponseHeaders = map[string]string{"x-a": "1\x002\xff"}
	dirty.Attempt.RequestHeaders = map[string]string{"x\x00": "\xff"}
	dirty.Attempt.Error = "status: \x00"
	dirty.Attempt.StatusCode, dirty.Attempt.Duration = 999, -time.Second
	settle(t, s, append(batch, good, dirty)...)

	require.JSONEq(t, `{"a":"ü 😀 \\u0000","b":1000,"c":[true,false,null]}`, logOf(t, db, "good").Payload)
	for name, b := range bodies {
		require.Contains(t, logOf(t, db, name).Payload, `"sha256"`, name)
		require.Equal(t, len(b), pgtest.One[int](db, `select (payload ->> 'bytes')::integer from zapier_webhook_logs where event_id = $1`, "evt_"+name))
		require.Equal(t, b, string(pgtest.One[[]byte](db, `select body from webhook_deliveries where event_id = $1`, "evt_"+name)), "the retry has the bytes")
	}
	line := logOf(t, db, "dirty")
	require.Equal(t, 0, line.Code)
	require.True(t, strings.HasPrefix(line.Response, "ab?cü"))
	require.LessOrEqual(t, len(line.Response), 64<<10)
	require.JSONEq(t, `{"x-a": "12?"}`, line.Answer)
}

func TestConcurrentSettlesCountEveryAttemptOnce(t *testing.T) {
	db := newDB(t)
	for i := range 20 {
		subscribe(db, id(i))
	}
	var g errgroup.Group
	for n := range 3 {
		s := open(t, db)
		for worker := range 2 {
			g.Go(func() error {
				for round := range 15 {
					var batch []relay.Outcome
					for i := range 20 { // each goes through them in another order
						event := fmt.Sprint(n, "-", worker, "-", round)
						batch = append(batch, outcome(delivery(event, id((i*7+n*11+worker)%20)), 1, relay.Delivered))
					}
					if err := s.Settle(t.Context(), batch); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	require.NoError(t, g.Wait())
	for i := range 20 {
		require.Equal(t, "90 90 0 0", counters(db, id(i)))
	}
}

// Clocks of processes differ, and are set. Delays are lengths of time, counted from the
// database's own now.
func TestARetryIsDueByTheClockOfTheDatabaseWhateverTheProcessesSay(t *testing.T) {
	db := newDB(t)
	subscribe(db, "w1")
	s := open(t, db)
	for name, off := range map[string]time.Duration{"right": 0, "behind": -48 * time.Hour, "ahead": 48 * time.Hour} {
		o := delayed(outcome(delivery(name, "w1"), 1, relay.Retry), time.Minute)
		o.Attempt.StartedAt = o.Attempt.StartedAt.Add(off)
		settle(t, s, o)
	}
	require.Equal(t, 3, pgtest.One[int](db, `select count(*) from webhook_deliveries
		where next_attempt_at between now() + interval '30 seconds' and now() + interval '61 seconds'`))
	db.Exec(`update webhook_deliveries set next_attempt_at = next_attempt_at - interval '1 minute'`)
	due, _ := claim(t, s, 10)
	require.Len(t, due, 3)
}
