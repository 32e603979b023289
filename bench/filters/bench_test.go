package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/dot-do/relay/filters"
)

func TestTheIndexFindsWhatThePlainMatcherFindsInEveryWorkload(t *testing.T) {
	const n = 1000
	for _, w := range workloads() {
		t.Run(w.name, func(t *testing.T) {
			subs := w.subscriptions(n, false)
			index := filters.NewIndex[int32]()
			require.NoError(t, fill(index, subs, 0))
			require.Equal(t, n, index.Len())
			p := &pool{index: index, events: w.events(n, smallEvent, 0)}
			byKind := map[string][]int32{}
			list := make([]*filters.Filter, n)
			for i, s := range subs {
				f, err := compiled(s.filter)
				require.NoError(t, err)
				list[i] = f
				byKind[s.kind] = append(byKind[s.kind], int32(i))
			}
			found := 0
			for i := range p.events {
				e := &p.events[i]
				var plain []int32
				for _, number := range byKind[e.kind] {
					f := e.asFilter()
					if list[number].MatchEvent(&f) == filters.Yes && (e.owner == "" || slices.Contains(subs[number].owners, e.owner)) {
						plain = append(plain, number)
					}
				}
				p.ask(e)
				require.ElementsMatch(t, plain, p.found.Yes)
				require.Empty(t, p.found.Unknown)
				found += len(plain)
			}
			require.Positive(t, found)
		})
	}
}

func TestEventsAreRowsOfTheirSize(t *testing.T) {
	for _, w := range workloads() {
		for _, size := range []int{smallEvent, largeEvent} {
			events := w.events(1000, size, 0)
			require.GreaterOrEqual(t, len(events), 256)
			for _, e := range events {
				require.True(t, gjson.ValidBytes(e.data), string(e.data))
				require.Len(t, e.data, size)
			}
		}
	}
}

func TestWorkloadsAreTheSameInEveryRun(t *testing.T) {
	for _, w := range workloads() {
		filters, events := w.subscriptions(1000, false), w.events(1000, smallEvent, 0)
		require.Equal(t, filters, w.subscriptions(1000, false))
		require.Equal(t, events, w.events(1000, smallEvent, 0))
	}
}

func TestFiltersAskedToBeDistinctAre(t *testing.T) {
	require.Equal(t, 1000, distinct(byName("W1").subscriptions(1000, true)))
	require.Less(t, distinct(byName("W1").subscriptions(1000, false)), 1000)
}

func TestW3HasThousandsOfShapes(t *testing.T) {
	require.Greater(t, shapes(byName("W3").subscriptions(100_000, false)), 10_000)
	require.Equal(t, 2, shapes([]subscription{{filter: `{"f00":"1"}`}, {filter: `{"f00":{"$prefix":"1"}}`}, {filter: `{"f00":"2"}`}}))
}

func TestAShortRunMeasuresEveryGoalAndDecidesNone(t *testing.T) {
	raw := filepath.Join(t.TempDir(), "raw.json")
	args := []string{"-short", "-rounds", "1", "-json", raw}
	goals := []string{"G2", "G3", "G5", "G6", "G7", "G8", "G11"}
	if testing.Short() {
		args = append(args, "-sql=false")
	} else {
		goals = append(goals, "G9", "G10")
	}
	var out strings.Builder
	require.NoError(t, run(t.Context(), args, &out, io.Discard))
	for _, g := range goals {
		require.Contains(t, out.String(), "\n| "+g+" | ")
	}
	require.NotRegexp(t, `\| (met|missed|within must) \|`, out.String())
	text, err := os.ReadFile(raw)
	require.NoError(t, err)
	var rows struct{ Rows []struct{ Name string } }
	require.NoError(t, json.Unmarshal(text, &rows))
	require.NotEmpty(t, rows.Rows)
}

func TestAMistakeOnTheCommandLineIsAnError(t *testing.T) {
	for _, args := range [][]string{{"-only", "("}, {"W1"}, {"-what"}} {
		require.Error(t, run(context.Background(), args, io.Discard, io.Discard))
	}
}
