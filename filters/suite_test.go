package filters_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

// documented are the examples of containment in the documentation of Postgres, section
// "jsonb Containment and Existence".
var documented = []rule{
	{`"foo"`, `"foo"`, true},
	{`[1, 2, 3]`, `[1, 3]`, true},
	{`[1, 2, 3]`, `[3, 1]`, true},
	{`[1, 2, 3]`, `[1, 2, 2]`, true},
	{`{"product": "PostgreSQL", "version": 9.4, "jsonb": true}`, `{"version": 9.4}`, true},
	{`[1, 2, [1, 3]]`, `[1, 3]`, false},
	{`[1, 2, [1, 3]]`, `[[1, 3]]`, true},
	{`{"foo": {"bar": "baz"}}`, `{"bar": "baz"}`, false},
	{`{"foo": {"bar": "baz"}}`, `{"foo": {}}`, true},
	{`["foo", "bar"]`, `"bar"`, true},
	{`"bar"`, `["bar"]`, false},
}

// regression are the 58 statements about containment of constants in Postgres' own
// regression tests (jsonb.sql), in their order and with its answers. What it asks as
// jsonb_contained and <@ is turned round; what it asks twice is here twice.
var regression = []rule{
	// containment: jsonb_contains
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b"}`, true},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b", "c":null}`, true},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b", "g":null}`, false},
	{`{"a":"b", "b":1, "c":null}`, `{"g":null}`, false},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"c"}`, false},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b"}`, true},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b", "c":"q"}`, false},
	// @>
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b"}`, true},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b", "c":null}`, true},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b", "g":null}`, false},
	{`{"a":"b", "b":1, "c":null}`, `{"g":null}`, false},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"c"}`, false},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b"}`, true},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b", "c":"q"}`, false},
	{`[1,2]`, `[1,2,2]`, true},
	{`[1,1,2]`, `[1,2,2]`, true},
	{`[[1,2]]`, `[[1,2,2]]`, true},
	// <@
	{`[1,2]`, `[1,2,2]`, true},
	{`[1,1,2]`, `[1,2,2]`, true},
	{`[[1,2]]`, `[[1,2,2]]`, true},
	// jsonb_contained
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b"}`, true},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b", "c":null}`, true},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b", "g":null}`, false},
	{`{"a":"b", "b":1, "c":null}`, `{"g":null}`, false},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"c"}`, false},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b"}`, true},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b", "c":"q"}`, false},
	// <@
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b"}`, true},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b", "c":null}`, true},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b", "g":null}`, false},
	{`{"a":"b", "b":1, "c":null}`, `{"g":null}`, false},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"c"}`, false},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b"}`, true},
	{`{"a":"b", "b":1, "c":null}`, `{"a":"b", "c":"q"}`, false},
	// raw scalars
	{`[5]`, `[5]`, true},
	{`5`, `5`, true},
	{`[5]`, `5`, true},
	{`5`, `[5]`, false},
	{`["9", ["7", "3"], 1]`, `["9", ["7", "3"], 1]`, true},
	{`["9", ["7", "3"], ["1"]]`, `["9", ["7", "3"], ["1"]]`, true},
	{`{ "name": "Bob", "tags": [ "enim", "qui"]}`, `{"tags":["qu"]}`, false},
	// nested containment
	{`{"a":[1,2],"c":"b"}`, `{"a":[1,2]}`, true},
	{`{"a":[2,1],"c":"b"}`, `{"a":[1,2]}`, true},
	{`{"a":{"1":2},"c":"b"}`, `{"a":[1,2]}`, false},
	{`{"a":{"2":1},"c":"b"}`, `{"a":[1,2]}`, false},
	{`{"a":{"1":2},"c":"b"}`, `{"a":{"1":2}}`, true},
	{`{"a":{"2":1},"c":"b"}`, `{"a":{"1":2}}`, false},
	{`["a","b"]`, `["a","b","c","b"]`, false},
	{`["a","b","c","b"]`, `["a","b"]`, true},
	{`["a","b","c",[1,2]]`, `["a",[1,2]]`, true},
	{`["a","b","c",[1,2]]`, `["b",[1,2]]`, true},
	{`{"a":[1,2],"c":"b"}`, `{"a":[1]}`, true},
	{`{"a":[1,2],"c":"b"}`, `{"a":[2]}`, true},
	{`{"a":[1,2],"c":"b"}`, `{"a":[3]}`, false},
	{`{"a":[1,2,{"c":3,"x":4}],"c":"b"}`, `{"a":[{"c":3}]}`, true},
	{`{"a":[1,2,{"c":3,"x":4}],"c":"b"}`, `{"a":[{"x":4}]}`, true},
	{`{"a":[1,2,{"c":3,"x":4}],"c":"b"}`, `{"a":[{"x":4},3]}`, false},
	{`{"a":[1,2,{"c":3,"x":4}],"c":"b"}`, `{"a":[{"x":4},1]}`, true},
}

// TestPostgresOwnExamplesHold asks what Postgres asks of itself. A filter that is no
// object is refused; where both sides are arrays they are asked as columns.
func TestPostgresOwnExamplesHold(t *testing.T) {
	require.Len(t, regression, 58)
	for _, r := range append(documented, regression...) {
		require.Equal(t, r.contained, slowContains(t, []byte(r.doc), []byte(r.filter)), "%s @> %s", r.doc, r.filter)
		if r.filter[0] != '{' {
			require.Equal(t, filters.NotObject, mistakes(t, r.filter)[0].Code)
			if r.doc[0] != '[' || r.filter[0] != '[' {
				continue
			}
			r.doc, r.filter = `{"column":`+r.doc+`}`, `{"column":`+r.filter+`}`
		}
		require.Equal(t, verdict(r.contained), compile(t, r.filter).Match([]byte(r.doc)), "%s @> %s", r.doc, r.filter)
	}
}

func TestPostgresStillAnswersItsOwnExamplesSo(t *testing.T) {
	db := newServer(t)
	var docs, texts []string
	all := append(documented, regression...)
	for _, r := range all {
		docs, texts = append(docs, r.doc), append(texts, r.filter)
	}
	for i, got := range ask(t, db, docs, texts) {
		require.Equal(t, answer{FilterOK: true, DocOK: true, Contained: all[i].contained}, got, "%s @> %s", docs[i], texts[i])
	}
}
