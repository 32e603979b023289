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
	f.Fuzz(func(t *testing.T, src []byte) {
		filter, err := filters.Compile(src)
		if err != nil {
			var errs filters.Errors
			require.ErrorAs(t, err, &errs)
			require.NotEmpty(t, errs)
			require.LessOrEqual(t, len(errs), 64)
			return
		}
		require.True(t, json.Valid(src))
		require.True(t, utf8.Valid(src))
		again := compile(t, filter.String())
		require.Equal(t, filter.String(), again.String())
		require.Equal(t, filter.Keys(), again.Keys())
		require.Equal(t, filter.IsAll(), again.IsAll())
		if !strings.Contains(filter.String(), "$") { // what is contained in itself
			require.Equal(t, filters.Yes, filter.Match(src))
			require.Equal(t, filters.Yes, filter.Match([]byte(filter.String())))
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
