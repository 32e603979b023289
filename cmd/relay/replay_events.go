package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
	"github.com/dot-do/relay/relay/pgstore"
)

// replayedEvents is the JSON of a replay from the stream.
type replayedEvents struct {
	Webhook   string     `json:"webhook"`
	Looked    int        `json:"looked_at"` // events of the type
	Matching  int        `json:"matching"`
	Undecided int        `json:"undecided"` // whose filter needs a value that they do not show
	Found     int64      `json:"found"`     // to be put back
	Waiting   int64      `json:"waiting_already"`
	Had       int64      `json:"had_already"`
	Open      uint64     `json:"not_looked_at"`
	Oldest    *time.Time `json:"stream_begins,omitempty"`
	DryRun    bool       `json:"dry_run"`
	Put       int64      `json:"put_back"`
	Active    bool       `json:"active"`
	LastDue   float64    `json:"last_due_in_seconds"`
}

// replayEvents finds events of the stream that the webhook missed and puts them back.
func (c *replayCmd) replayEvents(ctx context.Context, a *app, store *pgstore.Store, since, until time.Time) error {
	row, err := readWebhook(ctx, store, c.Webhook)
	if err != nil {
		return err
	}
	if c.EventType != "" && c.EventType != row.Filter.EventType {
		return usageError{fmt.Errorf("--event-type %s: webhook %s gets events of %s", printable(c.EventType), printable(c.Webhook), row.Filter.EventType)}
	}
	f, err := filters.Compile([]byte(row.Filter.Text))
	if err != nil {
		return usageError{fmt.Errorf("webhook %s gets nothing, its filter cannot be used: relay filters check --webhook=%s says why", printable(c.Webhook), printable(c.Webhook))}
	}
	cfg, err := config.Load(a.configPath, a.environ)
	if err != nil {
		return err
	}
	client, err := readStream(ctx, a, cfg)
	if err != nil {
		return err
	}
	defer client.Close()

	out := replayedEvents{Webhook: c.Webhook, DryRun: !c.Yes, Active: row.Active}
	waiting, began, gap := newProgress(a.stderr), time.Now(), time.Duration(float64(time.Second)/c.Rate)
	want := pgstore.EventReplay{Webhook: c.Webhook, Skipped: c.Skipped, Again: c.Again, By: operator()}
	did, err := client.Scan(ctx, natsstream.ScanConfig{Type: row.Filter.EventType, Since: since, Until: until}, func(batch []relay.StreamMessage) error {
		out.Looked += len(batch)
		meant, undecided := matching(row, f, batch)
		out.Matching, out.Undecided = out.Matching+len(meant), out.Undecided+undecided
		delay := max(time.Duration(out.Found)*gap-time.Since(began), 0)
		some, err := store.ReplayEvents(ctx, want, meant, !c.Yes, delay, gap)
		if err != nil {
			return err
		}
		out.Found, out.Waiting, out.Had = out.Found+some.Found, out.Waiting+some.Waiting, out.Had+some.Had
		waiting.say("looked at %s events, %s found", grouped(int64(out.Looked)), grouped(out.Found))
		return nil
	})
	if err != nil {
		if c.Yes && out.Found > 0 {
			return fmt.Errorf("%w; %d are put back, the same command goes on with the rest", err, out.Found)
		}
		return err
	}
	out.Open = did.Open
	if !did.Oldest.IsZero() {
		out.Oldest = utc(&did.Oldest)
	}
	out.LastDue = (time.Duration(out.Found) * gap).Seconds()
	if c.Yes {
		out.Put = out.Found
		out.LastDue = max(time.Duration(out.Found)*gap-time.Since(began), 0).Seconds()
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(out)
	}
	_, err = fmt.Fprint(a.stdout, c.describeEvents(&out, since))
	return err
}

// matching returns the events that the webhook's filter and owner let through, and how
// many its filter cannot decide.
func matching(row *pgstore.Webhook, f *filters.Filter, batch []relay.StreamMessage) (meant []relay.StreamMessage, undecided int) {
	for _, m := range batch {
		e := &m.Event
		if e.Visibility != relay.VisibleToEveryone && !e.Owner.Owns(row.Owner) {
			continue
		}
		verdict := filters.Unknown
		if !e.Hides(f) {
			seen := e.ForFilters()
			verdict = f.MatchEvent(&seen)
		}
		switch verdict {
		case filters.Yes:
			meant = append(meant, m)
		case filters.Unknown:
			undecided++
		case filters.No:
		}
	}
	return meant, undecided
}

