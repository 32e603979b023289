package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
)

type parkedCmd struct {
	List  parkedListCmd  `cmd:"" help:"List the events that are not published because their data violates the schema of their type."`
	Retry parkedRetryCmd `cmd:"" help:"Publish those that satisfy their schema by now; says first what it would do."`
}

type parkedListCmd struct {
	IDs       []string `arg:"" optional:"" name:"id" help:"Only these events."`
	EventType string   `help:"Only those of this event type." placeholder:"TYPE"`
	Limit     int      `help:"At most so many, 1 to 10000." default:"100"`
	JSON      bool     `help:"One JSON object a line, with the body."`
}

type parkedRetryCmd struct {
	IDs       []string `arg:"" optional:"" name:"id" help:"Only these events."`
	EventType string   `help:"Only those of this event type." placeholder:"TYPE"`
	Yes       bool     `help:"Do it. Without this it only says what it would do."`
	JSON      bool     `help:"One JSON object."`
}

// parkedPage is how many events are read, and released in one transaction.
const parkedPage = 100

// lot is the parked events of the slot.
type lot struct {
	*app
	cfg   config.Config
	store *pgstore.Store
	query pgstore.ParkedQuery
}

func (a *app) openLot(ctx context.Context, eventType string, ids []string) (*lot, error) {
	cfg, err := config.Load(a.configPath, a.environ)
	if err != nil {
		return nil, err
	}
	store, err := a.openStore(ctx)
	if err != nil {
		return nil, err
	}
	return &lot{app: a, cfg: cfg, store: store, query: pgstore.ParkedQuery{Slot: cfg.Source.Slot, EventType: eventType, IDs: ids}}, nil
}

func (l *lot) count(ctx context.Context) (total int64, err error) {
	counts, err := l.store.CountParked(ctx, l.query)
	for _, c := range counts {
		total += c.Events
	}
	return total, err
}

// pages reads up to limit of the events, in the order in which they were parked.
func (l *lot) pages(ctx context.Context, limit int, fn func([]pgstore.Parked) error) error {
	for after := (relay.Position{}); limit > 0; {
		rows, err := l.store.ParkedEvents(ctx, l.query, after, min(limit, parkedPage))
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return nil
		}
		after = rows[len(rows)-1].Position
		limit -= len(rows)
		if err := fn(rows); err != nil {
			return err
		}
	}
	return nil
}

// parkedJSON is a parked event as JSON.
type parkedJSON struct {
	EventID   string          `json:"event_id"`
	EventType string          `json:"event_type"`
	Table     string          `json:"table"`
	Key       string          `json:"key,omitempty"`
	Position  string          `json:"position"`
	ParkedAt  time.Time       `json:"parked_at"`
	Reason    string          `json:"reason"`
	Body      json.RawMessage `json:"body"`
}

