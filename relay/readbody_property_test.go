package relay_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/relay"
)

// rows is a relation of a key, a visibility and columns with few different values.
var rows = &relay.Relation{OID: 11, Schema: "public", Name: "rows", ReplicaIdentity: relay.IdentityFull, Columns: []relay.Column{
	{Name: "id", Type: textType, Key: true},
	{Name: "visibility", Type: textType},
	{Name: "a", Type: &relay.Type{OID: 3802}},
	{Name: "b", Type: textType},
	{Name: "c", Type: &relay.Type{OID: 1700}},
}}

// questions is one filter for every way to ask about a change.
func questions(t *testing.T) []*filters.Filter {
	var out []*filters.Filter
	for _, text := range []string{
		`{}`, `{"b":"x"}`, `{"c":1}`, `{"c":{"$gte":1}}`, `{"c":null}`, `{"a":{"n":[1]}}`, `{"a":{"n":[{"$gt":1}]}}`, `{"b":{"$exists":false}}`, `{"b":{"$exists":true}}`,
		`{"d":{"$exists":false}}`, `{"$not":{"b":"x"}}`, `{"$or":[{"b":"x"},{"c":1}]}`, `{"$op":"insert"}`, `{"$op":["update","delete"]}`,
		`{"$changed":["a"]}`, `{"$changed":["a.n","c"]}`, `{"$changed":["b"]}`, `{"$changed":["id"]}`, `{"$changed":["visibility","d"]}`, `{"$not":{"$changed":["c"]}}`,
		`{"$changed":{"outside":["b","c"]}}`, `{"$changed":{"outside":["visibility"]}}`, `{"$changed":{"outside":["a.n","b"]}}`,
		`{"$before":{"b":"x"}}`, `{"$before":{"c":{"$lt":2}}}`, `{"$before":{"$not":{"a":{"n":[1]}}}}`, `{"$before":{"b":{"$exists":true}}}`, `{"$before":{}}`,
		`{"b":{"$from":"x"}}`, `{"b":{"$to":"y"}}`, `{"c":{"$from":1,"$to":2}}`, `{"a":{"n":{"$from":[1]}}}`, `{"b":{"$from":null}}`,
		`{"$changed":["b"],"$before":{"visibility":"private"}}`,
	} {
		f, err := filters.Compile([]byte(text))
		require.NoError(t, err, text)
		out = append(out, f)
	}
	return out
}

func drawRow(r *rand.Rand, alike relay.Tuple) relay.Tuple {
	values := [][]string{
		{"1", "1", "1", "2"},
		{"public", "public", "private", "?"},
		{`{"n": [1, 2]}`, `{"n": [1.0, 2], "m": 1}`, `{"n": [3]}`, `{}`, "-", "?"},
		{"x", "y", "", "-", "?"},
		{"1", "1.00", "2", "-", "?"},
	}
	out := make([]string, len(values))
	for i := range values {
		out[i] = values[i][r.IntN(len(values[i]))]
	}
	made := row(out...)
	for i := range alike {
		if r.IntN(2) == 0 {
			made[i] = alike[i]
		}
	}
	return made
}

// image is a row as filters see it, without the mapper.
func image(tuple relay.Tuple) filters.Doc {
	var doc strings.Builder
	var unavailable []string
	for i, v := range tuple {
		name, text := rows.Columns[i].Name, string(v.Data)
		switch {
		case v.Kind == relay.Unavailable:
			unavailable = append(unavailable, name)
			continue
		case v.Kind == relay.Null:
			text = "null"
		case rows.Columns[i].Type == textType:
			text = `"` + text + `"`
		}
		if doc.Len() > 0 {
			doc.WriteByte(',')
		}
		fmt.Fprintf(&doc, `"%s":%s`, name, text)
	}
	return filters.NewDoc([]byte("{"+doc.String()+"}"), unavailable)
}

// TestABodyIsDecidedAsTheRowsAre is about what a body leaves out: of the old row it
// tells what changed and what it does not tell, and that must be enough to answer as
// both whole rows would, or to leave it open.
func TestABodyIsDecidedAsTheRowsAre(t *testing.T) {
	asked := questions(t)
	open, decided := 0, 0
	for seed := range uint64(4000) {
		r := rand.New(rand.NewPCG(seed, 4))
		c := relay.Change{Op: relay.Op(1 + r.IntN(5)), Relation: rows}
		whole := filters.Event{Op: filters.Op(c.Op), Data: filters.NewDoc([]byte(`{}`), nil)}
		switch c.Op {
		case relay.OpTruncate:
		case relay.OpDelete:
			c.Old = drawRow(r, nil)
			whole.Data = image(c.Old)
		case relay.OpUpdate:
			c.Old = drawRow(r, nil)
			c.New = drawRow(r, c.Old)
			for i := range c.New { // as the source makes it
				if c.New[i].Kind == relay.Unavailable {
					c.New[i] = c.Old[i]
				}
			}
			whole.Data, whole.Before = image(c.New), image(c.Old)
		default:
			c.New = drawRow(r, nil)
			whole.Data = image(c.New)
		}
		rest := ""
		audience := r.IntN(3) == 0 && c.Op != relay.OpTruncate
		if audience {
			rest = `,"audience":"row","visibility_column":"visibility"`
		}
		limit := []int{0, 0, 260, 400}[r.IntN(4)]
		var mappings []string
		for i, op := range []string{"insert", "update", "delete", "truncate"} {
			if op == "truncate" && audience {
				continue
			}
			mappings = append(mappings, mappingRow(fmt.Sprint("m", i), "public.rows", op, "thing.updated", rest+`,"ignored_columns":[]`))
		}
		for _, e := range mapAll(limit, mappings, c).events {
			reduced := strings.Contains(string(e.Body), `"oversize":true`) || len(e.PreviousUnavailable) > 0
			told, err := relay.FilterEvent(e.Body)
			if e.Unlisted {
				require.Error(t, err)
				continue
			}
			require.NoError(t, err)
			for _, f := range asked {
				want, got := f.MatchEvent(&whole), f.MatchEvent(&told)
				exact := want == got
				if got == filters.Unknown {
					exact = exact || reduced
					open++
				} else if want == filters.Unknown { // the body may tell that what is missing did not change
					exact = exact || f.NeedsOld() && len(e.Unavailable) > 0
				}
				require.True(t, exact, "seed %d: %s of %s is %s by the rows, and %s by the body", seed, f, e.Body, want, got)
				if got != filters.Unknown {
					decided++
				}
			}
		}
	}
	require.Greater(t, open, 5000)
	require.Greater(t, decided, 20_000)
}
