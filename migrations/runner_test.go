package migrations_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/migrations"
)

// up runs Up and returns what it did as "012 applied" lines.
func up(t *testing.T, db *pgtest.DB, opts migrations.Options) []string {
	t.Helper()
	var done []string
	opts.Progress = func(s migrations.Step) { done = append(done, fmt.Sprintf("%03d %s", s.Version, s.Action)) }
	require.NoError(t, migrations.Up(t.Context(), db.Pool, opts))
	return done
}

// states returns the database's migrations by state.
func states(t *testing.T, db *pgtest.DB) map[migrations.StateName][]int {
	t.Helper()
	list, err := migrations.Status(t.Context(), db.Pool)
	require.NoError(t, err)
	byState := map[migrations.StateName][]int{}
	for _, s := range list {
		byState[s.State] = append(byState[s.State], s.Version)
	}
	return byState
}

// forwardFiles lists the forward files of the directory and their numbers.
func forwardFiles(t *testing.T) (files []string, versions []int) {
	t.Helper()
	all, err := filepath.Glob("*.sql")
	require.NoError(t, err)
	for _, file := range all {
		if strings.HasSuffix(file, "_rollback.sql") {
			continue
		}
		var version int
		_, err := fmt.Sscanf(file, "%03d_", &version)
		require.NoError(t, err)
		files, versions = append(files, file), append(versions, version)
	}
	return files, versions
}

func tableExists(db *pgtest.DB, name string) bool {
	return pgtest.One[bool](db, `select to_regclass($1) is not null`, name)
}

// checksums returns one checksum per table of the schema public.
func checksums(db *pgtest.DB) map[string]string {
	sums := map[string]string{}
	for _, table := range pgtest.All[string](db, `
		select relname::text from pg_class
		where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition
		  and relname <> 'relay_migrations'`) {
		sums[table] = pgtest.One[string](db, `select count(*) || ' ' || md5(coalesce(string_agg(r::text, E'\n' order by r::text), '')) from `+table+` r`)
	}
	return sums
}

func TestUpMakesTheWholeSchemaOnAnEmptyDatabase(t *testing.T) {
	db := pgtest.New(t)
	_, versions := forwardFiles(t)
	require.Equal(t, versions, states(t, db)[migrations.StatePending])
	require.False(t, tableExists(db, "relay_migrations"), "Status changes nothing")

	var want []string
	for _, v := range versions {
		want = append(want, fmt.Sprintf("%03d applied", v))
	}
	require.Equal(t, want, up(t, db, migrations.Options{}))
	require.Equal(t, map[migrations.StateName][]int{migrations.StateApplied: versions}, states(t, db))
	for _, table := range []string{"users", "accounts", "things", "workflow_runs", "zapier_webhooks", "outbox_events", "webhook_deliveries"} {
		require.True(t, tableExists(db, table), table)
	}
}

func TestUpTwiceDoesNothingTheSecondTime(t *testing.T) {
	db := pgtest.New(t)
	up(t, db, migrations.Options{})
	before := pgtest.All[string](db, `select m::text from relay_migrations m order by version`)
	require.Empty(t, up(t, db, migrations.Options{}))
	require.Equal(t, before, pgtest.All[string](db, `select m::text from relay_migrations m order by version`))
}

func TestEveryForwardFileRunsOnItsOwnResult(t *testing.T) {
	db := pgtest.New(t)
	up(t, db, migrations.Options{})
	before := seedCatalog(db)
	db.Exec(`delete from relay_migrations`)
	_, versions := forwardFiles(t)
	require.Len(t, up(t, db, migrations.Options{}), len(versions))
	require.Equal(t, before, seedCatalog(db))
}

func TestUpDownUpKeepsEveryRow(t *testing.T) {
	db := pgtest.New(t)
	up(t, db, migrations.Options{})
	seedFill(t, db)
	relayFill(db)
	before := checksums(db)
	for table, sum := range before {
		require.False(t, strings.HasPrefix(sum, "0 ") && !slices.Contains(emptyHere, table), "%s holds no row to lose", table)
	}

	require.NoError(t, migrations.Down(t.Context(), db.Pool, 11, migrations.Options{}))
	require.Equal(t, []int{0, 1}, states(t, db)[migrations.StateApplied])
	left := checksums(db)
	for _, table := range []string{"users", "things", "relationships", "agents", "workflows", "workflow_runs"} {
		require.Equal(t, before[table], left[table], table)
	}
	require.Len(t, left, 7)
	require.False(t, pgtest.One[bool](db, `select has_schema_privilege('public', 'migration_backup', 'usage')`))

	up(t, db, migrations.Options{})
	require.Equal(t, before, checksums(db))
	require.Empty(t, seedBackedUp(db))
}

