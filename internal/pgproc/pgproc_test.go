//go:build unix

package pgproc

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openDir is a directory that the server's user may enter, unlike t.TempDir when root runs the tests.
func openDir(t *testing.T) string { return openDirNamed(t, "relay-pgproc-") }

func openDirNamed(t *testing.T, prefix string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", prefix+"*") //nolint:usetesting // see openDir
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop(Immediate)) })
	return s
}

func ask(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	var answer string
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&answer))
	return answer
}

func TestAServerKeepsDataAndPasswordInItsDirectory(t *testing.T) {
	dir := openDir(t)
	first := start(t, Config{Dir: dir, Settings: map[string]string{"work_mem": "5MB"}})
	require.Equal(t, "logical", ask(t, first.URL("postgres"), "show wal_level"))
	require.Equal(t, "5MB", ask(t, first.URL("postgres"), "show work_mem"))
	require.Equal(t, "on", ask(t, first.URL("postgres"), "show fsync"))
	conn, err := pgx.Connect(t.Context(), first.URL("postgres"))
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "create database kept")
	require.NoError(t, err)
	require.NoError(t, first.Stop(Fast), "a fast stop does not wait for clients")
	require.NoError(t, first.Stop(Fast), "stopping twice is harmless")
	require.NoError(t, first.Err())
	_ = conn.Close(t.Context())

	second := start(t, Config{Dir: dir, Port: first.Port()})
	require.Equal(t, first.URL("kept"), second.URL("kept"))
	require.Equal(t, "kept", ask(t, second.URL("kept"), "select current_database()"))
}

func TestAServerAsksForItsPassword(t *testing.T) {
	s := start(t, Config{Dir: openDir(t)})
	config, err := pgx.ParseConfig(s.URL("postgres"))
	require.NoError(t, err)
	config.Password = "guess"
	_, err = pgx.ConnectConfig(t.Context(), config)
	require.ErrorContains(t, err, "password authentication failed")
	info, err := os.Stat(filepath.Join(s.dir, "password"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestDoneTellsThatAServerDied(t *testing.T) {
	s := start(t, Config{Dir: openDir(t)})
	require.NoError(t, s.Err())
	require.NoError(t, s.cmd.Process.Kill())
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("Done stays open")
	}
	require.ErrorContains(t, s.Err(), "killed")
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = Start(t.Context(), Config{Dir: openDir(t), Port: port})
	require.ErrorIs(t, err, errPortTaken)
	require.ErrorContains(t, err, "127.0.0.1:"+strconv.Itoa(port))
}

func TestAServerThatRefusesToStartSaysWhatItLogged(t *testing.T) {
	_, err := Start(t.Context(), Config{Dir: openDir(t), Settings: map[string]string{"wal_level": "nonsense"}})
	require.ErrorContains(t, err, `invalid value for parameter "wal_level"`)
}

func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx, Config{Dir: openDir(t)})
	require.ErrorIs(t, err, context.Canceled)
}

func TestALongDirectoryDoesWithoutASocket(t *testing.T) {
	dir := openDirNamed(t, "relay-pgproc-"+strings.Repeat("long-", 15))
	s := start(t, Config{Dir: dir})
	require.Empty(t, ask(t, s.URL("postgres"), "show unix_socket_directories"))
}

func TestADirectoryTheServersUserCannotEnterIsNamed(t *testing.T) {
	if os.Geteuid() != 0 {
		require.NoError(t, reachable("/", "anyone", 1))
		return
	}
	closed := openDir(t)
	_, err := Start(t.Context(), Config{Dir: filepath.Join(closed, "pg")})
	require.ErrorContains(t, err, "may not enter "+closed)
}

func TestFindPrefersTheEnvironment(t *testing.T) {
	dir, err := Find()
	require.NoError(t, err)
	t.Setenv(BinEnv, dir)
	t.Setenv("PATH", "")
	found, err := Find()
	require.NoError(t, err)
	require.Equal(t, dir, found)

	t.Setenv(BinEnv, t.TempDir())
	_, err = Find()
	require.ErrorContains(t, err, "RELAY_PG_BIN=")
	require.ErrorContains(t, err, "no initdb in")
}

func TestFindRefusesAnOldPostgres(t *testing.T) {
	t.Setenv(BinEnv, fakePrograms(t, "postgres (PostgreSQL) 13.9"))
	_, err := Find()
	require.ErrorContains(t, err, "PostgreSQL 13 in")
	require.ErrorContains(t, err, "14 or newer is needed")
}

func TestFindListsWhatItLookedAtAndHowToInstall(t *testing.T) {
	err := notFound([]string{"no initdb in /x"})
	require.ErrorIs(t, err, ErrNotFound)
	for _, part := range []string{"RELAY_PG_BIN", "PATH", "pg_config", "/usr/lib/postgresql/*/bin", "no initdb in /x", "apt-get install postgresql"} {
		require.ErrorContains(t, err, part)
	}
}

func TestTheNewestVersionComesFirst(t *testing.T) {
	root := t.TempDir()
	for _, v := range []string{"9", "17", "14"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, v, "bin"), 0o755))
	}
	var got []string
	for _, dir := range newest(filepath.Join(root, "*", "bin")) {
		got = append(got, filepath.Base(filepath.Dir(dir)))
	}
	require.Equal(t, []string{"17", "14", "9"}, got)
}

// fakePrograms is a directory of programs that only tell their version.
func fakePrograms(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"initdb", "postgres"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho '"+version+"'\n"), 0o755))
	}
	return dir
}
