package filters_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// world makes filters and events that have to do with each other: the filters are about
// a few events, and the events are like those.
type world struct {
	*generator
	bases []happening
	texts []string // filters that were made, to make equal ones

	asked, yes, unknown int
}

func newWorld(seed uint64) *world {
	w := &world{generator: newGenerator(seed, 5)}
	for range 6 {
		w.bases = append(w.bases, w.happening())
	}
	for range 2 {
		w.bases = append(w.bases, w.wideEvent())
	}
	return w
}

// wideEvent has a row of many columns with few values each.
func (w *world) wideEvent() happening {
	e := happening{op: w.op()}
	for i := range 16 {
		e.data = append(e.data, pair{fmt.Sprintf("f%d", i), w.fieldValue(i)})
	}
	e.before = w.changeRow(e.data)
	return e
}

func (w *world) fieldValue(i int) any {
	if i%4 == 3 {
		return decimalText{digits: fmt.Sprint(1 + w.IntN(40))}
	}
	return fmt.Sprintf("%s%d", strings.Repeat("v", i%3), w.IntN(1+i))
}

// wideFilter asks for one to four columns: an equality as a rule, else a prefix, a range,
// a list or absence. There are thousands of combinations.
func (w *world) wideFilter() members {
	var f members
	for range 1 + w.IntN(4) {
		i := w.IntN(16)
		name := fmt.Sprintf("f%d", i)
		if f.has(name) {
			continue
		}
		value := w.fieldValue(i)
		switch text, isText := value.(string); {
		case w.chance(60):
		case w.chance(10):
			value = members{{"$exists", w.chance(70)}}
		case w.chance(20):
			value = members{{pick(w.generator, []string{"$in", "$nin"}), []any{value, w.fieldValue(i)}}}
		case w.chance(10):
			value = members{{"$ne", value}}
		case isText:
			value = members{{"$prefix", text[:1+w.IntN(len(text))]}}
		default:
			value = members{{"$gte", value}, {"$lt", w.fieldValue(i)}}
		}
		f = append(f, pair{name, value})
	}
	return f
}

// filter returns a compiled filter: a new one, or one that equals an earlier one.
func (w *world) filter(t testing.TB) *filters.Filter {
	if len(w.texts) > 0 && w.chance(20) {
		return compile(t, pick(w.generator, w.texts))
	}
	var text string
	switch n := w.IntN(100); {
	case n < 2:
		text = `{}`
	case n < 40:
		text = write(w.wideFilter(), w.Uint64(), false)
	default:
		text = write(w.inquiry(pick(w.generator, w.bases)), w.Uint64(), false)
		w.known = nil
	}
	w.texts = append(w.texts, text)
	return compile(t, text)
}

func (w *world) entry(t testing.TB, id int) entry {
	owners := slices.Clone(someOwners[:w.IntN(3)])
	if w.chance(50) {
		owners = []string{pick(w.generator, someOwners)}
	}
	return entry{filters.Key{Type: pick(w.generator, someTypes), Owners: owners}, w.filter(t), id}
}

var (
	someTypes  = []string{"thing.created", "thing.updated", "a"}
	someOwners = []string{"u:1", "u:2", "t:1", "u:1 "}
)

