package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
)

type filtersTestCmd struct {
	Filter  string `arg:"" optional:"" help:"A file, - for standard input, or the filter itself; left out with --webhook."`
	Event   string `arg:"" optional:"" help:"A file, - for standard input, the JSON itself, or an event id to look for in the stream."`
	Webhook string `help:"The filter of this row of zapier_webhooks, and whether anything else keeps the event from it." placeholder:"ID"`
	Op      string `help:"The event is a bare row, to which this happened: insert (default), update, delete, truncate or read." placeholder:"OP"`
	Before  string `help:"The row before, of an update: a file, or the JSON itself." placeholder:"ROW"`
	Newest  int    `help:"How many events of the stream to look through for an event id." default:"1000000" placeholder:"N"`
	JSON    bool   `help:"One JSON object."`
}

// Help is the longer text of --help.
func (filtersTestCmd) Help() string {
	return `Says yes, no or unknown (a value that decides was not sent), and why: each condition with its own answer.

    relay filters test '{"total": {"$gte": 100}}' '{"total": 120}'
    relay filters test filter.json event.json
    relay filters test --webhook=functions evt_n2zlybiob4u3xsnmpwdrhep5iu

Exit code 0: yes; 1: no or unknown; 2: usage, or the filter has mistakes.`
}

// Run tries the filter on the event.
func (c *filtersTestCmd) Run(ctx context.Context, a *app) error {
	if err := c.validate(); err != nil {
		return err
	}
	var (
		row  *pgstore.Webhook
		text []byte
		err  error
	)
	if c.Webhook == "" {
		text, err = a.input("filter", c.Filter)
	} else if row, err = c.webhook(ctx, a); err == nil {
		text = []byte(row.Filter.Text)
	}
	if err != nil {
		return err
	}
	f, err := filters.Compile(text)
	if err != nil {
		return c.refuse(a, row, text)
	}
	o, err := c.occurrence(ctx, a, f)
	if err != nil {
		return err
	}
	t := trial{Webhook: c.Webhook, Filter: f.String(), Event: o, Why: f.Explain(&o.event)}
	if row != nil {
		t.Why = wanted(row, o, t.Why)
	}
	t.Verdict = t.Why.Verdict
	if err := t.print(a, c.JSON); err != nil {
		return err
	}
	if t.Verdict != filters.Yes {
		return reported{errors.New("no match")}
	}
	return nil
}

func (c *filtersTestCmd) validate() error {
	if c.Webhook != "" && c.Event == "" {
		c.Filter, c.Event = "", c.Filter
	}
	switch {
	case c.Webhook != "" && c.Filter != "":
		return usageError{errors.New("give a filter or --webhook, not both")}
	case c.Event == "":
		return usageError{errors.New("give a filter and an event; see relay filters test --help")}
	case c.Filter == "-" && c.Event == "-", c.Before == "-":
		return usageError{errors.New("standard input can be the filter or the event: one of them")}
	case c.Newest < 1:
		return usageError{fmt.Errorf("--newest %d: want a number from 1", c.Newest)}
	}
	return nil
}

