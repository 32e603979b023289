package migrations_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// seedPairs reads a query of two text columns.
func seedPairs(t *testing.T, db *pgtest.DB, sql string) map[string]string {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), sql)
	require.NoError(t, err)
	defer rows.Close()
	pairs := map[string]string{}
	for rows.Next() {
		var key, value string
		require.NoError(t, rows.Scan(&key, &value))
		pairs[key] = value
	}
	require.NoError(t, rows.Err())
	return pairs
}

func TestTokenStatusNamesEveryStateOfAConnection(t *testing.T) {
	db := seedNew(t)
	seedPeople(db)
	for id, expiry := range map[string]string{
		"valid": "now() + interval '25 hours'", "expiring": "now() + interval '23 hours'",
		"expired": "now() - interval '1 second'", "no_expiry": "null",
	} {
		db.Exec(seedValid["accounts"].with(seedRow{
			"id": "'" + id + "'", "account_id": "'" + id + "'",
			"expires_at_timestamp": "(extract(epoch from (" + expiry + ")::timestamptz) * 1000)::bigint",
		}).insert("accounts"))
	}
	db.Exec(seedValid["accounts"].with(seedRow{"id": "'sign-in'", "provider_type": "null"}).insert("accounts"))

	require.Equal(t, map[string]string{"valid": "valid", "expiring": "expiring", "expired": "expired", "no_expiry": "no_expiry"},
		seedPairs(t, db, `select id, token_status from oauth_connections`))
	require.Equal(t, map[string]string{"valid": "true", "expiring": "true", "expired": "false", "no_expiry": "none"},
		seedPairs(t, db, `select id, coalesce((seconds_until_expiry > 0)::text, 'none') from oauth_connections`))
	require.InDelta(t, 23*3600, pgtest.One[int64](db, `select seconds_until_expiry from oauth_connections where id = 'expiring'`), 60)
}

func TestConnectionsSayWhetherTheyCanBeRefreshed(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	require.Equal(t, map[string]string{"a1": "true", "a2": "false", "a3": "false"},
		seedPairs(t, db, `select id, has_refresh_token::text from oauth_connections`))
	require.Equal(t, "ada@example.com", pgtest.One[string](db, `select user_email from oauth_connections where id = 'a1'`))
}

func TestHealthStatusNamesEveryStateOfASubscription(t *testing.T) {
	db := seedNew(t)
	seedPeople(db)
	for id, logs := range map[string]string{ // a log row per letter: success, failed, retrying, dead, skipped, pending
		"inactive": "f", "failing": "ffd", "failing-counter": "sss", "degraded": "sssrf", "degraded-not": "ssssr", "idle": "kp", "healthy": "s",
	} {
		row := seedRow{"id": "'" + id + "'", "target_url": "'https://h.example/" + id + "'", "max_triggers_per_hour": "8"}
		switch id {
		case "inactive":
			row["status"] = "'inactive'"
		case "failing-counter":
			row["consecutive_failures"] = "5"
		}
		db.Exec(seedValid["zapier_webhooks"].with(row).insert("zapier_webhooks"))
		for n, letter := range strings.Split(logs, "") {
			status := map[string]string{"s": "success", "f": "failed", "r": "retrying", "d": "dead", "k": "skipped", "p": "pending"}[letter]
			db.Exec(`insert into zapier_webhook_logs (webhook_id, event_type, status, attempt, duration_ms, next_retry_at, delivered_at)
				values ($1, 'thing.created', $2, $3, $4, now(), now())`, id, status, 1+n/3, 10*(n+1))
		}
	}
	db.Exec(`insert into zapier_webhook_logs (webhook_id, event_type, status, created_at) values
		('idle', 'thing.created', 'failed', now() - interval '25 hours'), ('healthy', 'thing.created', 'dead', now() - interval '25 hours')`)

	require.Equal(t, map[string]string{
		"inactive": "inactive", "failing": "failing", "failing-counter": "failing", "degraded": "degraded",
		"degraded-not": "healthy", "idle": "idle", "healthy": "healthy",
	}, seedPairs(t, db, `select webhook_id, health_status from zapier_webhook_health`))
	require.Equal(t, "5 2 2 30.0 50 37.50", pgtest.One[string](db, `
		select concat_ws(' ', attempts_24h, failures_24h, max_attempt_24h, avg_duration_ms, p95_duration_ms, rate_limit_used_pct)
		from zapier_webhook_health where webhook_id = 'degraded'`))
	require.Equal(t, "0 0", pgtest.One[string](db, `
		select concat_ws(' ', attempts_24h, failures_24h, max_attempt_24h, avg_duration_ms, p95_duration_ms)
		from zapier_webhook_health where webhook_id = 'idle'`))
}

