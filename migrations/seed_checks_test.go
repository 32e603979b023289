package migrations_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

const (
	seedHash   = "repeat('a', 64)"
	seedBcrypt = "'$2b$10$' || repeat('x', 53)"
)

// seedValid holds, for every table, a row that the table takes. The rows refer to user u1,
// client app and each other's tables only through those two.
var seedValid = map[string]seedRow{
	"accounts": {
		"id": "'a1'", "account_id": "'acc'", "provider_id": "'github'", "user_id": "'u1'", "provider_type": "'github'",
	},
	"oauth_clients": {
		"client_id": "'new-app'", "name": "'App'", "client_type": "'confidential'", "client_secret_hash": seedBcrypt,
		"redirect_uris": "array['https://app.example/callback']",
	},
	"oauth_authorization_codes": {
		"code_hash": seedHash, "client_id": "'app'", "user_id": "'u1'", "redirect_uri": "'https://app.example/callback'",
	},
	"oauth_tokens": {
		"access_token_hash": seedHash, "client_id": "'app'", "user_id": "'u1'",
		"access_token_expires_at": "now() + interval '1 hour'",
	},
	"zapier_webhooks": {
		"user_id": "'u1'", "target_url": "'https://hooks.example/1'", "event_type": "'thing.created'",
	},
	"zapier_webhook_logs":   {"event_type": "'thing.created'"},
	"zapier_webhook_events": {"event_type": "'order.paid'", "category": "'order'", "description": "'An order was paid.'"},
}

// seedPeople adds what the rows of seedValid refer to.
func seedPeople(db *pgtest.DB) {
	db.Exec(`insert into users (id, name, email) values ('u1', 'Ada', 'ada@example.com'), ('u2', 'Ben', 'ben@example.com')`)
	db.Exec(seedValid["oauth_clients"].with(seedRow{"client_id": "'app'", "status": "'active'", "created_by": "'u2'"}).insert("oauth_clients"))
}

// violation is a row that only the named constraint refuses.
type violation struct {
	constraint string
	change     seedRow // to the table's valid row
}

