package filters_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

// TestTheRowBeforeMayBeToldInPart has what the random trials cannot say: columns that are
// told in neither row, and rows before that are no rows.
func TestTheRowBeforeMayBeToldInPart(t *testing.T) {
	doc := func(text string, unsent ...string) filters.Doc { return filters.NewDoc([]byte(text), unsent) }
	for _, c := range []struct {
		filter               string
		data, before         filters.Doc
		partial, whole, none filters.Verdict // answers with before as a part, as a whole, and without it
	}{
		// A column that a partial row leaves out is as it is now, whether or not that was sent.
		{`{"$changed":["a"]}`, doc(`{"a":1}`), doc(`{}`), no, yes, unknown},
		{`{"$changed":["v"]}`, doc(`{"a":1}`, "v"), doc(`{"a":2}`), no, no, unknown},
		{`{"$changed":["v.x"]}`, doc(`{"a":1}`, "v"), doc(`{"a":2}`), no, no, unknown},
		{`{"$changed":{"outside":["a"]}}`, doc(`{"a":1}`, "v"), doc(`{"a":2}`), no, no, unknown},
		{`{"$changed":{"outside":["v"]}}`, doc(`{"a":1}`, "v"), doc(`{"a":2}`), yes, yes, unknown},
		{`{"v":{"$from":1}}`, doc(`{"a":1}`, "v"), doc(`{"v":1}`), no, no, unknown},
		{`{"$before":{"a":1}}`, doc(`{"a":1}`), doc(`{}`), yes, no, unknown},
		{`{"$before":{"v":1}}`, doc(`{"a":1}`, "v"), doc(`{}`), unknown, no, unknown},
		{`{"$before":{"v":{"$exists":true}}}`, doc(`{"a":1}`, "v"), doc(`{}`), yes, no, unknown},
		{`{"$before":{"v":1}}`, doc(`{"a":1}`, "v"), doc(`{"v":1}`), yes, yes, unknown},
		{`{"$before":{"v":1}}`, doc(`{"v":1}`), doc(`{}`, "v"), unknown, unknown, unknown},
		{`{"$changed":["v"]}`, doc(`{"v":1}`), doc(`{}`, "v"), unknown, unknown, unknown},
		{`{"$changed":["v"]}`, doc(`{}`, "v"), doc(`{}`, "v"), unknown, unknown, unknown},
		{`{"$before":{}}`, doc(`{"a":1}`), doc(`{}`), yes, yes, yes},
		// Of repeated keys the last one counts, in a part too.
		{`{"$before":{"a":2}}`, doc(`{"a":1}`), doc(`{"a":3,"a":2}`), yes, yes, unknown},
		{`{"$before":{"a":{"x":1}}}`, doc(`{"a":{"x":1}}`), doc(`{"a":{"y":1}}`), no, no, unknown},
		{`{"$before":{"a":[{"$gt":1}]}}`, doc(`{"a":[2]}`), doc(`{"a":[1]}`), no, no, unknown},
		{`{"$changed":["a.0"]}`, doc(`{"a":[2,1]}`), doc(`{"a":[2]}`), no, no, unknown},
		// What is no row says nothing.
		{`{"$before":{"a":1}}`, doc(`{"a":1}`), doc(`{"a":1`), unknown, unknown, unknown},
		{`{"$changed":["a"]}`, doc(`{"a":1}`), doc(`[]`), unknown, unknown, unknown},
		{`{"$changed":{"outside":[]}}`, doc(`{"a":1}`), doc(`{"a":2}}`), unknown, unknown, unknown},
		{`{"a":{"$to":1}}`, doc(`{"a":1}`), doc(`null`), unknown, unknown, unknown},
		{`{"a":{"$to":1}}`, doc(`{"a":2}`), doc(`null`), no, no, no},
	} {
		f := compile(t, c.filter)
		for _, form := range []struct {
			event filters.Event
			want  filters.Verdict
		}{
			{filters.Event{Op: filters.OpUpdate, Data: c.data, Before: c.before, Partial: true}, c.partial},
			{filters.Event{Op: filters.OpUpdate, Data: c.data, Before: c.before}, c.whole},
			{filters.Event{Op: filters.OpUpdate, Data: c.data}, c.none},
			{filters.Event{Op: filters.OpUpdate, Data: c.data, Partial: true}, c.none},
		} {
			require.Equal(t, form.want, f.MatchEvent(&form.event), "%s: partial %v, before %+v", c.filter, form.event.Partial, form.event.Before)
			require.Equal(t, form.want, askEverywhere(t, f, &form.event), "%s", c.filter)
		}
	}
}