// event is one of the events in any of the forms they come in.
func (w *world) event(t testing.TB) filters.Event {
	base := pick(w.generator, w.bases)
	if w.chance(80) {
		base = w.like(base)
	}
	tr := base.trial(w.Uint64())
	if w.chance(40) {
		if part, ok := base.partial(w.generator, tr, tr.slow(t)); ok {
			return part
		}
	}
	e := tr.event()
	switch n := w.IntN(100); {
	case n < 3:
		e.Data = filters.Doc{}
	case n < 6:
		e.Data = filters.NewDoc([]byte(tr.data+pick(w.generator, []string{"x", "}", ","})), tr.unsent)
	case n < 8:
		e.Data = filters.NewDoc([]byte("["+tr.data+"]"), nil)
	case n < 14:
		e.Before = filters.Doc{}
	}
	return e
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

// watched is an entry that comes and goes while others match. Its marks say what a match
// may rely on: it is certainly there from added until leaving, and certainly not from gone.
type watched struct {
	entry
	added, leaving, gone atomic.Bool
}

func TestMatchersSeeEveryFilterThatStaysWhileOthersComeAndGo(t *testing.T) {
	for _, staying := range []int{0, 5, 60, 400} {
		t.Run(fmt.Sprint(staying), func(t *testing.T) { comeAndGo(t, staying) })
	}
}

func comeAndGo(t *testing.T, staying int) {
	const passing, writers, matchers, rounds = 600, 2, 3, 60
	w := newWorld(*seed + uint64(staying))
	x := filters.NewIndex[int]()
	all := make([]*watched, staying+passing)
	for i := range all {
		all[i] = &watched{entry: w.entry(t, i)}
	}
	for _, wa := range all[:staying] {
		x.Add(wa.key, wa.filter, wa.id)
		wa.added.Store(true)
	}
	events := make([]filters.Event, 30)
	for i := range events {
		events[i] = w.event(t)
	}
	var writing, matching sync.WaitGroup
	var done atomic.Bool
	for n := range writers {
		writing.Go(func() { churn(x, all[staying:], n, writers) })
	}
	problems := make(chan string, matchers)
	for n := range matchers {
		matching.Go(func() {
			var m filters.Matches[int]
			for i := n; i < rounds*10 && (i < rounds || !done.Load()); i++ {
				e := events[i%len(events)]
				owner := append([]string{""}, someOwners...)[i%(len(someOwners)+1)]
				if problem := watch(x, &m, all, someTypes[i%len(someTypes)], owner, &e); problem != "" {
					problems <- problem
					return
				}
			}
		})
	}
	writing.Wait()
	done.Store(true)
	matching.Wait()
	close(problems)
	for problem := range problems {
		t.Error(problem)
	}
	tb := &table{}
	for _, wa := range all {
		if wa.added.Load() && !wa.gone.Load() {
			tb.entries = append(tb.entries, wa.entry)
		}
	}
	require.Equal(t, len(tb.entries), x.Len())
	var m filters.Matches[int]
	for range 20 {
		w.compare(t, x, tb, &m)
	}
	w.empty(t, x, tb)
}

// churn adds its share of the entries, and removes two of three again.
func churn(x *filters.Index[int], all []*watched, n, writers int) {
	remove := func(wa *watched) {
		wa.leaving.Store(true)
		x.Remove(wa.key, wa.filter, wa.id)
		wa.gone.Store(true)
	}
	for i := n; i < len(all); i += writers {
		x.Add(all[i].key, all[i].filter, all[i].id)
		all[i].added.Store(true)
		if back := i - 20*writers; back >= 0 && back%3 > 0 {
			remove(all[back])
		}
	}
}

// watch matches once and says what is wrong with the answer, "" when nothing is.
func watch(x *filters.Index[int], m *filters.Matches[int], all []*watched, eventType, owner string, e *filters.Event) string {
	there, gone := make([]bool, len(all)), make([]bool, len(all))
	for i, wa := range all {
		there[i], gone[i] = wa.added.Load(), wa.gone.Load()
	}
	x.Match(m, eventType, owner, e)
	found := make(map[int]filters.Verdict)
	for _, id := range m.Yes {
		found[id] = yes
	}
	for _, id := range m.Unknown {
		found[id] = unknown
	}
	if len(found) != len(m.Yes)+len(m.Unknown) {
		return fmt.Sprintf("something is found twice: %v %v", m.Yes, m.Unknown)
	}
	for i, wa := range all {
		want := no
		if wa.wanted(eventType, owner) {
			want = wa.filter.MatchEvent(e)
		}
		got, reported := found[wa.id]
		switch {
		case reported && (got != want || gone[i]):
			return fmt.Sprintf("%s is found with the answer %s, not %s (gone: %v)", wa.filter, got, want, gone[i])
		case !reported && want != no && there[i] && !wa.leaving.Load():
			return fmt.Sprintf("%s is not found; the answer is %s", wa.filter, want)
		}
		delete(found, wa.id)
	}
	if len(found) > 0 {
		return fmt.Sprintf("found what was never added: %v", found)
	}
	return ""
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

// TestAFilterThatComesDuringAMatchIsNotAnsweredByAnotherColumn lets filters on ever other
// columns come and go one after the other, while long rows are read: what the index knows
// of a row must not be taken for the column that a newer filter asks for.
func TestAFilterThatComesDuringAMatchIsNotAnsweredByAnotherColumn(t *testing.T) {
	const columns, matches = 8, 6_000
	var row strings.Builder
	row.WriteString("{")
	for i := range columns {
		fmt.Fprintf(&row, `"x%d":"%c",`, i, "vw"[i%2]) // the odd ones do not match
	}
	fmt.Fprintf(&row, `"pad":%q}`, strings.Repeat("long ", 40_000))
	event := filters.Event{Op: filters.OpInsert, Data: filters.NewDoc([]byte(row.String()), nil)}

	var passing []*filters.Filter // by id
	for _, format := range []string{`{"x%d":"v"}`, `{"x%d":{"$prefix":"v"}}`, `{"x%d":"v"}`, `{"x%d":{"$contains":"v"}}`, `{"x%d":{"$lte":"v"}}`, `{"x%d":{"$not":{"$eq":"w"}}}`} {
		for i := range columns {
			passing = append(passing, compile(t, fmt.Sprintf(format, i)))
		}
	}
	key := filters.Key{Type: "t", Owners: []string{"u"}}
	x := filters.NewIndex[int]()
	x.Add(key, compile(t, `{"pad":{"$exists":true}}`), -1)

	var done atomic.Bool
	problem := make(chan string, 1)
	go func() {
		defer close(problem)
		defer done.Store(true)
		var m filters.Matches[int]
		for n := range matches {
			x.Match(&m, "t", []string{"", "u"}[n%2], &event)
			if !slices.Contains(m.Yes, -1) || len(m.Unknown) > 0 {
				problem <- fmt.Sprintf("what stays is not found: %v %v", m.Yes, m.Unknown)
				return
			}
			for _, id := range m.Yes {
				if id >= 0 && id%2 == 1 {
					problem <- fmt.Sprintf("%s is found", passing[id])
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
	require.Equal(t, 1, x.Len())
}
