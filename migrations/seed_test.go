package migrations_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
)

// The seeded migrations are 012 to 014; their counts, names and refusals are a contract
// that later migrations must keep.
var (
	seedFiles = []string{"012_oauth_accounts_enhancement", "013_oauth_clients", "014_zapier_webhooks"}

	seedTables = []string{
		"accounts", "oauth_clients", "oauth_authorization_codes", "oauth_tokens",
		"zapier_webhooks", "zapier_webhook_logs", "zapier_webhook_events",
	}

	seedBackups = []string{
		"accounts_012", "oauth_authorization_codes_013", "oauth_clients_013", "oauth_tokens_013",
		"zapier_webhook_events_014", "zapier_webhook_logs_014", "zapier_webhooks_014",
	}
)

// seedRun runs migration files as they are, named without .sql.
func seedRun(t *testing.T, db *pgtest.DB, names ...string) {
	t.Helper()
	for _, name := range names {
		db.Exec(seedSQL(t, name))
	}
}

func seedSQL(t *testing.T, name string) string {
	t.Helper()
	sql, err := os.ReadFile(name + ".sql")
	require.NoError(t, err)
	return string(sql)
}

func seedDown(t *testing.T, db *pgtest.DB) {
	t.Helper()
	for _, name := range slices.Backward(seedFiles) {
		seedRun(t, db, name+"_rollback")
	}
}

// seedBase returns a database as a platform has it before 012.
func seedBase(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	seedRun(t, db, "000_dev_base")
	return db
}

// seedNew returns a database at 014.
func seedNew(t *testing.T) *pgtest.DB {
	t.Helper()
	db := seedBase(t)
	seedRun(t, db, seedFiles...)
	return db
}

// seedRow is one row: column to SQL expression.
type seedRow map[string]string

// with returns the row with some columns set otherwise.
func (r seedRow) with(changes seedRow) seedRow {
	row := maps.Clone(r)
	maps.Copy(row, changes)
	return row
}

func (r seedRow) insert(table string) string {
	columns, values := make([]string, 0, len(r)), make([]string, 0, len(r))
	for column, value := range r {
		columns = append(columns, column)
		values = append(values, value)
	}
	return "insert into " + table + " (" + strings.Join(columns, ", ") + ") values (" + strings.Join(values, ", ") + ")"
}

// seedTableShape is what the catalog says of one table. Partial, gin, composite and
// fullText count among all of its indexes, those of constraints included.
type seedTableShape struct {
	Name                                   string
	Columns, Plain, Unique, PrimaryKey     int
	UniqueConstraints, GIN, Partial        int
	Composite, FullText, InvalidOrUnlogged int
}

const seedShapeQuery = `
select c.relname,
       (select count(*) from information_schema.columns k
        where k.table_schema = 'public' and k.table_name = c.relname),
       count(*) filter (where not i.indisunique),
       count(*) filter (where i.indisunique and not i.indisprimary and n.contype is null),
       count(*) filter (where i.indisprimary),
       count(*) filter (where n.contype = 'u'),
       count(*) filter (where m.amname = 'gin'),
       count(*) filter (where i.indpred is not null),
       count(*) filter (where i.indnatts > 1),
       count(*) filter (where pg_get_indexdef(i.indexrelid) like '%to_tsvector%'),
       count(*) filter (where not i.indisvalid or x.relpersistence <> 'p')
from pg_class c
join pg_index i on i.indrelid = c.oid
join pg_class x on x.oid = i.indexrelid
join pg_am m on m.oid = x.relam
left join pg_constraint n on n.conindid = i.indexrelid and n.conrelid = i.indrelid and n.contype in ('p', 'u')
where c.oid = any ($1::text[]::regclass[])
group by c.relname`

func seedShapes(t *testing.T, db *pgtest.DB) []seedTableShape {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), seedShapeQuery, seedTables)
	require.NoError(t, err)
	shapes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[seedTableShape])
	require.NoError(t, err)
	return shapes
}

