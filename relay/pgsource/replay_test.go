package pgsource_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgproc"
	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgsource"
)

func TestReadingAgainGivesTheSamePositionsAndValues(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key, v text); create table u (id int primary key)")
	cfg := config(db, "public.t", "public.u")
	src := start(t, cfg)
	db.Exec(`insert into t select i, 'v' || i from generate_series(1, 50) i`)
	db.Exec(`begin; insert into u values (1); update t set v = 'w'; truncate u; delete from t where id < 20; commit`)
	db.Exec(`begin; savepoint s; insert into u values (2); rollback to s; insert into u values (3); commit`)
	const n = 50 + 1 + 50 + 1 + 19 + 1
	first := read(t, src, n)
	closeSource(t, src)

	cfg.BatchChanges = 7 // batches cut elsewhere change nothing
	cfg.ExpectSlot = true
	again := open(t, cfg)
	require.False(t, again.Slot().Created)
	require.Empty(t, again.Slot().Snapshot)
	require.Equal(t, src.Slot().Confirmed, again.Slot().Confirmed)
	require.Equal(t, src.Slot().SystemID, again.Slot().SystemID)
	require.NoError(t, again.Start(t.Context()))
	second := read(t, again, n)
	require.Equal(t, texts(first), texts(second))
	for i := range first {
		require.Equal(t, first[i].Position, second[i].Position)
		require.Equal(t, first[i].XID, second[i].XID)
		require.Equal(t, first[i].CommitTime, second[i].CommitTime)
	}
}

func TestAConfirmedTransactionIsNotSentAgainAndTheNextOneIs(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	cfg := config(db, "public.t")
	src := start(t, cfg)
	db.Exec("insert into t values (1)")
	db.Exec("insert into t values (2)")
	rows := read(t, src, 2)
	closeSource(t, src)

	src = start(t, cfg)
	first := read(t, src, 2)[0]
	require.Equal(t, rows[0].Position, first.Position)
	// The end of the first transaction is known when it is read by itself.
	db.Exec("insert into t values (3)")
	third := read(t, src, 1)[0]
	src.Confirm(third.Commit)
	src.Confirm(first.Position.CommitLSN) // never moves back
	closeSource(t, src)
	require.Equal(t, third.Commit, confirmedOf(db, cfg.Slot))

	db.Exec("insert into t values (4)")
	src = start(t, cfg)
	require.Equal(t, third.Commit, src.Slot().Confirmed)
	require.Equal(t, "insert t new(4)", text(read(t, src, 1)[0].Change))
}

func TestConfirmReachesTheServerSoonAndNothingElseMovesTheSlot(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	cfg := config(db, "public.t")
	cfg.StatusInterval = 100 * time.Millisecond
	var received atomic.Uint64
	cfg.OnReceived = func(lsn relay.LSN) { received.Store(uint64(lsn)) }
	src := start(t, cfg)
	begin := src.Slot().Confirmed
	db.Exec("insert into t values (1)")
	r := read(t, src, 1)[0]
	require.Never(t, func() bool { return confirmedOf(db, cfg.Slot) != begin }, 500*time.Millisecond, 50*time.Millisecond)
	require.GreaterOrEqual(t, relay.LSN(received.Load()), r.Position.CommitLSN)
	require.GreaterOrEqual(t, src.Received(), r.Commit)

	src.Confirm(r.Commit)
	require.Eventually(t, func() bool { return confirmedOf(db, cfg.Slot) == r.Commit }, patience, 10*time.Millisecond)
	require.True(t, pgtest.One[bool](db, `select write_lsn >= flush_lsn and flush_lsn = replay_lsn and flush_lsn = $1::pg_lsn
		from pg_stat_replication where application_name = $2`, r.Commit.String(), "relay "+cfg.Slot))
}

func TestAnIdleSlotMovesOnceTheConsumerConfirmsIt(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key); create table other (id int)")
	cfg := config(db, "public.t")
	cfg.StatusInterval = 50 * time.Millisecond
	src := start(t, cfg)
	for i := range 3 {
		db.Exec("insert into other select generate_series(1, 1000)")
		target, err := relay.ParseLSN(pgtest.One[string](db, "select pg_current_wal_lsn()::text"))
		require.NoError(t, err)
		for reached := false; !reached; {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			b, err := src.Next(ctx)
			cancel()
			require.NoError(t, err, "round %d", i)
			require.Empty(t, b.Changes)
			require.False(t, b.Open)
			require.NotZero(t, b.Commit)
			src.Confirm(b.Commit)
			reached = b.Commit >= target
			b.Release()
		}
		require.Eventually(t, func() bool { return confirmedOf(db, cfg.Slot) >= target }, patience, 10*time.Millisecond)
	}
}

func TestABlockedConsumerIsNotTakenForADeadOne(t *testing.T) {
	c := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"wal_sender_timeout": "1s"}})
	db := c.New(t)
	db.Exec("create table t (id int primary key, v text)")
	cfg := config(db, "public.t")
	cfg.BatchChanges = 10
	src := start(t, cfg)
	db.Exec("insert into t select i, repeat('x', 1000) from generate_series(1, 50000) i")
	const walsender = "select coalesce(active_pid, 0) from pg_replication_slots"
	var pid int
	require.Eventually(t, func() bool { pid = pgtest.One[int](db, walsender); return pid != 0 }, patience, 10*time.Millisecond)
	require.Never(t, func() bool { return pgtest.One[int](db, walsender) != pid }, 3*time.Second, 100*time.Millisecond)
	read(t, src, 50000)
}