func TestClientStatsCountEachTokenOnce(t *testing.T) {
	db := seedNew(t)
	seedPeople(db)
	db.Exec(`update oauth_clients set rate_limit_per_hour = 8`)
	for n, row := range []seedRow{
		{},
		{"user_id": "'u2'"},
		{"access_token_expires_at": "now() - interval '1 hour'", "created_at": "now() - interval '2 hours'"},
		{"access_token_expires_at": "now() - interval '1 hour'", "created_at": "now() - interval '2 hours'", "revoked_at": "now()", "revoked_reason": "'user'"},
	} {
		row["access_token_hash"] = "repeat('" + string(rune('0'+n)) + "', 64)"
		db.Exec(seedValid["oauth_tokens"].with(row).insert("oauth_tokens"))
	}
	db.Exec(seedValid["oauth_clients"].insert("oauth_clients"))

	require.Equal(t, map[string]string{"app": "2 4 2 1 1 2 25.00", "new-app": "0 0 0 0 0 0 0.00"}, seedPairs(t, db, `
		select client_id, concat_ws(' ', unique_users, total_tokens, active_tokens, expired_tokens, revoked_tokens, tokens_last_hour,
		    rate_limit_used_pct) from oauth_client_stats`))
	require.Equal(t, []string{"app"}, pgtest.All[string](db, `select client_id from active_oauth_clients`))
}

func TestEventsWithoutSubscribersAreListed(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	require.Equal(t, 13, pgtest.One[int](db, `select count(*)::int from active_zapier_webhooks_by_event`))
	require.Equal(t, "1 1 9 7 2", pgtest.One[string](db, `
		select concat_ws(' ', active_webhooks, unique_users, total_triggers, success_count, failure_count)
		from active_zapier_webhooks_by_event where event_type = 'thing.created'`))
	require.Equal(t, "0 0 0 0 0", pgtest.One[string](db, `
		select concat_ws(' ', active_webhooks, unique_users, total_triggers, success_count, failure_count)
		from active_zapier_webhooks_by_event where event_type = 'order.paid'`), "its only subscription is inactive")
}

func TestRecentDeliveriesReachBackOneDay(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	db.Exec(`insert into zapier_webhook_logs (id, webhook_id, event_type, created_at) values
		('new', 'w1', 'thing.created', now() - interval '23 hours'), ('old', 'w1', 'thing.created', now() - interval '25 hours')`)
	require.Equal(t, map[string]string{"new": "ada"}, seedPairs(t, db, `select id, user_id from recent_zapier_webhook_deliveries`))
}

func TestMatchingUsesItsIndex(t *testing.T) {
	db := seedNew(t)
	seedPeople(db)
	db.Exec(`insert into zapier_webhooks (user_id, target_url, event_type, status)
		select case when n % 2 = 0 then 'u1' else 'u2' end, 'https://h.example/' || n, 'thing.created', case when n % 10 = 0 then 'inactive' else 'active' end
		from generate_series(1, 500) n`)
	db.Exec(`analyze zapier_webhooks`)
	conn := db.Connect()
	_, err := conn.Exec(t.Context(), `set enable_seqscan = off`)
	require.NoError(t, err)
	for _, where := range []string{`user_id = 'u1'`, `user_id = any ('{u1,u2}')`} {
		var plan []byte
		require.NoError(t, conn.QueryRow(t.Context(), `explain (format json)
			select id, filters from zapier_webhooks where event_type = 'thing.created' and status = 'active' and `+where).Scan(&plan))
		require.Contains(t, string(plan), `"idx_zapier_webhooks_match"`)
	}
}

