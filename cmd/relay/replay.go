package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/user"
	"strings"
	"time"

	"github.com/dot-do/relay/relay/pgstore"
)

type replayCmd struct {
	Webhook   string  `placeholder:"ID" help:"The webhook, a row of zapier_webhooks."`
	Dead      bool    `group:"What" xor:"what" help:"Dead letters: what was given up. The default."`
	Failed    bool    `group:"What" xor:"what" help:"Deliveries that wait for another attempt: they become due now."`
	Skipped   bool    `group:"What" xor:"what" help:"Events that met the webhook inactive, from the stream."`
	Stream    bool    `group:"What" xor:"what" help:"Events of the stream that match and that it never got, also from before it was made; needs --since."`
	Log       string  `group:"What" xor:"what" placeholder:"ID" help:"One delivery, by the id of a row of zapier_webhook_logs; no --webhook."`
	Since     string  `placeholder:"TIME" help:"Only what is from since then: 2026-11-23T10:00:00Z, or 24h for a day ago."`
	Until     string  `placeholder:"TIME" help:"Only what is from before then."`
	EventType string  `placeholder:"TYPE" help:"Only those of this event type."`
	Again     bool    `help:"With dead letters, those, too, that were replayed before; with the stream, those that it got."`
	Rate      float64 `default:"50" help:"Deliveries a second that become due, 0.01 to 100000."`
	Yes       bool    `help:"Do it. Without this it only says what it would do."`
	JSON      bool    `help:"One JSON object."`
}

// Help is the longer text of --help.
func (replayCmd) Help() string {
	return `Sends deliveries of one webhook once more, with the same event ids and webhook-ids, so that a receiver can tell what it has seen.
It says first what it would do; --yes does it. The deliveries count in the hour's quota and have all their attempts again.

    relay replay --webhook=functions --since=24h              dead letters of the last day
    relay replay --webhook=functions --skipped --yes          what it missed while it was inactive
    relay replay --webhook=new --stream --since=12h --yes     the last 12 hours, for a webhook that was just made
    relay replay --log=0190d3c2-… --yes                       one delivery of the log`
}

const (
	replayChunk   = 500 // letters in one transaction
	leastRate     = 0.01
	mostRate      = 100_000
	replayBarStep = 100 * time.Millisecond
)

// replayed is the JSON of the command.
type replayedJSON struct {
	Webhook string     `json:"webhook"`
	Found   int64      `json:"found"`
	Bytes   int64      `json:"bytes"`
	Oldest  *time.Time `json:"oldest,omitempty"`
	Newest  *time.Time `json:"newest,omitempty"`
	DryRun  bool       `json:"dry_run"`
	Put     int64      `json:"put_back"`
	Waiting int64      `json:"waiting_already"`
	Active  bool       `json:"active"`
	LastDue float64    `json:"last_due_in_seconds"`
}

// Run puts deliveries back among those that wait, or says how many it would.
func (c *replayCmd) Run(ctx context.Context, a *app) error {
	if err := c.validate(); err != nil {
		return err
	}
	since, err := momentOf("--since", c.Since)
	if err != nil {
		return err
	}
	until, err := momentOf("--until", c.Until)
	if err != nil {
		return err
	}
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	if c.Log != "" {
		return c.resend(ctx, a, store)
	}
	row, err := store.FindWebhook(ctx, c.Webhook)
	if err != nil {
		return err
	}
	if row == nil {
		return noWebhook(c.Webhook)
	}
	switch {
	case c.Skipped, c.Stream:
		return c.replayEvents(ctx, a, store, since, until)
	case c.Failed:
		return c.hurry(ctx, a, store, pgstore.FailedQuery{Webhook: c.Webhook, Since: since, Until: until, EventType: c.EventType}, row.Active)
	}
	return c.replayLetters(ctx, a, store, pgstore.LetterQuery{Webhook: c.Webhook, Since: since, Until: until, EventType: c.EventType, Again: c.Again}, row.Active)
}

func (c *replayCmd) validate() error {
	switch {
	case c.Rate < leastRate || c.Rate > mostRate:
		return usageError{fmt.Errorf("--rate %g: want %g to %d", c.Rate, leastRate, mostRate)}
	case c.Log != "" && (c.Webhook != "" || c.Since != "" || c.Until != "" || c.EventType != "" || c.Again):
		return usageError{errors.New("--log names one delivery: it goes with --yes and --json only")}
	case c.Log == "" && c.Webhook == "":
		return usageError{errors.New("say which webhook: --webhook=ID, as relay webhooks list shows it; or --log=ID for one delivery")}
	case c.Stream && c.Since == "":
		return usageError{errors.New("--stream takes every event that matches: say from when on, such as --since=24h")}
	case c.Again && (c.Failed || c.Skipped):
		return usageError{errors.New("--again goes with dead letters and with --stream")}
	}
	return nil
}

