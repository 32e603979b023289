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

// halfPair finds what encoding/json turns into U+FFFD and jsonb cannot hold.
var halfPair = regexp.MustCompile(`(?i)\\ud[89a-f]`)

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
		verdict := filter.Match(doc)
		partial := filter.MatchDoc(filters.NewDoc(doc, []string{unavailable}))
		if !json.Valid(doc) || !utf8.Valid(doc) {
			require.Equal(t, filters.No, verdict)
			require.Equal(t, filters.No, partial)
			return
		}
		if halfPair.Match(doc) && strings.Contains(filter.String(), "\ufffd") || strings.Contains(filter.String(), "$") {
			return // the slow matcher knows neither
		}
		require.Equal(t, slowContains(t, doc, src), verdict == filters.Yes)
		require.NotEqual(t, filters.Unknown, verdict)

		if decoded, ok := slowDecode(t, src).(map[string]any); ok {
			_, needed := decoded[unavailable]
			delete(decoded, unavailable)
			rest, err := json.Marshal(decoded)
			require.NoError(t, err)
			switch holds := slowContains(t, doc, rest); {
			case !holds:
				require.Equal(t, filters.No, partial)
			case needed:
				require.Equal(t, filters.Unknown, partial)
			default:
				require.Equal(t, filters.Yes, partial)
			}
		}
	})
}