func TestCountersLeaveUpdatedAtAlone(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	moved := func() bool {
		return pgtest.One[bool](db, `select updated_at <> '2024-02-01' from zapier_webhooks where id = 'w1'`)
	}
	db.Exec(`update zapier_webhooks set total_triggers = 10, success_count = 8, failure_count = 3, consecutive_failures = 0,
		last_triggered_at = now(), last_success_at = now(), last_failure_at = now() where id = 'w1'`)
	require.False(t, moved())

	changes := seedRow{
		"target_url": "'https://h.example/new'", "event_type": "'thing.updated'", "filters": "'{\"ns\": \"naics\"}'",
		"status": "'inactive'", "max_retries": "9", "retry_backoff_seconds": "9", "max_triggers_per_hour": "9",
		"signing_secret": "null", "zapier_subscription_id": "null", "zapier_metadata": "'{}'", "user_id": "'ben'",
		"tenant_id": "null", "client_id": "null",
	}
	for column, value := range changes {
		db.Exec(`update zapier_webhooks set updated_at = '2024-02-01' where id = 'w1'`)
		require.False(t, moved())
		db.Exec(`update zapier_webhooks set ` + column + ` = ` + column + ` where id = 'w1'`)
		require.False(t, moved(), "%s did not change", column)
		db.Exec(`update zapier_webhooks set ` + column + ` = ` + value + ` where id = 'w1'`)
		require.True(t, moved(), column)
	}
}

func TestAClientsStatusChangeIsStamped(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	const changed = `select concat_ws(' ', updated_at > '2024-02-02', status_changed_at > '2024-03-02') from oauth_clients where client_id = 'cli'`
	db.Exec(`update oauth_clients set name = 'Shell' where client_id = 'cli'`)
	require.Equal(t, "t f", pgtest.One[string](db, changed))
	db.Exec(`update oauth_clients set status = 'pending' where client_id = 'cli'`)
	require.Equal(t, "t t", pgtest.One[string](db, changed))
}

func TestAnAccountsChangeMovesUpdatedAt(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	db.Exec(`update accounts set scope_granted = 'repo user' where id = 'a1'`)
	require.True(t, pgtest.One[bool](db, `select updated_at > now() - interval '1 minute' from accounts where id = 'a1'`))
}

func TestDeletingASubscriptionLeavesItsLogs(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	db.Exec(`delete from zapier_webhooks where id = 'w1'`)
	require.Equal(t, []string{"l1 -", "l2 w2", "l3 -"},
		pgtest.All[string](db, `select id || ' ' || coalesce(webhook_id, '-') from zapier_webhook_logs order by id`))
}

func TestDeletingAUserTakesTheirRowsButNotTheirClient(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	db.Exec(`delete from users where id = 'ada'`)
	for table, left := range map[string][]string{
		"accounts": {"a3", "a4"}, "oauth_clients": {"c1", "c2"}, "oauth_authorization_codes": {"o2"},
		"oauth_tokens": {"k3"}, "zapier_webhooks": {"w2"}, "zapier_webhook_logs": {"l1", "l2", "l3"},
	} {
		require.Equal(t, left, pgtest.All[string](db, `select id from `+table+` order by id`), table)
	}
	require.True(t, pgtest.One[bool](db, `select created_by is null from oauth_clients where id = 'c1'`))
}

func TestDeletingAClientTakesItsTokensButNotItsSubscriptions(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	db.Exec(`delete from oauth_clients where client_id = 'zapier'`)
	require.Equal(t, []string{"k3", "k4"}, pgtest.All[string](db, `select id from oauth_tokens order by id`))
	require.Equal(t, []string{"o2"}, pgtest.All[string](db, `select id from oauth_authorization_codes`))
	require.Equal(t, []string{"w1 -", "w2 cli"},
		pgtest.All[string](db, `select id || ' ' || coalesce(client_id, '-') from zapier_webhooks order by id`))
}

func TestAnEventWithSubscribersCannotBeRemoved(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	require.Equal(t, "zapier_webhooks_event_type_fkey",
		seedRefused(t, db, `delete from zapier_webhook_events where event_type = 'thing.created'`))
}