// seedRequireShapes asks for the counts of 014; later says what later migrations made of them.
func seedRequireShapes(t *testing.T, db *pgtest.DB, later ...seedTableShape) {
	t.Helper()
	want := []seedTableShape{
		{"accounts", 20, 5, 1, 1, 0, 1, 4, 3, 0, 0},
		{"oauth_clients", 27, 7, 0, 1, 1, 4, 1, 1, 1, 0},
		{"oauth_authorization_codes", 15, 4, 0, 1, 1, 0, 1, 1, 0, 0},
		{"oauth_tokens", 18, 10, 0, 1, 2, 1, 6, 2, 0, 0},
		{"zapier_webhooks", 23, 7, 1, 1, 1, 2, 4, 4, 0, 0},
		{"zapier_webhook_logs", 17, 9, 0, 1, 0, 2, 4, 3, 1, 0},
		{"zapier_webhook_events", 6, 2, 0, 1, 0, 0, 1, 1, 0, 0},
	}
	for _, l := range later {
		want[slices.IndexFunc(want, func(s seedTableShape) bool { return s.Name == l.Name })] = l
	}
	require.ElementsMatch(t, want, seedShapes(t, db))
}

func TestSeededTablesHaveTheirCountsAt014(t *testing.T) {
	seedRequireShapes(t, seedNew(t))
}

func TestSeededMigrationsCreateFortySixIndexes(t *testing.T) {
	var statements int
	for _, name := range seedFiles {
		sql := seedSQL(t, name)
		statements += strings.Count(sql, "create index if not exists") + strings.Count(sql, "create unique index if not exists")
	}
	require.Equal(t, 46, statements)
}

func TestSeededColumnsStandInTheirOrder(t *testing.T) {
	db := seedNew(t)
	const columns = `select column_name::text from information_schema.columns
		where table_schema = 'public' and table_name = $1 order by ordinal_position`

	// The order of the registry's first three lets an insert of three bare values stand.
	require.Equal(t, []string{"event_type", "category", "description", "payload_schema", "enabled", "created_at"},
		pgtest.All[string](db, columns, "zapier_webhook_events"))
	db.Exec(`insert into zapier_webhook_events values ('order.paid', 'order', 'An order was paid.')`)

	require.Equal(t, []string{
		"provider_type", "team_id", "tenant_id", "refresh_token_encrypted", "expires_at_timestamp", "scope_granted", "token_data",
	}, pgtest.All[string](db, columns, "accounts")[13:])
	require.Empty(t, pgtest.All[string](db, `
		select attname::text from pg_attribute
		where attrelid = 'accounts'::regclass and attnum > 13 and (attnotnull or atthasdef or col_description(attrelid, attnum) is null)`),
		"a new accounts column is nullable, without a default, and commented")
}

func TestIdentifiersAreTextMadeByPostgres(t *testing.T) {
	db := seedNew(t)
	require.Equal(t, []string{
		"oauth_authorization_codes", "oauth_clients", "oauth_tokens", "zapier_webhook_logs", "zapier_webhooks",
	}, pgtest.All[string](db, `
		select table_name::text from information_schema.columns
		where table_schema = 'public' and column_name = 'id' and data_type = 'text'
		  and column_default = '(gen_random_uuid())::text' and table_name = any ($1) order by 1`, seedTables[1:]))
}

