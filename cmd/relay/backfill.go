package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgsource"
	"github.com/dot-do/relay/relay/pgstore"
)

type backfillCmd struct {
	Start  backfillStartCmd  `cmd:"" default:"withargs" help:"Publish the rows of TABLE: relay backfill TABLE."`
	List   backfillListCmd   `cmd:"" help:"List what runs, waits, and ended lately."`
	Follow backfillFollowCmd `cmd:"" help:"Show the progress of a backfill until it ends."`
	Cancel backfillCancelCmd `cmd:"" help:"Stop a backfill. What is published stays."`
}

type backfillStartCmd struct {
	Table     string `arg:"" help:"The table, as schema.table; without a schema: public."`
	Where     string `help:"Only rows for which this SQL condition on the table's columns holds. It is run as it stands, by the relay's role, read-only." placeholder:"SQL"`
	EventType string `help:"Only events of this type. Default: all that the table's mappings raise for a new row." placeholder:"TYPE"`
	Rate      int    `help:"Rows a second at most. Default: as fast as live changes leave room." placeholder:"ROWS"`
	Detach    bool   `help:"Return once it is requested; the relay works on."`
	JSON      bool   `help:"One JSON object a line: the backfill as it stands."`
}

// backfills is what the commands work with.
type backfills struct {
	*app
	cfg   config.Config
	store *pgstore.Store
}

func (a *app) openBackfills(ctx context.Context) (*backfills, error) {
	cfg, err := config.Load(a.configPath, a.environ)
	if err != nil {
		return nil, err
	}
	log, _ := newLogger(a.stderr, cfg.Log)
	store, err := pgstore.Open(ctx, pgstore.Config{URL: cfg.Source.URL, MaxConns: 2, Logger: log})
	if err != nil {
		return nil, err
	}
	return &backfills{app: a, cfg: cfg, store: store}, nil
}

// Run checks the request, writes it down for the running relay, and follows it.
func (c *backfillStartCmd) Run(ctx context.Context, a *app) error {
	if c.Rate < 0 {
		return usageError{fmt.Errorf("--rate %d: want rows a second, 1 or more", c.Rate)}
	}
	b, err := a.openBackfills(ctx)
	if err != nil {
		return err
	}
	defer b.store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	want := relay.Backfill{Slot: b.cfg.Source.Slot, Table: c.Table, Where: strings.TrimSpace(c.Where), EventType: c.EventType, Rate: c.Rate}
	if !strings.Contains(want.Table, ".") {
		want.Table = "public." + want.Table
	}
	if err := b.check(ctx, want); err != nil {
		return err
	}
	row, err := b.store.RequestBackfill(ctx, want)
	if err != nil {
		return err
	}
	if c.Detach {
		return b.print(c.JSON, &row)
	}
	return b.follow(ctx, row.ID, c.JSON)
}

// check finds what the relay would find, while somebody is there to read it.
func (b *backfills) check(ctx context.Context, want relay.Backfill) error {
	tables, err := pgsource.OpenTables(ctx, (&process{cfg: b.cfg}).sourceConfig(relay.NewCatalog(), nil))
	if err != nil {
		return err
	}
	defer tables.Close() //nolint:contextcheck // an orderly end although ctx has ended
	if _, _, err := tables.Check(ctx, want.Table, want.Where); err != nil {
		return err
	}
	catalog, err := b.store.Current(ctx, "")
	if err != nil {
		return err
	}
	return relay.CheckBackfill(catalog, want.Table, want.EventType)
}

type backfillListCmd struct {
	JSON bool `help:"One JSON array."`
}

// listedBackfills is how many that have ended are listed.
const listedBackfills = 20

// Run lists the backfills.
func (c *backfillListCmd) Run(ctx context.Context, a *app) error {
	b, err := a.openBackfills(ctx)
	if err != nil {
		return err
	}
	defer b.store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	rows, err := b.store.ListBackfills(ctx, b.cfg.Source.Slot, listedBackfills)
	if err != nil {
		return err
	}
	if c.JSON {
		out := make([]backfillJSON, len(rows))
		for i := range rows {
			out[i] = asJSON(&rows[i])
		}
		return json.NewEncoder(a.stdout).Encode(out)
	}
	if len(rows) == 0 {
		fmt.Fprintf(a.stdout, "no backfills for slot %s; relay backfill TABLE starts one\n", b.cfg.Source.Slot)
	}
	for i := range rows {
		fmt.Fprintln(a.stdout, describeBackfill(&rows[i]))
	}
	return nil
}

type backfillFollowCmd struct {
	ID   string `arg:"" help:"Its id, as relay backfill list shows it."`
	JSON bool   `help:"One JSON object a line."`
}

// Run follows a backfill.
func (c *backfillFollowCmd) Run(ctx context.Context, a *app) error {
	b, err := a.openBackfills(ctx)
	if err != nil {
		return err
	}
	defer b.store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	return b.follow(ctx, c.ID, c.JSON)
}

type backfillCancelCmd struct {
	ID string `arg:"" help:"Its id, as relay backfill list shows it."`
}