func TestAConnectionIsUpsertedByItsKey(t *testing.T) {
	db := seedNew(t)
	seedPeople(db)
	for range 2 {
		db.Exec(seedValid["accounts"].with(seedRow{"id": "gen_random_uuid()::text"}).insert("accounts") + `
			on conflict (user_id, provider_type, account_id, coalesce(team_id, ''), coalesce(tenant_id, ''))
			where provider_type is not null do update set scope_granted = 'again'`)
	}
	require.Equal(t, []string{"again"}, pgtest.All[string](db, `select scope_granted from accounts`))
}

func TestCleanupDeletesOldLogsAndSparesOpenRetries(t *testing.T) {
	db := seedNew(t)
	db.Exec(`
		insert into zapier_webhook_logs (id, event_type, event_id, status, attempt, next_retry_at, delivered_at, created_at)
		select concat_ws('-', s, age), 'thing.created', concat_ws('-', s, age), s, 1, now(), now(), now() - age * interval '1 day'
		from unnest(array['pending', 'success', 'failed', 'retrying', 'dead', 'skipped']) s, unnest(array[31, 29]) age`)
	// A retry that was made is closed: the earlier row of the same delivery need not stay.
	db.Exec(`
		insert into zapier_webhook_logs (id, event_type, event_id, status, attempt, next_retry_at, created_at) values
		('chain-1', 'thing.created', 'chain', 'retrying', 1, now(), now() - interval '40 days'),
		('chain-2', 'thing.created', 'chain', 'retrying', 2, now(), now() - interval '40 days'),
		('chain-3', 'thing.created', 'chain', 'dead', 3, null, now() - interval '40 days')`)

	require.EqualValues(t, 4+3, pgtest.One[int64](db, `select cleanup_old_zapier_webhook_logs(30)`))
	require.Equal(t, []string{
		"dead-29", "failed-29", "pending-29", "pending-31", "retrying-29", "retrying-31", "skipped-29", "success-29",
	}, pgtest.All[string](db, `select id from zapier_webhook_logs order by id`))
	require.EqualValues(t, 0, pgtest.One[int64](db, `select cleanup_old_zapier_webhook_logs()`), "the default keeps 90 days")
	require.EqualValues(t, 0, pgtest.One[int64](db, `select cleanup_old_zapier_webhook_logs(30)`))
}

func TestCleanupGoesOnPastOneBatch(t *testing.T) {
	db := seedNew(t)
	db.Exec(`drop index idx_zapier_webhook_logs_payload`) // not what is tested, and slow to fill
	db.Exec(`insert into zapier_webhook_logs (event_type, status, delivered_at, created_at)
		select 'thing.created', 'success', now(), now() - interval '91 days' from generate_series(1, 20001)`)
	require.EqualValues(t, 20001, pgtest.One[int64](db, `select cleanup_old_zapier_webhook_logs()`))
}

func TestCleanupRefusesToKeepNothing(t *testing.T) {
	db := seedNew(t)
	for _, days := range []string{"null", "0", "-1"} {
		_, err := db.Pool.Exec(t.Context(), `select cleanup_old_zapier_webhook_logs(`+days+`)`)
		var refusal *pgconn.PgError
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, "22023", refusal.Code)
		require.Contains(t, refusal.Message, "1 or more, got "+days)
	}
}

func TestCleanupFindsItsTableWhateverTheCallersSearchPath(t *testing.T) {
	db := seedNew(t)
	conn := db.Connect()
	_, err := conn.Exec(t.Context(), `set search_path = pg_catalog`)
	require.NoError(t, err)
	var deleted int64
	require.NoError(t, conn.QueryRow(t.Context(), `select public.cleanup_old_zapier_webhook_logs(1)`).Scan(&deleted))
}

func TestALogRowNeedsOnlyItsEventType(t *testing.T) {
	db := seedNew(t)
	_, err := db.Pool.CopyFrom(t.Context(), pgx.Identifier{"zapier_webhook_logs"}, []string{"event_type"}, pgx.CopyFromRows([][]any{{"thing.created"}}))
	require.NoError(t, err)
	require.Equal(t, "pending 1 true", pgtest.One[string](db, `
		select concat_ws(' ', status, attempt, (created_at > now() - interval '1 minute')::text) from zapier_webhook_logs`))
}
