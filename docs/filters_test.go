package docs_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/relay"
)

const (
	filtersPage   = "reference/filters.md"
	filtersRecipe = "how-to/filters.md"
)

func TestEveryExampleOfTheFilterPagesAnswersAsDocumented(t *testing.T) {
	var wrong []string
	asked := 0
	for _, x := range allExamples(t) {
		asked += len(x.claims)
		for _, c := range x.claims {
			f, err := filters.Compile([]byte(c.filter))
			require.NoError(t, err, c.String())
			event, err := relay.FilterEvent(c.body(t))
			require.NoError(t, err, c.String())
			if got := f.MatchEvent(&event).String(); got != c.want {
				wrong = append(wrong, c.String()+" is "+got)
			}
			if got := f.Explain(&event).Verdict.String(); got != c.want {
				wrong = append(wrong, c.String()+" is explained as "+got)
			}
		}
	}
	require.Empty(t, wrong)
	require.Greater(t, asked, 200)
}

// All filters of the pages live in one index, and every event is asked of all.
func TestTheIndexAnswersTheExamplesLikeTheFilters(t *testing.T) {
	index, key := filters.NewIndex[int](), filters.Key{Type: "order.changed", Owners: []string{"ada"}}
	var all []*filters.Filter
	var events []claim
	for _, x := range allExamples(t) {
		events = append(events, x.claims...)
		for _, text := range x.filters {
			f, err := filters.Compile([]byte(text))
			require.NoError(t, err, text)
			index.Add(key, f, len(all))
			all = append(all, f)
		}
	}
	var got filters.Matches[int]
	for _, c := range events {
		event, err := relay.FilterEvent(c.body(t))
		require.NoError(t, err, c.String())
		var yes, unknown []int
		for i, f := range all {
			switch f.MatchEvent(&event) {
			case filters.Yes:
				yes = append(yes, i)
			case filters.Unknown:
				unknown = append(unknown, i)
			case filters.No:
			}
		}
		for _, owner := range []string{"", "ada"} {
			index.Match(&got, key.Type, owner, &event)
			require.ElementsMatch(t, yes, got.Yes, c.String())
			require.ElementsMatch(t, unknown, got.Unknown, c.String())
		}
	}
}

var operatorKey = regexp.MustCompile(`"\$[A-Za-z]+"`)

func TestPostgresAnswersTheExamplesWithoutOperatorsTheSame(t *testing.T) {
	db, asked := migrated(t), 0
	for _, x := range allExamples(t) {
		for _, c := range x.claims {
			if !c.row || operatorKey.MatchString(c.filter) {
				continue
			}
			asked++
			var contained bool
			literal := strings.ReplaceAll(c.filter, `"$$`, `"$`)
			require.NoError(t, db.Pool.QueryRow(t.Context(), `select $1::text::jsonb @> $2::text::jsonb`, c.event, literal).Scan(&contained), c.String())
			require.Equal(t, c.want == "yes", contained, c.String())
		}
	}
	require.Greater(t, asked, 20)
}

// The table of subscriptions takes every good filter, and gives back one that means
// the same.
func TestEveryFilterOfThePagesCanBeStored(t *testing.T) {
	db := migrated(t)
	db.Exec(`insert into users (id, email) values ('ada', 'ada@example.com')`)
	for _, x := range allExamples(t) {
		for i, text := range x.filters {
			var stored string
			err := db.Pool.QueryRow(t.Context(), `insert into zapier_webhooks (user_id, target_url, event_type, filters)
				values ('ada', 'https://example.com/' || $1, 'thing.created', $2::text::jsonb) returning filters::text`,
				x.page+strconv.Itoa(i), text).Scan(&stored)
			require.NoError(t, err, text)
			before, err := filters.Compile([]byte(text))
			require.NoError(t, err, text)
			after, err := filters.Compile([]byte(stored))
			require.NoError(t, err, stored)
			require.Equal(t, before.String(), after.String())
		}
	}
}

// The pages' own SQL is one transaction, which is rolled back; every filter that it
// writes is good.
func TestTheSQLOfTheFilterPagesRuns(t *testing.T) {
	db := migrated(t)
	for _, name := range []string{filtersPage, filtersRecipe} {
		tx, err := db.Pool.Begin(t.Context())
		require.NoError(t, err)
		for _, sql := range statements(t, name) {
			_, err := tx.Exec(t.Context(), sql)
			require.NoError(t, err, sql)
		}
		written := func(sql string) []string {
			rows, err := tx.Query(t.Context(), sql)
			require.NoError(t, err)
			list, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			return list
		}
		for _, text := range written(`select filters::text from zapier_webhooks union all select match_new::text from event_mappings`) {
			_, err := filters.Compile([]byte(text))
			require.NoError(t, err, text)
		}
		for _, text := range written(`select match_old::text from event_mappings`) {
			_, err := filters.CompileOld([]byte(text))
			require.NoError(t, err, text)
		}
		require.NoError(t, tx.Rollback(t.Context()))
	}
}

func TestDocumentedRejectionsAndWarningsAreTheRealOnes(t *testing.T) {
	var refused, warned []string
	schema := pgtest.One[string](migrated(t), `select payload_schema::text from zapier_webhook_events where event_type = 'thing.created'`)
	for _, x := range allExamples(t) {
		for _, r := range x.remarks {
			compile := filters.Compile
			if r.old {
				compile = filters.CompileOld
			}
			f, err := compile([]byte(r.filter))
			if r.warning {
				require.NoError(t, err, r.filter)
				require.Contains(t, remarks(f, schema), r.code+" at "+r.pointer, r.filter)
				warned = append(warned, r.code)
				continue
			}
			var errs filters.Errors
			require.ErrorAs(t, err, &errs, r.filter)
			require.Len(t, errs, 1, r.filter)
			require.Equal(t, r.code, string(errs[0].Code), "%v", errs)
			require.Equal(t, r.pointer, errs[0].Pointer, "%v", errs)
			refused = append(refused, r.code)
		}
	}
	require.ElementsMatch(t, stringConstants(t, "Code"), append(unique(refused), unique(warned)...))
}

// remarks returns everything there is to say about a filter of events of one schema.
func remarks(f *filters.Filter, schema string) (list []string) {
	for _, w := range f.Warnings() {
		list = append(list, string(w.Code)+" at "+w.Pointer)
	}
	for _, path := range f.UnknownPaths([]byte(schema)) {
		list = append(list, string(filters.UnknownPath)+" at "+path)
	}
	return list
}

func unique(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