// replayLetters replays dead letters.
func (c *replayCmd) replayLetters(ctx context.Context, a *app, store *pgstore.Store, q pgstore.LetterQuery, active bool) error {
	found, err := store.CountLetters(ctx, q)
	if err != nil {
		return err
	}
	out := replayedJSON{
		Webhook: c.Webhook, Found: found.Letters, Bytes: found.Bytes, Oldest: utc(found.Oldest), Newest: utc(found.Newest),
		DryRun: !c.Yes, Active: active,
	}
	if c.Yes {
		if err := c.putBack(ctx, a, store, q, &found, &out); err != nil {
			return err
		}
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(out)
	}
	_, err = fmt.Fprint(a.stdout, c.describe(&out))
	return err
}

// putBack replays the letters, some hundred in a transaction. What was put back stays
// so when it is interrupted; the same command goes on with the rest.
func (c *replayCmd) putBack(ctx context.Context, a *app, store *pgstore.Store, q pgstore.LetterQuery, found *pgstore.LetterCount, out *replayedJSON) error {
	gap := time.Duration(float64(time.Second) / c.Rate)
	began, drawn := time.Now(), time.Time{}
	live := isTerminal(a.stderr)
	for taken := int64(0); ; {
		// What became due while the letters were being put back is no head start.
		delay := max(time.Duration(out.Put)*gap-time.Since(began), 0)
		did, err := store.ReplayLetters(ctx, q, found.Asked, operator(), replayChunk, delay, gap)
		if err != nil {
			if out.Put > 0 {
				return fmt.Errorf("%w; %d of %d are put back, the same command goes on with the rest", err, out.Put, found.Letters)
			}
			return err
		}
		taken += did.Letters
		out.Put += did.Put
		out.Waiting += did.Letters - did.Put
		out.LastDue = max(time.Duration(out.Put)*gap-time.Since(began), 0).Seconds()
		if live && (time.Since(drawn) > replayBarStep || did.Letters == 0) {
			drawn = time.Now()
			share := min(float64(taken)/float64(max(found.Letters, 1)), 1)
			full := int(share * barWidth)
			fmt.Fprintf(a.stderr, "\r\x1b[K[%s%s] %s of %s letters", strings.Repeat("█", full), strings.Repeat("·", barWidth-full), grouped(taken), grouped(found.Letters))
		}
		if did.Letters < replayChunk {
			if live {
				fmt.Fprintln(a.stderr)
			}
			return nil
		}
	}
}

// describe tells a person what was found and done.
func (c *replayCmd) describe(out *replayedJSON) string {
	var b strings.Builder
	if out.Found == 0 {
		fmt.Fprintf(&b, "no dead letters of webhook %s match", printable(out.Webhook))
		if !c.Again {
			b.WriteString("; --again finds those, too, that were replayed before")
		}
		b.WriteString("\n")
		return b.String()
	}
	fmt.Fprintf(&b, "webhook %s: %s dead letters, %s bytes, given up %s to %s\n", printable(out.Webhook), grouped(out.Found), grouped(out.Bytes),
		timeOrNever(out.Oldest), timeOrNever(out.Newest))
	last := time.Duration(out.LastDue * float64(time.Second)).Round(time.Second)
	if out.DryRun {
		last = time.Duration(float64(out.Found) / c.Rate * float64(time.Second)).Round(time.Second)
		fmt.Fprintf(&b, "nothing was done: --yes puts them back, with the same ids and bytes, at %g a second (%s)\n", c.Rate, last)
	} else {
		fmt.Fprintf(&b, "%s put back, the last is due in %s", grouped(out.Put), last)
		if out.Waiting > 0 {
			fmt.Fprintf(&b, "; %s more need nothing, their deliveries wait already", grouped(out.Waiting))
		}
		b.WriteString("\n")
	}
	b.WriteString(c.asleep(out.Active))
	return b.String()
}

// asleep warns of an inactive webhook.
func (c *replayCmd) asleep(active bool) string {
	if active {
		return ""
	}
	return fmt.Sprintf("the webhook is inactive: they wait until relay webhooks resume %s\n", printable(c.Webhook))
}

// momentOf reads a time, or how long ago it was.
func momentOf(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	ago, err := time.ParseDuration(text)
	if err != nil || ago < 0 {
		return time.Time{}, usageError{fmt.Errorf("%s %q: want a time such as 2026-11-23T10:00:00Z, or how long ago, such as 24h", flag, text)}
	}
	return time.Now().Add(-ago), nil
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	at := t.UTC()
	return &at
}

// operator is who replays, for the table.
func operator() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "relay replay"
}
