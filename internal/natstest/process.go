package natstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// configEnv names the configuration file in the environment of a server process.
const configEnv = "RELAY_NATSTEST_CONFIG"

// Process is a NATS server in a process of its own.
type Process struct {
	URL      string // stable over restarts
	StoreDir string // of JetStream

	t      testing.TB
	own    string // configuration that every server of this package has
	config string // its file
	log    string
	cmd    *exec.Cmd
	done   chan struct{}
}

// Main serves NATS until it is killed when this process was made by NewProcess;
// otherwise it does nothing. Call it first in TestMain.
func Main() {
	path := os.Getenv(configEnv)
	if path == "" {
		return
	}
	if err := serve(path); err != nil {
		fmt.Fprintln(os.Stderr, "natstest:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(config string) error {
	opts, err := server.ProcessConfigFile(config)
	if err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	srv.ConfigureLogger()
	srv.Start() // handles SIGTERM and SIGINT itself
	srv.WaitForShutdown()
	return nil
}

// NewProcess starts a server process on 127.0.0.1 with its store in t.TempDir. Each
// config is text in the syntax of a NATS server's configuration file, added to its own.
// The process is killed when the test ends, and dies with the test process on Linux.
func NewProcess(t testing.TB, config ...string) *Process {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	p := &Process{
		URL: url(port), t: t,
		config: filepath.Join(dir, "nats.conf"),
		log:    filepath.Join(dir, "nats.log"),
	}
	p.StoreDir = filepath.Join(dir, "store")
	p.own = fmt.Sprintf("listen: \"127.0.0.1:%d\"\nlog_file: %q\njetstream { store_dir: %q }\n",
		port, p.log, p.StoreDir)
	p.Configure(config...)
	p.Start()
	t.Cleanup(p.Kill)
	return p
}

// Configure replaces the configuration that NewProcess was given. It counts from the
// next Start on.
func (p *Process) Configure(config ...string) {
	p.t.Helper()
	require.NoError(p.t, os.WriteFile(p.config, []byte(p.own+strings.Join(config, "\n")), 0o600))
}

// Start starts the server again after Kill or Stop, and waits until it answers.
func (p *Process) Start() {
	p.t.Helper()
	exe, err := os.Executable()
	require.NoError(p.t, err)
	p.cmd = exec.Command(exe, "-test.run=^$") //nolint:gosec // this very binary
	p.cmd.Env = append(os.Environ(), configEnv+"="+p.config)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(p.cmd.SysProcAttr)
	require.NoError(p.t, p.fork())
	p.awaitReady()
}

// fork starts the process from a thread that lives as long as the process: the
// kernel sends the parent-death signal when the forking thread ends.
func (p *Process) fork() error {
	p.done = make(chan struct{})
	started := make(chan error, 1)
	go func(cmd *exec.Cmd, done chan struct{}) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}(p.cmd, p.done)
	return <-started
}

func (p *Process) awaitReady() {
	p.t.Helper()
	deadline := time.After(readyTimeout)
	for {
		nc, err := nats.Connect(p.URL)
		if err == nil {
			nc.Close()
			return
		}
		select {
		case <-p.done:
			log, _ := os.ReadFile(p.log)
			require.FailNow(p.t, "the NATS process ended while starting: does TestMain call natstest.Main first?", "%s", log)
		case <-deadline:
			require.FailNow(p.t, "the NATS process does not answer", "%v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Kill ends the server as kill -9 does, and waits until it is gone.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Stop asks the server to end, and waits until it is gone.
func (p *Process) Stop() { p.end(syscall.SIGTERM) }

// Restart is Kill and Start.
func (p *Process) Restart() {
	p.t.Helper()
	p.Kill()
	p.Start()
}

// Pause freezes the server: connections stay open and nothing answers.
func (p *Process) Pause() { p.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Process) Resume() { p.signal(syscall.SIGCONT) }

// Connect returns a connection that is closed when the test ends.
func (p *Process) Connect(opts ...nats.Option) *nats.Conn {
	p.t.Helper()
	return connect(p.t, p.URL, opts)
}

// JetStream returns a JetStream context on a connection of its own.
func (p *Process) JetStream() jetstream.JetStream {
	p.t.Helper()
	js, err := jetstream.New(p.Connect())
	require.NoError(p.t, err)
	return js
}

func (p *Process) end(sig syscall.Signal) {
	p.t.Helper()
	_ = p.cmd.Process.Signal(sig) // it may have ended already
	select {
	case <-p.done:
	case <-time.After(readyTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
		p.t.Errorf("the NATS process did not end within %s of %s", readyTimeout, sig)
	}
}

func (p *Process) signal(sig syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(sig))
}
