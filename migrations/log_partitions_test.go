package migrations_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/migrations"
)

// logsOfOldDatabase is a database of a release before 017: later migrations are
// applied, and the plain table holds rows of several months, an open retry and a
// row of the future among them.
func logsOfOldDatabase(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.New(t)
	up(t, db, migrations.Options{})
	rollback(t, db)
	db.Exec(`delete from relay_migrations where version = 17`)
	db.Exec(`
		insert into zapier_webhook_logs (id, event_type, event_id, status, attempt, next_retry_at, delivered_at, created_at) values
		    ('old', 'thing.created', 'e1', 'success', 1, null, now(), now() - interval '200 days'),
		    ('open', 'thing.created', 'e2', 'retrying', 1, now(), null, now() - interval '190 days'),
		    ('month', 'thing.created', 'e3', 'success', 1, null, now(), now() - interval '32 days'),
		    ('today', 'thing.created', 'e4', 'success', 1, null, now(), now()),
		    ('ahead', 'thing.created', 'e5', 'success', 1, null, now(), now() + interval '2 months')`)
	return db
}

func rollback(t *testing.T, db *pgtest.DB) {
	t.Helper()
	runFile(t, db, "017_webhook_logs_partitions_rollback.sql")
}

const logRows = `select l::text from zapier_webhook_logs l order by id`

func TestPartitioningADatabaseThatIsFurtherKeepsEveryLogRow(t *testing.T) {
	db := logsOfOldDatabase(t)
	db.Exec(`grant select on zapier_webhook_logs, recent_zapier_webhook_deliveries to public`)
	before := pgtest.All[string](db, logRows)
	names := `select indexrelid::regclass::text from pg_index where indrelid = 'zapier_webhook_logs'::regclass
		union select conname::text from pg_constraint where conrelid = 'zapier_webhook_logs'::regclass and contype <> 'n' order by 1`
	named := pgtest.All[string](db, names)

	require.Equal(t, []string{"017 applied"}, up(t, db, migrations.Options{}))
	require.Equal(t, "p", pgtest.One[string](db, `select relkind::text from pg_class where oid = 'zapier_webhook_logs'::regclass`))
	require.Equal(t, before, pgtest.All[string](db, logRows))
	require.Equal(t, named, pgtest.All[string](db, names))
	for _, relation := range []string{"zapier_webhook_logs", "recent_zapier_webhook_deliveries"} {
		require.True(t, pgtest.One[bool](db, `select has_table_privilege('public', $1, 'select')`, relation), relation)
	}
	require.Equal(t, 2, pgtest.One[int](db, `select count(*)::int from recent_zapier_webhook_deliveries`), "the view reads the new table")
	require.EqualValues(t, 1, pgtest.One[int64](db, `select cleanup_old_zapier_webhook_logs(90)`))
	require.Equal(t, []string{"ahead", "month", "open", "today"}, pgtest.All[string](db, `select id from zapier_webhook_logs order by id`))

	before = pgtest.All[string](db, logRows)
	rollback(t, db)
	require.Equal(t, "r", pgtest.One[string](db, `select relkind::text from pg_class where oid = 'zapier_webhook_logs'::regclass`))
	require.Equal(t, before, pgtest.All[string](db, logRows))
	require.Equal(t, named, pgtest.All[string](db, names))
	require.True(t, pgtest.One[bool](db, `select has_table_privilege('public', 'zapier_webhook_logs', 'select')`))
	require.Equal(t, 2, pgtest.One[int](db, `select count(*)::int from recent_zapier_webhook_deliveries`))
}

func TestALogRowOfAMonthWithoutPartitionIsTakenAndMovesWhenItsMonthIsMade(t *testing.T) {
	db := pgtest.New(t)
	up(t, db, migrations.Options{})
	db.Exec(`insert into zapier_webhook_logs (id, event_type, created_at) values ('far', 'thing.created', date_trunc('month', now(), 'UTC') + interval '5 months 3 days')`)
	where := `select tableoid::regclass::text from zapier_webhook_logs where id = 'far'`
	require.Equal(t, "zapier_webhook_logs_default", pgtest.One[string](db, where))
	require.Equal(t, 2, pgtest.One[int](db, `select ensure_zapier_webhook_log_partitions(5)`))
	require.Regexp(t, `^zapier_webhook_logs_y\d{4}m\d{2}$`, pgtest.One[string](db, where))
	require.Equal(t, 0, pgtest.One[int](db, `select ensure_zapier_webhook_log_partitions(5)`))
}

// agedPartition makes a partition of a month a year ago, below which the first one of 017 begins.
func agedPartitions(db *pgtest.DB) {
	db.Exec(`do $$
		declare first timestamptz; legacy text;
		begin
		    set local timezone = 'UTC';
		    select inhrelid::regclass::text into legacy from pg_inherits
		    where inhparent = 'zapier_webhook_logs'::regclass and inhrelid::regclass::text like '%until%';
		    execute format('drop table %s', legacy);
		    foreach first in array array[date_trunc('month', now()) - interval '12 months', date_trunc('month', now()) - interval '11 months'] loop
		        execute format('create table zapier_webhook_logs_%s partition of zapier_webhook_logs for values from (%L) to (%L)',
		            to_char(first, '"y"YYYY"m"MM'), first, first + interval '1 month');
		        insert into zapier_webhook_logs (event_type, created_at) values ('thing.created', first + interval '2 days');
		    end loop;
		    update zapier_webhook_logs set status = 'dead';
		    update zapier_webhook_logs set status = 'retrying', next_retry_at = now() where created_at = first + interval '2 days';
		    insert into zapier_webhook_logs (event_type) values ('thing.created');
		end $$`)
}

func TestDroppingOldPartitionsSparesOpenRetriesAndWaitsForNobody(t *testing.T) {
	db := pgtest.New(t)
	up(t, db, migrations.Options{})
	agedPartitions(db)
	const drop = `select cardinality(drop_old_zapier_webhook_log_partitions(30))`

	tx, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `insert into zapier_webhook_logs (event_type) values ('thing.created')`)
	require.NoError(t, err)
	require.Equal(t, 0, pgtest.One[int](db, drop), "somebody writes: not now")
	require.NoError(t, tx.Commit(t.Context()))

	require.Equal(t, 1, pgtest.One[int](db, drop))
	require.Equal(t, []string{"pending", "pending", "retrying"}, pgtest.All[string](db, `select status from zapier_webhook_logs order by 1`))
	require.Equal(t, 0, pgtest.One[int](db, drop))
	_, err = db.Pool.Exec(t.Context(), `select drop_old_zapier_webhook_log_partitions(0)`)
	require.ErrorContains(t, err, "days_to_keep must be 1 or more")
}

// runFile runs one file as psql would.
func runFile(t *testing.T, db *pgtest.DB, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	_, err = db.Pool.Exec(t.Context(), string(text))
	require.NoError(t, err)
}

func TestOneIDIsTakenOnceInEveryPartition(t *testing.T) {
	db := pgtest.New(t)
	up(t, db, migrations.Options{})
	for _, at := range []string{"now()", "now() + interval '1 month'", "now() + interval '3 years'"} {
		db.Exec(`insert into zapier_webhook_logs (id, event_type, created_at) values ('same' || $1::text, 'thing.created', `+at+`)`, at)
		_, err := db.Pool.Exec(t.Context(),
			`insert into zapier_webhook_logs (id, event_type, created_at) values ('same' || $1::text, 'thing.created', `+at+` + interval '1 microsecond')`, at)
		require.ErrorContains(t, err, "SQLSTATE 23505", at)
	}
}
