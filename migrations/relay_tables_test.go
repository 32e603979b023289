package migrations_test

import (
	"encoding/json"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/migrations"
)

var relayTables = []string{
	"outbox_events", "relay_checkpoints", "relay_catalog_versions", "event_mappings",
	"webhook_deliveries", "webhook_dead_letters", "rate_limit_windows", "relay_backfills", "relay_backfill_chunks",
	"relay_stream_audits", "relay_stream_holes", "webhook_previous_secrets", "relay_parked_events",
}

// relayNew returns a database at the head of the migrations, with user u1 and webhook w1.
func relayNew(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	up(t, db, migrations.Options{})
	db.Exec(`insert into users (id, email) values ('u1', 'ada@example.com');
		insert into zapier_webhooks (id, user_id, target_url, event_type) values ('w1', 'u1', 'https://hooks.example/1', 'thing.created');
		insert into relay_backfills (id, slot_name, source_table) values ('b1', 'relay', 'public.things')`)
	return db
}

// relayFill puts rows into the relay's own tables and the samples; seedFill made their parents.
func relayFill(db *pgtest.DB) {
	db.Exec(`
		insert into things (ns, id, type, data) values ('onet', '15-1252.00', 'Occupation', '{"n": 1.50}');
		insert into relationships (ns, id, type, from_ns, from_id, to_ns, to_id) values ('onet', 'r1', 'isA', 'onet', 'a', 'onet', 'b');
		insert into agents (id, user_id, name) values ('agent-123', 'ada', 'Agent');
		insert into workflows (id, name) values ('wf-1', 'Flow');
		insert into workflow_runs (id, workflow_id, input) values ('run-456', 'wf-1', '[1]');

		insert into outbox_events (event_id, event_type, aggregate_type, aggregate_ns, aggregate_id, user_id, tenant_id, visibility, payload,
		        metadata, source_table, operation, commit_lsn, xid, occurred_at, recorded_at) values
		    ('evt_' || repeat('a', 26), 'order.paid', 'order', 'shop', '1', 'ada', 'team', 'public', '{"n": 1.50}', '{"aggregate_version": 1}',
		        'public.orders', 'insert', 'A/B', 77, '2024-01-01', '2024-01-02');
		select emit_event('function.created', '{"id": "f"}', user_id => 'ben');
		insert into relay_checkpoints values
		    ('capture', 'relay', 'lineage', '7012', 1, 'A/B', 'A/B:3:0', 'EVENTS', '2024-01-01', 9, '2024-01-02');
		insert into relay_catalog_versions values ('relay', 'A/B', '{"events": {}}', '2024-01-01');

		update event_mappings set enabled = false, updated_at = '2024-01-01' where id = 'default:things:insert:thing.created';
		delete from event_mappings where id = 'default:things:update:thing.updated';
		insert into event_mappings (id, event_type, source_table, operation, match_new, audience, redact_columns, priority) values
		    ('mine', 'order.paid', 'shop.orders', 'insert', '{"total": 1.50}', 'everyone', '{card}', 5);

		insert into webhook_deliveries (event_id, webhook_id, event_type, user_id, body, stream_seq, commit_lsn, state, attempt, next_attempt_at,
		        last_status, last_error, locked_by, locked_until, ordering_key, created_at, updated_at) values
		    ('evt_1', 'w1', 'thing.created', 'ada', '\x00ff', 7, 'A/B', 'retrying', 2, '2024-01-01', 500, 'answered 500', 'host:1', '2024-01-02', 'k',
		        '2024-01-01', '2024-01-02');
		insert into webhook_dead_letters (id, event_id, webhook_id, event_type, target_url, body, attempts, reason, created_at, replayed_at) values
		    ('d1', 'evt_2', 'w2', 'order.paid', 'https://h.example/2', '\x7b7d', 6, 'gone', '2024-01-01', null),
		    ('d2', 'evt_3', null, 'order.paid', 'https://h.example/3', '\x7b7d', 0, 'gone', '2024-01-01', '2024-01-02');

		insert into relay_backfills (id, slot_name, source_table, where_sql, state, cursor, chunk, rows_read, requested_at, updated_at) values
		    ('b1', 'relay', 'public.things', 'type is null', 'running', '{onet,15}', 3, 9, '2024-01-01', '2024-01-02');
		insert into relay_backfill_chunks values ('b1', 3, 'relay', '[{"k": ["onet", "15"]}]', '[]');

		insert into webhook_previous_secrets values ('w1', 'whsec_b2xk', '2024-01-03', '2024-01-02');

		insert into relay_parked_events values
		    ('relay', 'evt_4', 'order.paid', 'A/B', 4294967295, 1, 'lineage', 'public.orders', '7', 'ada', 'team', 'everyone', '2024-01-01',
		        '{"data":{"n":1.50}}', 'data lacks id', '2024-01-02', '2024-01-03', 'ada');

		insert into relay_stream_audits values
		    ('relay', 'EVENTS', '2024-01-01', '{"seq": 1}', '[{"seq": 9}]', 9, 'A/B:3:0', '2024-01-02', '2024-01-02');
		insert into relay_stream_holes values
		    ('relay', 'EVENTS', '2024-01-01', 'stream_hole', 3, 'A/B:1:0', 5, 'A/B:3:0', 'A/B', 'A/B', 1, 1, '2024-01-02', 10, '2024-01-03')`)
}

