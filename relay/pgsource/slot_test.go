package pgsource_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgproc"
	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgsource"
)

// requireHalt returns the text of a halt.
func requireHalt(t *testing.T, err error, reason string) string {
	t.Helper()
	var halt *relay.HaltError
	require.ErrorAs(t, err, &halt)
	require.Equal(t, reason, halt.Reason)
	require.NotEmpty(t, halt.Remedy)
	return halt.Error()
}

// requireSetup returns the remedy of a setup error.
func requireSetup(t *testing.T, err error) string {
	t.Helper()
	var setup *relay.SetupError
	require.ErrorAs(t, err, &setup)
	require.NotEmpty(t, setup.Remedy)
	return setup.Remedy
}

func TestANewSlotHasASnapshotThatIsReadableUntilStart(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key); insert into t values (1)")
	src := open(t, config(db, "public.t"))
	slot := src.Slot()
	require.True(t, slot.Created)
	require.NotEmpty(t, slot.Snapshot)
	require.NotZero(t, slot.Confirmed)
	require.Equal(t, pgtest.One[string](db, "select system_identifier::text from pg_control_system()"), slot.SystemID)
	require.EqualValues(t, 1, slot.Timeline)

	db.Exec("insert into t values (2)")
	count := func() (n int, err error) {
		tx, err := db.Connect().BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		require.NoError(t, err)
		defer func() { _ = tx.Rollback(context.Background()) }()
		if _, err = tx.Exec(t.Context(), "set transaction snapshot '"+slot.Snapshot+"'"); err != nil {
			return 0, err
		}
		return n, tx.QueryRow(t.Context(), "select count(*) from t").Scan(&n)
	}
	n, err := count()
	require.NoError(t, err)
	require.Equal(t, 1, n)

	require.NoError(t, src.Start(t.Context()))
	_, err = count()
	require.Error(t, err)
	require.Equal(t, "insert t new(2)", text(read(t, src, 1)[0].Change), "snapshot and stream meet without gap or overlap")
	require.ErrorContains(t, src.Start(t.Context()), "started before")
}

func TestASlotInUseMakesAStandby(t *testing.T) {
	db := pgtest.New(t)
	cfg := config(db)
	first := open(t, cfg)
	second := open(t, cfg) // a slot is held from Start on
	require.NoError(t, first.Start(t.Context()))
	require.ErrorIs(t, second.Start(t.Context()), relay.ErrSlotActive)
	closeSource(t, second)
	_, err := pgsource.Open(t.Context(), cfg)
	require.ErrorIs(t, err, relay.ErrSlotActive)

	closeSource(t, first)
	start(t, cfg)
}

func TestOfSeveralProcessesOneMakesTheSlot(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			src, err := pgsource.Open(t.Context(), config(db, "public.t"))
			if err == nil {
				err = src.Start(t.Context())
				t.Cleanup(func() { closeSource(t, src) })
			}
			errs[i] = err
		})
	}
	wg.Wait()
	winners := 0
	for _, err := range errs {
		if err == nil {
			winners++
			continue
		}
		require.ErrorIs(t, err, relay.ErrSlotActive)
	}
	require.Equal(t, 1, winners)
}

func TestAMissingSlotHaltsWhereOneIsExpected(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	cfg := config(db, "public.t")
	cfg.ExpectSlot = true
	_, err := pgsource.Open(t.Context(), cfg)
	requireHalt(t, err, "slot_missing")
	_, err = pgsource.Setup(t.Context(), cfg)
	requireHalt(t, err, "slot_missing")
	require.Zero(t, pgtest.One[int](db, "select count(*) from pg_publication"), "nothing was touched")

	cfg.AcceptGap = true
	require.True(t, open(t, cfg).Slot().Created)
}

func TestAMissingSlotIsOnlyMadeWhenAllowed(t *testing.T) {
	db := pgtest.New(t)
	cfg := config(db)
	cfg.CreateSlot = false
	_, err := pgsource.Open(t.Context(), cfg)
	require.Contains(t, requireSetup(t, err), "relay setup")
}

func TestASlotDroppedBeforeStartHalts(t *testing.T) {
	db := pgtest.New(t)
	cfg := config(db)
	src := open(t, cfg)
	db.Exec("select pg_drop_replication_slot($1)", cfg.Slot)
	requireHalt(t, src.Start(t.Context()), "slot_missing")
}

func TestAForeignSlotIsRefused(t *testing.T) {
	db, other := pgtest.New(t), pgtest.New(t)
	cfg := config(db)
	other.Exec("select pg_create_logical_replication_slot($1, 'pgoutput')", cfg.Slot)
	_, err := pgsource.Open(t.Context(), cfg)
	require.ErrorContains(t, err, other.Name)
	requireSetup(t, err)

	cfg.Slot += "_p"
	db.Exec("select pg_create_physical_replication_slot($1)", cfg.Slot)
	physical := cfg.Slot
	t.Cleanup(func() { db.Exec("select pg_drop_replication_slot($1)", physical) })
	_, err = pgsource.Open(t.Context(), cfg)
	require.ErrorContains(t, err, "physical")
	requireSetup(t, err)

	cfg.Slot += "_t"
	db.Exec("select pg_create_logical_replication_slot($1, 'test_decoding')", cfg.Slot)
	_, err = pgsource.Open(t.Context(), cfg)
	require.ErrorContains(t, err, "test_decoding")
	requireSetup(t, err)

	cfg.Slot += "_2"
	db.Exec("select pg_create_logical_replication_slot($1, 'pgoutput', false, true)", cfg.Slot)
	_, err = pgsource.Open(t.Context(), cfg)
	require.ErrorContains(t, err, "two_phase")
	requireSetup(t, err)

	cfg.Slot = "Upper-case"
	_, err = pgsource.Open(t.Context(), cfg)
	requireSetup(t, err)
}