// emptyHere lists the tables whose rows a rollback may lose.
var emptyHere = []string{"rate_limit_windows"}

func TestDownOneStepRollsBackTheNewestAlone(t *testing.T) {
	db := pgtest.New(t)
	up(t, db, migrations.Options{})
	_, versions := forwardFiles(t)
	require.Error(t, migrations.Down(t.Context(), db.Pool, -2, migrations.Options{}))
	var done []string
	opts := migrations.Options{Progress: func(s migrations.Step) { done = append(done, fmt.Sprintf("%03d %s", s.Version, s.Action)) }}
	for _, version := range slices.Backward(versions) {
		require.NoError(t, migrations.Down(t.Context(), db.Pool, migrations.OneStep, opts))
		require.Equal(t, fmt.Sprintf("%03d rolled back", version), done[len(done)-1])
	}
	require.NoError(t, migrations.Down(t.Context(), db.Pool, migrations.OneStep, opts), "nothing left to do")
	require.Len(t, done, len(versions))
	require.Equal(t, []string{"relay_migrations"}, pgtest.All[string](db, `
		select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'S')`))
	require.Empty(t, pgtest.All[string](db, `select proname::text from pg_proc where pronamespace = 'public'::regnamespace`))
	require.Len(t, up(t, db, migrations.Options{}), len(versions), "an emptied database is a new one")
}

func TestConcurrentRunsApplyEachMigrationOnce(t *testing.T) {
	db := pgtest.New(t)
	var mu sync.Mutex
	count := map[int]int{}
	var g errgroup.Group
	for range 3 {
		g.Go(func() error {
			return migrations.Up(context.Background(), db.Pool, migrations.Options{Progress: func(s migrations.Step) {
				mu.Lock()
				defer mu.Unlock()
				count[s.Version]++
			}})
		})
	}
	require.NoError(t, g.Wait())
	_, versions := forwardFiles(t)
	require.Len(t, count, len(versions))
	for version, n := range count {
		require.Equal(t, 1, n, version)
	}
	require.Zero(t, pgtest.One[int](db, `select count(*) from pg_locks where locktype = 'advisory'`))
}

func TestAWaitingRunSaysSoAndCanBeCancelled(t *testing.T) {
	db := pgtest.New(t)
	holder := db.Connect()
	_, err := holder.Exec(t.Context(), `select pg_advisory_lock(x'72656c6179'::bigint)`)
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err = migrations.Up(ctx, db.Pool, migrations.Options{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "another migration run")

	var log syncBuffer
	done := make(chan error, 1)
	go func() {
		done <- migrations.Up(context.Background(), db.Pool, migrations.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	}()
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "waiting for another migration run") },
		10*time.Second, 20*time.Millisecond)
	require.False(t, tableExists(db, "relay_migrations"))
	_, err = holder.Exec(t.Context(), `select pg_advisory_unlock_all()`)
	require.NoError(t, err)
	require.NoError(t, <-done)
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestAChangedFileIsRefusedByName(t *testing.T) {
	db := pgtest.New(t)
	up(t, db, migrations.Options{})
	db.Exec(`update relay_migrations set checksum = 'other' where version = 15; delete from relay_migrations where version > 15`)
	require.Equal(t, []int{15}, states(t, db)[migrations.StateChanged])
	err := migrations.Up(t.Context(), db.Pool, migrations.Options{})
	require.ErrorContains(t, err, "015_outbox was applied to this database with other contents: put the released file back")
	require.Contains(t, states(t, db)[migrations.StatePending], 16, "nothing was applied")
	require.NoError(t, migrations.Down(t.Context(), db.Pool, 14, migrations.Options{}), "going back is still possible")
}

func TestADatabaseOfANewerReleaseIsLeftAlone(t *testing.T) {
	db := pgtest.New(t)
	up(t, db, migrations.Options{})
	db.Exec(`insert into relay_migrations (version, name, checksum, state) values (999, '999_future', 'x', 'applied')`)
	require.Equal(t, []int{999}, states(t, db)[migrations.StateUnknown])
	require.ErrorContains(t, migrations.Up(t.Context(), db.Pool, migrations.Options{}), "999_future is recorded on this database but unknown to this release")
	require.ErrorContains(t, migrations.Down(t.Context(), db.Pool, 11, migrations.Options{}), "999_future is unknown to this release")
	require.True(t, tableExists(db, "outbox_events"))
}

