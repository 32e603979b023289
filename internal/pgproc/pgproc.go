// Package pgproc runs a private PostgreSQL server as a child process.
//
// It serves the throw-away stack of `relay demo` and the tests. A server lives in
// one directory (data, socket, log, password), listens on 127.0.0.1 with a
// random superuser password, and never outlives the process that started it:
// on Linux the kernel stops it even when that process is killed.
//
// Postgres refuses to run as root, so a root caller's server runs as the user
// "postgres", or "nobody" where there is none.
package pgproc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	startTimeout  = 60 * time.Second // crash recovery included
	stopTimeout   = 30 * time.Second // then the stop becomes an immediate one
	answerTimeout = 2 * time.Second
	pollInterval  = 20 * time.Millisecond
	maxSocketPath = 100 // the kernel's limit is 103 to 107 bytes
	superuser     = "postgres"
)

// Config describes one server.
type Config struct {
	Dir      string            // required; made if missing, reused if it holds a server of a former Start
	BinDir   string            // default: what Find answers
	Port     int               // default: a free one, outside the range the kernel hands to clients
	Settings map[string]string // server settings, over wal_level=logical and UTC
}

// StopMode says how a server is asked to end.
type StopMode syscall.Signal

// The modes, from the most to the least polite.
const (
	Smart     = StopMode(syscall.SIGTERM) // waits for every client to leave
	Fast      = StopMode(syscall.SIGINT)  // ends the sessions and checkpoints
	Immediate = StopMode(syscall.SIGQUIT) // as a crash: the next start recovers
	Kill      = StopMode(syscall.SIGKILL) // the postmaster alone, as an out-of-memory killer would
)

// Server is a running PostgreSQL server.
type Server struct {
	dir      string
	binDir   string
	port     int
	password string
	cmd      *exec.Cmd
	done     chan struct{} // closed when the postmaster has ended
	exit     error         // why; written before done is closed
}

// Start makes the cluster if Dir holds none, starts its server and waits until
// it accepts connections. ctx bounds the start only; the server runs until Stop.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	c, err := prepare(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	for {
		s, err := c.launch(ctx, cfg)
		switch {
		case err == nil:
			return s, nil
		case errors.Is(err, errPortTaken) && cfg.Port == 0:
			// Another process took the free port first: choose again.
		case errors.Is(err, errStillClosing):
			// The backends of a killed postmaster are about to notice.
		default:
			return nil, fmt.Errorf("start postgres in %s: %w", c.dir, err)
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("start postgres in %s: %w", c.dir, err)
		}
	}
}

var (
	errPortTaken    = errors.New("the port is in use")
	errStillClosing = errors.New("processes of the former server are still there")
)

// launch starts the postmaster once and waits until it answers.
func (c *cluster) launch(ctx context.Context, cfg Config) (*Server, error) {
	port := cfg.Port
	if port == 0 {
		var err error
		if port, err = freePort(ctx); err != nil {
			return nil, err
		}
	}
	log, err := os.OpenFile(c.logPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	offset, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}

	cmd := exec.Command(filepath.Join(c.binDir, "postgres"), c.arguments(port, cfg.Settings)...) //nolint:gosec // the binary found by Find
	cmd.Dir, cmd.Env, cmd.SysProcAttr = c.dir, c.environ(), c.attr
	cmd.Stdout, cmd.Stderr = log, log
	s := &Server{dir: c.dir, binDir: c.binDir, port: port, password: c.password, cmd: cmd, done: make(chan struct{})}
	if err := s.fork(); err != nil {
		return nil, err
	}
	if err := s.awaitReady(ctx); err != nil {
		_ = s.Stop(Immediate)
		tail := c.logTail(offset)
		if strings.Contains(tail, "could not bind") {
			return nil, fmt.Errorf("%w: 127.0.0.1:%d", errPortTaken, port)
		}
		if strings.Contains(tail, "pre-existing shared memory block") {
			return nil, errStillClosing
		}
		return nil, fmt.Errorf("%w\n%s", err, tail)
	}
	return s, nil
}

// fork starts the process from a thread that lives as long as the process: the
// kernel sends the parent-death signal when the forking thread ends, not the process.
func (s *Server) fork() error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := s.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		s.exit = s.cmd.Wait()
		close(s.done)
	}()
	return <-started
}

func (s *Server) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if s.answers(ctx) {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("the server ended while starting: %w", s.Err())
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// answers bounds its attempt: a stranger on the port may accept and stay silent.
func (s *Server) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return false
	}
	return conn.Close(ctx) == nil
}

// Stop ends the server and waits until its process is gone. A polite mode that
// takes longer than 30 s becomes an immediate one. Stopping twice is harmless.
func (s *Server) Stop(mode StopMode) error {
	for _, m := range []StopMode{mode, Immediate, Kill} {
		if err := s.cmd.Process.Signal(syscall.Signal(m)); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop postgres: %w", err)
		}
		timer := time.NewTimer(stopTimeout)
		select {
		case <-s.done:
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
	return fmt.Errorf("stop postgres: process %d does not end", s.cmd.Process.Pid)
}

// Done is closed when the server has ended, by Stop or on its own.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err says how the server ended; nil while it runs and after an orderly end.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.exit
	default:
		return nil
	}
}

// Port is the TCP port on 127.0.0.1.
func (s *Server) Port() int { return s.port }

// BinDir is the directory of the server's programs, psql among them.
func (s *Server) BinDir() string { return s.binDir }

// Log is the path of the server's log file.
func (s *Server) Log() string { return filepath.Join(s.dir, logName) }

// URL is the superuser's connection string for a database. It holds the password.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.password),
		Host:     "127.0.0.1:" + strconv.Itoa(s.port),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (c *cluster) arguments(port int, settings map[string]string) []string {
	all := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(port),
		"unix_socket_directories": c.socketDir(),
		"wal_level":               "logical",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"log_error_verbosity":     "terse", // a refused row's values stay out of the log
	}
	maps.Copy(all, settings)
	args := []string{"-D", c.dataDir()}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		args = append(args, "-c", name+"="+all[name])
	}
	return args
}