var seedViolations = map[string][]violation{
	"accounts": {
		{"accounts_provider_type_check", seedRow{"provider_type": "'gitlab'"}},
		{"accounts_expires_at_timestamp_check", seedRow{"expires_at_timestamp": "253402300800000"}},
		{"accounts_expires_at_timestamp_check", seedRow{"expires_at_timestamp": "-1"}},
	},
	"oauth_clients": {
		{"oauth_clients_client_id_check", seedRow{"client_id": "'a:b'"}},
		{"oauth_clients_client_id_check", seedRow{"client_id": "''"}},
		{"oauth_clients_client_id_check", seedRow{"client_id": "repeat('a', 129)"}},
		{"oauth_clients_name_check", seedRow{"name": "'  '"}},
		{"oauth_clients_name_check", seedRow{"name": "repeat('a', 256)"}},
		{"oauth_clients_client_type_check", seedRow{"client_type": "'native'", "client_secret_hash": "null"}},
		{"oauth_clients_client_secret_hash_check", seedRow{"client_secret_hash": "'hunter2'"}},
		{"oauth_clients_client_secret_hash_check", seedRow{"client_secret_hash": "'$2b$09$' || repeat('x', 53)"}},
		{"oauth_clients_secret_by_type_check", seedRow{"client_secret_hash": "null"}},
		{"oauth_clients_secret_by_type_check", seedRow{"client_type": "'public'"}},
		{"oauth_clients_public_pkce_check", seedRow{"client_type": "'public'", "client_secret_hash": "null", "require_pkce": "false"}},
		{"oauth_clients_logo_url_check", seedRow{"logo_url": "'javascript:alert(1)'"}},
		{"oauth_clients_homepage_url_check", seedRow{"homepage_url": "'data:text/html,x'"}},
		{"oauth_clients_redirect_uris_check", seedRow{"redirect_uris": "'{}'"}},
		{"oauth_clients_redirect_uris_check", seedRow{"redirect_uris": "array['https://app.example', null]"}},
		{"oauth_clients_redirect_uris_check", seedRow{"redirect_uris": "array_fill('https://app.example'::text, array[51])"}},
		{"oauth_clients_allowed_scopes_check", seedRow{"allowed_scopes": "array[null]::text[]"}},
		{"oauth_clients_access_token_lifetime_check", seedRow{"access_token_lifetime": "59"}},
		{"oauth_clients_access_token_lifetime_check", seedRow{"access_token_lifetime": "86401"}},
		{"oauth_clients_refresh_token_lifetime_check", seedRow{"refresh_token_lifetime": "3599"}},
		{"oauth_clients_refresh_token_lifetime_check", seedRow{"refresh_token_lifetime": "31536001"}},
		{"oauth_clients_status_check", seedRow{"status": "'deleted'"}},
		{"oauth_clients_status_reason_check", seedRow{"status": "'suspended'"}},
		{"oauth_clients_status_reason_check", seedRow{"status": "'revoked'", "status_reason": "' '"}},
		{"oauth_clients_counters_check", seedRow{"total_authorizations": "-1"}},
		{"oauth_clients_counters_check", seedRow{"total_tokens_issued": "-1"}},
		{"oauth_clients_rate_limit_per_hour_check", seedRow{"rate_limit_per_hour": "0"}},
		{"oauth_clients_webhook_url_check", seedRow{"webhook_url": "'http://app.example/hook'", "webhook_secret": "'s'"}},
		{"oauth_clients_webhook_secret_check", seedRow{"webhook_url": "'https://app.example/hook'"}},
		{"oauth_clients_webhook_events_check", seedRow{"webhook_events": "array[null]::text[]"}},
		{"oauth_clients_metadata_check", seedRow{"metadata": "'[]'"}},
		{"oauth_clients_client_id_key", seedRow{"client_id": "'app'"}},
		{"oauth_clients_created_by_fkey", seedRow{"created_by": "'nobody'"}},
	},
	"oauth_authorization_codes": {
		{"oauth_authorization_codes_code_hash_check", seedRow{"code_hash": "'dac_plain'"}},
		{"oauth_authorization_codes_code_hash_check", seedRow{"code_hash": "repeat('A', 64)"}},
		{"oauth_authorization_codes_redirect_uri_check", seedRow{"redirect_uri": "' '"}},
		{"oauth_authorization_codes_scopes_check", seedRow{"scopes": "array[null]::text[]"}},
		{"oauth_authorization_codes_pkce_pair_check", seedRow{"code_challenge": "repeat('a', 43)"}},
		{"oauth_authorization_codes_pkce_pair_check", seedRow{"code_challenge_method": "'S256'"}},
		{"oauth_authorization_codes_code_challenge_check", seedRow{"code_challenge": "repeat('a', 42)", "code_challenge_method": "'S256'"}},
		{"oauth_authorization_codes_code_challenge_check", seedRow{"code_challenge": "repeat('a', 129)", "code_challenge_method": "'S256'"}},
		{"oauth_authorization_codes_code_challenge_check", seedRow{"code_challenge": "repeat('=', 43)", "code_challenge_method": "'S256'"}},
		{"oauth_authorization_codes_code_challenge_method_check", seedRow{"code_challenge": "repeat('a', 43)", "code_challenge_method": "'S512'"}},
		{"oauth_authorization_codes_expires_at_check", seedRow{"expires_at": "now() + interval '10 minutes 1 second'"}},
		{"oauth_authorization_codes_expires_at_check", seedRow{"expires_at": "now()"}},
		{"oauth_authorization_codes_used_at_check", seedRow{"used_at": "now() - interval '1 second'"}},
		{"oauth_authorization_codes_client_id_fkey", seedRow{"client_id": "'nobody'"}},
		{"oauth_authorization_codes_user_id_fkey", seedRow{"user_id": "'nobody'"}},
	},
	"oauth_tokens": {
		{"oauth_tokens_access_token_hash_check", seedRow{"access_token_hash": "'dat_plain'"}},
		{"oauth_tokens_refresh_token_hash_check", seedRow{"refresh_token_hash": "'drt_plain'", "refresh_token_expires_at": "now() + interval '1 day'"}},
		{"oauth_tokens_distinct_hashes_check", seedRow{"refresh_token_hash": seedHash, "refresh_token_expires_at": "now() + interval '1 day'"}},
		{"oauth_tokens_refresh_pair_check", seedRow{"refresh_token_hash": "repeat('b', 64)"}},
		{"oauth_tokens_refresh_pair_check", seedRow{"refresh_token_expires_at": "now() + interval '1 day'"}},
		{"oauth_tokens_scopes_check", seedRow{"scopes": "array[null]::text[]"}},
		{"oauth_tokens_access_token_expires_at_check", seedRow{"access_token_expires_at": "now()"}},
		{"oauth_tokens_refresh_token_expires_at_check", seedRow{"refresh_token_hash": "repeat('b', 64)", "refresh_token_expires_at": "now()"}},
		{"oauth_tokens_revoked_pair_check", seedRow{"revoked_at": "now()"}},
		{"oauth_tokens_revoked_pair_check", seedRow{"revoked_reason": "'user'"}},
		{"oauth_tokens_revoked_reason_check", seedRow{"revoked_at": "now()", "revoked_reason": "'whim'"}},
		{"oauth_tokens_use_count_check", seedRow{"use_count": "-1"}},
		{"oauth_tokens_client_id_fkey", seedRow{"client_id": "'nobody'"}},
		{"oauth_tokens_user_id_fkey", seedRow{"user_id": "'nobody'"}},
		{"oauth_tokens_authorization_code_id_fkey", seedRow{"authorization_code_id": "'none'"}},
		{"oauth_tokens_parent_token_id_fkey", seedRow{"parent_token_id": "'none'"}},
	},
	"zapier_webhooks": {
		{"zapier_webhooks_target_url_check", seedRow{"target_url": "''"}},
		{"zapier_webhooks_target_url_check", seedRow{"target_url": "'ftp://hooks.example/'"}},
		{"zapier_webhooks_target_url_check", seedRow{"target_url": "'https:///path'"}},
		{"zapier_webhooks_target_url_check", seedRow{"target_url": "'https://hooks.example/a b'"}},
		{"zapier_webhooks_target_url_check", seedRow{"target_url": "E'https://hooks.example/\\r\\nx: y'"}},
		{"zapier_webhooks_target_url_check", seedRow{"target_url": "E'https://hooks.example/\\n'"}},
		{"zapier_webhooks_target_url_check", seedRow{"target_url": "'https://hooks.example/' || repeat('a', 2027)"}},
		{"zapier_webhooks_filters_check", seedRow{"filters": "'[]'"}},
		{"zapier_webhooks_filters_check", seedRow{"filters": "'null'"}},
		{"zapier_webhooks_filters_size_check", seedRow{"filters": "jsonb_build_object('a', repeat('x', 16376))"}},
		{"zapier_webhooks_status_check", seedRow{"status": "'paused'"}},
		{"zapier_webhooks_counters_check", seedRow{"total_triggers": "-1"}},
		{"zapier_webhooks_counters_check", seedRow{"success_count": "-1"}},
		{"zapier_webhooks_counters_check", seedRow{"failure_count": "-1"}},
		{"zapier_webhooks_counters_check", seedRow{"consecutive_failures": "-1"}},
		{"zapier_webhooks_max_retries_check", seedRow{"max_retries": "-1"}},
		{"zapier_webhooks_max_retries_check", seedRow{"max_retries": "101"}},
		{"zapier_webhooks_retry_backoff_seconds_check", seedRow{"retry_backoff_seconds": "0"}},
		{"zapier_webhooks_retry_backoff_seconds_check", seedRow{"retry_backoff_seconds": "86401"}},
		{"zapier_webhooks_max_triggers_per_hour_check", seedRow{"max_triggers_per_hour": "0"}},
		{"zapier_webhooks_signing_secret_check", seedRow{"signing_secret": "' '"}},
		{"zapier_webhooks_zapier_metadata_check", seedRow{"zapier_metadata": "'1'"}},
		{"zapier_webhooks_event_type_fkey", seedRow{"event_type": "'thing.painted'"}},
		{"zapier_webhooks_user_id_fkey", seedRow{"user_id": "'nobody'"}},
		{"zapier_webhooks_client_id_fkey", seedRow{"client_id": "'nobody'"}},
	},
	"zapier_webhook_logs": {
		{"zapier_webhook_logs_status_check", seedRow{"status": "'lost'"}},
		{"zapier_webhook_logs_next_retry_at_check", seedRow{"status": "'retrying'"}},
		{"zapier_webhook_logs_delivered_at_check", seedRow{"status": "'success'"}},
		{"zapier_webhook_logs_attempt_check", seedRow{"attempt": "0"}},
		{"zapier_webhook_logs_response_status_check", seedRow{"response_status": "99"}},
		{"zapier_webhook_logs_response_status_check", seedRow{"response_status": "600"}},
		{"zapier_webhook_logs_response_body_check", seedRow{"response_body": "repeat('x', 65537)"}},
		{"zapier_webhook_logs_duration_ms_check", seedRow{"duration_ms": "-1"}},
		{"zapier_webhook_logs_webhook_id_fkey", seedRow{"webhook_id": "'none'"}},
	},
	"zapier_webhook_events": {
		{"zapier_webhook_events_event_type_check", seedRow{"event_type": "'order'"}},
		{"zapier_webhook_events_event_type_check", seedRow{"event_type": "'Order.Paid'"}},
		{"zapier_webhook_events_event_type_check", seedRow{"event_type": "'order.paid.twice'"}},
		{"zapier_webhook_events_event_type_check", seedRow{"event_type": "'order.' || repeat('a', 95)"}},
		{"zapier_webhook_events_category_check", seedRow{"category": "''"}},
		{"zapier_webhook_events_payload_schema_check", seedRow{"payload_schema": "'true'"}},
		{"zapier_webhook_events_pkey", seedRow{"event_type": "'thing.created'"}},
	},
}

