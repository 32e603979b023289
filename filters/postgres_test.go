package filters_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/internal/pgtest"
)

// answer is what Postgres says about one pair.
type answer struct {
	FilterOK, DocOK, Contained bool
}

// asker asks a server about many pairs at once. Texts that jsonb refuses do not disturb
// the others.
const asker = `
create function ask(doc text, filter text, out filter_ok bool, out doc_ok bool, out contained bool)
language plpgsql as $$
declare d jsonb; f jsonb;
begin
	filter_ok := true; doc_ok := true; contained := false;
	begin f := filter::jsonb; exception when others then filter_ok := false; end;
	begin d := doc::jsonb; exception when others then doc_ok := false; end;
	if filter_ok and doc_ok then contained := d @> f; end if;
end $$`

func ask(t *testing.T, db *pgtest.DB, docs, texts []string) []answer {
	t.Helper()
	rows, err := db.Pool.Query(t.Context(), `
		select a.filter_ok, a.doc_ok, a.contained
		from unnest($1::text[], $2::text[]) with ordinality as p(doc, filter, i), lateral ask(p.doc, p.filter) a
		order by p.i`, docs, texts)
	require.NoError(t, err)
	answers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[answer])
	require.NoError(t, err)
	require.Len(t, answers, len(docs))
	return answers
}

func newServer(t *testing.T) *pgtest.DB {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Postgres")
	}
	db := pgtest.New(t)
	db.Exec(asker)
	db.Exec(judge)
	return db
}

func TestPostgresSaysWhatTheRulesSay(t *testing.T) {
	db := newServer(t)
	var docs, texts []string
	var want []answer
	for _, group := range rules {
		for _, r := range group {
			docs, texts = append(docs, r.doc), append(texts, r.filter)
			want = append(want, answer{FilterOK: true, DocOK: true, Contained: r.contained})
		}
	}
	for i, got := range ask(t, db, docs, texts) {
		require.Equal(t, want[i], got, "%s @> %s", docs[i], texts[i])
	}
}

func TestRandomPairsMatchExactlyWhenPostgresSaysSo(t *testing.T) {
	const batch = 4_000
	db := newServer(t)
	seen := make(map[string]int)
	total := *pairs / 2
	for done, s := 0, *seed; done < total; done, s = done+batch, s+1 {
		g := &generator{Rand: rand.New(rand.NewPCG(s, 1))}
		docs, plain, dollars := make([]string, batch), make([]string, batch), make([]string, batch)
		for i := range batch {
			doc, filter := g.pair()
			notation := g.Uint64()
			docs[i] = write(doc, g.Uint64(), false)
			plain[i], dollars[i] = write(filter, notation, false), write(filter, notation, true)
		}
		for i, a := range ask(t, db, docs, plain) {
			seen[check(t, a, docs[i], plain[i], dollars[i])]++
		}
	}
	t.Log(seen)
	for _, class := range []string{"bad filter", "not an object", "duplicate key", "bad document", "contained", "not contained"} {
		require.Greater(t, seen[class], total/1000, "the generator makes too few pairs of class %q: %v", class, seen)
	}
}

// check compares one answer with Compile and Match, and names the class of the pair.
func check(t *testing.T, a answer, doc, plain, dollars string) string {
	t.Helper()
	f, err := filters.Compile([]byte(dollars))
	if err == nil {
		require.True(t, a.FilterOK, "Postgres refuses the filter %s", dollars)
		verdict := f.Match([]byte(doc))
		require.NotEqual(t, filters.Unknown, verdict, "%s @> %s", doc, plain)
		got := verdict == filters.Yes
		if !a.DocOK {
			// Only well-formed JSON may still match, and then by the same rules.
			require.True(t, !got || json.Valid([]byte(doc)) && slowContains(t, []byte(doc), []byte(plain)), "%s @> %s", doc, plain)
			return "bad document"
		}
		require.Equal(t, a.Contained, got, "%s @> %s", doc, plain)
		require.Equal(t, a.Contained, slowContains(t, []byte(doc), []byte(plain)), "%s @> %s", doc, plain)
		require.Equal(t, a.Contained, compile(t, f.String()).Match([]byte(doc)) == filters.Yes, "%s @> %s", doc, f)
		if a.Contained {
			return "contained"
		}
		return "not contained"
	}
	var errs filters.Errors
	require.ErrorAs(t, err, &errs)
	hasCode := func(code filters.Code) bool {
		return slices.ContainsFunc(errs, func(e *filters.Error) bool { return e.Code == code })
	}
	if !a.FilterOK {
		require.True(t, hasCode(filters.BadJSON) || hasCode(filters.NotObject), "%s: %v", dollars, err)
		return "bad filter"
	}
	if hasCode(filters.NotObject) {
		return "not an object"
	}
	require.True(t, hasCode(filters.BadJSON), "Postgres accepts the filter %s: %v", dollars, err)
	for _, e := range errs {
		require.Contains(t, e.Message, "more than once", "Postgres accepts the filter %s", dollars)
	}
	return "duplicate key"
}