// describeEvents tells a person what was found and done.
func (c *replayCmd) describeEvents(out *replayedEvents, since time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "webhook %s: %s events looked at, %s match", printable(out.Webhook), grouped(int64(out.Looked)), grouped(int64(out.Matching)))
	if out.Undecided > 0 {
		fmt.Fprintf(&b, ", %s cannot be decided", grouped(int64(out.Undecided)))
	}
	if out.Had > 0 {
		fmt.Fprintf(&b, "; it had %s of them, or they are dead letters", grouped(out.Had))
	}
	if out.Waiting > 0 {
		fmt.Fprintf(&b, "; %s wait already", grouped(out.Waiting))
	}
	last := time.Duration(out.LastDue * float64(time.Second)).Round(time.Second)
	switch {
	case out.Found == 0:
		b.WriteString("\nnothing to replay\n")
	case out.DryRun:
		fmt.Fprintf(&b, "\nnothing was done: --yes puts %s back, with the same ids and bytes, at %g a second (%s)\n", grouped(out.Found), c.Rate, last)
	default:
		fmt.Fprintf(&b, "\n%s put back, the last is due in %s\n", grouped(out.Put), last)
	}
	if out.Oldest != nil && !since.IsZero() && since.Before(*out.Oldest) {
		fmt.Fprintf(&b, "the stream begins at %s: what is older is not in it\n", out.Oldest.Format(time.RFC3339))
	}
	if out.Open > 0 {
		fmt.Fprintf(&b, "the newest %s messages are still being delivered and were not looked at\n", grouped(int64(min(out.Open, 1<<62))))
	}
	b.WriteString(c.asleep(out.Active))
	return b.String()
}

// hurry makes failed deliveries due now.
func (c *replayCmd) hurry(ctx context.Context, a *app, store *pgstore.Store, q pgstore.FailedQuery, active bool) error {
	found, err := store.CountFailed(ctx, q)
	if err != nil {
		return err
	}
	out := struct {
		Webhook string `json:"webhook"`
		Found   int64  `json:"found"`
		DryRun  bool   `json:"dry_run"`
		Moved   int64  `json:"moved"`
		Active  bool   `json:"active"`
	}{Webhook: c.Webhook, Found: found, DryRun: !c.Yes, Active: active}
	if c.Yes {
		if out.Moved, err = store.HurryFailed(ctx, q, time.Duration(float64(time.Second)/c.Rate)); err != nil {
			return err
		}
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(out)
	}
	text := fmt.Sprintf("webhook %s: %s wait for another attempt\n", printable(c.Webhook), counted64(found, "delivery", "deliveries"))
	switch {
	case c.Yes:
		text += fmt.Sprintf("%s become due now, %g a second; the others are due as soon or under way\n", grouped(out.Moved), c.Rate)
	case found > 0:
		text += fmt.Sprintf("nothing was done: --yes makes them due now, %g a second\n", c.Rate)
	}
	_, err = fmt.Fprint(a.stdout, text+c.asleep(active))
	return err
}

func counted64(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

// resend sends one delivery of the log once more.
func (c *replayCmd) resend(ctx context.Context, a *app, store *pgstore.Store) error {
	row, err := store.LogRow(ctx, c.Log)
	if err != nil {
		return err
	}
	if row == nil {
		return usageError{fmt.Errorf("zapier_webhook_logs has no row %q whose webhook exists: relay webhooks logs shows them", c.Log)}
	}
	out := struct {
		Log       string `json:"log"`
		Webhook   string `json:"webhook"`
		EventID   string `json:"event_id"`
		EventType string `json:"event_type"`
		Status    string `json:"status"`
		DryRun    bool   `json:"dry_run"`
		Waited    bool   `json:"waited_already"`
		Payload   bool   `json:"from_log"`
	}{Log: c.Log, Webhook: row.Webhook, EventID: row.EventID, EventType: row.EventType, Status: row.Status, DryRun: !c.Yes}
	c.Webhook = row.Webhook
	text := fmt.Sprintf("webhook %s: %s, %s, %s\n", printable(row.Webhook), printable(row.EventID), printable(row.EventType), row.Status)
	if c.Yes {
		body, err := bodyOf(ctx, a, row.EventID)
		if err != nil {
			return err
		}
		did, err := store.Resend(ctx, c.Log, operator(), body)
		if none, ok := errors.AsType[*pgstore.NoPayloadError](err); ok {
			return usageError{none}
		}
		if err != nil {
			return err
		}
		if did == nil {
			return usageError{fmt.Errorf("zapier_webhook_logs has no row %q any more", c.Log)}
		}
		out.Waited, out.Payload = did.Waited, did.Payload
		switch {
		case did.Waited:
			text += "it waits for another attempt already: that is due now\n"
		case did.Payload:
			text += "the stream does not have it any more: put back, due now; its body is the log's payload: the same JSON, perhaps not the same bytes\n"
		default:
			text += "put back, due now, with the same bytes\n"
		}
	} else {
		text += "nothing was done: --yes sends it once more, with the same ids\n"
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(out)
	}
	_, err = fmt.Fprint(a.stdout, text+c.asleep(row.Active))
	return err
}

// bodyOf looks an event up in the stream; nil when it is not there.
func bodyOf(ctx context.Context, a *app, eventID string) ([]byte, error) {
	cfg, err := config.Load(a.configPath, a.environ)
	if err != nil {
		return nil, err
	}
	client, err := readStream(ctx, a, cfg)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	waiting := newProgress(a.stderr)
	ev, _, err := client.Find(ctx, eventID, natsstream.FindConfig{Progress: func(looked int, oldest time.Time) {
		waiting.say("looked at %s events, back to %s", grouped(int64(looked)), oldest.UTC().Format(time.RFC3339))
	}})
	if _, missing := errors.AsType[*natsstream.NotFoundError](err); missing {
		return nil, nil
	}
	return ev.Body, err
}