func TestRelayTablesHaveTheirColumns(t *testing.T) {
	db := relayNew(t)
	for table, want := range map[string]int{
		"users": 10, "accounts": 20, "things": 9, "relationships": 12, "agents": 10, "workflows": 8, "workflow_runs": 10,
		"outbox_events": 18, "relay_checkpoints": 13, "relay_catalog_versions": 4, "event_mappings": 19,
		"webhook_deliveries": 18, "webhook_dead_letters": 15, "rate_limit_windows": 4,
		"relay_backfills": 22, "relay_backfill_chunks": 5, "relay_stream_audits": 9, "relay_stream_holes": 15,
		"webhook_previous_secrets": 4, "relay_parked_events": 18,
	} {
		require.Equal(t, want, pgtest.One[int](db, `
			select count(*) from information_schema.columns where table_schema = 'public' and table_name = $1`, table), table)
	}
}

// relayValid holds, for every table, a row that the table takes.
var relayValid = map[string]seedRow{
	"outbox_events":          {"event_type": "'thing.created'", "payload": "'{}'"},
	"relay_checkpoints":      {"consumer": "'capture'", "slot_name": "'relay'", "lineage": "'l'"},
	"relay_catalog_versions": {"slot_name": "'relay'", "lsn": "'0/1'", "catalog": "'{}'"},
	"event_mappings":         {"event_type": "'thing.created'", "source_table": "'shop.orders'", "operation": "'update'", "audience": "'everyone'"},
	"webhook_deliveries": {
		"event_id": "'evt_1'", "webhook_id": "'w1'", "event_type": "'thing.created'", "body": "'{}'", "state": "'deferred'",
	},
	"webhook_dead_letters": {
		"event_id": "'evt_1'", "event_type": "'thing.created'", "target_url": "'https://h.example'", "body": "'{}'", "attempts": "1", "reason": "'gone'",
	},
	"rate_limit_windows":    {"scope": "'webhook'", "key": "'w1'", "window_start": "'2024-01-01'"},
	"relay_backfills":       {"slot_name": "'relay'", "source_table": "'public.things'"},
	"relay_backfill_chunks": {"backfill_id": "'b1'", "number": "1", "slot_name": "'relay'", "keys": "'[]'"},
	"relay_stream_audits":   {"slot_name": "'relay'", "stream": "'EVENTS'", "stream_created_at": "'2024-01-01'"},
	"relay_stream_holes": {
		"slot_name": "'relay'", "stream": "'EVENTS'", "stream_created_at": "'2024-01-01'", "reason": "'stream_hole'", "after_seq": "3", "before_seq": "5",
	},
	"webhook_previous_secrets": {"webhook_id": "'w1'", "signing_secret": "'whsec_b2xk'", "valid_until": "'2024-01-01'"},
	"relay_parked_events": {
		"slot_name": "'relay'", "event_id": "'evt_1'", "event_type": "'thing.created'", "commit_lsn": "'0/1'", "ordinal": "0", "event_index": "0",
		"lineage": "'l'", "source_table": "'public.things'", "occurred_at": "'2024-01-01'", "body": "'{}'", "reason": "'data lacks id'",
	},
}

const bigFilter = `jsonb_build_object('a', repeat('x', 16384))`

