package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/dot-do/relay/relay/pgstore"
)

type webhooksCmd struct {
	List   webhooksListCmd   `cmd:"" help:"List subscriptions with their health, failing ones first."`
	Show   webhooksShowCmd   `cmd:"" help:"Show a subscription. Its secret is never shown."`
	Pause  webhooksPauseCmd  `cmd:"" help:"Make a subscription inactive: it gets nothing meanwhile."`
	Resume webhooksResumeCmd `cmd:"" help:"Make a subscription active again."`

	Test webhooksTestCmd `cmd:"" help:"Send a signed sample, made from the event type's schema, to a webhook's endpoint."`
	Logs webhooksLogsCmd `cmd:"" help:"Show the newest deliveries, and with --follow the next ones."`

	RotateSecret webhooksRotateCmd `cmd:"" help:"Give a webhook a new signing secret; the old one stays valid for a while."`
}

type webhooksListCmd struct {
	EventType string `help:"Only those of this event type." placeholder:"TYPE"`
	Inactive  bool   `help:"Only those that are inactive."`
	Failing   bool   `help:"Only those whose last attempt failed."`
	Limit     int    `help:"At most so many, 1 to 10000." default:"100"`
	JSON      bool   `help:"One JSON array."`
}

const maxListed = 10_000

// Run lists webhooks.
func (c *webhooksListCmd) Run(ctx context.Context, a *app) error {
	if c.Limit < 1 || c.Limit > maxListed {
		return usageError{fmt.Errorf("--limit %d: want 1 to %d", c.Limit, maxListed)}
	}
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	// One more than is shown tells whether there are more.
	rows, err := store.ListWebhooks(ctx, pgstore.WebhookQuery{EventType: c.EventType, Inactive: c.Inactive, Failing: c.Failing, Limit: c.Limit + 1})
	if err != nil {
		return err
	}
	more := len(rows) > c.Limit
	rows = rows[:min(len(rows), c.Limit)]
	if more {
		defer fmt.Fprintf(a.stderr, "relay: there are more than these %d; --limit shows more, --event-type, --inactive and --failing fewer\n", c.Limit)
	}
	if c.JSON {
		out := make([]webhookJSON, len(rows))
		for i := range rows {
			out[i] = webhookAsJSON(&rows[i], false)
		}
		return json.NewEncoder(a.stdout).Encode(out)
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(a.stdout, "no webhooks")
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tEVENT TYPE\tSTATUS\tTRIGGERED\tOK\tFAILED\tIN A ROW\tWAITING\tDEAD\tLAST DELIVERY")
	for i := range rows {
		r := &rows[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", printable(r.ID), r.EventType, statusOf(r.Active),
			r.Triggers, r.Successes, r.Failures, r.Streak, r.Waiting, r.Dead, timeOrNever(r.LastSuccess))
	}
	return w.Flush()
}

type webhooksShowCmd struct {
	ID     string `arg:"" help:"Its id, as relay webhooks list shows it."`
	Reveal bool   `help:"Also the whole target URL and the metadata: who has the URL may post to it."`
	JSON   bool   `help:"One JSON object."`
}

// Run shows a webhook.
func (c *webhooksShowCmd) Run(ctx context.Context, a *app) error {
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	row, err := store.FindWebhook(ctx, c.ID)
	if err != nil {
		return err
	}
	if row == nil {
		return noWebhook(c.ID)
	}
	out := webhookAsJSON(row, c.Reveal)
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(out)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	line := func(name string, value any) { fmt.Fprintf(w, "%s\t%v\n", name, value) }
	line("id", printable(row.ID))
	line("event type", row.EventType)
	line("status", out.Status)
	if row.DisabledReason != "" {
		line("disabled", printable(row.DisabledReason))
	}
	line("user", printable(row.UserID))
	line("tenant", printable(row.TenantID))
	line("target", printable(out.TargetURL))
	line("signed", row.Signed)
	line("filters", printable(row.Filters))
	if c.Reveal {
		line("metadata", printable(row.Metadata))
	}
	line("retries", fmt.Sprintf("%d at most, from %d s on", row.MaxRetries, row.BackoffSeconds))
	line("triggers an hour", fmt.Sprintf("%d at most", row.PerHour))
	line("deliveries begun", row.Triggers)
	line("attempts", fmt.Sprintf("%d succeeded, %d failed, the last %d in a row", row.Successes, row.Failures, row.Streak))
	line("waiting", row.Waiting)
	line("dead letters", row.Dead)
	line("last trigger", timeOrNever(row.LastTriggered))
	line("last success", timeOrNever(row.LastSuccess))
	line("last failure", timeOrNever(row.LastFailure))
	line("created", row.Created.UTC().Format(time.RFC3339))
	line("changed", row.Updated.UTC().Format(time.RFC3339))
	return w.Flush()
}

type webhooksPauseCmd struct {
	ID   string `arg:"" help:"Its id, as relay webhooks list shows it."`
	JSON bool   `help:"One JSON object."`
}

// Run pauses a webhook.
func (c *webhooksPauseCmd) Run(ctx context.Context, a *app) error {
	return a.switchWebhook(ctx, c.ID, false, c.JSON)
}

type webhooksResumeCmd struct {
	ID   string `arg:"" help:"Its id, as relay webhooks list shows it."`
	JSON bool   `help:"One JSON object."`
}

// Run resumes a webhook.
func (c *webhooksResumeCmd) Run(ctx context.Context, a *app) error {
	return a.switchWebhook(ctx, c.ID, true, c.JSON)
}

func (a *app) switchWebhook(ctx context.Context, id string, active, asObject bool) error {
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	was, err := store.SwitchWebhook(ctx, id, active)
	if err != nil {
		return err
	}
	if was == nil {
		return noWebhook(id)
	}
	if asObject {
		return json.NewEncoder(a.stdout).Encode(struct {
			ID     string `json:"id"`
			Was    string `json:"was"`
			Status string `json:"status"`
			Reason string `json:"was_disabled_reason,omitempty"`
		}{id, statusOf(was.WasActive), statusOf(active), was.Reason})
	}
	text := "is " + statusOf(active) + " already"
	if was.WasActive != active {
		text = "was " + statusOf(was.WasActive) + ", is " + statusOf(active)
	}
	if was.Reason != "" {
		text += "; the relay had disabled it: " + printable(was.Reason)
	}
	_, err = fmt.Fprintf(a.stdout, "webhook %s %s\n", printable(id), text)
	return err
}

func noWebhook(id string) error {
	return usageError{fmt.Errorf("zapier_webhooks has no row %q: relay webhooks list shows them", id)}
}

// webhookJSON is a webhook for programs.
type webhookJSON struct {
	ID             string          `json:"id"`
	EventType      string          `json:"event_type"`
	Status         string          `json:"status"`
	DisabledReason string          `json:"disabled_reason,omitempty"`
	UserID         string          `json:"user_id"`
	TenantID       string          `json:"tenant_id,omitempty"`
	TargetURL      string          `json:"target_url"`
	Signed         bool            `json:"signed"`
	Filters        json.RawMessage `json:"filters"`
	Metadata       json.RawMessage `json:"zapier_metadata,omitempty"`
	MaxRetries     int             `json:"max_retries"`
	BackoffSeconds int             `json:"retry_backoff_seconds"`
	PerHour        int             `json:"max_triggers_per_hour"`
	Triggers       int64           `json:"total_triggers"`
	Successes      int64           `json:"success_count"`
	Failures       int64           `json:"failure_count"`
	Streak         int             `json:"consecutive_failures"`
	Waiting        int64           `json:"waiting"`
	Dead           int64           `json:"dead_letters"`
	LastTriggered  *time.Time      `json:"last_triggered_at"`
	LastSuccess    *time.Time      `json:"last_success_at"`
	LastFailure    *time.Time      `json:"last_failure_at"`
	Created        time.Time       `json:"created_at"`
	Updated        time.Time       `json:"updated_at"`
}

func webhookAsJSON(r *pgstore.WebhookRow, reveal bool) webhookJSON {
	out := webhookJSON{
		ID: r.ID, EventType: r.EventType, Status: statusOf(r.Active), DisabledReason: r.DisabledReason, UserID: r.UserID, TenantID: r.TenantID,
		TargetURL: shortURL(r.TargetURL), Signed: r.Signed, Filters: json.RawMessage(r.Filters),
		MaxRetries: r.MaxRetries, BackoffSeconds: r.BackoffSeconds, PerHour: r.PerHour,
		Triggers: r.Triggers, Successes: r.Successes, Failures: r.Failures, Streak: r.Streak, Waiting: r.Waiting, Dead: r.Dead,
		LastTriggered: r.LastTriggered, LastSuccess: r.LastSuccess, LastFailure: r.LastFailure, Created: r.Created, Updated: r.Updated,
	}
	if reveal {
		out.TargetURL, out.Metadata = r.TargetURL, json.RawMessage(r.Metadata)
	}
	return out
}

func statusOf(active bool) string {
	if active {
		return "active"
	}
	return "inactive"
}

// shortURL leaves out what makes a URL a capability: user, path and query.
func shortURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "…"
	}
	return u.Scheme + "://" + u.Host + "/…"
}

// printable quotes a text that would do something to a terminal or a table.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

func timeOrNever(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}
