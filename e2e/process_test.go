package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is one running `relay run`.
type process struct {
	t        *testing.T
	name     string
	cmd      *exec.Cmd
	portFile string
	stdout   string // files
	stderr   string
	started  time.Time
	killed   bool
	done     chan struct{}
}

// ports is the content of RELAY_PORT_FILE.
type ports struct{ Listen, NATS string }

// start runs a relay and waits until it is ready.
func (s *stack) start(args ...string) *process {
	s.t.Helper()
	p := s.launch(args...)
	p.awaitReady()
	return p
}

// launch runs a relay. It is killed when the test ends.
func (s *stack) launch(args ...string) *process {
	s.t.Helper()
	s.processes++
	p := &process{
		t: s.t, name: fmt.Sprintf("relay-%d", s.processes), done: make(chan struct{}), started: time.Now(),
		portFile: filepath.Join(s.dir, fmt.Sprintf("ports-%d.json", s.processes)),
	}
	p.stdout, p.stderr = s.output(p.name+"-stdout"), s.output(p.name+"-stderr")
	p.cmd = exec.Command(os.Getenv(binaryEnv), append([]string{"run"}, args...)...)
	p.cmd.Dir, p.cmd.Env = s.dir, append(s.environ(), "RELAY_PORT_FILE="+p.portFile)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	dieWithParent(p.cmd.SysProcAttr)
	stdout, stderr := must(os.Create(p.stdout))(s.t), must(os.Create(p.stderr))(s.t)
	defer func() { _, _ = stdout.Close(), stderr.Close() }() // the process has its own
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	require.NoError(s.t, p.fork())
	s.t.Cleanup(func() {
		p.kill()
		p.checkLog()
	})
	return p
}

// fork starts the process from a thread that lives as long as the process: the
// kernel sends the parent-death signal when the forking thread ends.
func (p *process) fork() error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // the state tells
		}
	}()
	return <-started
}

// awaitReady waits until /readyz answers 200, no longer than the contract allows.
func (p *process) awaitReady() {
	p.t.Helper()
	p.awaitState(readyWithin, "streaming", "standby")
}

// awaitState waits until /readyz tells one of the states.
func (p *process) awaitState(within time.Duration, states ...string) readiness {
	p.t.Helper()
	var last readiness
	deadline := time.Now().Add(within)
	for time.Now().Before(deadline) {
		if r, ok := p.readyz(); ok {
			last = r
			if slices.Contains(states, r.State) {
				return r
			}
		}
		select {
		case <-p.done:
			require.FailNow(p.t, "the relay ended", "%s", p.log())
		case <-time.After(tick):
		}
	}
	require.FailNow(p.t, "the relay does not reach the state", "%s: want %v within %s, last %+v", p.name, states, within, last)
	return last
}

// readiness is the body of /readyz.
type readiness struct {
	Status int `json:"-"`
	State  string
	Reason string
}

// readyz returns false while nothing answers.
func (p *process) readyz() (readiness, bool) {
	status, body, err := p.get("/readyz")
	if err != nil {
		return readiness{}, false
	}
	r := readiness{Status: status}
	require.NoError(p.t, json.Unmarshal(body, &r), "%s", body)
	require.Equal(p.t, r.State == "streaming" || r.State == "standby", r.Status == http.StatusOK, "%s with status %d", body, status)
	return r, true
}

// get asks the process over HTTP.
func (p *process) get(path string) (status int, body []byte, err error) {
	address := p.ports().Listen
	if address == "" {
		return 0, nil, os.ErrNotExist
	}
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err = io.ReadAll(res.Body)
	return res.StatusCode, body, err
}

// ports reads the port file; it is empty until the process has written it.
func (p *process) ports() ports {
	var out ports
	content, err := os.ReadFile(p.portFile)
	if err == nil {
		require.NoError(p.t, json.Unmarshal(content, &out), "the port file is never half written: %q", content)
	}
	return out
}

// stop asks the process to end and demands that it does so in order and in time.
func (p *process) stop() {
	p.t.Helper()
	asked := time.Now()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-p.done:
	case <-time.After(stopsWithin):
		require.FailNow(p.t, "the relay does not stop", "%s after %s", p.name, time.Since(asked))
	}
	require.Zero(p.t, p.cmd.ProcessState.ExitCode(), "%s: %s", p.name, p.log())
}

// kill is kill -9. A process that has ended already stays as it is.
func (p *process) kill() {
	select {
	case <-p.done:
		return
	default:
	}
	p.killed = true
	_ = p.cmd.Process.Kill()
	<-p.done
}

// exited waits for the process to end by itself and returns its exit code.
func (p *process) exited(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		require.FailNow(p.t, "the relay goes on", "%s", p.log())
	}
	return p.cmd.ProcessState.ExitCode()
}

// logLine is one line of the log.
type logLine map[string]any

// log returns what was printed to stderr so far.
func (p *process) log() string {
	content, err := os.ReadFile(p.stderr)
	require.NoError(p.t, err)
	return string(content)
}

// logged returns the log lines for which keep is true.
func (p *process) logged(keep func(logLine) bool) []logLine {
	var out []logLine
	scanner := bufio.NewScanner(strings.NewReader(p.log()))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var line logLine
		if json.Unmarshal(scanner.Bytes(), &line) == nil && keep(line) {
			out = append(out, line)
		}
	}
	return out
}

// checkLog demands one JSON object with time, level and message a line. The last
// line of a killed process, and the words of one that failed, are excused.
func (p *process) checkLog() {
	stdout, err := os.ReadFile(p.stdout)
	require.NoError(p.t, err)
	require.Empty(p.t, string(stdout), "%s prints to stdout", p.name)
	lines := bytes.SplitAfter([]byte(p.log()), []byte("\n"))
	failed := !p.killed && p.cmd.ProcessState.ExitCode() != 0
	for i, line := range lines {
		if len(line) == 0 || (p.killed && i == len(lines)-1) || (failed && bytes.HasPrefix(line, []byte("relay: "))) {
			continue
		}
		var fields logLine
		if json.Unmarshal(line, &fields) != nil || fields["time"] == nil || fields["level"] == nil || fields["msg"] == nil {
			p.t.Errorf("%s: line %d of the log is no log line: %s", p.name, i+1, bytes.Join(lines[i:min(i+40, len(lines))], nil))
			return
		}
		if fields["level"] == "ERROR" && !p.killed {
			p.t.Logf("%s logged an error: %s", p.name, line)
		}
	}
}

// ready reports whether /readyz answers 200.
func (p *process) ready() bool {
	r, ok := p.readyz()
	return ok && r.Status == http.StatusOK
}