var relayViolations = map[string][]violation{
	"webhook_previous_secrets": {
		{"webhook_previous_secrets_webhook_id_fkey", seedRow{"webhook_id": "'nobody'"}},
		{"webhook_previous_secrets_signing_secret_check", seedRow{"signing_secret": "' '"}},
		{"webhook_previous_secrets_valid_until_check", seedRow{"valid_until": "'infinity'"}},
	},
	"relay_parked_events": {
		{"relay_parked_events_visibility_check", seedRow{"visibility": "'row'"}},
		{"relay_parked_events_released_check", seedRow{"released_by": "'ada'"}},
	},
	"outbox_events": {
		{"outbox_events_event_id_check", seedRow{"event_id": "'evt_1'"}},
		{"outbox_events_event_type_fkey", seedRow{"event_type": "'order.paid'"}},
		{"outbox_events_aggregate_check", seedRow{"aggregate_id": "'1'"}},
		{"outbox_events_visibility_check", seedRow{"visibility": "'secret'"}},
		{"outbox_events_payload_check", seedRow{"payload": "'[]'"}},
		{"outbox_events_metadata_check", seedRow{"metadata": "'[]'"}},
		{"outbox_events_aggregate_version_check", seedRow{"metadata": `'{"aggregate_version": 1}'`}},
		{"outbox_events_aggregate_version_check", seedRow{"aggregate_type": "'a'", "aggregate_id": "'1'", "metadata": `'{"aggregate_version": 0}'`}},
		{"outbox_events_source_check", seedRow{"source": "'cron'"}},
		{"outbox_events_operation_check", seedRow{"operation": "'upsert'"}},
		{"outbox_events_xid_check", seedRow{"xid": "-1"}},
	},
	"relay_checkpoints": {
		{"relay_checkpoints_lineage_check", seedRow{"lineage": "''"}},
		{"relay_checkpoints_timeline_check", seedRow{"timeline": "0"}},
		{"relay_checkpoints_position_check", seedRow{"position": "'0/16b3748:1:0'"}},
		{"relay_checkpoints_last_seq_check", seedRow{"last_seq": "-1"}},
	},
	"relay_catalog_versions": {
		{"relay_catalog_versions_catalog_check", seedRow{"catalog": "'[]'"}},
	},
	"event_mappings": {
		{"event_mappings_id_check", seedRow{"id": "' '"}},
		{"event_mappings_event_type_fkey", seedRow{"event_type": "'order.paid'"}},
		{"event_mappings_source_table_check", seedRow{"source_table": "'a.b.c'"}},
		{"event_mappings_source_table_check", seedRow{"source_table": `'"a".b'`}},
		{"event_mappings_source_table_check", seedRow{"source_table": "''"}},
		{"event_mappings_operation_check", seedRow{"operation": "'upsert'"}},
		{"event_mappings_match_new_check", seedRow{"match_new": "'[]'"}},
		{"event_mappings_match_new_check", seedRow{"match_new": bigFilter}},
		{"event_mappings_match_old_check", seedRow{"match_old": "'null'"}},
		{"event_mappings_match_old_check", seedRow{"match_old": bigFilter}},
		{"event_mappings_old_row_check", seedRow{"operation": "'insert'", "match_old": `'{"a": 1}'`}},
		{"event_mappings_new_row_check", seedRow{"operation": "'delete'", "match_new": `'{"a": 1}'`}},
		{"event_mappings_changed_columns_check", seedRow{"operation": "'insert'", "changed_columns": "'{a}'"}},
		{"event_mappings_columns_check", seedRow{"redact_columns": "array['a', null]"}},
		{"event_mappings_columns_check", seedRow{"payload_columns": "'{}'"}},
		{"event_mappings_redact_check", seedRow{"key_columns": "'{a,b}'", "redact_columns": "'{b}'"}},
		{"event_mappings_audience_check", seedRow{"audience": "'nobody'"}},
		{"event_mappings_owner_check", seedRow{"audience": "'owner'"}},
		{"event_mappings_visibility_check", seedRow{"audience": "'row'"}},
		{"event_mappings_visibility_check", seedRow{"visibility_column": "'visibility'"}},
		{"event_mappings_truncate_check", seedRow{"operation": "'truncate'", "audience": "'owner'", "user_column": "'u'"}},
	},
	"webhook_deliveries": {
		{"webhook_deliveries_webhook_id_fkey", seedRow{"webhook_id": "'w9'"}},
		{"webhook_deliveries_state_check", seedRow{"state": "'delivered'"}},
		{"webhook_deliveries_attempt_check", seedRow{"state": "'retrying'"}},
		{"webhook_deliveries_last_status_check", seedRow{"last_status": "99"}},
		{"webhook_deliveries_stream_seq_check", seedRow{"stream_seq": "0"}},
		{"webhook_deliveries_lease_check", seedRow{"locked_by": "'host:1'"}},
	},
	"webhook_dead_letters": {
		{"webhook_dead_letters_webhook_id_fkey", seedRow{"webhook_id": "'w9'"}},
		{"webhook_dead_letters_attempts_check", seedRow{"attempts": "-1"}},
		{"webhook_dead_letters_reason_check", seedRow{"reason": "' '"}},
		{"webhook_dead_letters_last_status_check", seedRow{"last_status": "600"}},
		{"webhook_dead_letters_replay_check", seedRow{"replayed_by": "'ada'"}},
	},
	"relay_backfills": {
		{"relay_backfills_kind_check", seedRow{"kind": "'dump'"}},
		{"relay_backfills_source_table_check", seedRow{"source_table": "'things'"}},
		{"relay_backfills_rate_check", seedRow{"rate": "0"}},
		{"relay_backfills_state_check", seedRow{"state": "'paused'"}},
		{"relay_backfills_finished_check", seedRow{"state": "'done'"}},
	},
	"relay_backfill_chunks": {
		{"relay_backfill_chunks_backfill_id_fkey", seedRow{"backfill_id": "'b9'"}},
		{"relay_backfill_chunks_keys_check", seedRow{"keys": "'{}'"}},
		{"relay_backfill_chunks_redo_check", seedRow{"redo": "'{}'"}},
	},
	"relay_stream_audits": {
		{"relay_stream_audits_first_mark_check", seedRow{"first_mark": "'[]'"}},
		{"relay_stream_audits_marks_check", seedRow{"marks": "'{}'"}},
	},
	"relay_stream_holes": {
		{"relay_stream_holes_reason_check", seedRow{"reason": "'slot_lost'"}},
		{"relay_stream_holes_seq_check", seedRow{"before_seq": "3"}},
	},
	"rate_limit_windows": {
		{"rate_limit_windows_used_check", seedRow{"used": "-1"}},
	},
}

