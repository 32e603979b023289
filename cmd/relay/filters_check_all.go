package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/dot-do/relay/relay/pgstore"
)

// tally is what a check of all filters came to.
type tally struct {
	Checked    int `json:"checked"`
	Good       int `json:"good"`
	Bad        int `json:"bad"`
	MatchAll   int `json:"match_all"`   // good ones that take everything
	DollarKeys int `json:"dollar_keys"` // with keys that begin with $, which are written with two
}

// listing prints what is worth telling while the filters are read, and the tally.
type listing interface {
	add(r report) error
	end(t tally) error
}

// all checks every stored filter.
func (c *filtersCheckCmd) all(ctx context.Context, a *app) error {
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	total, err := store.CountFilters(ctx)
	if err != nil {
		return err
	}
	var (
		sum     tally
		known   = registry{store: store, types: map[string]*pgstore.EventType{}}
		waiting = newProgress(a.stderr)
		out     = listing(&rowListing{sheet: newSheet(a.stdout)})
	)
	if c.JSON {
		out = &jsonListing{w: a.stdout}
	}
	err = store.StoredFilters(ctx, func(f pgstore.StoredFilter) error {
		r, err := checkStored(ctx, known, f)
		if err != nil {
			return err
		}
		waiting.say("checked %d of %d filters", sum.Checked, total)
		if !sum.count(&r, f) {
			return nil
		}
		return out.add(r)
	})
	if err != nil {
		return err
	}
	if err := out.end(sum); err != nil {
		return err
	}
	if sum.Bad > 0 {
		return fmt.Errorf("%s with mistakes", counted(sum.Bad, "filter"))
	}
	return nil
}

// count adds one filter, and reports whether it is worth telling. A filter that takes
// everything is not: most of them do, and that is its default.
func (t *tally) count(r *report, f pgstore.StoredFilter) (tell bool) {
	t.Checked++
	if literalDollars([]byte(f.Text)) {
		t.DollarKeys++
	}
	switch {
	case !r.Good:
		t.Bad++
	case r.Canonical == "{}":
		t.Good++
		t.MatchAll++
		return false
	default:
		t.Good++
	}
	return !r.Good || len(r.Warnings) > 0
}

// rowListing is for people.
type rowListing struct{ sheet *sheet }

func (l *rowListing) add(r report) error {
	name := r.Table + " " + r.ID
	if r.Column != "filters" {
		name += ", " + r.Column
	}
	for _, line := range wrapped(name, sheetWidth) {
		fmt.Fprintln(l.sheet.w, l.sheet.paint(bold, line))
	}
	r.Canonical = "" // the place of the mistake is enough
	r.print(l.sheet)
	fmt.Fprintln(l.sheet.w)
	return nil
}

func (l *rowListing) end(t tally) error {
	color, mark := green, sevOK
	if t.Bad > 0 {
		color, mark = red, sevError
	}
	texts := []string{fmt.Sprintf("%s, %d can be used, %d cannot", counted(t.Checked, "filter"), t.Good, t.Bad)}
	if t.MatchAll > 0 {
		texts = append(texts, plural(t.MatchAll, "takes", "take")+" everything")
	}
	if t.DollarKeys > 0 {
		texts = append(texts, plural(t.DollarKeys, "has", "have")+" keys that begin with $, written $$")
	}
	l.sheet.row(color, mark, "checked", texts...)
	return nil
}

// jsonListing writes one JSON object piece by piece: there may be a million filters.
type jsonListing struct {
	w io.Writer
	n int
}

func (l *jsonListing) add(r report) error {
	between := ",\n"
	if l.n == 0 {
		between = "{\"filters\":[\n"
	}
	l.n++
	return l.write(between, r)
}

func (l *jsonListing) end(t tally) error {
	between := "],\n\"tally\":"
	if l.n == 0 {
		between = "{\"filters\":[" + between
	}
	if err := l.write(between, t); err != nil {
		return err
	}
	_, err := io.WriteString(l.w, "}\n")
	return err
}

func (l *jsonListing) write(between string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(l.w, "%s%s", between, text)
	return err
}
