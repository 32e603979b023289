package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// cores says where the process may run. Without taskset (or on a system that has
// none) it runs on one core at a time, but not always on the same one.
type cores struct {
	all    string // the list before pinning, as taskset prints it
	pinned bool
}

// pinToOne leaves Go one processor, and the process one core.
func pinToOne(ctx context.Context) *cores {
	c := &cores{}
	runtime.GOMAXPROCS(1)
	out, err := exec.CommandContext(ctx, "taskset", "-cp", strconv.Itoa(os.Getpid())).Output() //nolint:gosec // a number
	if err != nil {
		return c
	}
	_, list, _ := strings.Cut(string(out), ": ")
	c.all = strings.TrimSpace(list)
	c.pinned = c.all != "" && setAffinity(ctx, c.last())
	return c
}

// last is the last core of the list.
func (c *cores) last() string { return c.all[strings.LastIndexAny(c.all, ",-")+1:] }

// spread gives the process n processors of Go and all its cores, until pinAgain.
func (c *cores) spread(ctx context.Context, n int) {
	if c.pinned {
		setAffinity(ctx, c.all)
	}
	runtime.GOMAXPROCS(n)
}

func (c *cores) pinAgain(ctx context.Context) {
	runtime.GOMAXPROCS(1)
	if c.pinned {
		setAffinity(ctx, c.last())
	}
}

// release undoes pinToOne.
func (c *cores) release(ctx context.Context) { c.spread(context.WithoutCancel(ctx), runtime.NumCPU()) }

func setAffinity(ctx context.Context, list string) bool {
	return exec.CommandContext(ctx, "taskset", "-acp", list, strconv.Itoa(os.Getpid())).Run() == nil //nolint:gosec // a list of cores that taskset printed
}