// relayDuplicates are rows that may not stand twice, with the constraint that says so.
var relayDuplicates = map[string][]violation{
	"outbox_events": {
		{"outbox_events_event_id_key", seedRow{"event_id": "'evt_' || repeat('a', 26)"}},
		{"outbox_events_aggregate_version_key", seedRow{"aggregate_type": "'a'", "aggregate_id": "'1'", "metadata": `'{"aggregate_version": 1}'`}},
	},
	"relay_checkpoints":      {{"relay_checkpoints_pkey", nil}},
	"relay_catalog_versions": {{"relay_catalog_versions_pkey", nil}},
	"event_mappings": {
		{"event_mappings_pkey", seedRow{"id": "'m'", "match_new": `jsonb_build_object('n', clock_timestamp())`}},
		{"event_mappings_rule_key", seedRow{"match_new": `'{"a": 1}'`}},
	},
	"webhook_deliveries":       {{"webhook_deliveries_pkey", nil}},
	"webhook_dead_letters":     {{"webhook_dead_letters_pkey", seedRow{"id": "'d'"}}},
	"rate_limit_windows":       {{"rate_limit_windows_pkey", nil}},
	"relay_backfills":          {{"relay_backfills_pkey", seedRow{"id": "'b'"}}},
	"relay_backfill_chunks":    {{"relay_backfill_chunks_pkey", nil}},
	"relay_stream_audits":      {{"relay_stream_audits_pkey", nil}},
	"relay_stream_holes":       {{"relay_stream_holes_pkey", nil}},
	"webhook_previous_secrets": {{"webhook_previous_secrets_pkey", nil}},
	"relay_parked_events":      {{"relay_parked_events_pkey", nil}},
}

