package filters_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

func TestFiltersThatNeedMuchWorkHoldUpEachOtherAndNobodyElse(t *testing.T) {
	const many = 200
	elements := make([]string, 3_000)
	for i := range elements {
		elements[i] = fmt.Sprintf(`{"k":%d,"v":[1]}`, i)
	}
	doc := []byte(`{"status":"paid","data":[` + strings.Join(elements, ",") + `]}`)
	one, all := filters.NewIndex[int](), filters.NewIndex[int]()
	key := filters.Key{Type: "t", Owners: []string{"u:1"}}
	one.Add(key, compile(t, fmt.Sprintf(`{"data":[%s]}`, dearPart())), 0)
	for i := range many {
		all.Add(key, compile(t, fmt.Sprintf(`{"data":[%s,{"k":{"$lt":-%d}}]}`, dearPart(), i+1000)), i)
	}
	all.Add(key, compile(t, `{"status":"paid"}`), many)
	all.Add(key, compile(t, `{"data":[{"k":2999,"v":[{"$gte":1}]}]}`), many+1)

	e := &filters.Event{Op: filters.OpInsert, Data: filters.NewDoc(doc, nil)}
	var m filters.Matches[int]
	for _, owner := range []string{"", "u:1"} {
		for rounds := 5; ; rounds-- {
			single := fastest(func() { one.Match(&m, "t", owner, e) })
			require.Equal(t, []int{0}, m.Unknown)
			together := fastest(func() { all.Match(&m, "t", owner, e) })
			require.Subset(t, m.Yes, []int{many, many + 1})
			require.Subset(t, append(m.Yes, m.Unknown...), []int{0, many - 1})
			t.Logf("%d filters that need much work: %.0f times the time of one", many, float64(together)/float64(single))
			if together < many/3*single {
				break
			}
			require.NotEqual(t, 1, rounds, "they must share the work of a few")
		}
	}
}

// dearPart is elements that have to be compared with every element of the document.
func dearPart() string {
	parts := make([]string, 60)
	for i := range parts {
		parts[i] = fmt.Sprintf(`{"k":{"$lt":-%d},"v":[{"$not":{"$gt":0}}]}`, i+1)
	}
	return strings.Join(parts, ",")
}
