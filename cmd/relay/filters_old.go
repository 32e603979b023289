package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
)

// registry reads each event type once.
type registry struct {
	store *pgstore.Store
	types map[string]*pgstore.EventType // nil: nothing is kept
}

func (r registry) eventType(ctx context.Context, name string) (*pgstore.EventType, error) {
	if t, ok := r.types[name]; ok {
		return t, nil
	}
	t, err := r.store.EventType(ctx, name)
	if err == nil && r.types != nil {
		r.types[name] = t
	}
	return t, err
}

// origin is where the events come from that a filter will see.
type origin struct {
	what    string                // events of a type, or changes that a mapping sees
	mapping bool                  // a rule of one mapping, not a subscription
	schema  []byte                // JSON Schema of data; nil when it says nothing
	sources []pgstore.EventSource // none: the outbox
}

// subscribed is the origin of what the subscriptions of an event type get.
func subscribed(t *pgstore.EventType) *origin {
	return &origin{what: "events of " + t.Name, schema: t.Schema, sources: t.Sources}
}

// stored is the origin of a filter in the database. A mapping's rule sees the rows of
// the mapping's own table.
func stored(t *pgstore.EventType, f pgstore.StoredFilter) *origin {
	if f.Table == "zapier_webhooks" {
		return subscribed(t)
	}
	o := &origin{what: "changes for mapping " + f.ID, mapping: true}
	for _, src := range t.Sources {
		if src.Mapping == f.ID {
			src.Enabled = true // as it will be
			o.sources = append(o.sources, src)
		}
	}
	return o
}

// noOldRow means that only some of the events can decide a condition.
const noOldRow filters.Code = "no_old_row"

// matchOld is a rule on the old row, which as a whole is a question about it.
const matchOld = "match_old"

// condition is a question about the row before.
type condition struct{ operator, pointer string }

// unanswerable tells which conditions the events can never decide, and which they
// cannot always.
func (o *origin) unanswerable(conditions []condition) (errs []*filters.Error, warnings []filters.Warning) {
	var ops []string
	for _, src := range o.sources {
		if plural := src.Op.String() + "s"; src.Enabled && !slices.Contains(ops, plural) {
			ops = append(ops, plural)
		}
	}
	raised := strings.Join(ops, " and ") + " raise them"
	if len(ops) == 0 {
		raised = "no mapping raises them, and the outbox states none"
	}
	for _, c := range conditions {
		full, dormant := 0, 0
		var thin []string // ALTER statements
		for _, src := range o.sources {
			switch {
			case !src.Enabled || !o.answers(c, src.Op):
			case src.Missing:
				dormant++
			case src.Op == relay.OpInsert || len(src.KeyOnly) == 0:
				full++
			default:
				for _, table := range src.KeyOnly {
					thin = append(thin, "ALTER TABLE "+table+" REPLICA IDENTITY FULL")
				}
			}
		}
		slices.Sort(thin)
		remedy := strings.Join(slices.Compact(thin), "; ")
		switch {
		case full > 0 && len(thin) > 0:
			warnings = append(warnings, filters.Warning{
				Code: noOldRow, Pointer: c.pointer,
				Message: c.operator + " is unknown where the log does not carry the row before: " + remedy,
			})
		case len(thin) > 0:
			errs = append(errs, &filters.Error{
				Code: filters.BadPosition, Pointer: c.pointer,
				Message:    c.operator + " needs the row before, and of it the log carries the key only",
				Suggestion: remedy + " (relay setup does it where its role may)",
			})
		case full == 0 && dormant == 0:
			errs = append(errs, &filters.Error{
				Code: filters.BadPosition, Pointer: c.pointer,
				Message:    fmt.Sprintf("%s needs the row before, and %s have none: %s", c.operator, o.what, raised),
				Suggestion: "remove the condition, or use it with an event that updates raise",
			})
		}
	}
	return errs, warnings
}

// answers reports whether a change of this kind can ever make the condition hold. Of
// $changed an insert could, but then it says nothing.
func (o *origin) answers(c condition, op relay.Op) bool {
	switch op {
	case relay.OpUpdate:
		return true
	case relay.OpDelete:
		return c.operator == "$before" || c.operator == matchOld
	case relay.OpInsert:
		return c.operator == "$to" && !o.mapping
	default:
		return false
	}
}

// changeConditions finds the questions about the row before in a filter that compiles.
func changeConditions(text []byte) []condition {
	var found []condition
	walkKeys(text, func(pointer, key string) bool {
		switch key {
		case "$changed", "$before", "$from", "$to":
			found = append(found, condition{key, pointer})
			return false
		case "$eq", "$ne", "$neq":
			return false
		}
		return true
	})
	return found
}

// literalDollars reports whether a filter has keys that begin with $, which are
// written with two.
func literalDollars(text []byte) bool {
	found := false
	if !bytes.Contains(text, []byte(`"$$`)) { // nearly all; the text of a jsonb escapes no $
		return false
	}
	walkKeys(text, func(_, key string) bool {
		found = found || strings.HasPrefix(key, "$$")
		return !found
	})
	return found
}

// walkKeys calls fn for every object key in the order of the text, with its JSON
// Pointer; where fn is false it does not look below. Of text that is not JSON it
// reads what comes before the mistake.
func walkKeys(text []byte, fn func(pointer, key string) bool) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // any number of digits
	_ = walkValue(dec, "", fn)
}

func walkValue(dec *json.Decoder, at string, fn func(pointer, key string) bool) error {
	open, err := dec.Token()
	if err != nil || (open != json.Delim('{') && open != json.Delim('[')) {
		return err
	}
	for i := 0; dec.More(); i++ {
		below := at + "/" + strconv.Itoa(i)
		if open == json.Delim('{') {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string)
			below = at + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
			if !fn(below, name) {
				var skipped json.RawMessage
				if err := dec.Decode(&skipped); err != nil {
					return err
				}
				continue
			}
		}
		if err := walkValue(dec, below, fn); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}