// seedDuplicates are second rows that only the named unique index or constraint refuses;
// the first row is the valid row with before.
var seedDuplicates = map[string][]struct {
	constraint    string
	before, again seedRow
}{
	"accounts": {
		{"accounts_oauth_connection_key", nil, seedRow{"id": "'a2'"}},
		{"accounts_oauth_connection_key", seedRow{"team_id": "'t'"}, seedRow{"id": "'a2'", "team_id": "'t'"}},
		{"accounts_pkey", nil, seedRow{"account_id": "'other'"}},
		{"accounts_user_id_fkey", nil, seedRow{"id": "'a2'", "user_id": "'nobody'"}},
	},
	"oauth_clients": {
		{"oauth_clients_pkey", seedRow{"id": "'c'"}, seedRow{"id": "'c'", "client_id": "'other'"}},
	},
	"oauth_authorization_codes": {
		{"oauth_authorization_codes_code_hash_key", nil, nil},
		{"oauth_authorization_codes_pkey", seedRow{"id": "'c'"}, seedRow{"id": "'c'", "code_hash": "repeat('b', 64)"}},
	},
	"oauth_tokens": {
		{"oauth_tokens_access_token_hash_key", nil, nil},
		{
			"oauth_tokens_refresh_token_hash_key",
			seedRow{"refresh_token_hash": "repeat('b', 64)", "refresh_token_expires_at": "now() + interval '1 day'"},
			seedRow{"access_token_hash": "repeat('c', 64)", "refresh_token_hash": "repeat('b', 64)", "refresh_token_expires_at": "now() + interval '1 day'"},
		},
		{"oauth_tokens_pkey", seedRow{"id": "'k'"}, seedRow{"id": "'k'", "access_token_hash": "repeat('c', 64)"}},
	},
	"zapier_webhooks": {
		{"zapier_webhooks_target_url_event_type_key", nil, seedRow{"user_id": "'u2'"}},
		{
			"zapier_webhooks_zapier_subscription_id_key",
			seedRow{"zapier_subscription_id": "'s'"},
			seedRow{"zapier_subscription_id": "'s'", "event_type": "'thing.updated'"},
		},
		{"zapier_webhooks_pkey", seedRow{"id": "'w'"}, seedRow{"id": "'w'", "event_type": "'thing.updated'"}},
	},
	"zapier_webhook_logs": {
		{"zapier_webhook_logs_pkey", seedRow{"id": "'l'"}, seedRow{"id": "'l'"}},
	},
}

