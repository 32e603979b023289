package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/user"
	"strings"
	"time"

	"github.com/dot-do/relay/relay/pgstore"
)

type replayCmd struct {
	Webhook   string  `required:"" placeholder:"ID" help:"The webhook, a row of zapier_webhooks."`
	Since     string  `placeholder:"TIME" help:"Only letters given up since then: 2026-11-23T10:00:00Z, or 24h for a day ago."`
	Until     string  `placeholder:"TIME" help:"Only letters given up before then."`
	EventType string  `placeholder:"TYPE" help:"Only those of this event type."`
	Again     bool    `help:"Those, too, that were replayed before."`
	Rate      float64 `default:"50" help:"Deliveries a second that become due, 0.01 to 100000."`
	Yes       bool    `help:"Do it. Without this it only says what it would do."`
	JSON      bool    `help:"One JSON object."`
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

// Run puts dead letters back among the deliveries that wait, or says how many it
// would.
func (c *replayCmd) Run(ctx context.Context, a *app) error {
	if c.Rate < leastRate || c.Rate > mostRate {
		return usageError{fmt.Errorf("--rate %g: want %g to %d", c.Rate, leastRate, mostRate)}
	}
	q := pgstore.LetterQuery{Webhook: c.Webhook, EventType: c.EventType, Again: c.Again}
	var err error
	if q.Since, err = momentOf("--since", c.Since); err != nil {
		return err
	}
	if q.Until, err = momentOf("--until", c.Until); err != nil {
		return err
	}
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	row, err := store.FindWebhook(ctx, c.Webhook)
	if err != nil {
		return err
	}
	if row == nil {
		return noWebhook(c.Webhook)
	}
	found, err := store.CountLetters(ctx, q)
	if err != nil {
		return err
	}
	out := replayedJSON{
		Webhook: c.Webhook, Found: found.Letters, Bytes: found.Bytes, Oldest: utc(found.Oldest), Newest: utc(found.Newest),
		DryRun: !c.Yes, Active: row.Active,
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
	if !out.Active {
		fmt.Fprintf(&b, "the webhook is inactive: they wait until relay webhooks resume %s\n", printable(out.Webhook))
	}
	return b.String()
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