func TestSeededViewsHaveTheirColumns(t *testing.T) {
	db := seedNew(t)
	want := map[string]string{
		"oauth_connections": "id user_id user_email provider_type provider_account_id team_id tenant_id scope_granted " +
			"expires_at token_status has_refresh_token seconds_until_expiry created_at updated_at",
		"active_oauth_clients": "id client_id name description logo_url homepage_url client_type redirect_uris allowed_scopes " +
			"require_pkce access_token_lifetime refresh_token_lifetime rate_limit_per_hour total_authorizations " +
			"total_tokens_issued last_used_at created_at",
		"oauth_client_stats": "client_id name client_type status unique_users total_tokens active_tokens expired_tokens " +
			"revoked_tokens tokens_last_hour rate_limit_used_pct total_authorizations total_tokens_issued last_issued_at last_used_at",
		"active_zapier_webhooks_by_event": "event_type category description enabled active_webhooks unique_users " +
			"total_triggers success_count failure_count last_triggered_at",
		"zapier_webhook_health": "webhook_id user_id event_type target_url status health_status total_triggers success_count " +
			"failure_count consecutive_failures success_rate_pct attempts_24h failures_24h max_attempt_24h avg_duration_ms " +
			"p95_duration_ms rate_limit_used_pct last_triggered_at last_success_at last_failure_at",
		"recent_zapier_webhook_deliveries": "id webhook_id user_id event_type event_id target_url status attempt " +
			"response_status duration_ms error_message next_retry_at delivered_at created_at",
	}
	count := map[string]int{
		"oauth_connections": 14, "active_oauth_clients": 17, "oauth_client_stats": 15,
		"active_zapier_webhooks_by_event": 10, "zapier_webhook_health": 20, "recent_zapier_webhook_deliveries": 14,
	}
	views := pgtest.All[string](db, `select table_name::text from information_schema.views where table_schema = 'public'`)
	require.Len(t, views, len(want))
	for _, view := range views {
		columns := pgtest.All[string](db, `select column_name::text from information_schema.columns
			where table_schema = 'public' and table_name = $1 order by ordinal_position`, view)
		require.Equal(t, want[view], strings.Join(columns, " "))
		require.Len(t, columns, count[view])
	}
}

func TestSeededMigrationsAddThreeFunctionsAndThreeTriggers(t *testing.T) {
	db := seedBase(t)
	const functions = `select oid::regprocedure::text from pg_proc where pronamespace = 'public'::regnamespace order by 1`
	const triggers = `select tgrelid::regclass || ' ' || tgname from pg_trigger where not tgisinternal order by 1`
	beforeFunctions, beforeTriggers := pgtest.All[string](db, functions), pgtest.All[string](db, triggers)
	seedRun(t, db, seedFiles...)

	require.ElementsMatch(t, append(beforeFunctions,
		"cleanup_old_zapier_webhook_logs(integer)",
		"update_oauth_clients_updated_at()",
		"update_zapier_webhooks_updated_at()",
	), pgtest.All[string](db, functions))
	require.ElementsMatch(t, append(beforeTriggers,
		"accounts update_accounts_updated_at",
		"oauth_clients update_oauth_clients_updated_at",
		"zapier_webhooks update_zapier_webhooks_updated_at",
	), pgtest.All[string](db, triggers))
}

func TestRegistryHoldsTheTwelveEvents(t *testing.T) {
	db := seedNew(t)
	require.ElementsMatch(t, []string{
		"agent.created", "agent.updated", "agent.deleted", "workflow.started", "workflow.completed", "workflow.failed",
		"function.created", "function.called", "service.created", "thing.created", "thing.updated", "app.installed",
	}, pgtest.All[string](db, `select event_type from zapier_webhook_events`))
	require.Zero(t, pgtest.One[int](db, `
		select count(*)::int from zapier_webhook_events
		where category <> split_part(event_type, '.', 1) or btrim(description) = '' or not enabled
		   or payload_schema <> '{"type": "object"}'`))
}

func TestSeedAppliedTwiceChangesNothing(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	db.Exec(`update zapier_webhook_events set enabled = false where event_type = 'app.installed'`)
	rows, catalog := seedChecksums(t, db), seedCatalog(db)

	seedRun(t, db, seedFiles...)
	require.Equal(t, rows, seedChecksums(t, db))
	require.Equal(t, catalog, seedCatalog(db))
}

// seedCatalog lists everything in the schema that a migration can make.
func seedCatalog(db *pgtest.DB) []string {
	return pgtest.All[string](db, `
		select 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' || coalesce(column_default, '')
		from information_schema.columns where table_schema = 'public'
		union all
		select 'index ' || indexdef from pg_indexes where schemaname = 'public'
		union all
		select 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
		from pg_constraint where connamespace = 'public'::regnamespace
		union all
		select 'trigger ' || pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
		union all
		select 'function ' || pg_get_functiondef(oid) from pg_proc where pronamespace = 'public'::regnamespace
		union all
		select 'view ' || viewname || definition from pg_views where schemaname = 'public'
		order by 1`)
}
