//go:build faults

package faults

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/faultproxy"
	"github.com/dot-do/relay/internal/pgproc"
	"github.com/dot-do/relay/internal/pgtest"
)

// TestASlotThatStandsFurtherBackAfterACrashDoublesNothing: Postgres writes a slot's
// position to disk at checkpoints, and when its restart position moves, which an open
// transaction prevents here. It forgets the rest in a crash.
func TestASlotThatStandsFurtherBackAfterACrashDoublesNothing(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{Durable: true, Settings: map[string]string{"checkpoint_timeout": "1h"}})
	s := newStack(t, options{db: cluster.New(t)})
	p := s.start()
	load := s.startLoad(2, 10*time.Millisecond)
	load.await(5)
	holder := must(pgx.Connect(t.Context(), s.db.URL))(t) // the crash ends it
	_ = must(holder.Exec(t.Context(), `begin; insert into things (ns, id, type) values ('n', 'never', 'Skill')`))(t)
	s.db.Exec(`checkpoint`)
	load.await(40)
	kept := s.confirmed()
	s.eventually(arrivesWithin, func() bool { return s.confirmed() != kept }, "the slot does not move")
	before := s.confirmed()
	p.kill()
	cluster.Stop(pgproc.Immediate)
	_ = holder.Close(t.Context())
	cluster.Start()
	s.db.Pool.Reset()
	require.True(t, pgtest.One[bool](s.db, `select $1::pg_lsn < $2::pg_lsn`, s.confirmed(), before), "the slot stands at %s, was told %s", s.confirmed(), before)
	p = s.start()
	load.await(5)
	load.check()
	p.stop()
}

// TestNewEventsComeSoonAfterAnOutageOfPostgres is as quick after a long outage as
// after a short one.
func TestNewEventsComeSoonAfterAnOutageOfPostgres(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, pgtest.Options{Durable: true})
	s := newStack(t, options{db: cluster.New(t)})
	p := s.start()
	s.insert("before")
	s.settle()
	for _, tc := range []struct {
		mode   pgproc.StopMode
		outage time.Duration
	}{{pgproc.Fast, time.Second}, {pgproc.Immediate, 12 * time.Second}} {
		cluster.Stop(tc.mode)
		pause(tc.outage)
		cluster.Start()
		s.db.Pool.Reset()
		took := s.settleWithin(arrivesWithin)
		t.Logf("away for %s, publishing again after %s", tc.outage, took.Round(time.Millisecond))
		require.Less(t, took, resumesWithin)
	}
	s.insert("after")
	s.settle()
	require.Equal(t, []string{"thing.created n/before", "thing.created n/after"}, names(s.read(), "n"))
	p.stop()
}

// TestASourceConnectionThatIsCutAnywhereYieldsNoPartOfAnEvent cuts what Postgres
// sends after random numbers of bytes, goes silent in both directions, and is slow.
func TestASourceConnectionThatIsCutAnywhereYieldsNoPartOfAnEvent(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{pgNet: true, settings: map[string]string{"wal_sender_timeout": "2s"}})
	p := s.start()
	load := s.startLoad(2, 10*time.Millisecond)
	for range 6 {
		load.await(5)
		s.pgNet.CutAfter(faultproxy.Down, 1+rand.IntN(20_000))
	}
	load.await(5)
	s.pgNet.Silence(faultproxy.Up, faultproxy.Down) // half open: Postgres gives the reader up
	pause(5 * time.Second)
	s.pgNet.Heal()
	load.await(5)
	s.pgNet.Slow(0, 8<<10)
	pause(4 * time.Second)
	s.pgNet.Heal()
	load.await(5)
	load.check()
	p.awaitState(readyWithin, "streaming")
	p.stop()
}

// TestAControlDatabaseThatCannotBeWrittenHoldsTheSlot: the stream goes on, and the
// slot waits for its checkpoint.
func TestAReadOnlyDatabaseHoldsTheSlotAndHeals(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	p := s.start()
	s.insert("1")
	s.settle()
	s.db.Exec(`alter database ` + s.db.Name + ` set default_transaction_read_only = on`)
	s.db.Exec(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`)
	s.db.Pool.Reset()
	writable := func(sql string, args ...any) {
		tx := must(s.db.Pool.Begin(t.Context()))(t)
		_ = must(tx.Exec(t.Context(), `set transaction read write`))(t)
		_ = must(tx.Exec(t.Context(), sql, args...))(t)
		require.NoError(t, tx.Commit(t.Context()))
	}
	writable(`insert into things (ns, id, type, content) values ('n', '2', 'Skill', $1)`, s.canary)
	written := pgtest.One[string](s.db, `select pg_current_wal_lsn()::text`)
	p.awaitState(arrivesWithin, "degraded")
	require.True(t, pgtest.One[bool](s.db, `select $1::pg_lsn < $2::pg_lsn`, s.confirmed(), written), "no confirm without a checkpoint")
	admin := s.db.Connect()
	_ = must(admin.Exec(t.Context(), `set default_transaction_read_only = off`))(t)
	_ = must(admin.Exec(t.Context(), `alter database `+s.db.Name+` reset default_transaction_read_only`))(t)
	_ = must(admin.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`))(t)
	s.db.Pool.Reset()
	p.awaitState(arrivesWithin, "streaming")
	s.insert("3")
	s.settle()
	require.Equal(t, []string{"thing.created n/1", "thing.created n/2", "thing.created n/3"}, names(s.read(), "n"))
	p.stop()
}
