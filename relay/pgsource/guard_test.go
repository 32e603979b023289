package pgsource_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgsource"
)

// watched is a guard at work.
type watched struct {
	mu   sync.Mutex
	last pgsource.SlotHealth
	done chan error
	stop context.CancelFunc
}

func (w *watched) look() pgsource.SlotHealth {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// halted returns what the guard ended with.
func (w *watched) halted(t *testing.T) error {
	t.Helper()
	select {
	case err := <-w.done:
		w.done <- nil
		return err
	case <-time.After(patience):
		require.FailNow(t, "the guard goes on", "%+v", w.look())
		return nil
	}
}

func guard(t *testing.T, db *pgtest.DB, change func(*pgsource.GuardConfig)) *watched {
	t.Helper()
	w := &watched{done: make(chan error, 1)}
	of := config(db)
	cfg := pgsource.GuardConfig{
		URL: secret.New(db.URL), Slot: of.Slot, Publication: of.Publication, Every: 20 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
		OnLook: func(h pgsource.SlotHealth) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.last = h
		},
	}
	change(&cfg)
	var ctx context.Context
	ctx, w.stop = context.WithCancel(t.Context())
	go func() { w.done <- pgsource.Guard(ctx, cfg) }()
	t.Cleanup(func() {
		w.stop()
		require.NoError(t, <-w.done)
	})
	return w
}

// neighbour writes about n MiB of log in another database of the same server.
func neighbour(t *testing.T, c *pgtest.Cluster, n int) *pgtest.DB {
	t.Helper()
	db := c.New(t)
	db.Exec("create table noise (id int, filler text)")
	db.Exec("insert into noise select i, repeat(md5(i::text), 256) from generate_series(1, $1::int * 128) i", n) // 8 kB each, before it is compressed
	return db
}

// follow reads a source and confirms all of it, as capture does on an idle database.
func follow(t *testing.T, src *pgsource.Source, held *atomic.Uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			b, err := src.Next(ctx)
			if err != nil {
				return
			}
			if b.Commit > 0 {
				held.Store(uint64(b.Commit))
				src.Confirm(b.Commit)
			}
			b.Release()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func TestTheSlotOfAnIdleDatabaseFollowsItsBusyNeighbours(t *testing.T) {
	c := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"autovacuum": "off"}})
	db := c.New(t)
	db.Exec("create table t (id int primary key)")
	var held atomic.Uint64
	follow(t, start(t, config(db, "public.t")), &held)
	w := guard(t, db, func(cfg *pgsource.GuardConfig) {
		cfg.Heartbeat, cfg.Held = time.Second, func() relay.LSN { return relay.LSN(held.Load()) }
	})
	busy := neighbour(t, c, 1)
	for range 8 { // 100 MiB and more
		busy.Exec("insert into noise select i, (select string_agg(md5(random()::text), '') from generate_series(1, 40)) from generate_series(1, 10000) i")
		require.Eventually(t, func() bool { return w.look().Behind < 4<<20 }, patience, 10*time.Millisecond)
	}
	require.Greater(t, pgtest.One[int64](db, "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"), int64(100<<20))
	// The server lets go of log behind a record that it writes each quarter of a minute.
	require.Eventually(t, func() bool { return w.look().Retained < 32<<20 }, 40*time.Second, 50*time.Millisecond)
	require.Empty(t, w.look().Warning)
}

func TestAHeartbeatIsWrittenOnlyWhileTheLogGrowsAndTheReaderDoesNotFollow(t *testing.T) {
	c := pgtest.NewCluster(t, pgtest.Options{})
	db := c.New(t)
	db.Exec("create table t (id int primary key)")
	src := open(t, config(db, "public.t"))
	held := &atomic.Uint64{}
	w := guard(t, db, func(cfg *pgsource.GuardConfig) {
		cfg.Heartbeat, cfg.Held = time.Millisecond, func() relay.LSN { return relay.LSN(held.Load()) }
	})
	looked := func() { // a few more times
		t.Helper()
		for range 3 {
			before := pgtest.One[int64](db, "select pg_current_wal_lsn() - '0/0'::pg_lsn")
			db.Exec("select pg_logical_emit_message(false, 'other', 'x')")
			require.Eventually(t, func() bool { return w.look().Behind > 0 && before > 0 }, patience, time.Millisecond)
		}
	}
	neighbour(t, c, 16)
	looked()
	require.Zero(t, w.look().Beats, "nobody captures here")
	held.Store(uint64(src.Slot().Confirmed))
	require.Eventually(t, func() bool { return w.look().Beats > 0 }, patience, time.Millisecond)

	// It reaches the reader as a transaction without rows: a position to go on from.
	require.NoError(t, src.Start(t.Context()))
	follow(t, src, held)
	require.Eventually(t, func() bool { return w.look().Behind < 1<<16 }, patience, time.Millisecond)
	beats := w.look().Beats
	looked()
	require.LessOrEqual(t, w.look().Beats, beats+1, "not needed any more")
}