func TestALostSlotHaltsWithTheRangeAndIsReplacedOnTheOperatorsWord(t *testing.T) {
	c := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{
		"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB",
	}})
	db := c.New(t)
	db.Exec("create table t (id int primary key)")
	cfg := config(db, "public.t")
	src := open(t, cfg)
	confirmed := src.Slot().Confirmed
	closeSource(t, src)
	stale := open(t, cfg) // opened while all was well
	for range 6 {
		db.Exec("insert into t select coalesce(max(id), 0) + 1 from t")
		db.Exec("select pg_switch_wal()")
	}
	db.Exec("checkpoint")
	require.Equal(t, "lost", pgtest.One[string](db, "select wal_status from pg_replication_slots"))
	requireHalt(t, stale.Start(t.Context()), "slot_lost")

	cfg.ExpectSlot = true
	_, err := pgsource.Open(t.Context(), cfg)
	halt := requireHalt(t, err, "slot_lost")
	require.Contains(t, halt, confirmed.String()+" and ")
	require.Contains(t, halt, "--accept-gap")

	cfg.AcceptGap = true
	steps, err := pgsource.Plan(t.Context(), cfg)
	require.NoError(t, err)
	require.Len(t, steps.SQL, 2, "drop and create")
	src = open(t, cfg)
	require.True(t, src.Slot().Created)
	require.Greater(t, src.Slot().Confirmed, confirmed)
	require.NoError(t, src.Start(t.Context()))
	db.Exec("insert into t values (1000)")
	require.Equal(t, "insert t new(1000)", text(read(t, src, 1)[0].Change))
}

func TestAPublicationThatIsGoneHalts(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	src := start(t, config(db, "public.t"))
	db.Exec("drop publication pub")
	db.Exec("insert into t values (1)")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var err error
	for err == nil {
		var b *relay.Batch
		if b, err = src.Next(ctx); err == nil {
			b.Release()
		}
	}
	requireHalt(t, err, "publication_missing")
}

func TestAServerWithoutLogicalLogIsNamedWithItsRemedy(t *testing.T) {
	c := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"wal_level": "replica"}})
	db := c.New(t)
	_, err := pgsource.Open(t.Context(), config(db))
	require.Contains(t, requireSetup(t, err), "ALTER SYSTEM SET wal_level = 'logical'")

	c.Set(map[string]string{"wal_level": "logical", "max_replication_slots": "1"})
	c.Restart(pgproc.Fast)
	db.Pool.Reset()
	db.Exec("select pg_create_logical_replication_slot('taken', 'pgoutput')")
	_, err = pgsource.Open(t.Context(), config(db))
	require.Contains(t, requireSetup(t, err), "max_replication_slots")
	require.ErrorContains(t, err, "all 1 replication slots")
	_, err = pgsource.Plan(t.Context(), config(db))
	require.ErrorContains(t, err, "all 1 replication slots")

	c.Set(map[string]string{"max_wal_senders": "1", "max_replication_slots": "5"})
	c.Restart(pgproc.Fast)
	db.Pool.Reset()
	start(t, config(db))
	cfg := config(db)
	cfg.Slot = "second"
	_, err = pgsource.Open(t.Context(), cfg)
	require.ErrorContains(t, err, "raise max_wal_senders")
	require.NotErrorAs(t, err, new(*relay.SetupError), "another walsender may end")
}

func TestWhatIsWrongWithAConnectionIsSaidInOneLine(t *testing.T) {
	db := pgtest.New(t)
	for name, tc := range map[string]struct {
		url, want string
		setup     bool
	}{
		"password": {strings.Replace(db.URL, "@", "x@", 1), "check user and password", true},
		"database": {strings.Replace(db.URL, db.Name, "nosuch", 1), `CREATE DATABASE "nosuch"`, true},
		"refused":  {"postgres://u:p@127.0.0.1:1/d", "check that the server is running", false},
		"host":     {"postgres://u:p@relay.invalid/d", "check the host name", false},
		"url":      {"postgres://u:p@host:port/d", "cannot be read", true},
		"none":     {"", "RELAY_DATABASE_URL", true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cfg := config(db)
			cfg.URL = secret.New(tc.url)
			_, err := pgsource.Open(ctx, cfg)
			require.ErrorContains(t, err, tc.want)
			require.Equal(t, tc.setup, errors.As(err, new(*relay.SetupError)))
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestACancelledSlotCreationLeavesNothingBehind(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	_, err := pgsource.Setup(t.Context(), config(db, "public.t"))
	require.NoError(t, err)
	cfg := config(db, "public.t")
	cfg.Slot += "_b"
	tx, err := db.Connect().Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "insert into t values (1)")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err = pgsource.Open(ctx, cfg)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Eventually(t, func() bool {
		return pgtest.One[int](db, "select count(*) from pg_replication_slots where slot_name = $1", cfg.Slot) == 0
	}, patience, 20*time.Millisecond)
	require.NoError(t, tx.Rollback(t.Context()))
	open(t, cfg)
}
