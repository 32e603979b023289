package pgsource_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgproc"
	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay/pgsource"
)

// BenchmarkDrain reads one backlog again and again, and so does pg_recvlogical in
// the same run: compare the ratio, not the rate.
func BenchmarkDrain(b *testing.B) {
	for _, perTx := range []int{10, 100_000} {
		b.Run(fmt.Sprintf("rows-per-transaction=%d", perTx), func(b *testing.B) { benchmarkDrain(b, perTx) })
	}
}

func benchmarkDrain(b *testing.B, perTx int) {
	const rows = 100_000
	db := pgtest.New(b)
	db.Exec("create table t (id int primary key, at timestamptz default now(), doc jsonb)")
	cfg := config(db, "public.t")
	src, err := pgsource.Open(b.Context(), cfg)
	require.NoError(b, err)
	require.NoError(b, src.Close(b.Context()))
	db.Exec(fmt.Sprintf(`do $$ begin for i in 0..%d loop
		insert into t (id, doc) select i * %d + j, jsonb_build_object('title', repeat('x', 280)) from generate_series(1, %[2]d) j;
		commit; end loop; end $$`, rows/perTx-1, perTx))
	target := pgtest.One[string](db, "select pg_current_wal_lsn()::text")

	var ours, theirs, cpu time.Duration
	var batches int
	for b.Loop() {
		cpuBefore, began := cpuTime(), time.Now()
		batches += drain(b, cfg, rows)
		ours += time.Since(began)
		cpu += cpuTime() - cpuBefore

		began = time.Now()
		recvlogical(b, db, cfg, target)
		theirs += time.Since(began)
	}
	n := float64(b.N)
	b.ReportMetric(rows*n/ours.Seconds(), "rows/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "x-pg_recvlogical")
	b.ReportMetric(float64(cpu.Nanoseconds())/n/rows, "cpu-ns/row")
	b.ReportMetric(rows*n/float64(batches), "rows/batch")
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapSys-m.HeapReleased)/(1<<20), "heap-MiB")
}

// drain reads n rows and confirms nothing.
func drain(b *testing.B, cfg pgsource.Config, n int) (batches int) {
	src, err := pgsource.Open(b.Context(), cfg)
	require.NoError(b, err)
	require.NoError(b, src.Start(b.Context()))
	for n > 0 {
		batch, err := src.Next(b.Context())
		require.NoError(b, err)
		n -= len(batch.Changes)
		batches++
		batch.Release()
	}
	require.NoError(b, src.Close(b.Context()))
	return batches
}

func recvlogical(b *testing.B, db *pgtest.DB, cfg pgsource.Config, target string) {
	bin, err := pgproc.Find()
	require.NoError(b, err)
	copied := cfg.Slot + "_copy"
	db.Exec("select pg_copy_logical_replication_slot($1, $2)", cfg.Slot, copied)
	cmd := exec.CommandContext(context.Background(), filepath.Join(bin, "pg_recvlogical"), "--dbname", db.URL, "--slot", copied,
		"--start", "--endpos", target, "--file", "/dev/null", "-o", "proto_version=1", "-o", "publication_names="+cfg.Publication)
	out, err := cmd.CombinedOutput()
	require.NoError(b, err, string(out))
	db.Exec("select pg_drop_replication_slot($1)", copied)
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
