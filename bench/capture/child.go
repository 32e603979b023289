package main

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

// patience is how long a process may take to start or to stop.
const patience = 30 * time.Second

// child is a running program whose lines on stderr are watched.
type child struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and everything it said was read
	exit error
	end  time.Time

	mu    sync.Mutex
	said  []line
	stirs chan struct{} // something was said
}

// line is what was said, and when it was read.
type line struct {
	at   time.Time
	text string
}

func start(ctx context.Context, env []string, program string, args ...string) (*child, error) {
	c := &child{name: program[strings.LastIndexByte(program, '/')+1:], done: make(chan struct{}), stirs: make(chan struct{}, 1)}
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
		defer close(c.done)
		if err := c.cmd.Start(); err != nil {
			c.exit = err
			started <- err
			return
		}
		started <- nil
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			c.hear(lines.Text())
		}
		c.exit = c.cmd.Wait()
		c.end = time.Now()
	}()
	return c, <-started
}

func (c *child) hear(text string) {
	const kept = 100
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.said) < kept {
		c.said = append(c.said, line{time.Now(), text})
	}
	select {
	case c.stirs <- struct{}{}:
	default:
	}
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// await waits until the program has said something.
func (c *child) await(ctx context.Context, words string) (line, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		if l, ok := c.find(words); ok {
			return l, nil
		}
		select {
		case <-c.stirs:
		case <-c.done:
			if l, ok := c.find(words); ok {
				return l, nil
			}
			return line{}, c.failure("ended before it said " + words)
		case <-timer.C:
			return line{}, c.failure("does not say " + words)
		case <-ctx.Done():
			return line{}, ctx.Err()
		}
	}
}

func (c *child) find(words string) (line, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.said {
		if strings.Contains(l.text, words) {
			return l, true
		}
	}
	return line{}, false
}

// failure is an error with what the program said last.
func (c *child) failure(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var last []string
	for _, l := range c.said[max(0, len(c.said)-5):] {
		last = append(last, l.text)
	}
	return fmt.Errorf("%s %s: %s", c.name, what, strings.Join(last, "\n"))
}

// ended reports whether the program is gone.
func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// stop asks the program to end, and says so when it does not end well.
func (c *child) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !c.ended() {
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		c.kill()
		return c.failure("does not stop")
	}
	if c.exit != nil {
		return errors.Join(c.exit, c.failure("failed"))
	}
	return nil
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.done
}
