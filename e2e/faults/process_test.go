package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// process is one running `relay run`.
type process struct {
	s        *stack
	cmd      *exec.Cmd
	portFile string
	stderr   string
	done     chan struct{}
}

// start runs a relay and waits until it streams.
func (s *stack) start(env ...string) *process {
	s.t.Helper()
	p := s.launch(env...)
	p.awaitState(readyWithin, "streaming")
	return p
}

// launch runs a relay that captures, with more environment. It is killed when the
// test ends.
func (s *stack) launch(env ...string) *process {
	s.t.Helper()
	return s.run([]string{"--role=capture"}, env...)
}

func (s *stack) run(args []string, env ...string) *process {
	s.t.Helper()
	s.started++
	p := &process{
		s: s, done: make(chan struct{}),
		portFile: filepath.Join(s.dir, fmt.Sprintf("ports-%d.json", s.started)),
		stderr:   filepath.Join(s.dir, fmt.Sprintf("relay-%d.log", s.started)),
	}
	p.cmd = exec.Command(os.Getenv(binaryEnv), append([]string{"run"}, args...)...)
	p.cmd.Dir, p.cmd.Env = s.dir, s.environ(append(env, "RELAY_PORT_FILE="+p.portFile)...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	dieWithParent(p.cmd.SysProcAttr)
	out := must(os.Create(p.stderr))(s.t)
	defer func() { _ = out.Close() }() // the process has its own
	p.cmd.Stdout, p.cmd.Stderr = out, out
	require.NoError(s.t, p.fork())
	s.t.Cleanup(func() {
		p.kill()
		s.checkOutput(p.stderr)
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

// readiness is the body of /readyz.
type readiness struct {
	State, Reason string
	Parts         map[string]readiness
}

func (p *process) readyz() (r readiness, ok bool) {
	body, ok := p.get("/readyz")
	return r, ok && json.Unmarshal(body, &r) == nil && r.State != ""
}

// awaitState waits until /readyz tells one of the states.
func (p *process) awaitState(within time.Duration, states ...string) readiness {
	p.s.t.Helper()
	var last readiness
	deadline := time.Now().Add(within)
	for time.Now().Before(deadline) {
		var ok bool
		if body, answered := p.get("/readyz"); answered {
			ok = json.Unmarshal(body, &last) == nil
		}
		if ok && slices.Contains(states, last.State) {
			return last
		}
		select {
		case <-p.done:
			require.FailNow(p.s.t, "the relay ended", "%s", p.log())
		case <-time.After(tick):
		}
	}
	require.FailNow(p.s.t, "the relay does not reach the state", "want %v within %s, last %+v", states, within, last)
	return last
}

func (p *process) get(path string) ([]byte, bool) {
	content, err := os.ReadFile(p.portFile)
	if err != nil {
		return nil, false
	}
	var ports struct{ Listen string }
	require.NoError(p.s.t, json.Unmarshal(content, &ports))
	client := http.Client{Timeout: 2 * time.Second}
	res, err := client.Get("http://" + ports.Listen + path)
	if err != nil {
		return nil, false
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return body, err == nil
}

// metric sums the samples of a metric whose line contains all labels.
func (p *process) metric(name string, labels ...string) (sum float64) {
	body, _ := p.get("/metrics")
	for line := range strings.Lines(string(body)) {
		fields := strings.Fields(line)
		if len(fields) != 2 || (fields[0] != name && !strings.HasPrefix(fields[0], name+"{")) {
			continue
		}
		if slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(fields[0], l) }) {
			continue
		}
		value, err := strconv.ParseFloat(fields[1], 64)
		require.NoError(p.s.t, err)
		sum += value
	}
	return sum
}

// peak is the largest resident memory so far, in MiB.
func (p *process) peak() int {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(p.s.t, err)
	found := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(content)
	require.NotNil(p.s.t, found)
	return must(strconv.Atoi(string(found[1])))(p.s.t) / 1024
}

// alive reports whether the process runs.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop asks the process to end and demands that it does so in order.
func (p *process) stop() {
	p.s.t.Helper()
	require.NoError(p.s.t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.Zero(p.s.t, p.exited(25*time.Second), p.log())
}

func (p *process) kill() {
	if p.alive() {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// exited waits for the process to end by itself; a signal counts as -1.
func (p *process) exited(within time.Duration) int {
	p.s.t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		require.FailNow(p.s.t, "the relay goes on", "%s", p.log())
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) log() string {
	content, err := os.ReadFile(p.stderr)
	require.NoError(p.s.t, err)
	return string(content)
}
