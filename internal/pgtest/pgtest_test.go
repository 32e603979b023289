package pgtest_test

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgproc"
	"github.com/dot-do/relay/internal/pgtest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(orphanEnv); dir != "" {
		orphan(dir)
		return
	}
	pgtest.Main(m)
}

func TestEachDatabaseIsPrivate(t *testing.T) {
	a, b := pgtest.New(t), pgtest.New(t)
	a.Exec("create table things (id int)")
	require.NotEqual(t, a.Name, b.Name)
	require.True(t, pgtest.One[bool](b, "select to_regclass('things') is null"))
	require.Equal(t, []string{"logical", "UTC"}, []string{
		pgtest.One[string](a, "show wal_level"), pgtest.One[string](a, "show timezone"),
	})
}

func TestADatabaseWithABusySlotIsDropped(t *testing.T) {
	other := pgtest.New(t)
	var name string
	t.Run("leaves a slot", func(t *testing.T) {
		db := pgtest.New(t)
		name = db.Name
		db.Exec("create publication p for all tables")
		db.Exec("select pg_create_logical_replication_slot('left_behind', 'pgoutput')")
		conn, err := pgconn.Connect(t.Context(), db.URL+"&replication=database")
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		require.NoError(t, pglogrepl.StartReplication(t.Context(), conn, "left_behind", 0, pglogrepl.StartReplicationOptions{
			PluginArgs: []string{"proto_version '1'", "publication_names 'p'"},
		}))
		require.Eventually(t, func() bool {
			return pgtest.One[bool](db, "select active from pg_replication_slots where slot_name = 'left_behind'")
		}, 5*time.Second, 10*time.Millisecond)
	})
	require.Empty(t, pgtest.All[string](other, "select slot_name from pg_replication_slots where database = $1", name))
	require.Empty(t, pgtest.All[string](other, "select datname from pg_database where datname = $1", name))
}

func TestAClusterKeepsPortAndDataOverEveryKindOfStop(t *testing.T) {
	c := pgtest.NewCluster(t, pgtest.Options{Durable: true, Settings: map[string]string{"wal_level": "replica"}})
	url := c.URL()
	db := c.New(t)
	db.Exec("create table kept (n int)")
	for i, mode := range []pgproc.StopMode{pgproc.Fast, pgproc.Immediate, pgproc.Kill} {
		db.Exec("insert into kept values ($1)", i)
		c.Restart(mode)
		require.Equal(t, url, c.URL())
		db.Pool.Reset()
	}
	require.Equal(t, []int{0, 1, 2}, pgtest.All[int](db, "select n from kept order by n"))
	require.Equal(t, "replica", pgtest.One[string](db, "show wal_level"))
	require.Equal(t, "on", pgtest.One[string](db, "show fsync"))

	c.Set(map[string]string{"wal_level": "logical"})
	c.Restart(pgproc.Fast)
	db.Pool.Reset()
	require.Equal(t, "logical", pgtest.One[string](db, "show wal_level"))
}

func TestPsqlStopsAtTheFirstError(t *testing.T) {
	db := pgtest.New(t)
	out, err := db.Psql("-c", "select 41 + 1")
	require.NoError(t, err)
	require.Equal(t, "42", out)
	out, err = db.Psql("-c", "select nothing_here", "-c", "create table after ()")
	require.Error(t, err)
	require.Contains(t, out, `column "nothing_here" does not exist`)
	require.True(t, pgtest.One[bool](db, "select to_regclass('after') is null"))
}

func TestAKilledTestProcessLeavesNoServer(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "relay-pgtest-*")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), orphanEnv+"="+dir)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	buf := make([]byte, 300)
	n, err := stdout.Read(buf)
	require.NoError(t, err)
	url := string(buf[:n])
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))

	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.Eventually(t, func() bool {
		conn, err := pgx.Connect(t.Context(), url)
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err != nil
	}, 10*time.Second, 20*time.Millisecond)
}