// seedRefused runs sql and returns the constraint that refused it. Nothing is kept.
func seedRefused(t *testing.T, db *pgtest.DB, sql ...string) string {
	t.Helper()
	ctx := t.Context()
	tx, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	for _, statement := range sql[:len(sql)-1] {
		_, err = tx.Exec(ctx, statement)
		require.NoError(t, err, statement)
	}
	_, err = tx.Exec(ctx, sql[len(sql)-1])
	var refusal *pgconn.PgError
	require.ErrorAs(t, err, &refusal, "accepted: %s", sql[len(sql)-1])
	return refusal.ConstraintName
}

func TestEveryConstraintRefusesItsViolation(t *testing.T) {
	db := seedNew(t)
	seedPeople(db)
	covered := map[string]bool{}
	for table, violations := range seedViolations {
		for _, v := range violations {
			statement := seedValid[table].with(v.change).insert(table)
			require.Equal(t, v.constraint, seedRefused(t, db, statement), statement)
			covered[v.constraint] = true
		}
	}
	for table, duplicates := range seedDuplicates {
		for _, d := range duplicates {
			first, second := seedValid[table].with(d.before).insert(table), seedValid[table].with(d.again).insert(table)
			require.Equal(t, d.constraint, seedRefused(t, db, first, second), second)
			covered[d.constraint] = true
		}
	}

	constraints := pgtest.All[string](db, `
		select conname::text from pg_constraint where conrelid = any ($1::text[]::regclass[])
		union
		select indexrelid::regclass::text from pg_index where indrelid = any ($1::text[]::regclass[]) and indisunique`, seedTables)
	for _, name := range constraints {
		require.True(t, covered[name], "no row violates %s", name)
	}
	require.Len(t, covered, len(constraints))
}

