package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/dot-do/relay/relay/pgstore"
)

type webhooksLogsCmd struct {
	ID     string `arg:"" optional:"" help:"Of this webhook only."`
	Status string `enum:",success,retrying,dead,skipped,failed" default:"" placeholder:"STATUS" help:"Only success, retrying, dead, skipped or failed."`
	Since  string `placeholder:"TIME" help:"Only what is from since then: 2026-11-23T10:00:00Z, or 24h for a day ago."`
	Limit  int    `default:"50" help:"The newest so many, 1 to 10000."`
	Follow bool   `short:"f" help:"Go on with what is written from now on, until interrupted."`
	JSON   bool   `help:"One JSON object a line."`
}

const (
	logsEvery = 500 * time.Millisecond
	// followBack is how far behind the newest row others may still become visible:
	// rows carry the time when their transaction began.
	followBack = 30 * time.Second
)

// Run shows the delivery log. Payloads, headers and answers stay in the table.
func (c *webhooksLogsCmd) Run(ctx context.Context, a *app) error {
	if c.Limit < 1 || c.Limit > maxListed {
		return usageError{fmt.Errorf("--limit %d: want 1 to %d", c.Limit, maxListed)}
	}
	since, err := momentOf("--since", c.Since)
	if err != nil {
		return err
	}
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	if c.ID != "" {
		row, err := store.FindWebhook(ctx, c.ID)
		if err != nil {
			return err
		}
		if row == nil {
			return noWebhook(c.ID)
		}
	}
	q := pgstore.LogQuery{Webhook: c.ID, Status: c.Status, Since: since, Limit: c.Limit}
	rows, err := store.Logs(ctx, q)
	if err != nil {
		return err
	}
	if len(rows) == 0 && !c.Follow && !c.JSON {
		_, err := fmt.Fprintln(a.stdout, "no deliveries")
		return err
	}
	if err := c.print(a.stdout, rows); err != nil || !c.Follow {
		return err
	}
	return c.follow(ctx, a, store, q, rows)
}

// follow prints rows as they are written.
func (c *webhooksLogsCmd) follow(ctx context.Context, a *app, store *pgstore.Store, q pgstore.LogQuery, rows []pgstore.LogRow) error {
	newest := time.Time{}
	shown := map[string]time.Time{}
	note := func(rows []pgstore.LogRow) {
		for i := range rows {
			shown[rows[i].ID] = rows[i].At
			if rows[i].At.After(newest) {
				newest = rows[i].At
			}
		}
	}
	note(rows)
	ticker := time.NewTicker(logsEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil // interrupting it is how it ends
		}
		if !newest.IsZero() {
			q.Since = newest.Add(-followBack)
		}
		q.Limit = maxListed
		rows, err := store.Logs(ctx, q)
		if ctx.Err() != nil {
			return nil // interrupting it is how it ends
		}
		if err != nil {
			return err
		}
		fresh := rows[:0]
		for i := range rows {
			if _, old := shown[rows[i].ID]; !old {
				fresh = append(fresh, rows[i])
			}
		}
		note(fresh)
		for id, at := range shown {
			if at.Before(newest.Add(-2 * followBack)) {
				delete(shown, id)
			}
		}
		if err := c.print(a.stdout, fresh); err != nil {
			return err
		}
	}
}

// loggedJSON is one line of --json.
type loggedJSON struct {
	ID        string     `json:"id"`
	At        time.Time  `json:"at"`
	Webhook   string     `json:"webhook_id"`
	EventType string     `json:"event_type"`
	EventID   string     `json:"event_id"`
	Status    string     `json:"status"`
	Attempt   int        `json:"attempt"`
	Response  *int       `json:"response_status"`
	Took      int        `json:"duration_ms"`
	Error     string     `json:"error,omitempty"`
	Retry     *time.Time `json:"next_retry_at,omitempty"`
}

// print writes a line for each row, of columns wide enough for most, so that lines that
// come later stand below those before.
func (c *webhooksLogsCmd) print(w io.Writer, rows []pgstore.LogRow) error {
	for i := range rows {
		r := &rows[i]
		if c.JSON {
			err := json.NewEncoder(w).Encode(loggedJSON{
				r.ID, r.At.UTC(), r.Webhook, r.EventType, r.EventID, r.Status, r.Attempt, r.StatusCode, r.Milliseconds, r.Error, utc(r.Retry),
			})
			if err != nil {
				return err
			}
			continue
		}
		answer := "-"
		if r.StatusCode != nil {
			answer = strconv.Itoa(*r.StatusCode)
		}
		line := fmt.Sprintf("%s  %-8s %3s  %6d ms  #%-2d  %-20s  %-18s  %s", r.At.UTC().Format(time.RFC3339), r.Status, answer, r.Milliseconds, r.Attempt,
			printable(r.Webhook), r.EventType, r.ID)
		if r.Error != "" {
			line += "  " + printable(r.Error)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
