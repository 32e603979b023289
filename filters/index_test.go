package filters_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
)

// entry is what was added to an index.
type entry struct {
	key    filters.Key
	filter *filters.Filter
	id     int
}

// table is what an index must be equal to: a list that is asked one by one.
type table struct {
	entries []entry
	next    int // the next id
}

func (tb *table) match(eventType, owner string, e *filters.Event) (found filters.Matches[int]) {
	for _, en := range tb.entries {
		if en.wanted(eventType, owner) {
			switch en.filter.MatchEvent(e) {
			case yes:
				found.Yes = append(found.Yes, en.id)
			case unknown:
				found.Unknown = append(found.Unknown, en.id)
			default:
			}
		}
	}
	return found
}

func (en entry) wanted(eventType, owner string) bool {
	return en.key.Type == eventType && (owner == "" || slices.Contains(en.key.Owners, owner))
}

// compare asks the index and the table the same.
func (w *world) compare(t *testing.T, x *filters.Index[int], tb *table, m *filters.Matches[int]) {
	e := w.event(t)
	eventType, owner := pick(w.generator, append(someTypes, "none")), ""
	if w.chance(50) {
		owner = pick(w.generator, append(someOwners, "nobody"))
	}
	x.Match(m, eventType, owner, &e)
	want := tb.match(eventType, owner, &e)
	require.ElementsMatch(t, want.Yes, m.Yes, "%s for %q", eventType, owner)
	require.ElementsMatch(t, want.Unknown, m.Unknown, "%s for %q", eventType, owner)
	w.yes += len(want.Yes)
	w.unknown += len(want.Unknown)
	w.asked += len(tb.entries)
}

// step changes the table and the index in the same way.
func (w *world) step(t *testing.T, x *filters.Index[int], tb *table, growth int) {
	remove := func() {
		i := w.IntN(len(tb.entries))
		en := tb.entries[i]
		tb.entries[i] = tb.entries[len(tb.entries)-1]
		tb.entries = tb.entries[:len(tb.entries)-1]
		require.True(t, x.Remove(en.key, en.filter, en.id))
		if w.chance(10) {
			require.False(t, x.Remove(en.key, en.filter, en.id))
		}
	}
	add := func() {
		en := w.entry(t, tb.next)
		tb.next++
		if len(tb.entries) > 0 && w.chance(10) {
			en.filter = pick(w.generator, tb.entries).filter // the very same
		}
		tb.entries = append(tb.entries, en)
		x.Add(en.key, en.filter, en.id)
	}
	switch n := w.IntN(100); {
	case n < growth || len(tb.entries) == 0:
		add()
	case n < growth+15: // replace
		remove()
		add()
	default:
		remove()
	}
	require.Equal(t, len(tb.entries), x.Len())
}

func (w *world) empty(t *testing.T, x *filters.Index[int], tb *table) {
	for _, en := range tb.entries {
		require.True(t, x.Remove(en.key, en.filter, en.id))
	}
	tb.entries = nil
	require.Zero(t, x.Len())
}

func TestTheIndexFindsWhatAskingOneByOneFinds(t *testing.T) {
	var yes, unknown, asked int
	for s := range uint64(*lives) {
		w := newWorld(*seed + s)
		x, tb := filters.NewIndex[int](), &table{}
		var m filters.Matches[int]
		for range 2 { // what was emptied is used again
			for growth := range 3 {
				for range 60 {
					w.step(t, x, tb, 30+20*growth)
					if w.chance(40) {
						w.compare(t, x, tb, &m)
					}
				}
			}
			w.empty(t, x, tb)
			w.compare(t, x, tb, &m)
		}
		yes, unknown, asked = yes+w.yes, unknown+w.unknown, asked+w.asked
	}
	t.Logf("%d filters asked: %d yes, %d unknown", asked, yes, unknown)
	require.Greater(t, yes, asked/100)
	require.Greater(t, unknown, asked/1_000)
}

func TestALargeIndexFindsWhatAskingOneByOneFinds(t *testing.T) {
	const size = 12_000
	w := newWorld(*seed)
	x, tb := filters.NewIndex[int](), &table{}
	var m filters.Matches[int]
	for len(tb.entries) < size {
		w.step(t, x, tb, 85)
		if len(tb.entries)%1_000 == 0 {
			w.compare(t, x, tb, &m)
		}
	}
	for range 60 {
		w.compare(t, x, tb, &m)
	}
	for len(tb.entries) > size/20 {
		w.step(t, x, tb, 0)
		if len(tb.entries)%500 == 0 {
			w.compare(t, x, tb, &m)
		}
	}
	w.empty(t, x, tb)
	t.Logf("%d filters asked: %d yes, %d unknown", w.asked, w.yes, w.unknown)
}

