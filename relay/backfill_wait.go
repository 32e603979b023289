package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// watch opens the window, and waits until all that had written the table before is
// over. A transaction is in the log a moment before it is visible to others, or for
// long where it waits for a replica: one that went by before the window was open must
// be seen by every chunk's snapshot, because nothing else would tell its rows.
func (r *backfillRun) watch(ctx context.Context) error {
	snapshot, err := r.tables.Snapshot(ctx)
	if err != nil {
		return err
	}
	r.cfg.Desk.watch(r.job.Table, r.job.Key, snapshot)
	r.reopen = false
	before, err := r.tables.Writers(ctx, r.job.Table)
	if err != nil || len(before) == 0 {
		return err
	}
	since, noted := time.Now(), false
	for {
		pause(ctx, writersEvery)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		now, err := r.tables.Writers(ctx, r.job.Table)
		if err != nil {
			return err
		}
		before = slices.DeleteFunc(before, func(w Writer) bool {
			return !slices.ContainsFunc(now, func(n Writer) bool { return n.ID == w.ID })
		})
		switch {
		case len(before) == 0 && noted:
			return r.cfg.Backfills.NoteBackfill(ctx, r.job.ID, "")
		case len(before) == 0:
			return nil
		case time.Since(since) > writersNoted:
			if !noted {
				r.log.InfoContext(ctx, "backfill is waiting for transactions to end", "backfill", r.job.ID, "relation", r.job.Table, "transactions", sessions(before))
			}
			since, noted = time.Now(), true
			note := "waiting for transactions that wrote the table to end: " + sessions(before)
			if err := r.cfg.Backfills.NoteBackfill(ctx, r.job.ID, note); err != nil { // it may have been cancelled
				return err
			}
		}
	}
}

func sessions(writers []Writer) string {
	const most = 5
	var b strings.Builder
	for i, w := range writers {
		switch {
		case i == most:
			fmt.Fprintf(&b, " and %d more", len(writers)-most)
			return b.String()
		case i > 0:
			b.WriteString(", ")
		}
		if w.PID == 0 {
			b.WriteString("a prepared transaction")
		} else {
			fmt.Fprintf(&b, "pid %d", w.PID)
		}
	}
	return b.String()
}

// pace moves the time of the next chunk behind what the rate allows for n rows.
func (r *backfillRun) pace(n int) {
	if r.job.Rate <= 0 {
		return
	}
	from := later(r.paced, time.Now())
	r.paced = from.Add(time.Duration(n) * time.Second / time.Duration(r.job.Rate))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// wait waits for the rate, and for live changes.
func (r *backfillRun) wait(ctx context.Context) error {
	if r.job.Rate > 0 { // no burst of more than a quarter of a second's rows
		r.limit = min(r.limit, max(1, r.job.Rate/4))
	}
	pause(ctx, time.Until(r.paced))
	return ctx.Err()
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