func (c *filtersTestCmd) webhook(ctx context.Context, a *app) (*pgstore.Webhook, error) {
	store, err := a.openStore(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	return readWebhook(ctx, store, c.Webhook)
}

// refuse prints the mistakes of a filter that cannot be tried.
func (c *filtersTestCmd) refuse(a *app, row *pgstore.Webhook, text []byte) error {
	r := inspect(text, false, nil)
	what := "the filter"
	if row != nil {
		r.Table, r.ID, r.Column, r.EventType = row.Filter.Table, row.Filter.ID, row.Filter.Column, row.Filter.EventType
		what = "webhook " + row.Filter.ID + " gets nothing: its filter"
	}
	if c.JSON {
		if err := printJSON(a.stdout, r); err != nil {
			return err
		}
	} else {
		r.print(newSheet(a.stdout))
	}
	return usageError{fmt.Errorf("%s has %s", what, counted(len(r.Mistakes), "mistake"))}
}

// wanted puts beside the filter whatever else decides whether a subscription gets an
// event. What is not known of the event is noted instead.
func wanted(row *pgstore.Webhook, o *occurrence, filter filters.Explanation) filters.Explanation {
	all := filters.Explanation{Text: "webhook " + row.Filter.ID, Verdict: filter.Verdict}
	add := func(holds bool, text, why string) {
		part := filters.Explanation{Text: text, Verdict: filters.Yes}
		if !holds {
			part.Verdict, part.Why = filters.No, why
			all.Verdict = filters.No
		}
		all.Parts = append(all.Parts, part)
	}
	if o.Type == "" {
		o.Notes = append(o.Notes, "the event is taken to be of type "+row.Filter.EventType)
	} else {
		add(o.Type == row.Filter.EventType, "event type is "+row.Filter.EventType, "is "+o.Type)
	}
	add(row.Active, "status is active", "is inactive: it gets nothing meanwhile")
	if o.stream == nil {
		o.Notes = append(o.Notes, "owner and time are not looked at: only an event in the stream has them")
	} else {
		ev := o.stream
		add(!ev.CommittedAt.Before(row.CreatedAt), "made before the event",
			"made at "+row.CreatedAt.UTC().Format(time.RFC3339)+", the event is from "+ev.CommittedAt.UTC().Format(time.RFC3339))
		add(ev.Visibility == relay.VisibleToEveryone || ev.Owner.Owns(row.Owner), "may see the event as "+ownerText(row.Owner),
			"the event is for "+ownerText(ev.Owner)+" only")
	}
	all.Parts = append(all.Parts, filter)
	return all
}

func ownerText(o relay.Owner) string {
	var names []string
	if o.UserID != "" {
		names = append(names, "user "+o.UserID)
	}
	if o.TenantID != "" {
		names = append(names, "tenant "+o.TenantID)
	}
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}

// trial is one filter tried on one event.
type trial struct {
	Verdict filters.Verdict     `json:"verdict"`
	Webhook string              `json:"webhook,omitempty"`
	Filter  string              `json:"filter"` // canonical
	Event   *occurrence         `json:"event"`
	Why     filters.Explanation `json:"explanation"`
}

func (t *trial) print(a *app, asJSON bool) error {
	if asJSON {
		return printJSON(a.stdout, t)
	}
	s := newSheet(a.stdout)
	s.headline(t)
	fmt.Fprintln(s.w)
	s.tree(t.Why, 0)
	return nil
}

// headline says the answer, and of which event.
func (s *sheet) headline(t *trial) {
	who := "the filter"
	if t.Webhook != "" {
		who = "webhook " + t.Webhook
	}
	answers := map[filters.Verdict][2]string{
		filters.Yes:     {green, "match: " + who + " takes the event"},
		filters.No:      {red, "no match: " + who + " does not take the event"},
		filters.Unknown: {yellow, "unknown: it cannot be decided, so nothing is delivered"},
	}
	for _, line := range wrapped(answers[t.Verdict][1], sheetWidth) {
		fmt.Fprintln(s.w, s.paint(answers[t.Verdict][0], line))
	}
	o := t.Event
	event := o.Op
	if o.Table != "" {
		event += " of " + o.Table
	}
	if o.Type != "" {
		event = o.Type + ", " + event
	}
	if o.Seq > 0 {
		event += fmt.Sprintf(", stream sequence %d", o.Seq)
	}
	lines := append([]string{event}, o.Notes...)
	if o.ID != "" {
		lines = append([]string{o.ID}, lines...)
	}
	for _, line := range lines {
		for _, line := range wrapped(line, sheetWidth-2) {
			fmt.Fprintln(s.w, s.paint(dim, "  "+line))
		}
	}
}