func TestTheZeroDocumentIsFoundByNoFilter(t *testing.T) {
	x := filters.NewIndex[string]()
	for i, src := range []string{`{}`, `{"$not":{"a":1}}`, `{"a":{"$exists":false}}`, `{"$op":"insert"}`} {
		x.Add(filters.Key{Type: "t"}, compile(t, src), fmt.Sprint(i))
	}
	m := filters.Matches[string]{Yes: []string{"old"}, Unknown: []string{"old"}}
	x.Match(&m, "t", "", &filters.Event{Op: filters.OpInsert})
	require.Empty(t, m.Yes)
	require.Empty(t, m.Unknown)
	x.Match(&m, "t", "", &filters.Event{Op: filters.OpInsert, Data: filters.NewDoc([]byte(`{}`), nil)})
	require.ElementsMatch(t, []string{"0", "1", "2", "3"}, m.Yes)
	x.Match(&m, "other", "", &filters.Event{Op: filters.OpInsert, Data: filters.NewDoc([]byte(`{}`), nil)})
	require.Empty(t, m.Yes)
}

func TestASubscriptionIsFoundOnceHoweverManyOwnersItHas(t *testing.T) {
	x := filters.NewIndex[int]()
	f := compile(t, `{"a":1}`)
	e := filters.Event{Data: filters.NewDoc([]byte(`{"a":1}`), nil)}
	x.Add(filters.Key{Type: "t", Owners: []string{"u:1", "t:1"}}, f, 1)
	x.Add(filters.Key{Type: "t", Owners: []string{"u:1"}}, f, 2)
	x.Add(filters.Key{Type: "t"}, f, 3)
	for owner, want := range map[string][]int{"": {1, 2, 3}, "u:1": {1, 2}, "t:1": {1}, "u:2": nil} {
		var m filters.Matches[int]
		x.Match(&m, "t", owner, &e)
		require.ElementsMatch(t, want, m.Yes, owner)
	}
	require.False(t, x.Remove(filters.Key{Type: "t"}, compile(t, `{"a":2}`), 1))
	require.False(t, x.Remove(filters.Key{Type: "u"}, f, 1))
	require.False(t, x.Remove(filters.Key{Type: "t"}, f, 4))
	require.Equal(t, 3, x.Len())
	require.True(t, x.Remove(filters.Key{Type: "t", Owners: []string{"u:1", "t:1"}}, f, 1))
	require.Equal(t, 2, x.Len())
	var m filters.Matches[int]
	x.Match(&m, "t", "t:1", &e)
	require.Empty(t, m.Yes)
	require.True(t, x.Remove(filters.Key{Type: "t"}, compile(t, `{"a":1.0}`), 3), "an equal filter is the same filter")
}

// TestAnIndexForgetsWhatWasRemoved adds and removes filters that are ever new, in their
// columns and values.
func TestAnIndexForgetsWhatWasRemoved(t *testing.T) {
	x := filters.NewIndex[int]()
	x.Add(filters.Key{Type: "t"}, compile(t, `{"stays":1}`), -1)
	comeAndLeave := func(from int) {
		for i := from; i < from+2_000; i++ {
			key := filters.Key{Type: "t", Owners: []string{fmt.Sprint("u:", i)}}
			var added []*filters.Filter
			for _, format := range []string{`{"a%d":"x"}`, `{"b%d":{"$gt":5},"c":1}`, `{"d%d":[{"e":"x"}]}`, `{"f%d":{"$prefix":"x"}}`, `{"$changed":["g%d"]}`, `{"h%d":{"$in":[1,2]}}`} {
				f := compile(t, fmt.Sprintf(format, i))
				x.Add(key, f, len(added))
				added = append(added, f)
			}
			for j, f := range added {
				require.True(t, x.Remove(key, f, j))
			}
		}
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what a pool kept for one round
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	comeAndLeave(0)
	before := heap()
	comeAndLeave(2_000)
	comeAndLeave(4_000)
	grown := int64(heap()) - int64(before)
	runtime.KeepAlive(x)
	t.Logf("%d bytes more after 24,000 filters", grown)
	require.Less(t, grown, int64(256<<10))
}
