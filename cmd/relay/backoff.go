package main

import (
	"context"
	"time"
)

const (
	shortestWait = 200 * time.Millisecond
	longestWait  = 2 * time.Second // what comes back after a long time is noticed as soon as after a short one
)

// backoff waits twice as long after each failure. The zero value is ready.
type backoff struct{ next time.Duration }

// wait returns false when ctx ended first.
func (b *backoff) wait(ctx context.Context) bool {
	b.next = min(max(2*b.next, shortestWait), longestWait)
	return sleep(ctx, b.next)
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
