package pgtest

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// Standby starts a standby of the cluster: a copy that follows it until Promote. It
// is stopped and removed when the test ends.
func (c *Cluster) Standby(t testing.TB) *Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", dirPattern)
	require.NoError(t, err)
	s := &Cluster{t: t, dir: dir, settings: maps.Clone(c.settings)}
	s.lock, err = os.Create(filepath.Join(dir, lockName))
	require.NoError(t, err)
	require.NoError(t, syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
	t.Cleanup(func() {
		if s.server != nil {
			require.NoError(t, s.close())
		}
		_ = os.RemoveAll(dir)
	})
	data := filepath.Join(dir, "data")
	out, err := exec.Command(filepath.Join(c.binDir(), "pg_basebackup"), //nolint:gosec // the binary found by pgproc
		"--pgdata", data, "--dbname", c.URL(), "--wal-method", "stream", "--checkpoint", "fast", "--no-sync").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o600))
	password, err := os.ReadFile(filepath.Join(c.dir, "password"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "password"), password, 0o600)) //nolint:gosec // a directory of our own
	require.NoError(t, giveLike(filepath.Join(c.dir, "data"), data))
	u, err := url.Parse(c.URL())
	require.NoError(t, err)
	secret, _ := u.User.Password()
	s.settings["primary_conninfo"] = fmt.Sprintf("host=%s port=%s user=%s password=%s", u.Hostname(), u.Port(), u.User.Username(), secret)
	require.NoError(t, s.start())
	return s
}

// giveLike makes whoever owns model the owner of everything under path.
func giveLike(model, path string) error {
	info, err := os.Stat(model)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(path, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, int(owner.Uid), int(owner.Gid)) //nolint:gosec // a directory of our own, under a server that is not running
	})
}

// Database returns the copy, on this standby, of a database of the primary.
func (c *Cluster) Database(t testing.TB, of *DB) *DB {
	t.Helper()
	db := &DB{Name: of.Name, URL: c.url(of.Name), t: t, cluster: c}
	var err error
	db.Pool, err = pgxpool.New(context.Background(), db.URL) // t.Context ends before Cleanup
	require.NoError(t, err)
	t.Cleanup(db.Pool.Close)
	return db
}

// Promote ends the standby's recovery: it is a server of its own then, on a new
// timeline.
func (c *Cluster) Promote(db *DB) {
	c.t.Helper()
	require.True(c.t, One[bool](db, "select pg_promote()"))
}

// CopySlot puts a copy of a slot of another cluster, as its last checkpoint left it, into
// the stopped standby, as failover tools do before version 17.
func (c *Cluster) CopySlot(of *Cluster, slot string) {
	c.t.Helper()
	at := filepath.Join("data", "pg_replslot", slot)
	require.NoError(c.t, os.CopyFS(filepath.Join(c.dir, at), os.DirFS(filepath.Join(of.dir, at))))
	require.NoError(c.t, os.Chmod(filepath.Join(c.dir, at), 0o700)) //nolint:gosec // a directory
	require.NoError(c.t, giveLike(filepath.Join(c.dir, "data"), filepath.Join(c.dir, at)))
}
