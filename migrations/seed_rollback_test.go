package migrations_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// seedFill puts rows into every seeded table, with times in the past, references between
// them, and values only a careful copy keeps.
func seedFill(t *testing.T, db *pgtest.DB) {
	t.Helper()
	db.Exec(`
		insert into users (id, name, email) values ('ada', 'Ada', 'ada@example.com'), ('ben', 'Ben', 'ben@example.com');
		insert into accounts (id, account_id, provider_id, user_id, access_token, refresh_token, scope, provider_type, team_id,
		        tenant_id, refresh_token_encrypted, expires_at_timestamp, scope_granted, token_data, created_at, updated_at) values
		    ('a1', '1', 'github', 'ada', 'at1', 'rt1', 'repo', 'github', null, null, 'enc:1', null, 'repo', '{"n": 1.50}', '2024-01-01', '2024-02-01'),
		    ('a2', '2', 'vercel', 'ada', 'at2', null, null, 'vercel', 'team', null, null, 1767225600000, '', null, '2024-01-02', '2024-02-02'),
		    ('a3', '3', 'azure', 'ben', 'at3', null, null, 'azure', null, 'tenant', null, null, null, 'null', '2024-01-03', '2024-02-03'),
		    ('a4', '4', 'credential', 'ben', null, null, null, null, null, null, null, null, null, null, '2024-01-04', '2024-02-04');

		insert into oauth_clients (id, client_id, client_secret_hash, name, description, redirect_uris, allowed_scopes, client_type,
		        status, status_reason, status_changed_at, total_tokens_issued, webhook_url, webhook_secret, webhook_events,
		        metadata, created_by, created_at, updated_at) values
		    ('c1', 'zapier', '$2b$10$' || repeat('x', 53), 'Zapier', 'Zaps', array['https://z.example/cb', 'https://z.example/cb2'],
		        array['openid', 'api:read'], 'confidential', 'suspended', 'abuse', '2024-03-01', 7, 'https://z.example/hook', 'enc:s',
		        array['token.revoked'], '{"a": [1, null]}', 'ada', '2024-01-01', '2024-02-01'),
		    ('c2', 'cli', null, 'CLI', null, array['http://127.0.0.1/cb'], '{}', 'public', 'active', null, '2024-03-01', 0, null, null,
		        '{}', '{}', 'ben', '2024-01-01', '2024-02-01');
		insert into oauth_authorization_codes (id, code_hash, client_id, user_id, redirect_uri, scopes, code_challenge,
		        code_challenge_method, state, nonce, ip_address, user_agent, expires_at, used_at, created_at) values
		    ('o1', repeat('1', 64), 'zapier', 'ada', 'https://z.example/cb', array['openid'], repeat('a', 43), 'S256', 's', 'n',
		        '2001:db8::1', 'curl', '2024-01-01 00:05+00', '2024-01-01 00:01+00', '2024-01-01 00:00+00'),
		    ('o2', repeat('2', 64), 'cli', 'ben', 'http://127.0.0.1/cb', '{}', null, null, null, null, null, null,
		        '2024-01-01 00:10+00', null, '2024-01-01 00:00+00');
		insert into oauth_tokens (id, access_token_hash, refresh_token_hash, client_id, user_id, authorization_code_id, parent_token_id,
		        family_id, scopes, access_token_expires_at, refresh_token_expires_at, revoked_at, revoked_reason, use_count, created_at) values
		    ('k1', repeat('1', 64), repeat('a', 64), 'zapier', 'ada', 'o1', null, 'f', array['openid'], '2024-02-01', '2024-03-01', '2024-01-09', 'rotated', 3, '2024-01-01'),
		    ('k2', repeat('2', 64), repeat('b', 64), 'zapier', 'ada', 'o1', 'k1', 'f', array['openid'], '2024-02-01', '2024-03-01', null, null, 0, '2024-01-09'),
		    ('k3', repeat('3', 64), null, 'cli', 'ben', 'o2', null, 'g', '{}', '2024-02-01', null, null, null, 0, '2024-01-01'),
		    ('k4', repeat('4', 64), null, 'cli', 'ada', 'o2', 'k3', 'g', '{}', '2024-02-01', null, null, null, 0, '2024-01-01');

		update zapier_webhook_events set enabled = false, payload_schema = '{"type": "object", "required": ["id"]}'
		where event_type = 'function.called';
		insert into zapier_webhook_events values ('order.paid', 'order', 'An order was paid.', '{}', true, '2024-01-01');
		insert into zapier_webhooks (id, user_id, tenant_id, client_id, target_url, event_type, filters, status, total_triggers,
		        success_count, failure_count, consecutive_failures, signing_secret, zapier_subscription_id, zapier_metadata,
		        last_triggered_at, created_at, updated_at) values
		    ('w1', 'ada', 'team', 'zapier', 'https://h.example/1', 'thing.created', '{"type": "Function", "ns": "onet"}', 'active', 9, 7, 2, 1,
		        'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'sub-1', '{"zap": 10.0}', '2024-05-01', '2024-01-01', '2024-02-01'),
		    ('w2', 'ben', null, 'cli', 'https://h.example/2', 'order.paid', '{}', 'inactive', 0, 0, 0, 0, null, null,
		        '{"disabled": {"status": 410}}', null, '2024-01-01', '2024-02-01');
		insert into zapier_webhook_logs (id, webhook_id, event_type, event_id, target_url, status, attempt, request_headers, payload,
		        response_status, response_headers, response_body, duration_ms, error_message, next_retry_at, delivered_at, created_at) values
		    ('l1', 'w1', 'thing.created', 'evt_1', 'https://h.example/1', 'success', 1, '{"a": "b"}', '{"n": 12345678901234567890.10}', 200, '{}', 'ok', 12,
		        null, null, '2024-05-01', '2024-05-01'),
		    ('l2', 'w2', 'order.paid', 'evt_2', 'https://h.example/2', 'retrying', 2, null, null, 500, null, E'line\none', 0, 'answered 500',
		        '2024-06-01', null, '2024-05-01'),
		    ('l3', null, 'thing.created', 'evt_3', null, 'dead', 6, null, null, null, null, null, null, 'refused', null, null, '2024-05-01')`)
}