func TestADatabaseWithTablesIsGivenNoSamplesUnlessAsked(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(`create schema shop; create table shop.orders (id int)`)
	require.Contains(t, up(t, db, migrations.Options{}), "001 skipped")
	require.Equal(t, []int{1}, states(t, db)[migrations.StateSkipped])
	require.False(t, tableExists(db, "things"))
	require.Empty(t, up(t, db, migrations.Options{}))

	require.Equal(t, []string{"001 applied"}, up(t, db, migrations.Options{Samples: true}))
	require.True(t, tableExists(db, "things"))
	require.Empty(t, states(t, db)[migrations.StateSkipped])
}

func TestAPlatformDatabaseKeepsItsOwnTables(t *testing.T) {
	db := pgtest.New(t)
	seedRun(t, db, "000_dev_base")
	db.Exec(`comment on table users is null; comment on table accounts is null; comment on function update_updated_at_column() is null;
		create table agents (id text primary key, user_id text)`)
	before := seedCatalog(db)
	require.Contains(t, up(t, db, migrations.Options{}), "001 skipped")
	require.NoError(t, migrations.Down(t.Context(), db.Pool, 0, migrations.Options{}))
	require.NoError(t, migrations.Down(t.Context(), db.Pool, migrations.OneStep, migrations.Options{}))
	db.Exec(`drop table relay_migrations`)
	require.Equal(t, before, seedCatalog(db))
}

func TestARunThatStoppedAfterTheFirstFileStillMakesTheSamples(t *testing.T) {
	db := pgtest.New(t)
	seedRun(t, db, "000_dev_base")
	require.Contains(t, up(t, db, migrations.Options{}), "001 applied")
}

func TestUpTakesOverADatabaseMigratedByPsql(t *testing.T) {
	files, versions := forwardFiles(t)
	for _, withSamples := range []bool{true, false} {
		t.Run(fmt.Sprint(withSamples), func(t *testing.T) {
			db := pgtest.New(t)
			for i, file := range files {
				if versions[i] == 1 && !withSamples {
					continue
				}
				out, err := db.Psql("-f", file)
				require.NoError(t, err, out)
			}
			db.Exec(`insert into users (id, email) values ('ada', 'ada@example.com')`)
			before := checksums(db)
			done := up(t, db, migrations.Options{})
			require.Len(t, done, len(files))
			require.Equal(t, withSamples, slices.Contains(done, "001 applied"))
			require.Equal(t, before, checksums(db))
		})
	}
}

func TestPsqlRunsEveryRollbackTwice(t *testing.T) {
	db := pgtest.New(t)
	up(t, db, migrations.Options{})
	files, _ := forwardFiles(t)
	for _, file := range slices.Backward(files) {
		for range 2 {
			out, err := db.Psql("-f", strings.TrimSuffix(file, ".sql")+"_rollback.sql")
			require.NoError(t, err, "%s: %s", file, out)
		}
	}
}

func TestAFailedMigrationLeavesTheOneBeforeItAndSaysWhatToDo(t *testing.T) {
	db := pgtest.New(t)
	db.Exec(`create table oauth_connections (id int)`)
	err := migrations.Up(t.Context(), db.Pool, migrations.Options{})
	require.ErrorContains(t, err, "migration 012_oauth_accounts_enhancement: 012_oauth_accounts_enhancement.sql")
	require.ErrorContains(t, err, "Rename the existing relation")
	require.Equal(t, []int{0}, states(t, db)[migrations.StateApplied])
	require.True(t, tableExists(db, "accounts"))

	db.Exec(`drop table oauth_connections`)
	require.NotContains(t, up(t, db, migrations.Options{}), "000 applied")
}

func TestRollbackSparesSamplesThatHoldRowsOrAreBuiltOn(t *testing.T) {
	db := pgtest.New(t)
	up(t, db, migrations.Options{})
	db.Exec(`insert into things (ns, id, type) values ('onet', '15-1252.00', 'Occupation');
		create view agent_names as select name from agents;
		insert into users (id, email) values ('ada', 'ada@example.com')`)
	require.NoError(t, migrations.Down(t.Context(), db.Pool, 0, migrations.Options{}))
	require.NoError(t, migrations.Down(t.Context(), db.Pool, migrations.OneStep, migrations.Options{}))
	require.Equal(t, []string{"agents", "relay_migrations", "things", "users"}, pgtest.All[string](db, `
		select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1`))
}
