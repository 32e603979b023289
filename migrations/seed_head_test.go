package migrations_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/migrations"
)

// seedHead returns a database at the newest version.
func seedHead(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	require.NoError(t, migrations.Up(t.Context(), db.Pool, migrations.Options{}))
	return db
}

func TestSeededCountsHoldAtHead(t *testing.T) {
	db := seedHead(t)
	// The primary key of a partitioned table holds created_at beside the id: one more index of two columns.
	seedRequireShapes(t, db, seedTableShape{"zapier_webhook_logs", 17, 9, 0, 1, 0, 2, 4, 4, 1, 0})
	require.Equal(t, 12, pgtest.One[int](db, `select count(*)::int from zapier_webhook_events where category <> 'webhook'`))
	require.Equal(t, 6, pgtest.One[int](db, `
		select count(*)::int from information_schema.views where table_schema = 'public' and table_name in (
		    'oauth_connections', 'active_oauth_clients', 'oauth_client_stats', 'active_zapier_webhooks_by_event',
		    'zapier_webhook_health', 'recent_zapier_webhook_deliveries')`))
	require.Equal(t, 3, pgtest.One[int](db, `
		select count(*)::int from pg_trigger where not tgisinternal and tgrelid = any ($1::text[]::regclass[])`, seedTables))
}

func TestSeededRowsSurviveTheRunnersDownAndUp(t *testing.T) {
	db := seedHead(t)
	seedFill(t, db)
	before := seedChecksums(t, db)

	require.NoError(t, migrations.Down(t.Context(), db.Pool, 14, migrations.Options{}))
	seedRequireShapes(t, db)
	require.Equal(t, before, seedChecksums(t, db))

	require.NoError(t, migrations.Down(t.Context(), db.Pool, 11, migrations.Options{}))
	require.Equal(t, before["original accounts"], seedAccountsChecksum(db))
	require.Equal(t, 13, pgtest.One[int](db, `
		select count(*)::int from information_schema.columns where table_schema = 'public' and table_name = 'accounts'`))

	require.NoError(t, migrations.Up(t.Context(), db.Pool, migrations.Options{}))
	require.Equal(t, before, seedChecksums(t, db))
	require.Empty(t, seedBackedUp(db))
}

func TestTheRunnerTakesOverFilesRunByPsql(t *testing.T) {
	db := seedNew(t)
	seedFill(t, db)
	before := seedChecksums(t, db)
	require.NoError(t, migrations.Up(t.Context(), db.Pool, migrations.Options{}))
	after := seedChecksums(t, db)
	delete(before, "zapier_webhook_events") // 016 describes the events
	delete(after, "zapier_webhook_events")
	require.Equal(t, before, after)
}