func TestASlotThatNearsAndExceedsItsBudgetIsReported(t *testing.T) {
	c := pgtest.NewCluster(t, pgtest.Options{})
	db := c.New(t)
	db.Exec("create table t (id int primary key)")
	closeSource(t, open(t, config(db, "public.t"))) // a slot that nobody reads
	var log syncBuffer
	w := guard(t, db, func(cfg *pgsource.GuardConfig) {
		cfg.Budget, cfg.Patience, cfg.Logger = 20<<20, time.Millisecond, slog.New(slog.NewTextHandler(&log, nil))
	})
	require.Eventually(t, func() bool { return w.look().Budget == 20<<20 }, patience, time.Millisecond)
	require.Empty(t, w.look().Warning)
	fill := func(until float64) {
		for float64(w.look().Retained) < until*(20<<20) {
			db.Exec("select pg_logical_emit_message(false, 'fill', repeat('x', 500000))")
			before := w.look().Retained
			require.Eventually(t, func() bool { return w.look().Retained > before }, patience, time.Millisecond)
		}
	}
	fill(0.7)
	require.Eventually(t, func() bool { return strings.Contains(w.look().Warning, "% of the 20 MB of the budget") }, patience, time.Millisecond)
	require.Contains(t, w.look().Warning, "nobody reads it")
	fill(1)
	require.Eventually(t, func() bool { return strings.Contains(w.look().Warning, "more than the 20 MB of the budget") }, patience, time.Millisecond)
	require.Contains(t, log.String(), "level=WARN msg=\"log piles up on the server\"")
	require.Contains(t, log.String(), "level=ERROR msg=\"the slot keeps too much log\"")
	require.Equal(t, 2, strings.Count(log.String(), "\n"), "once each: %s", log.String())
	require.Empty(t, w.done, "to warn is the default")
}

func TestTheServersOwnLimitIsABudgetToo(t *testing.T) {
	c := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"max_slot_wal_keep_size": "32MB"}})
	db := c.New(t)
	closeSource(t, open(t, config(db)))
	w := guard(t, db, func(cfg *pgsource.GuardConfig) { cfg.Budget = 1 << 40 })
	require.Eventually(t, func() bool { return w.look().Budget == 32<<20 }, patience, time.Millisecond)
	for range 24 {
		db.Exec("select pg_logical_emit_message(false, 'fill', repeat('x', 1000000))")
	}
	require.Eventually(t, func() bool { return strings.Contains(w.look().Warning, "of max_slot_wal_keep_size") }, patience, time.Millisecond)
}

func TestAnExceededBudgetHaltsOrDropsTheSlotAsThePolicySays(t *testing.T) {
	for _, policy := range []pgsource.Policy{pgsource.PolicyHalt, pgsource.PolicyDropSlot} {
		t.Run(string(policy), func(t *testing.T) {
			db := pgtest.New(t)
			db.Exec("create table t (id int primary key)")
			src := start(t, config(db, "public.t"))
			for range 4 {
				db.Exec("select pg_logical_emit_message(false, 'fill', repeat('x', 1000000))")
			}
			w := guard(t, db, func(cfg *pgsource.GuardConfig) { cfg.Budget, cfg.Policy, cfg.Patience = 1<<20, policy, time.Second })
			halt := requireHalt(t, w.halted(t), "wal_budget")
			require.Contains(t, halt, "more than the 1 MB of the budget")
			require.Contains(t, halt, "--accept-gap")
			left := pgtest.One[int](db, "select count(*) from pg_replication_slots where slot_name = $1", config(db).Slot)
			if policy == pgsource.PolicyHalt {
				require.Equal(t, 1, left, "the slot is not touched")
				return
			}
			require.Zero(t, left)
			require.Contains(t, halt, "changes after "+src.Slot().Confirmed.String()+" are lost")
		})
	}
}

