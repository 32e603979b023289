package filters

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"
)

func compiled(t testing.TB, format string, args ...any) *Filter {
	t.Helper()
	f, err := Compile(fmt.Appendf(nil, format, args...))
	require.NoError(t, err)
	return f
}

// arrayOf writes n elements of a JSON array.
func arrayOf(n int, element func(i int) string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = element(i)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

func TestAValueThatAnArrayRepeatsIsLookedUpOnce(t *testing.T) {
	const n, members = 100_000, 300
	x := NewIndex[int]()
	x.Add(Key{Type: "filed"}, compiled(t, `{"tags":["x"]}`), 0)
	for i := range members { // one route, and a shape that is direct
		x.Add(Key{Type: "one route"}, compiled(t, `{"tags":["x"],"n":{"$nin":[%d]}}`, i), i)
		x.Add(Key{Type: "direct"}, compiled(t, `{"tags":["x%d"]}`, i), i)
	}
	var m Matches[int]
	for eventType, want := range map[string]int{"filed": 1, "one route": members, "direct": 1} {
		for _, element := range []string{`"x"`, `"\u0078"`, `"x7"`} {
			row := fmt.Sprintf(`{"n":-1,"tags":%s}`, arrayOf(n, func(int) string { return element }))
			start := time.Now()
			x.Match(&m, eventType, "", &Event{Op: OpInsert, Data: NewDoc([]byte(row), nil)})
			require.Less(t, time.Since(start), 3*time.Second, "%s, %s", eventType, element)
			found := want
			if (element == `"x7"`) != (eventType == "direct") {
				found = 0
			}
			require.Len(t, m.Yes, found, "%s, %s", eventType, element)
		}
	}
}

func TestEachOfManyValuesLeadsToItsOwnFiltersOnly(t *testing.T) {
	const n = 20_000
	x := NewIndex[int]()
	for s := range directMost { // so many shapes that no other one becomes direct
		for i := range directMin {
			x.Add(Key{Type: "t"}, compiled(t, `{"direct%d":%d}`, s, i), -1-s*directMin-i)
		}
	}
	for i := range n {
		x.Add(Key{Type: "t"}, compiled(t, `{"n":{"$nin":[%d]},"tags":["x%d"]}`, min(i, 7), i), i)
	}
	row := fmt.Sprintf(`{"n":7,"tags":%s}`, arrayOf(n, func(i int) string { return fmt.Sprintf(`"x%d"`, i) }))
	var m Matches[int]
	start := time.Now()
	x.Match(&m, "t", "", &Event{Op: OpInsert, Data: NewDoc([]byte(row), nil)})
	require.Less(t, time.Since(start), 3*time.Second)
	require.Len(t, m.Yes, 7)
}

// TestAFilterThatStaysIsFoundWhileItsShapeBecomesDirect reads rows with an array that takes
// long to look up, while another shape of the same event type gets its last filter.
func TestAFilterThatStaysIsFoundWhileItsShapeBecomesDirect(t *testing.T) {
	row := fmt.Sprintf(`{"b":"stays","tags":%s}`, arrayOf(5_000, func(i int) string { return fmt.Sprintf(`"y%d"`, i) }))
	event := Event{Op: OpInsert, Data: NewDoc([]byte(row), nil)}
	var others []*Filter
	for i := range directMin {
		others = append(others, compiled(t, `{"b":"%d"}`, i))
	}
	for round := range 60 {
		x, k := NewIndex[int](), Key{Type: "t"}
		for i := range directMin {
			x.Add(k, compiled(t, `{"tags":["x%d"]}`, i), -2)
		}
		x.Add(k, compiled(t, `{"b":"stays"}`), -1)
		for i := range directMin - 2 {
			x.Add(k, others[i], i)
		}
		var started atomic.Int32
		missed := make(chan bool)
		go func() {
			var m Matches[int]
			for range 20 {
				started.Add(1)
				if x.Match(&m, "t", "", &event); len(m.Yes) != 1 {
					missed <- true
					return
				}
			}
			missed <- false
		}()
		for int(started.Load()) < 1+round%3 {
		}
		x.Add(k, others[directMin-1], directMin)
		require.False(t, <-missed, "round %d", round)
	}
}

// TestAFilterThatGoesDuringAMatchIsNotAnsweredByAnotherOldColumn is about the row before:
// it is read only once a filter asks for it.
func TestAFilterThatGoesDuringAMatchIsNotAnsweredByAnotherOldColumn(t *testing.T) {
	const columns, matches = 8, 3_000
	var row strings.Builder
	fmt.Fprintf(&row, `{"pad":%q`, strings.Repeat("long ", 20_000))
	for i := range columns {
		fmt.Fprintf(&row, `,"x%d":"%c"`, i, "vw"[i%2]) // the odd ones do not match
	}
	row.WriteString("}")
	event := Event{Op: OpUpdate, Data: NewDoc([]byte(`{}`), nil), Before: NewDoc([]byte(row.String()), nil)}
	var passing []*Filter
	for i := range columns {
		passing = append(passing, compiled(t, `{"$before":{"x%d":"v"}}`, i))
	}
	for _, owner := range []string{"", "u"} {
		key := Key{Type: "t", Owners: []string{"u"}}
		x := NewIndex[int]()
		x.Add(key, compiled(t, `{"$before":{"pad":{"$exists":true}}}`), -1)
		var done atomic.Bool
		problem := make(chan string, 1)
		go func() {
			defer close(problem)
			defer done.Store(true)
			var m Matches[int]
			for range matches {
				x.Match(&m, "t", owner, &event)
				for _, id := range m.Yes {
					if id >= 0 && id%2 == 1 {
						problem <- passing[id].String() + " is found"
						return
					}
				}
			}
		}()
		for n := 0; !done.Load(); n++ {
			id := n % len(passing)
			x.Add(key, passing[id], id)
			x.Remove(key, passing[id], id)
		}
		require.Empty(t, <-problem)
	}
}

func TestAWalkOverATableMeetsEachThingOnceWhileItGrows(t *testing.T) {
	for grow := range 40 {
		var tb table[thing]
		hash := func(i int) uint64 { return mix(uint64(i), 1) }
		next := 0
		put := func(n int) {
			for range n {
				tb.put(&thing{name: next, hash: hash(next)}, thingHash)
				next++
			}
		}
		put(50 + 25*grow)
		before, calls := next, 0
		seen := map[int]int{}
		tb.each(func(e *thing) {
			seen[e.name]++
			if calls++; calls%40 == 1 {
				put(7 * grow)
			}
		})
		for i := range before {
			require.Equal(t, 1, seen[i], "%d", grow)
		}
	}
}

func TestConditionsThatReadALongValueAgainAndAgainHaveALimit(t *testing.T) {
	parts := func(n int, format string) string {
		return arrayOf(n, func(i int) string { return fmt.Sprintf(format, i) })
	}
	contains := compiled(t, `{"v":{"$and":%s}}`, parts(200, `{"$not":{"$contains":"aaaaaaaaaaaaaaaaab%d"}}`))
	prefixes := compiled(t, `{"v":{"$and":%s}}`, parts(200, `{"$not":{"$prefix":"b%d"}}`))
	bounds := compiled(t, `{"v":{"$and":%s}}`, parts(200, `{"$not":{"$lt":1%d}}`))
	elements := compiled(t, `{"$changed":%s}`, parts(100, `"v.1%d"`))
	for _, c := range []struct {
		filter      *Filter
		unit        string
		small, huge Verdict
	}{
		{contains, `"a`, Yes, Unknown},
		{contains, `"\u0061`, Yes, Unknown},
		{prefixes, `"a`, Yes, Yes},
		{prefixes, `"\u0061`, Yes, Unknown},
		{bounds, `10`, Yes, Unknown},
		{elements, `[1,`, No, Unknown},
	} {
		for times, want := range map[int]Verdict{40: c.small, 500_000: c.huge} {
			row := fmt.Sprintf(`{"v":%c%s`, c.unit[0], strings.Repeat(c.unit[1:], times))
			switch c.unit[0] {
			case '"':
				row += `"}`
			case '[':
				row += `1]}`
			default:
				row += `}`
			}
			data := NewDoc([]byte(row), nil)
			start := time.Now()
			require.Equal(t, want, c.filter.MatchEvent(&Event{Op: OpUpdate, Data: data, Before: data}), "%s %d", c.unit, times)
			require.Less(t, time.Since(start), 2*time.Second, "%s %d", c.unit, times)
		}
	}
}

func TestAddingAnEventTypeCostsTheSameHoweverManyThereAre(t *testing.T) {
	const n = 60_000
	x, f := NewIndex[int](), compiled(t, `{"a":1}`)
	start := time.Now()
	for i := range n {
		x.Add(Key{Type: fmt.Sprint(i)}, f, i)
	}
	for i := range n {
		require.True(t, x.Remove(Key{Type: fmt.Sprint(i)}, f, i))
	}
	require.Less(t, time.Since(start), 20*time.Second) // copying a map took several minutes
	require.Zero(t, x.Len())
}

func TestShapesThatLiveHaveDifferentNumbersForEver(t *testing.T) {
	x := NewIndex[int]()
	event := Event{Op: OpInsert, Data: NewDoc([]byte(`{"a":1,"b":1,"c":1}`), nil)}
	x.Add(Key{Type: "t"}, compiled(t, `{"a":1}`), 1)
	x.topic("t").lastID = math.MaxUint32
	x.Add(Key{Type: "t"}, compiled(t, `{"b":1}`), 2)
	x.Add(Key{Type: "t"}, compiled(t, `{"c":2}`), 3)
	var m Matches[int]
	x.Match(&m, "t", "", &event)
	require.ElementsMatch(t, []int{1, 2}, m.Yes)
	require.True(t, x.Remove(Key{Type: "t"}, compiled(t, `{"a":1}`), 1))
	x.Match(&m, "t", "", &event)
	require.Equal(t, []int{2}, m.Yes)
}

func TestTheMemoryOfAMatchKeepsNobodyWhoIsGone(t *testing.T) {
	x := NewIndex[*[64]byte]()
	var m Matches[*[64]byte]
	var gone []weak.Pointer[[64]byte]
	event := Event{Op: OpInsert, Data: NewDoc([]byte(`{"a":1,"n":5}`), nil)}
	for i := range 300 {
		v := new([64]byte)
		gone = append(gone, weak.Make(v))
		x.Add(Key{Type: "t"}, compiled(t, []string{`{"a":1,"n":{"$exists":true},"$not":{"z":%[1]d}}`, `{"n":{"$ne":%[1]d}}`, `{"$or":[{"a":1},{"n":%[1]d}]}`}[i%3], -i-1), v)
	}
	x.Match(&m, "t", "", &event)
	require.Len(t, m.Yes, 300)
	for i := range gone {
		f := compiled(t, []string{`{"a":1,"n":{"$exists":true},"$not":{"z":%[1]d}}`, `{"n":{"$ne":%[1]d}}`, `{"$or":[{"a":1},{"n":%[1]d}]}`}[i%3], -i-1)
		require.True(t, x.Remove(Key{Type: "t"}, f, gone[i].Value()))
	}
	x.Match(&m, "t", "", &event)
	require.Empty(t, m.Yes)
	runtime.GC()
	for i := range gone {
		require.Nil(t, gone[i].Value())
	}
	runtime.KeepAlive(&m)
	runtime.KeepAlive(x)
}

func TestRangesThatBeginAtOnePlaceAreNotALongList(t *testing.T) {
	const n = 20_000
	var root *interval[int]
	var of []*int
	for i := range n {
		of = append(of, new(int))
		root = root.put(uint64(i%2), uint64(i), of[i])
	}
	var depth func(n *interval[int]) int
	depth = func(n *interval[int]) int {
		if n == nil {
			return 0
		}
		return 1 + max(depth(n.left), depth(n.right))
	}
	require.Less(t, depth(root), 100)
	require.Len(t, root.all(nil), n)
	for i := range n {
		var found bool
		root, found = root.drop(uint64(i%2), of[i])
		require.True(t, found)
	}
	require.Nil(t, root)
}

func TestKeysThatJSONBCannotHoldAreNotTakenForEachOther(t *testing.T) {
	f := compiled(t, `{"$changed":{"outside":["x"]}}`)
	for before, after := range map[string]string{
		`{"v":{"\ud800":5,"\ud801":2}}`: `{"v":{"\ud800":1,"\ud801":2}}`,
		`{"v":{"\ud800":1}}`:            `{"v":{"\ud801":1}}`,
		`{"\ufffd":1,"\ud800":2}`:       `{"\ufffd":3,"\ud800":2}`,
	} {
		e := Event{Op: OpUpdate, Data: NewDoc([]byte(after), nil), Before: NewDoc([]byte(before), nil)}
		require.Equal(t, Yes, f.MatchEvent(&e), after)
	}
}