// seedChecksums returns one checksum per seeded table, and one for the original accounts columns.
func seedChecksums(t *testing.T, db *pgtest.DB) map[string]string {
	t.Helper()
	sums := map[string]string{"original accounts": seedAccountsChecksum(db)}
	for _, table := range seedTables {
		sums[table] = pgtest.One[string](db, `select md5(coalesce(string_agg(r::text, E'\n' order by r::text), '')) from `+table+` r`)
	}
	return sums
}

func seedAccountsChecksum(db *pgtest.DB) string {
	return pgtest.One[string](db, `
		select md5(string_agg(r::text, E'\n' order by r::text)) from (
		    select id, account_id, provider_id, user_id, access_token, refresh_token, id_token, access_token_expires_at,
		           refresh_token_expires_at, scope, password, created_at, updated_at
		    from accounts) r`)
}

func seedBackedUp(db *pgtest.DB) []string {
	return pgtest.All[string](db, `
		select relname::text from pg_class where relnamespace = to_regnamespace('migration_backup') order by 1`)
}

func TestSeedUpDownUpKeepsEveryRow(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	before := seedChecksums(t, db)

	seedDown(t, db)
	require.Equal(t, before["original accounts"], seedAccountsChecksum(db))
	require.Equal(t, seedBackups, seedBackedUp(db))

	seedRun(t, db, seedFiles...)
	require.Equal(t, before, seedChecksums(t, db))
	require.Empty(t, seedBackedUp(db), "what was restored is not kept twice")
	seedRequireShapes(t, db)
}

func TestSeedRollbackLeavesNothingOfTheSeed(t *testing.T) {
	db := seedBase(t)
	before := seedCatalog(db)
	seedRun(t, db, seedFiles...)
	seedFill(t, db)

	seedDown(t, db)
	require.Equal(t, before, seedCatalog(db))
	seedDown(t, db) // a second time changes nothing and keeps the copies
	require.Equal(t, before, seedCatalog(db))
	require.Equal(t, seedBackups, seedBackedUp(db))
	require.Equal(t, 2, pgtest.One[int](db, `select count(*)::int from migration_backup.zapier_webhooks_014`))
}

func TestSeedBackupIsClosedToThePublic(t *testing.T) {
	db := seedNew(t)
	db.Exec(`alter default privileges grant select on tables to public`)
	db.Exec(`alter default privileges grant usage on schemas to public`)
	seedFill(t, db)
	seedDown(t, db)
	require.Zero(t, pgtest.One[int](db, `
		select count(*)::int from pg_class c cross join lateral aclexplode(c.relacl) a
		where c.relnamespace = 'migration_backup'::regnamespace and a.grantee = 0`))
	require.Zero(t, pgtest.One[int](db, `
		select count(*)::int from pg_namespace n cross join lateral aclexplode(n.nspacl) a
		where n.nspname = 'migration_backup' and a.grantee = 0`))
}

func TestSeedBackupTakesOnlyAccountsWithConnectionValues(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	seedDown(t, db)
	require.Equal(t, []string{"a1", "a2", "a3"}, pgtest.All[string](db, `select id from migration_backup.accounts_012 order by id`))
}

func TestSeedRestoreSkipsWhoeverWasDeletedMeanwhile(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	seedDown(t, db)
	db.Exec(`delete from users where id = 'ben'`)
	seedRun(t, db, seedFiles...)

	require.Equal(t, []string{"a1", "a2"}, pgtest.All[string](db, `select id from accounts order by id`))
	require.Equal(t, []string{"cli -", "zapier ada"},
		pgtest.All[string](db, `select client_id || ' ' || coalesce(created_by, '-') from oauth_clients order by 1`))
	require.Equal(t, []string{"o1"}, pgtest.All[string](db, `select id from oauth_authorization_codes`))
	// k4 is Ada's, but its code and parent were Ben's.
	require.Equal(t, []string{"k1 - o1", "k2 k1 o1", "k4 - -"}, pgtest.All[string](db, `
		select concat_ws(' ', id, coalesce(parent_token_id, '-'), coalesce(authorization_code_id, '-')) from oauth_tokens order by id`))
	require.Equal(t, []string{"w1"}, pgtest.All[string](db, `select id from zapier_webhooks`))
	require.Equal(t, []string{"l1 w1", "l2 -", "l3 -"},
		pgtest.All[string](db, `select id || ' ' || coalesce(webhook_id, '-') from zapier_webhook_logs order by id`))
	require.Empty(t, seedBackedUp(db))
}