// Run lists parked events.
func (c *parkedListCmd) Run(ctx context.Context, a *app) error {
	if c.Limit < 1 || c.Limit > maxListed {
		return usageError{fmt.Errorf("--limit %d: want 1 to %d", c.Limit, maxListed)}
	}
	l, err := a.openLot(ctx, c.EventType, c.IDs)
	if err != nil {
		return err
	}
	defer l.store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	total, err := l.count(ctx)
	if err != nil {
		return err
	}
	if total > int64(c.Limit) {
		defer fmt.Fprintf(a.stderr, "relay: these are %d of %s; --limit shows more, --event-type fewer\n", c.Limit, grouped(total))
	}
	if c.JSON {
		out := json.NewEncoder(a.stdout)
		return l.pages(ctx, c.Limit, func(rows []pgstore.Parked) error {
			for i := range rows {
				r := &rows[i]
				err := out.Encode(parkedJSON{
					EventID: r.ID, EventType: r.Type, Table: r.Table, Key: r.Key, Position: r.Position.String(), ParkedAt: r.ParkedAt, Reason: r.Reason, Body: r.Body,
				})
				if err != nil {
					return fmt.Errorf("event %s: %w", r.ID, err)
				}
			}
			return nil
		})
	}
	if total == 0 {
		_, err := fmt.Fprintln(a.stdout, "no event is parked")
		return err
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "EVENT ID\tEVENT TYPE\tTABLE\tKEY\tPARKED\tREASON")
	err = l.pages(ctx, c.Limit, func(rows []pgstore.Parked) error {
		for i := range rows {
			r := &rows[i]
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", printable(r.ID), printable(r.Type), printable(r.Table), printable(r.Key),
				r.ParkedAt.Format(time.RFC3339), printable(r.Reason))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.Flush()
}

// retriedJSON is what relay parked retry did, or would do.
type retriedJSON struct {
	Slot     string        `json:"slot"`
	Found    int64         `json:"found"`
	Fit      int64         `json:"fit"` // satisfy their schema by now
	Released int64         `json:"released"`
	DryRun   bool          `json:"dry_run"`
	Refused  []refusedJSON `json:"refused"`
}

// refusedJSON is what stays parked of one event type.
type refusedJSON struct {
	EventType string `json:"event_type"`
	Events    int64  `json:"events"`
	Reason    string `json:"reason"` // of the first
}

// Run releases what satisfies its schema by now.
func (c *parkedRetryCmd) Run(ctx context.Context, a *app) error {
	l, err := a.openLot(ctx, c.EventType, c.IDs)
	if err != nil {
		return err
	}
	defer l.store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	if c.Yes {
		if err := l.published(ctx); err != nil {
			return err
		}
	}
	out, err := l.retry(ctx, c.Yes)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(out)
	}
	switch {
	case out.Found == 0:
		fmt.Fprintln(a.stdout, "no event is parked")
	case out.DryRun:
		fmt.Fprintf(a.stdout, "%s of %s parked events satisfy their schema; nothing was done: --yes publishes them, with the same ids and bytes\n", grouped(out.Fit), grouped(out.Found))
	default:
		fmt.Fprintf(a.stdout, "%s of %s parked events released; the running relay publishes them\n", grouped(out.Released), grouped(out.Found))
	}
	for _, r := range out.Refused {
		fmt.Fprintf(a.stdout, "%s: %s would not be published: %s\n", printable(r.EventType), plural(int(r.Events), "event", "events"), printable(r.Reason))
	}
	return nil
}

// published checks that a relay can see what is released.
func (l *lot) published(ctx context.Context) error {
	table := relay.DefaultControlTables().Parked
	missing, err := l.store.Unpublished(ctx, l.cfg.Source.Publication, []string{table})
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return &relay.SetupError{
			Err:    fmt.Errorf("table %s is not in publication %q, so the relay would not see what is released", table, l.cfg.Source.Publication),
			Remedy: "restart `relay run`, which adds it, or let the publication's owner run: ALTER PUBLICATION " + quoteIdent(l.cfg.Source.Publication) + " ADD TABLE " + quoteTable(table) + ";",
		}
	}
	return nil
}

// retry holds the events to the schemas as they are now. The relay does it once more, at
// the place in the log where they are released.
func (l *lot) retry(ctx context.Context, release bool) (*retriedJSON, error) {
	catalog, err := l.store.Current(ctx, "")
	if err != nil {
		return nil, err
	}
	schemas, _ := catalog.Schemas(nil) // those that cannot be used refuse their events
	// What is released in vain is parked again, behind all of those that wait now.
	total, err := l.count(ctx)
	if err != nil {
		return nil, err
	}
	out := &retriedJSON{Slot: l.query.Slot, DryRun: !release, Refused: []refusedJSON{}}
	refused := map[string]*refusedJSON{}
	err = l.pages(ctx, int(total), func(rows []pgstore.Parked) error {
		var fit []pgstore.Parked
		for i := range rows {
			out.Found++
			if reason := refusal(schemas, &rows[i]); reason == nil {
				fit = append(fit, rows[i])
			} else if r := refused[rows[i].Type]; r != nil {
				r.Events++
			} else {
				refused[rows[i].Type] = &refusedJSON{EventType: rows[i].Type, Events: 1, Reason: reason.Error()}
			}
		}
		out.Fit += int64(len(fit))
		if !release || len(fit) == 0 {
			return nil
		}
		n, err := l.store.Release(ctx, l.query.Slot, fit, operator())
		out.Released += n
		if err != nil && out.Released > 0 {
			return fmt.Errorf("%w; %d are released, the same command goes on with the rest", err, out.Released)
		}
		return err
	})
	for _, eventType := range slices.Sorted(maps.Keys(refused)) {
		out.Refused = append(out.Refused, *refused[eventType])
	}
	return out, err
}

// refusal is why the event would be parked again.
func refusal(schemas *relay.Schemas, p *pgstore.Parked) error {
	e := relay.Event{ID: p.ID, Type: p.Type}
	if err := e.ReadBody(p.Body); err != nil {
		return fmt.Errorf("its body in relay_parked_events: %w", err)
	}
	_, err := schemas.Check(&e)
	return err
}
