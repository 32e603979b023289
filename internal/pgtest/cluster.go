package pgtest

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgproc"
)

const (
	dirPattern = "relay-pgtest-*"
	lockName   = "owner.lock"
	staleAfter = time.Minute // younger directories may not be locked yet
)

// Options of a cluster of its own.
type Options struct {
	Durable  bool              // fsync and full-page writes on
	Settings map[string]string // server settings, over those of the shared cluster
}

// Cluster is a Postgres server of its own. Its port and data survive a restart.
type Cluster struct {
	t        testing.TB // nil for the shared cluster
	dir      string
	lock     *os.File // held while the test process lives
	settings map[string]string

	mu     sync.Mutex
	server *pgproc.Server // the latest, running or not
	port   int
}

// NewCluster starts a server for one test. It is stopped and removed when the test ends.
func NewCluster(t testing.TB, opts Options) *Cluster {
	t.Helper()
	c, err := startCluster(opts)
	require.NoError(t, err)
	c.t = t
	t.Cleanup(func() { require.NoError(t, c.close()) })
	return c
}

// startCluster makes a directory outside t.TempDir, which a root caller's server
// user could not enter.
func startCluster(opts Options) (*Cluster, error) {
	dir, err := os.MkdirTemp("", dirPattern)
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, settings: map[string]string{
		"max_connections":       "200",
		"max_wal_senders":       "40",
		"max_replication_slots": "40",
		"shared_buffers":        "64MB",
		"jit":                   "off",
	}}
	if !opts.Durable {
		c.settings["fsync"], c.settings["full_page_writes"] = "off", "off"
	}
	maps.Copy(c.settings, opts.Settings)
	if c.lock, err = os.Create(filepath.Join(dir, lockName)); err == nil {
		err = syscall.Flock(int(c.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == nil {
		err = c.start()
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := pgproc.Start(context.Background(), pgproc.Config{
		Dir: c.dir, Port: c.port, Settings: c.settings,
	})
	if err != nil {
		return err
	}
	c.server, c.port = s, s.Port()
	return nil
}

func (c *Cluster) close() error {
	err := c.current().Stop(pgproc.Immediate)
	_ = c.lock.Close()
	if rmErr := os.RemoveAll(c.dir); err == nil {
		err = rmErr
	}
	return err
}

// Stop ends the server; clients see their connections break.
func (c *Cluster) Stop(mode pgproc.StopMode) {
	c.t.Helper()
	require.NoError(c.t, c.current().Stop(mode))
}

// Start starts the stopped server on the same port.
func (c *Cluster) Start() {
	c.t.Helper()
	require.NoError(c.t, c.start())
}

// Restart is Stop and Start.
func (c *Cluster) Restart(mode pgproc.StopMode) {
	c.t.Helper()
	c.Stop(mode)
	c.Start()
}

// Set changes server settings from the next Start on.
func (c *Cluster) Set(settings map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.settings, settings)
}

// URL is the superuser's connection string for the database "postgres".
func (c *Cluster) URL() string { return c.url("postgres") }

func (c *Cluster) url(database string) string { return c.current().URL(database) }
func (c *Cluster) binDir() string             { return c.current().BinDir() }

func (c *Cluster) current() *pgproc.Server {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server
}

func (c *Cluster) running() bool {
	select {
	case <-c.current().Done():
		return false
	default:
		return true
	}
}

// admin runs f on the maintenance database.
func (c *Cluster) admin(t testing.TB, f func(context.Context, *pgx.Conn) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.URL())
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	require.NoError(t, f(ctx, conn))
}

// removeStale removes the directories of test processes that were killed. Each
// living process holds the lock in its own.
func removeStale(tmp string) {
	dirs, err := filepath.Glob(filepath.Join(tmp, dirPattern))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || time.Since(info.ModTime()) < staleAfter {
			continue
		}
		if lock, err := os.Open(filepath.Join(dir, lockName)); err == nil {
			held := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
			_ = lock.Close()
			if held {
				continue
			}
		}
		_ = os.RemoveAll(dir) // another user's directory stays
	}
}
