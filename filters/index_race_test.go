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