func TestEveryConstraintOfTheRelaysTablesRefusesItsViolation(t *testing.T) {
	db := relayNew(t)
	covered := map[string]bool{"outbox_events_pkey": true} // an identity: a second value cannot be given
	for table, violations := range relayViolations {
		for _, v := range violations {
			statement := relayValid[table].with(v.change).insert(table)
			require.Equal(t, v.constraint, seedRefused(t, db, statement), statement)
			covered[v.constraint] = true
		}
	}
	for table, duplicates := range relayDuplicates {
		for _, d := range duplicates {
			statement := relayValid[table].with(d.change).insert(table)
			require.Equal(t, d.constraint, seedRefused(t, db, statement, statement), statement)
			covered[d.constraint] = true
		}
	}
	constraints := pgtest.All[string](db, `
		select conname::text from pg_constraint where conrelid = any ($1::text[]::regclass[])
		union
		select indexrelid::regclass::text from pg_index where indrelid = any ($1::text[]::regclass[]) and indisunique`, relayTables)
	for _, name := range constraints {
		require.True(t, covered[name], "no row violates %s", name)
	}
	require.Len(t, covered, len(constraints))
}

// refusal runs sql and returns the error that Postgres refused it with.
func refusal(t *testing.T, db *pgtest.DB, sql string, args ...any) *pgconn.PgError {
	t.Helper()
	_, err := db.Pool.Exec(t.Context(), sql, args...)
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused, "accepted: %s", sql)
	return refused
}

func TestTheOutboxIsAppendOnly(t *testing.T) {
	db := relayNew(t)
	db.Exec(`select emit_event('thing.created', '{"id": 1}')`)
	for statement, verb := range map[string]string{
		"update outbox_events set payload = '{}'": "update",
		"delete from outbox_events":               "delete",
		"truncate outbox_events":                  "truncate",
	} {
		for _, role := range []string{"origin", "replica"} {
			refused := refusal(t, db, "set session_replication_role = "+role+"; "+statement)
			require.Equal(t, "outbox_events is append-only: "+verb+" refused", refused.Message)
			require.NotEmpty(t, refused.Hint)
		}
	}
	require.Equal(t, `{"id": 1}`, pgtest.One[string](db, `select payload::text from outbox_events`))
}

func TestEmitEventAppendsAPrivateEvent(t *testing.T) {
	db := relayNew(t)
	id := pgtest.One[string](db, `select emit_event('function.called', '{"id": "f"}', 'u1', metadata => '{"trace": 7}')`)
	require.Regexp(t, `^evt_[a-z2-7]{26}$`, id)
	require.Equal(t, `function.called u1 private api {"trace": 7} t`, pgtest.One[string](db, `
		select concat_ws(' ', event_type, user_id, tenant_id, visibility, source, metadata, occurred_at = recorded_at or occurred_at < recorded_at)
		from outbox_events where event_id = $1`, id))
}

func TestEmitEventRefusesWhatCannotBeSent(t *testing.T) {
	db := relayNew(t)
	db.Exec(`update zapier_webhook_events set enabled = false where event_type = 'app.installed'`)
	for call, want := range map[string]string{
		`select emit_event('order.paid', '{}')`:                            `event type "order.paid" is not registered`,
		`select emit_event(null, '{}')`:                                    `event type "null" is not registered`,
		`select emit_event('app.installed', '{}')`:                         `event type "app.installed" is disabled`,
		`select emit_event('thing.created', '[]')`:                         `the payload of "thing.created" must be a JSON object`,
		`select emit_event('thing.created', null)`:                         `the payload of "thing.created" must be a JSON object`,
		`select emit_event('thing.created', '{}', visibility => 'friend')`: `new row for relation "outbox_events" violates check constraint "outbox_events_visibility_check"`,
	} {
		require.Equal(t, want, refusal(t, db, call).Message)
	}
	require.Contains(t, refusal(t, db, `select emit_event('order.paid', '{}')`).Hint, "zapier_webhook_events")
	require.Zero(t, pgtest.One[int](db, `select count(*) from outbox_events`))
}

func TestRandomEventIDsUseAllTheirBits(t *testing.T) {
	db := relayNew(t)
	ids := pgtest.All[string](db, `select relay_random_event_id() from generate_series(1, 2000)`)
	form := regexp.MustCompile(`^evt_[a-z2-7]{26}$`)
	seen := make([]map[byte]bool, 30)
	distinct := map[string]bool{}
	for _, id := range ids {
		require.Regexp(t, form, id)
		distinct[id] = true
		for i := range id {
			if seen[i] == nil {
				seen[i] = map[byte]bool{}
			}
			seen[i][id[i]] = true
		}
	}
	require.Len(t, distinct, len(ids))
	for i, letters := range seen[4:29] {
		require.Len(t, letters, 32, "character %d", i)
	}
	require.Len(t, seen[29], 8, "the last character holds three bits")
}