func TestARelayThatCatchesUpIsLeftAloneByThePolicy(t *testing.T) {
	c := pgtest.NewCluster(t, pgtest.Options{})
	db := c.New(t)
	closeSource(t, open(t, config(db)))
	db.Exec("checkpoint")
	for range 4 {
		db.Exec("select pg_logical_emit_message(false, 'fill', repeat('x', 1000000))")
	}
	w := guard(t, db, func(cfg *pgsource.GuardConfig) {
		cfg.Budget, cfg.Policy, cfg.Patience = 1<<20, pgsource.PolicyHalt, time.Hour
	})
	require.Eventually(t, func() bool { return w.look().Warning != "" }, patience, time.Millisecond)
	db.Exec("select pg_replication_slot_advance($1, pg_current_wal_lsn())", config(db).Slot)
	require.Eventually(t, func() bool {
		db.Exec("checkpoint")
		db.Exec("select pg_replication_slot_advance($1, pg_current_wal_lsn())", config(db).Slot)
		return w.look().Warning == ""
	}, patience, 50*time.Millisecond)
}

func TestATransactionThatStaysOpenIsNamedWithPidAndAge(t *testing.T) {
	c := pgtest.NewCluster(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "2"}})
	db := c.New(t)
	db.Exec("create table t (id int primary key)")
	var held atomic.Uint64
	follow(t, start(t, config(db, "public.t")), &held)
	conn := db.Connect()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "insert into t values (1)")
	require.NoError(t, err)
	w := guard(t, db, func(cfg *pgsource.GuardConfig) { cfg.OpenFor = 300 * time.Millisecond })
	require.Eventually(t, func() bool { return w.look().Oldest != nil }, patience, time.Millisecond)
	oldest := w.look().Oldest
	require.EqualValues(t, conn.PgConn().PID(), oldest.PID)
	require.GreaterOrEqual(t, oldest.Age, 300*time.Millisecond)
	require.Equal(t, db.Name, oldest.Database)

	// The slot is confirmed all the same, and the log is kept.
	before := held.Load()
	for range 3 {
		neighbour(t, c, 8)
	}
	require.Eventually(t, func() bool { return held.Load() > before+(1<<20) && w.look().Behind < 1<<16 }, patience, 10*time.Millisecond)
	require.Greater(t, w.look().Retained, int64(1<<20))
	require.Regexp(t, `keeps the log from being removed; held by the transaction of server process \d+ in database "test_\d+", open for \d+s \(pg_terminate_backend ends it\)`, w.look().Warning)
	require.NoError(t, tx.Rollback(t.Context()))
	require.Eventually(t, func() bool { return w.look().Warning == "" }, patience, time.Millisecond)

	db.Exec("begin; insert into t values (2); prepare transaction 'left behind'")
	require.Eventually(t, func() bool { return w.look().Oldest != nil && w.look().Oldest.GID == "left behind" }, patience, time.Millisecond)
	db.Exec("rollback prepared 'left behind'")
}

func TestAPublicationThatIsDroppedOrMadeAnewHaltsTheGuard(t *testing.T) {
	for name, tc := range map[string]struct{ sql, reason, remedy string }{
		"dropped":   {"drop publication pub", "publication_missing", "relay setup"},
		"made anew": {"begin; drop publication pub; create publication pub for table t; commit", "publication_replaced", "relay doctor"},
	} {
		t.Run(name, func(t *testing.T) {
			db := pgtest.New(t)
			db.Exec("create table t (id int primary key)")
			closeSource(t, open(t, config(db, "public.t")))
			w := guard(t, db, func(*pgsource.GuardConfig) {})
			require.Eventually(t, func() bool { return w.look().Status != "" }, patience, time.Millisecond)
			db.Exec("alter publication pub set (publish = 'insert, update, delete, truncate')") // is none of it
			db.Exec(tc.sql)
			require.Contains(t, requireHalt(t, w.halted(t), tc.reason), tc.remedy)
		})
	}
}

// syncBuffer is written by a logger and read by the test.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
