// Package pgtest gives tests a real PostgreSQL.
//
// New returns a private database on one cluster shared by the test binary; the
// cluster starts with the first New. NewCluster starts a cluster for one test
// that restarts, kills or configures its server. Missing Postgres programs fail
// the test with the command that installs them.
//
// A package's TestMain stops the shared cluster and looks for leaked goroutines:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// Without it the kernel stops the cluster together with the test process, and a
// later test binary removes the directory.
package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

const cleanupTimeout = 20 * time.Second

// shared is the cluster of this test binary. It is package state because the
// tests of a binary have nothing else in common.
var shared struct {
	sync.Mutex
	cluster *Cluster
	err     error
	created int // databases so far, for their names
}

// DB is a private database. It is dropped, with its replication slots, when the
// test ends. Roles are cluster-wide: a test that creates one names it uniquely.
type DB struct {
	Pool *pgxpool.Pool // as superuser, at most 10 connections
	URL  string        // the superuser's connection string
	Name string

	t       testing.TB
	cluster *Cluster
}

// New returns an empty database on the shared cluster.
func New(t testing.TB) *DB {
	t.Helper()
	shared.Lock()
	if shared.cluster == nil && shared.err == nil {
		removeStale(os.TempDir())
		shared.cluster, shared.err = startCluster(Options{})
	}
	cluster, err := shared.cluster, shared.err
	shared.Unlock()
	require.NoError(t, err)
	return cluster.New(t)
}

// Main runs the tests of a package, stops the shared cluster, fails the run if
// goroutines are left, and exits.
func Main(m *testing.M) {
	code := m.Run()
	shared.Lock()
	if shared.cluster != nil {
		if err := shared.cluster.close(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
			code = max(code, 1)
		}
	}
	shared.Unlock()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest: goroutines outlived the tests:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// New returns an empty database on this cluster.
func (c *Cluster) New(t testing.TB) *DB {
	t.Helper()
	shared.Lock()
	shared.created++
	db := &DB{Name: fmt.Sprintf("test_%d", shared.created), t: t, cluster: c}
	shared.Unlock()
	db.URL = c.url(db.Name)

	c.admin(t, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "create database "+db.Name)
		return err
	})
	config, err := pgxpool.ParseConfig(db.URL)
	require.NoError(t, err)
	config.MaxConns = 10
	db.Pool, err = pgxpool.NewWithConfig(context.Background(), config) // t.Context ends before Cleanup
	require.NoError(t, err)
	t.Cleanup(db.drop)
	return db
}

// drop removes the database, its slots first: a slot would keep it alive, and slots are
// few and cluster-wide.
func (db *DB) drop() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		db.Pool.Close()
	}()
	select {
	case <-closed:
	case <-time.After(cleanupTimeout):
		db.t.Errorf("database %s: a test kept a connection of the pool", db.Name)
	}
	if !db.cluster.running() {
		return // a test stopped its own cluster: the directory goes anyway
	}
	db.cluster.admin(db.t, func(ctx context.Context, conn *pgx.Conn) error {
		if err := dropSlots(ctx, conn, db.Name); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "drop database if exists "+db.Name+" with (force)")
		return err
	})
}

// dropSlots drops the slots of a database, ending the connections that use them.
func dropSlots(ctx context.Context, conn *pgx.Conn, database string) error {
	const end = `select pg_terminate_backend(active_pid) from pg_replication_slots where database = $1 and active_pid is not null`
	const drop = `select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = $1 and active_pid is null`
	const left = `select count(*) from pg_replication_slots where database = $1`
	for {
		for _, sql := range []string{end, drop} {
			// A slot may change hands between the list and the call: look again.
			if _, err := conn.Exec(ctx, sql, database); err != nil && ctx.Err() != nil {
				return fmt.Errorf("drop the slots of %s: %w", database, err)
			}
		}
		var n int
		if err := conn.QueryRow(ctx, left, database).Scan(&n); err != nil || n == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d slots of %s stay active: %w", n, database, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Exec runs SQL and fails the test on an error. Without args it may hold several statements.
func (db *DB) Exec(sql string, args ...any) {
	db.t.Helper()
	_, err := db.Pool.Exec(context.Background(), sql, args...)
	require.NoError(db.t, err, sql)
}

// Connect returns a connection outside the pool, closed when the test ends.
func (db *DB) Connect() *pgx.Conn {
	db.t.Helper()
	conn, err := pgx.Connect(context.Background(), db.URL)
	require.NoError(db.t, err)
	db.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Psql runs psql on the database, as an operator would: -X, quiet, and stopping at
// the first error. It returns what psql printed, errors included.
func (db *DB) Psql(args ...string) (string, error) {
	args = append([]string{"-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", db.URL}, args...)
	out, err := exec.Command(filepath.Join(db.cluster.binDir(), "psql"), args...).CombinedOutput() //nolint:gosec // the binary found by pgproc
	return strings.TrimSpace(string(out)), err
}

// One returns the only column of the only row of a query, and fails the test otherwise.
func One[T any](db *DB, sql string, args ...any) T {
	db.t.Helper()
	rows, err := db.Pool.Query(context.Background(), sql, args...)
	require.NoError(db.t, err, sql)
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(db.t, err, sql)
	return value
}

// All returns the only column of every row of a query.
func All[T any](db *DB, sql string, args ...any) []T {
	db.t.Helper()
	rows, err := db.Pool.Query(context.Background(), sql, args...)
	require.NoError(db.t, err, sql)
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	require.NoError(db.t, err, sql)
	return values
}
