package filters_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

func TestAColumnThatWasNotSentCostsNothingToThoseWhoDoNotReadIt(t *testing.T) {
	const many = 30_000
	x := filters.NewIndex[int]()
	key := filters.Key{Type: "thing.updated", Owners: []string{"u:1"}}
	for i := range many {
		x.Add(key, compile(t, fmt.Sprintf(`{"ns":"n%d","type":"Function"}`, i)), i)
	}
	x.Add(key, compile(t, `{"content":{"$contains":"x"}}`), many)
	x.Add(key, compile(t, `{"content":"y","ns":"n2"}`), many+1)
	x.Add(key, compile(t, `{"content":"y","ns":"n1"}`), many+2)
	row := []byte(`{"ns":"n1","type":"Function","title":"a"}`)
	sent := &filters.Event{Op: filters.OpInsert, Data: filters.NewDoc(row, nil)}
	unsent := &filters.Event{Op: filters.OpInsert, Data: filters.NewDoc(row, []string{"content"})}
	var m filters.Matches[int]
	repeat := func(e *filters.Event) func() {
		return func() {
			for range 200 {
				x.Match(&m, "thing.updated", "u:1", e)
			}
		}
	}
	for rounds := 5; ; rounds-- {
		ordinary := fastest(repeat(sent))
		require.Equal(t, []int{1}, m.Yes)
		require.Empty(t, m.Unknown)
		partial := fastest(repeat(unsent))
		require.Equal(t, []int{1}, m.Yes)
		require.ElementsMatch(t, []int{many, many + 2}, m.Unknown)
		t.Logf("%.1f times the time of an event with all columns", float64(partial)/float64(ordinary))
		if partial < 30*ordinary {
			return
		}
		require.NotEqual(t, 1, rounds, "all filters were asked")
	}
}
