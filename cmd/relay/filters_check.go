package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/relay/pgstore"
)

type filtersCheckCmd struct {
	Filter    string `arg:"" optional:"" help:"A file, - for standard input, or the filter itself."`
	Webhook   string `help:"Check the filter of this row of zapier_webhooks." placeholder:"ID" xor:"which"`
	All       bool   `help:"Check every filter of zapier_webhooks and event_mappings." xor:"which"`
	EventType string `help:"Ask the database, too: does this event have what the filter reads?" placeholder:"TYPE"`
	Old       bool   `help:"The filter is a match_old rule: it reads the old row."`
	JSON      bool   `help:"One JSON object."`
}

// Help is the longer text of --help.
func (filtersCheckCmd) Help() string {
	return `Prints every mistake with its place, warnings, and the filter in canonical form.

    relay filters check '{"total": {"$gte": 100}}'
    relay filters check filter.json --event-type=thing.updated
    relay filters check --all

Exit code 0: good, perhaps with warnings; 1: a filter has mistakes; 2: usage.`
}

// Run checks one filter, or all of them.
func (c *filtersCheckCmd) Run(ctx context.Context, a *app) error {
	if err := c.validate(); err != nil {
		return err
	}
	if c.All {
		return c.all(ctx, a)
	}
	r, err := c.one(ctx, a)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(a.stdout, r)
	} else {
		r.print(newSheet(a.stdout))
	}
	if err != nil || r.Good {
		return err
	}
	return fmt.Errorf("the filter has %s", counted(len(r.Mistakes), "mistake"))
}

func (c *filtersCheckCmd) validate() error {
	stored := c.Webhook != "" || c.All
	switch {
	case c.Filter == "" && !stored:
		return usageError{errors.New("nothing to check: give a filter, --webhook=ID or --all; see relay filters check --help")}
	case c.Filter != "" && stored:
		return usageError{errors.New("give a filter, or --webhook, or --all: one of them")}
	case stored && (c.Old || c.EventType != ""):
		return usageError{errors.New("--old and --event-type go with a filter that is given; of a stored one they are known")}
	}
	return nil
}

// one checks the filter that was named.
func (c *filtersCheckCmd) one(ctx context.Context, a *app) (report, error) {
	if c.Webhook == "" && c.EventType == "" {
		text, err := a.input("filter", c.Filter)
		return inspect(text, c.Old, nil), err
	}
	var text []byte
	if c.Filter != "" {
		var err error
		if text, err = a.input("filter", c.Filter); err != nil {
			return report{}, err
		}
	}
	store, err := a.openStore(ctx)
	if err != nil {
		return report{}, err
	}
	defer store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	if c.Webhook != "" {
		row, err := readWebhook(ctx, store, c.Webhook)
		if err != nil {
			return report{}, err
		}
		return checkStored(ctx, registry{store: store}, row.Filter)
	}
	t, err := registry{store: store}.eventType(ctx, c.EventType)
	if err != nil {
		return report{}, err
	}
	if t == nil {
		return report{}, usageError{fmt.Errorf("--event-type %q: zapier_webhook_events has no such row", c.EventType)}
	}
	r := inspect(text, c.Old, subscribed(t))
	r.EventType = t.Name
	return r, nil
}

// report is what is known of one filter.
type report struct {
	Table     string            `json:"table,omitempty"`
	ID        string            `json:"id,omitempty"`
	Column    string            `json:"column,omitempty"`
	EventType string            `json:"event_type,omitempty"`
	Good      bool              `json:"good"`
	Mistakes  []*filters.Error  `json:"mistakes"`
	Warnings  []filters.Warning `json:"warnings"`
	Canonical string            `json:"canonical,omitempty"`
	Reads     []string          `json:"reads,omitempty"` // columns
	NeedsOld  bool              `json:"needs_old,omitempty"`
}

// inspect compiles a filter and, when it is known where its events come from, looks
// for conditions that they can never answer.
func inspect(text []byte, old bool, from *origin) report {
	compile := filters.Compile
	if old {
		compile = filters.CompileOld
	}
	r := report{Mistakes: []*filters.Error{}, Warnings: []filters.Warning{}}
	f, err := compile(text)
	if err != nil {
		r.Mistakes = mistakes(err)
		return r
	}
	r.Warnings = append(r.Warnings, f.Warnings()...)
	if from != nil {
		asks := changeConditions(text)
		if old && !f.IsAll() {
			asks = []condition{{operator: matchOld}}
		}
		errs, warnings := from.unanswerable(asks)
		r.Mistakes, r.Warnings = append(r.Mistakes, errs...), append(r.Warnings, warnings...)
	}
	if from != nil && !old && len(from.schema) > 0 {
		for _, path := range f.UnknownPaths(from.schema) {
			r.Warnings = append(r.Warnings, filters.Warning{
				Code: filters.UnknownPath, Message: path + " is not in the payload_schema of the event type",
			})
		}
	}
	r.Good = len(r.Mistakes) == 0
	r.Canonical, r.Reads, r.NeedsOld = f.String(), f.Keys(), f.NeedsOld()
	return r
}

func (r *report) print(s *sheet) {
	for _, m := range r.Mistakes {
		s.row(red, sevError, string(m.Code), place(m.Pointer, m.Message)...)
		if m.Suggestion != "" {
			s.remedy(m.Suggestion)
		}
	}
	for _, w := range r.Warnings {
		s.row(yellow, sevWarning, string(w.Code), place(w.Pointer, w.Message)...)
	}
	if !r.Good || r.Canonical == "" {
		return
	}
	reads := strings.Join(r.Reads, ", ")
	switch {
	case len(r.Reads) == 0 && r.NeedsOld:
		reads = "the row before"
	case len(r.Reads) == 0:
		reads = "no column"
	case r.NeedsOld:
		reads += "; the row before"
	}
	s.row(green, sevOK, "reads", reads)
	// Whole, so that it can be copied.
	canonical := harmless(r.Canonical)
	if len(canonical) > sheetWidth-markWidth-areaWidth {
		s.row(green, sevOK, "canonical", "")
		fmt.Fprintln(s.w, canonical)
		return
	}
	s.row(green, sevOK, "canonical", canonical)
}

// place is where something is, if that is not the whole filter, and what it is.
func place(pointer, message string) []string {
	if pointer == "" {
		return []string{message}
	}
	return []string{"at " + pointer, message}
}

// checkStored checks a filter of the database with what the database knows.
func checkStored(ctx context.Context, known registry, f pgstore.StoredFilter) (report, error) {
	t, err := known.eventType(ctx, f.EventType)
	if err != nil {
		return report{}, err
	}
	var from *origin
	if t != nil { // it may have been deleted just now
		from = stored(t, f)
	}
	r := inspect([]byte(f.Text), f.Column == matchOld, from)
	r.Table, r.ID, r.Column, r.EventType = f.Table, f.ID, f.Column, f.EventType
	return r, nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
