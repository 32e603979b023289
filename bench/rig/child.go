// Package rig is what the benchmarks of whole processes share: programs that are started
// and watched, NATS servers in processes of their own, and what /proc tells of them.
package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Patience is how long a process may take to start or to stop.
const Patience = 30 * time.Second

// Child is a running program whose lines on stderr are watched.
type Child struct {
	Done chan struct{} // closed when it has ended and everything it said was read
	Exit error         // to be read when it has ended, as is End
	End  time.Time

	name  string
	cmd   *exec.Cmd
	mu    sync.Mutex
	said  []Line
	stirs chan struct{} // something was said
}

// Line is what was said, and when it was read.
type Line struct {
	At   time.Time
	Text string
}

// Start runs a program with the whole of its environment. It ends with ctx, and on Linux
// with this process.
func Start(ctx context.Context, env []string, program string, args ...string) (*Child, error) {
	c := &Child{name: program[strings.LastIndexByte(program, '/')+1:], Done: make(chan struct{}), stirs: make(chan struct{}, 1)}
	c.cmd = exec.CommandContext(ctx, program, args...) //nolint:gosec // programs that the benchmark found or built
	c.cmd.Env, c.cmd.SysProcAttr = env, &syscall.SysProcAttr{}
	dieWithParent(c.cmd.SysProcAttr)
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error, 1)
	go func() { // the parent-death signal is sent when the forking thread ends
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.Done)
		if err := c.cmd.Start(); err != nil {
			c.Exit = err
			started <- err
			return
		}
		started <- nil
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			c.hear(lines.Text())
		}
		c.Exit = c.cmd.Wait()
		c.End = time.Now()
	}()
	return c, <-started
}

func (c *Child) hear(text string) {
	const kept = 100
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.said) < kept {
		c.said = append(c.said, Line{time.Now(), text})
	}
	select {
	case c.stirs <- struct{}{}:
	default:
	}
}

// PID is the number of the process.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// CPU is the processor time of a program that has ended.
func (c *Child) CPU() time.Duration {
	return c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()
}

// Await waits until the program has said something.
func (c *Child) Await(ctx context.Context, words string) (Line, error) {
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	for {
		if l, ok := c.find(words); ok {
			return l, nil
		}
		select {
		case <-c.stirs:
		case <-c.Done:
			if l, ok := c.find(words); ok {
				return l, nil
			}
			return Line{}, c.Failure("ended before it said " + words)
		case <-timer.C:
			return Line{}, c.Failure("does not say " + words)
		case <-ctx.Done():
			return Line{}, ctx.Err()
		}
	}
}

func (c *Child) find(words string) (Line, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.said {
		if strings.Contains(l.Text, words) {
			return l, true
		}
	}
	return Line{}, false
}

// Failure is an error with what the program said last.
func (c *Child) Failure(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var last []string
	for _, l := range c.said[max(0, len(c.said)-5):] {
		last = append(last, l.Text)
	}
	return fmt.Errorf("%s %s: %s", c.name, what, strings.Join(last, "\n"))
}

// Ended reports whether the program is gone.
func (c *Child) Ended() bool {
	select {
	case <-c.Done:
		return true
	default:
		return false
	}
}

// Stop asks the program to end, and says so when it does not end well.
func (c *Child) Stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !c.Ended() {
		return err
	}
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case <-c.Done:
	case <-timer.C:
		c.Kill()
		return c.Failure("does not stop")
	}
	if c.Exit != nil {
		return errors.Join(c.Exit, c.Failure("failed"))
	}
	return nil
}

// Kill ends the program at once.
func (c *Child) Kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.Done
}