func TestConstraintsAdmitTheirBounds(t *testing.T) {
	db := seedNew(t)
	seedPeople(db)
	admitted := map[string][]seedRow{
		"accounts": {
			{"expires_at_timestamp": "253402300799999"},
			{"id": "'a3'", "provider_type": "null"},
			{"id": "'a4'", "provider_type": "null"}, // sign-in accounts may repeat
			{"id": "'a5'", "team_id": "'t1'"},
			{"id": "'a6'", "tenant_id": "'t1'"},
		},
		"oauth_clients": {
			{"redirect_uris": "array_fill('https://app.example'::text, array[50])", "access_token_lifetime": "60", "refresh_token_lifetime": "31536000"},
			{"client_id": "'spa'", "client_type": "'public'", "client_secret_hash": "null"},
			{"client_id": "'gone'", "status": "'revoked'", "status_reason": "'abuse'", "webhook_url": "'https://app.example/h'", "webhook_secret": "'s'"},
		},
		"oauth_authorization_codes": {
			{"expires_at": "now() + interval '10 minutes'", "used_at": "now()", "code_challenge": "repeat('a', 128)", "code_challenge_method": "'plain'"},
		},
		"oauth_tokens": {
			{"refresh_token_hash": "repeat('b', 64)", "refresh_token_expires_at": "now() + interval '30 days'", "revoked_at": "now()", "revoked_reason": "'rotated'"},
		},
		"zapier_webhooks": {
			{"target_url": "'HTTP://127.0.0.1:9/' || repeat('ä', 1014)", "signing_secret": "'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'"},
			{"target_url": "'https://[::1]:9/'", "filters": "jsonb_build_object('a', repeat('x', 16375))", "max_retries": "0"},
			{"target_url": "'https://a'", "max_retries": "100", "retry_backoff_seconds": "86400", "max_triggers_per_hour": "1"},
		},
		"zapier_webhook_logs": {
			{"response_body": "repeat('x', 65536)", "response_status": "599", "duration_ms": "0", "status": "'skipped'"},
			{"status": "'retrying'", "next_retry_at": "now()"},
			{"status": "'success'", "delivered_at": "now()"},
		},
		"zapier_webhook_events": {{"event_type": "'order_2.paid'"}},
	}
	for table, rows := range admitted {
		for _, change := range rows {
			db.Exec(seedValid[table].with(change).insert(table))
		}
	}
}

func TestALongTargetURLFitsItsUniqueIndex(t *testing.T) {
	db := seedNew(t)
	seedPeople(db)
	// Random digits, because Postgres would compress a repeated letter.
	db.Exec(`insert into zapier_webhooks (user_id, target_url, event_type)
		select 'u1', left('https://hooks.example/' || string_agg(md5(n::text), ''), 2048), 'workflow.completed'
		from generate_series(1, 80) n`)
	require.Equal(t, 2048, pgtest.One[int](db, `select octet_length(target_url) from zapier_webhooks`))
}

func TestEveryCheckIsNamedAfterItsTable(t *testing.T) {
	db := seedNew(t)
	for _, table := range seedTables {
		names := pgtest.All[string](db, `select conname::text from pg_constraint where conrelid = $1::text::regclass and contype = 'c'`, table)
		for _, name := range names {
			require.True(t, strings.HasPrefix(name, table+"_") && strings.HasSuffix(name, "_check"), name)
			require.NotRegexp(t, `\d$`, strings.TrimSuffix(name, "_check"), "Postgres numbered %s", name)
		}
	}
}