func TestSeedRestoreKeepsAnEventSwitchedOff(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	seedDown(t, db)
	seedRun(t, db, seedFiles...)
	require.Equal(t, []string{"function.called"}, pgtest.All[string](db, `select event_type from zapier_webhook_events where not enabled`))
	require.Equal(t, 13, pgtest.One[int](db, `select count(*)::int from zapier_webhook_events`))
}

func TestSeedRestoredClientOutlivesAWebhookOfALostClient(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	seedRun(t, db, "014_zapier_webhooks_rollback")
	db.Exec(`delete from oauth_clients where client_id = 'zapier'`)
	seedRun(t, db, "014_zapier_webhooks")
	require.Equal(t, []string{"w1 -", "w2 cli"},
		pgtest.All[string](db, `select id || ' ' || coalesce(client_id, '-') from zapier_webhooks order by id`))
}

func TestSeedRollbackOutOfOrderIsRefused(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	before, catalog := seedChecksums(t, db), seedCatalog(db)
	out, err := db.Psql("-f", "013_oauth_clients_rollback.sql")
	require.Error(t, err)
	require.Contains(t, out, "roll back 014 first")

	for _, later := range []struct{ table, migration string }{
		{"webhook_previous_secrets", "022"}, {"webhook_deliveries", "018"}, {"event_mappings", "016"}, {"outbox_events", "015"},
	} {
		db.Exec(`create table ` + later.table + ` (event_type text references zapier_webhook_events)`)
		out, err := db.Psql("-f", "014_zapier_webhooks_rollback.sql")
		require.Error(t, err)
		require.Contains(t, out, later.table)
		require.Contains(t, out, "roll back "+later.migration+" first")
		db.Exec(`drop table ` + later.table)
	}
	require.Equal(t, before, seedChecksums(t, db))
	require.Equal(t, catalog, seedCatalog(db))
	require.Empty(t, seedBackedUp(db))
}

func TestSeedFilesRunUnderPlainPsql(t *testing.T) {
	db := seedBase(t)
	psql := func(name string) {
		t.Helper()
		out, err := db.Psql("-f", name+".sql")
		require.NoError(t, err, out)
	}
	for range 2 {
		for _, name := range seedFiles {
			psql(name)
		}
		for _, name := range slices.Backward(seedFiles) {
			psql(name + "_rollback")
		}
	}
}

func TestSeedRefusesAForeignSchema(t *testing.T) {
	for name, test := range map[string]struct{ before, file, want string }{
		"camelCase columns": {
			`alter table accounts rename column user_id to "userId"`, seedFiles[0], `camelCase column names ("userId")`,
		},
		"no users.email": {`alter table users drop column email`, seedFiles[0], "lacks: users.email"},
		"no accounts":    {`drop table accounts`, seedFiles[0], "lacks: accounts.user_id"},
		"no trigger function": {
			`drop function update_updated_at_column() cascade`, seedFiles[0], "lacks: update_updated_at_column()",
		},
		"a table oauth_connections": {
			`create table oauth_connections (id text)`, seedFiles[0], "oauth_connections exists and is not a view",
		},
		"an older oauth_clients": {
			`create table oauth_clients (id text, client_secret text)`, seedFiles[1], "oauth_clients exists with another shape",
		},
		"an older zapier_webhooks": {
			`create table zapier_webhooks (id text, event text)`, seedFiles[2], "zapier_webhooks exists with another shape",
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := seedBase(t)
			db.Exec(test.before)
			before := seedCatalog(db)
			out, err := db.Psql("-f", test.file+".sql")
			require.Error(t, err)
			require.Contains(t, out, test.want)
			require.Contains(t, out, "HINT")
			require.Equal(t, before, seedCatalog(db))
		})
	}
}

func TestSeedRollbackSparesATableNamedOAuthConnections(t *testing.T) {
	db := seedBase(t)
	db.Exec(`create table oauth_connections (id text)`)
	before := seedCatalog(db)
	seedRun(t, db, "012_oauth_accounts_enhancement_rollback")
	require.Equal(t, before, seedCatalog(db))
}

func TestAnInvalidIndexIsBuiltAgain(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	catalog := seedCatalog(db)
	db.Exec(`drop index idx_accounts_user_provider`)
	out, err := db.Psql("-c", `create unique index concurrently idx_accounts_user_provider on accounts (user_id)`)
	require.Error(t, err, "Ada has two accounts")
	require.Contains(t, out, "could not create unique index")

	seedRun(t, db, seedFiles[0])
	require.Equal(t, catalog, seedCatalog(db))
	seedRequireShapes(t, db)
}