func TestOptimisticVersionsAreUniquePerAggregate(t *testing.T) {
	db := relayNew(t)
	row := relayValid["outbox_events"].with(seedRow{"aggregate_type": "'order'", "aggregate_id": "'1'", "metadata": `'{"aggregate_version": 1}'`})
	for _, statement := range []string{
		row.insert("outbox_events"),
		row.with(seedRow{"aggregate_ns": "'shop'"}).insert("outbox_events"),
		row.with(seedRow{"aggregate_id": "'2'"}).insert("outbox_events"),
		row.with(seedRow{"metadata": `'{"aggregate_version": 2}'`}).insert("outbox_events"),
		row.with(seedRow{"metadata": `'{}'`}).insert("outbox_events"),
		row.with(seedRow{"metadata": `'{}'`}).insert("outbox_events"),
	} {
		db.Exec(statement)
	}
	require.Equal(t, "outbox_events_aggregate_version_key", seedRefused(t, db, row.insert("outbox_events")))
}

func TestRestoreSkipsWhoseParentsAreGoneAndGoesOnCounting(t *testing.T) {
	db := pgtest.New(t)
	up(t, db, migrations.Options{})
	seedFill(t, db)
	relayFill(db)
	top := pgtest.One[int64](db, `select max(seq) from outbox_events`)
	require.NoError(t, migrations.Down(t.Context(), db.Pool, 14, migrations.Options{}))
	db.Exec(`delete from zapier_webhooks; delete from zapier_webhook_events where event_type = 'order.paid'`)
	up(t, db, migrations.Options{})

	require.Equal(t, []string{"function.created"}, pgtest.All[string](db, `select event_type from outbox_events`))
	require.Zero(t, pgtest.One[int](db, `select count(*) from event_mappings where event_type = 'order.paid'`))
	require.Zero(t, pgtest.One[int](db, `select count(*) from webhook_deliveries`))
	require.Equal(t, []string{"d1", "d2"}, pgtest.All[string](db, `select id from webhook_dead_letters where webhook_id is null order by id`))
	db.Exec(`select emit_event('thing.created', '{}')`)
	require.Greater(t, pgtest.One[int64](db, `select max(seq) from outbox_events`), top-1)
	require.Equal(t, 2, pgtest.One[int](db, `select count(*) from outbox_events`))
}

func TestDeletingASubscriptionCancelsItsRetriesAndKeepsItsDeadLetters(t *testing.T) {
	db := relayNew(t)
	db.Exec(relayValid["webhook_deliveries"].insert("webhook_deliveries"))
	db.Exec(relayValid["webhook_dead_letters"].with(seedRow{"webhook_id": "'w1'"}).insert("webhook_dead_letters"))
	db.Exec(`delete from zapier_webhooks`)
	require.Zero(t, pgtest.One[int](db, `select count(*) from webhook_deliveries`))
	require.Equal(t, 1, pgtest.One[int](db, `select count(*) from webhook_dead_letters where webhook_id is null`))
}

func TestEveryEventHasASchemaOfItsTable(t *testing.T) {
	db := relayNew(t)
	require.Equal(t, 13, pgtest.One[int](db, `select count(*) from zapier_webhook_events where payload_schema <> '{"type": "object"}'`))
	for event, table := range map[string]string{
		"agent.updated": "agents", "agent.deleted": "agents", "workflow.started": "workflow_runs", "workflow.completed": "workflow_runs",
		"workflow.failed": "workflow_runs", "function.created": "things", "service.created": "things", "thing.created": "things",
		"thing.updated": "things", "app.installed": "relationships",
	} {
		require.Equal(t,
			pgtest.All[string](db, `select column_name::text from information_schema.columns where table_name = $1 order by 1`, table),
			pgtest.All[string](db, `select jsonb_object_keys(payload_schema -> 'properties') from zapier_webhook_events where event_type = $1 order by 1`, event),
			event)
	}
	var schema struct{ AnyOf []any }
	require.NoError(t, json.Unmarshal([]byte(pgtest.One[string](db, `select payload_schema::text from zapier_webhook_events where event_type = 'agent.created'`)), &schema))
	require.Len(t, schema.AnyOf, 2)
}