func TestARestartOfTheServerIsAnOrdinaryErrorAndDelaysItLittle(t *testing.T) {
	c := pgtest.NewCluster(t, pgtest.Options{})
	db := c.New(t)
	db.Exec("create table t (id int primary key)")
	cfg := config(db, "public.t")
	for _, mode := range []pgproc.StopMode{pgproc.Fast, pgproc.Immediate} {
		src := start(t, cfg)
		db.Exec("insert into t values (1) on conflict (id) do update set id = 1")
		r := read(t, src, 1)[0]

		began := time.Now()
		failed := make(chan error, 1)
		go func() {
			for {
				b, err := src.Next(context.Background())
				if err != nil {
					failed <- err
					_ = src.Close(context.Background())
					return
				}
				b.Release() // and never confirm
			}
		}()
		c.Stop(mode)
		require.Less(t, time.Since(began), 10*time.Second, "the server waited for a confirmation that may take minutes")
		err := <-failed
		require.Error(t, err)
		require.NotErrorAs(t, err, new(*relay.HaltError))
		require.NotErrorAs(t, err, new(*relay.SetupError))

		_, err = pgsource.Open(t.Context(), cfg)
		require.ErrorContains(t, err, "connection refused")
		require.NotErrorAs(t, err, new(*relay.SetupError))

		c.Start()
		db.Pool.Reset()
		again := start(t, cfg)
		require.Equal(t, r.Position, readUntil(t, again, r.Position), "what was not confirmed comes again")
		again.Confirm(r.Commit)
		closeSource(t, again)
	}
}

// readUntil skips changes before a position: a server that crashed may have
// forgotten a confirmation.
func readUntil(t *testing.T, src *pgsource.Source, want relay.Position) relay.Position {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		b, err := src.Next(ctx)
		require.NoError(t, err)
		for _, c := range b.Changes {
			if c.Position.Compare(want) >= 0 {
				b.Release()
				return c.Position
			}
		}
		b.Release()
	}
}

func TestARelationIsLookedUpOverANewConnectionWhenTheOldOneBroke(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key)")
	src := start(t, config(db, "public.t"))
	db.Exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and application_name = 'relay'", db.Name)
	db.Exec("insert into t values (1)")
	require.True(t, read(t, src, 1)[0].Relation.Columns[0].Key)
}

func TestATerminatedWalsenderIsAnOrdinaryError(t *testing.T) {
	db := pgtest.New(t)
	cfg := config(db)
	src := start(t, cfg)
	db.Exec("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1", cfg.Slot)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var err error
	for err == nil {
		var b *relay.Batch
		if b, err = src.Next(ctx); err == nil {
			b.Release()
		}
	}
	require.ErrorContains(t, err, "57P01")
	require.NotErrorAs(t, err, new(*relay.HaltError))
}

func TestCloseInTheMiddleOfALargeTransactionKeepsWhatWasConfirmed(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key, v text)")
	cfg := config(db, "public.t")
	src := start(t, cfg)
	db.Exec("insert into t values (0, '')")
	first := read(t, src, 1)[0]
	db.Exec("insert into t select i, repeat('x', 1000) from generate_series(1, 100000) i")
	b, err := src.Next(t.Context())
	for err == nil && len(b.Changes) == 0 {
		b.Release()
		b, err = src.Next(t.Context())
	}
	require.NoError(t, err)
	src.Confirm(first.Commit)
	closeSource(t, src)
	b.Release() // also after Close
	b.Release()
	require.Equal(t, first.Commit, confirmedOf(db, cfg.Slot))
	_, err = src.Next(t.Context())
	require.ErrorContains(t, err, "closed")

	src = start(t, cfg)
	require.EqualValues(t, 0, read(t, src, 100000)[0].Position.Ordinal)
}

func TestNextEndsWithItsContext(t *testing.T) {
	db := pgtest.New(t)
	src := start(t, config(db))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	for {
		b, err := src.Next(ctx)
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
			return
		}
		b.Release()
	}
}

func TestMemoryOfLargeRowsIsNotKept(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("create table t (id int primary key, v text)")
	src := start(t, config(db, "public.t"))
	db.Exec("insert into t select i, repeat('x', 20000000) from generate_series(1, 4) i")
	for n := 0; n < 4; {
		b, err := src.Next(t.Context())
		require.NoError(t, err)
		n += len(b.Changes)
		b.Release()
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	require.Less(t, m.HeapAlloc, uint64(20<<20))
}

func TestASecretNeverAppearsInAnError(t *testing.T) {
	for _, url := range []string{
		"postgres://u:hunter2@127.0.0.1:1/d?sslmode=disable", "postgres://u:hunter2@[::1", "postgres://u:hunter2@nosuch.invalid/d", "host=a password=hunter2 port=x",
	} {
		_, err := pgsource.Open(t.Context(), pgsource.Config{URL: secret.New(url), Slot: "s", Publication: "p"})
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
		require.NotContains(t, err.Error(), "\n")
	}
}