// Run cancels a backfill.
func (c *backfillCancelCmd) Run(ctx context.Context, a *app) error {
	b, err := a.openBackfills(ctx)
	if err != nil {
		return err
	}
	defer b.store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	row, err := b.store.CancelBackfill(ctx, b.cfg.Source.Slot, c.ID)
	switch {
	case err != nil:
		return err
	case row == nil:
		return b.unknown(c.ID)
	case row.State != relay.BackfillCancelled:
		return fmt.Errorf("backfill %s is %s already", c.ID, row.State)
	}
	fmt.Fprintln(a.stdout, describeBackfill(row))
	return nil
}

func (b *backfills) unknown(id string) error {
	return usageError{fmt.Errorf("slot %s has no backfill %q: relay backfill list shows them", b.cfg.Source.Slot, id)}
}

const (
	followEvery   = 200 * time.Millisecond
	followLines   = 10 * time.Second // between two lines where no bar can be drawn
	noticedWithin = 5 * time.Second
)

// follow shows the progress until the backfill ends. That the reader goes away does
// not end the backfill.
func (b *backfills) follow(ctx context.Context, id string, asObjects bool) error {
	bar := &backfillBar{w: b.stdout, live: isTerminal(b.stdout) && !asObjects}
	since, told := time.Now(), false
	var last time.Time
	var was relay.BackfillState
	for ctx.Err() == nil {
		row, err := b.store.FindBackfill(ctx, b.cfg.Source.Slot, id)
		if ctx.Err() != nil {
			break
		}
		switch {
		case err != nil:
			return err
		case row == nil:
			return b.unknown(id)
		}
		ended := row.Finished != nil
		if bar.live || ended || row.State != was || time.Since(last) >= followLines {
			last, was = time.Now(), row.State
			if asObjects {
				err = b.print(true, row)
			} else {
				err = bar.draw(row)
			}
			if err != nil {
				return err
			}
		}
		if ended {
			bar.end()
			return endOfBackfill(row)
		}
		if row.State == relay.BackfillQueued && !told && time.Since(since) > noticedWithin {
			told = true
			bar.end()
			fmt.Fprintf(b.stderr, "relay: backfill %s waits: for another one before it (relay backfill list), or for a running relay: is `relay run` up for slot %s?\n", id, row.Slot)
		}
		sleep(ctx, followEvery)
	}
	bar.end()
	fmt.Fprintf(b.stderr, "relay: backfill %s goes on; relay backfill follow %s shows it again, relay backfill cancel %s stops it\n", id, id, id)
	return nil //nolint:nilerr // that the reader has gone is no failure
}

// endOfBackfill is what the exit code says of it.
func endOfBackfill(row *pgstore.BackfillRow) error {
	switch row.State {
	case relay.BackfillFailed:
		return fmt.Errorf("backfill %s failed: %s", row.ID, row.Note)
	case relay.BackfillCancelled:
		return fmt.Errorf("backfill %s was cancelled", row.ID)
	case relay.BackfillQueued, relay.BackfillRunning, relay.BackfillDone:
	}
	return nil
}

// backfillJSON is a backfill for programs.
type backfillJSON struct {
	ID        string              `json:"id"`
	Kind      string              `json:"kind"`
	Table     string              `json:"table"`
	Where     string              `json:"where,omitempty"`
	EventType string              `json:"event_type,omitempty"`
	Rate      int                 `json:"rate,omitempty"`
	State     relay.BackfillState `json:"state"`
	Note      string              `json:"note,omitempty"`
	Estimated int64               `json:"rows_estimated"`
	Rows      int64               `json:"rows_read"`
	Published int64               `json:"rows_published"`
	Overtaken int64               `json:"rows_overtaken"`
	Events    int64               `json:"events"`
	PerSecond float64             `json:"rows_per_second"`
	Left      *float64            `json:"seconds_left"`
	Requested time.Time           `json:"requested_at"`
	Started   *time.Time          `json:"started_at"`
	Finished  *time.Time          `json:"finished_at"`
}

func asJSON(row *pgstore.BackfillRow) backfillJSON {
	rate, left, known := speed(row, time.Now())
	out := backfillJSON{
		ID: row.ID, Kind: row.Kind, Table: row.Table, Where: row.Where, EventType: row.EventType, Rate: row.Rate, State: row.State, Note: row.Note,
		Estimated: row.Estimated, Rows: row.Rows, Published: row.Published, Overtaken: row.Overtaken, Events: row.Events,
		PerSecond: rate, Requested: row.Requested, Started: row.Started, Finished: row.Finished,
	}
	if known {
		seconds := left.Seconds()
		out.Left = &seconds
	}
	return out
}

func (b *backfills) print(asObject bool, row *pgstore.BackfillRow) error {
	if asObject {
		return json.NewEncoder(b.stdout).Encode(asJSON(row))
	}
	_, err := fmt.Fprintln(b.stdout, describeBackfill(row))
	return err
}

// backfiller of the session that meets Capture at the desk.
func (s *session) backfiller(desk *relay.BackfillDesk) (*relay.Backfiller, error) {
	cfg := s.sourceConfig(relay.NewCatalog(), nil)
	return relay.NewBackfiller(relay.BackfillerConfig{
		Desk: desk, Backfills: s.store, Registry: s.store, Slot: s.cfg.Source.Slot, Logger: s.log,
		Open: func(ctx context.Context) (relay.Tables, error) { return pgsource.OpenTables(ctx, cfg) },
		Progress: func(_ string, done relay.Progress) {
			s.metrics.Backfilled(done)
		},
		Running: s.metrics.Backfilling,
	})
}
