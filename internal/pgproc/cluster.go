package pgproc

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const logName = "postgres.log"

// cluster is a prepared directory: initdb has run, and the server's user can read it.
type cluster struct {
	dir      string
	binDir   string
	password string
	attr     *syscall.SysProcAttr
}

func (c *cluster) dataDir() string { return filepath.Join(c.dir, "data") }
func (c *cluster) logPath() string { return filepath.Join(c.dir, logName) }

// socketDir is the directory of the Unix socket; none where its path would be too long.
func (c *cluster) socketDir() string {
	if len(c.dir) > maxSocketPath-len("/.s.PGSQL.65535") {
		return ""
	}
	return c.dir
}

// environ leaves the caller's PG* settings behind: they would redirect the server.
func (c *cluster) environ() []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, kv := range os.Environ() {
		if strings.HasPrefix(kv, "PATH=") || strings.HasPrefix(kv, "LD_LIBRARY_PATH=") {
			env = append(env, kv)
		}
	}
	return env
}

// prepare finds the programs, makes the directory and runs initdb where needed.
func prepare(ctx context.Context, cfg Config) (*cluster, error) {
	if cfg.Dir == "" {
		return nil, errors.New("no directory given")
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, binDir: cfg.BinDir}
	if c.binDir == "" {
		if c.binDir, err = Find(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	if c.attr, err = ownedByServerUser(c.dir); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(c.dataDir(), "PG_VERSION")); err != nil {
		return c, c.initdb(ctx)
	}
	password, err := os.ReadFile(c.passwordPath())
	if err != nil {
		return nil, fmt.Errorf("%s holds a cluster that was not made here: %w", c.dir, err)
	}
	c.password = string(bytes.TrimSpace(password))
	return c, nil
}

func (c *cluster) passwordPath() string { return filepath.Join(c.dir, "password") }

func (c *cluster) initdb(ctx context.Context) error {
	c.password = rand.Text()
	if err := os.WriteFile(c.passwordPath(), []byte(c.password+"\n"), 0o600); err != nil {
		return err
	}
	if err := giveToServer(c.passwordPath(), c.attr); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.binDir, "initdb"), //nolint:gosec // the binary found by Find
		"--pgdata", c.dataDir(), "--username", superuser, "--pwfile", c.passwordPath(),
		"--auth-local", "peer", "--auth-host", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C", "--no-sync")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = c.dir, c.environ(), c.attr
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// logTail is the end of what the server logged since offset, for an error message.
func (c *cluster) logTail(offset int64) string {
	const limit = 2000
	f, err := os.Open(c.logPath())
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return ""
	}
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text[max(0, len(text)-limit):]))
}

// freePort looks below the kernel's usual client range, so that the port stays
// free while a server is restarted.
func freePort(ctx context.Context) (int, error) {
	const lowest, span, tries = 15000, 15000, 100
	var lc net.ListenConfig
	for range tries {
		port := lowest + mrand.IntN(span)
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port between %d and %d on 127.0.0.1", lowest, lowest+span)
}
