package filters_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

func FuzzCompile(f *testing.F) {
	for _, group := range rules {
		for _, r := range group {
			f.Add([]byte(r.filter))
		}
	}
	for _, src := range []string{
		`{"a":{"$gt":1,"$lte":"x","$neq":{"$$b":[2,1]},"$in":[1,"1",null],"$nin":[true],"$exist":false}}`,
		`{"a":{"$startsWith":"x","$suffix":"y","$contains":"z"},"b":[{"$prefix":"p"},{"c":{"$eq":[]}},[{"$exists":true}]]}`,
		`{"$or":[{"a":1},{"$and":[{"b":{"$or":[{"$lt":1},{"$gt":5}]}},{"$not":{"c":{}}}]}],"$not":{"d":{"$not":{"$in":[1]}}}}`,
		`{"$op":["insert","update"],"$changed":["a.b","/c~1d/0"],"$before":{"a":{"$gt":1}},"e":{"f":{"$from":[1],"$to":null}}}`,
		`{"$op":"delete","$changed":{"outside":["updated_at"]}}`, `{"a":{"$gt":null,"$gtee":1,"b":2},"$op":"x","$changed":["a..b"],"$in":[]}`,
	} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		filter, err := filters.Compile(src)
		old, errOld := filters.CompileOld(src)
		if err != nil {
			var errs filters.Errors
			require.ErrorAs(t, err, &errs)
			require.NotEmpty(t, errs)
			require.LessOrEqual(t, len(errs), 64)
			require.Error(t, errOld)
			return
		}
		require.True(t, json.Valid(src))
		require.True(t, utf8.Valid(src))
		require.LessOrEqual(t, len(src), filters.MaxText)
		require.LessOrEqual(t, len(filter.String()), filters.MaxText)
		again := compile(t, filter.String())
		require.Equal(t, filter.String(), again.String())
		require.Equal(t, filter.Keys(), again.Keys())
		require.Equal(t, filter.IsAll(), again.IsAll())
		require.Equal(t, filter.NeedsOld(), again.NeedsOld())
		require.Len(t, again.Warnings(), len(filter.Warnings()))
		if errOld == nil {
			require.Equal(t, filter.String(), old.String())
			require.False(t, old.NeedsOld())
		}
		// A filter without operators is contained in itself; one with them may be asked
		// about anything.
		doc := filters.NewDoc([]byte(filter.String()), nil)
		for _, e := range []*filters.Event{
			{Data: doc},
			{Op: filters.OpUpdate, Data: doc, Before: filters.NewDoc([]byte(`{}`), nil), Partial: true},
			{Op: filters.OpUpdate, Data: doc, Before: filters.NewDoc(src, nil)},
		} {
			require.Equal(t, filter.MatchEvent(e), again.MatchEvent(e))
			require.Equal(t, filter.MatchEvent(e), filter.Explain(e).Verdict)
			if !strings.Contains(filter.String(), "$") {
				require.Equal(t, filters.Yes, filter.MatchEvent(e))
			}
		}
	})
}

// unstorable finds escapes of what jsonb cannot hold, and encoding/json has in other ways.
var unstorable = regexp.MustCompile(`(?i)\\ud[89a-f]|\\u0000`)

// slowKnows reports whether the slow matcher can be asked: what jsonb cannot hold equals
// nothing, and U+FFFD less than that.
func slowKnows(f *filters.Filter, docs ...[]byte) bool {
	for _, doc := range docs {
		if unstorable.Match(doc) && strings.ContainsAny(f.String(), "$\ufffd") {
			return false
		}
	}
	return true
}

// askEverywhere asks a filter itself and an index of it.
func askEverywhere(t *testing.T, f *filters.Filter, e *filters.Event) filters.Verdict {
	plain := f.MatchEvent(e)
	x := filters.NewIndex[int]()
	key := filters.Key{Type: "t", Owners: []string{"u"}}
	x.Add(key, f, 1)
	x.Add(filters.Key{Type: "t"}, f, 2)
	var m filters.Matches[int]
	for owner, want := range map[string][]int{"": {1, 2}, "u": {1}} {
		x.Match(&m, "t", owner, e)
		found := [3][]int{filters.Unknown: m.Unknown, filters.Yes: m.Yes}
		for v, ids := range found {
			if filters.Verdict(v) == plain && plain != filters.No {
				require.ElementsMatch(t, want, ids)
			} else {
				require.Empty(t, ids)
			}
		}
	}
	require.True(t, x.Remove(key, f, 1))
	return plain
}

func FuzzMatch(f *testing.F) {
	for _, group := range rules {
		for _, r := range group {
			f.Add([]byte(r.filter), []byte(r.doc), "")
		}
	}
	f.Add([]byte(`{"a":1,"b":2}`), []byte(`{"b":2}`), "a")
	f.Fuzz(func(t *testing.T, src, doc []byte, unavailable string) {
		filter, err := filters.Compile(src)
		if err != nil {
			return
		}
		whole := askEverywhere(t, filter, &filters.Event{Data: filters.NewDoc(doc, nil)})
		partial := askEverywhere(t, filter, &filters.Event{Data: filters.NewDoc(doc, []string{unavailable})})
		require.Equal(t, whole, filter.Match(doc))
		require.Equal(t, partial, filter.MatchDoc(filters.NewDoc(doc, []string{unavailable})))
		if !json.Valid(doc) || !utf8.Valid(doc) {
			require.Equal(t, filters.No, whole)
			require.Equal(t, filters.No, partial)
			return
		}
		columns, ok := slowDecode(t, doc).(map[string]any)
		if !ok {
			require.Equal(t, filters.No, whole)
			require.Equal(t, filters.No, partial)
			return
		}
		if slowKnows(filter, doc) {
			e := slowEvent{data: slowRow{columns: columns}}
			require.Equal(t, slowFilter(t, e, src), whole)
			e.data.unsent = []string{unavailable}
			require.Equal(t, slowFilter(t, e, src), partial)
		}
	})
}

func FuzzMatchEvent(f *testing.F) {
	for i, r := range allRules() {
		if i%3 == 0 || r.op != "update" {
			f.Add([]byte(r.filter), r.op, []byte(r.data), []byte(r.before), strings.Join(r.unsent, ","), strings.Join(r.unsentOld, ","))
		}
	}
	f.Fuzz(func(t *testing.T, src []byte, op string, data, before []byte, unsent, unsentOld string) {
		filter, err := filters.Compile(src)
		if err != nil {
			return
		}
		tr := trial{op: op, data: string(data), before: string(before), unsent: strings.Split(unsent, ","), unsentOld: strings.Split(unsentOld, ",")}
		event := tr.event()
		if event.Op == filters.OpUnknown {
			tr.op = ""
		}
		got := askEverywhere(t, filter, &event)
		part := event
		part.Partial = true
		askEverywhere(t, filter, &part)
		rows := [][]byte{data, before}
		for _, row := range rows {
			if !json.Valid(row) || !utf8.Valid(row) {
				return
			}
			if _, ok := slowDecode(t, row).(map[string]any); !ok {
				return
			}
		}
		if slowKnows(filter, rows...) {
			require.Equal(t, slowFilter(t, tr.slow(t), src), got)
		}
	})
}
