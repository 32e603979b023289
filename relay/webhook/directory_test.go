package webhook

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/relay"
)

func filter(t testing.TB, text string) *filters.Filter {
	f, err := filters.Compile([]byte(text))
	require.NoError(t, err)
	return f
}

func put(d *directory, rows ...*relay.Subscription) {
	var changes []change
	for _, r := range rows {
		changes = append(changes, change{ID: r.ID, Row: r})
	}
	d.apply(changes)
}

// matched returns what the index finds, sorted.
func matched(t testing.TB, d *directory, e *relay.Event, seq uint64) (yes, unknown []string) {
	t.Helper()
	var m matches
	d.match(&m, e, seq)
	return ids(m.Yes), ids(m.Unknown)
}

func ids(rows []*relay.Subscription) (ids []string) {
	for _, s := range rows {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	return ids
}

// requireSameOneByOne demands that the filters asked one by one give the same.
func requireSameOneByOne(t testing.TB, d *directory, e *relay.Event, seq uint64) {
	t.Helper()
	yes, unknown := matched(t, d, e, seq)
	var m matches
	require.Empty(t, d.matchEach(&m, e, seq))
	require.Equal(t, yes, ids(m.Yes))
	require.Equal(t, unknown, ids(m.Unknown))
}

func TestOnlyASureMatchOfAUsableRowDelivers(t *testing.T) {
	d := newDirectory(false)
	row := func(id, filterText string, change func(*relay.Subscription)) *relay.Subscription {
		s := &relay.Subscription{ID: id, EventType: "thing.updated", Filter: filter(t, filterText), Active: true, Owner: relay.Owner{UserID: "u"}}
		if change != nil {
			change(s)
		}
		return s
	}
	put(d,
		row("all", `{}`, nil),
		row("hit", `{"a":1}`, nil),
		row("miss", `{"a":2}`, nil),
		row("unknown", `{"big":"x"}`, nil),
		row("other type", `{}`, func(s *relay.Subscription) { s.EventType = "thing.created" }),
		row("inactive", `{}`, func(s *relay.Subscription) { s.Active, s.Gaps = false, []relay.Gap{{}} }),
		row("paused", `{}`, func(s *relay.Subscription) { s.Active, s.Gaps = false, []relay.Gap{{From: 10}} }),
		row("broken filter", `{}`, func(s *relay.Subscription) { s.Filter, s.Broken = nil, errors.New("no") }),
		row("broken secret", `{}`, func(s *relay.Subscription) { s.Broken = errors.New("no") }),
		row("late", `{}`, func(s *relay.Subscription) { s.Since = 10 }),
	)
	e := &relay.Event{Type: "thing.updated", Visibility: relay.VisibleToEveryone, Data: []byte(`{"a":1}`), Unavailable: []string{"big"}}
	yes, unknown := matched(t, d, e, 10)
	require.Equal(t, []string{"all", "hit", "paused"}, yes)
	require.Equal(t, []string{"unknown"}, unknown)
	yes, _ = matched(t, d, e, 11)
	require.Equal(t, []string{"all", "hit", "late"}, yes)
	requireSameOneByOne(t, d, e, 10)
	requireSameOneByOne(t, d, e, 11)
	require.Equal(t, [3]int64{10, 2, 0}, [3]int64{d.size.Load(), d.broken.Load(), d.quarantined.Load()})
}

func TestNoFilterOfAStrangerEverSeesAnOwnersEvent(t *testing.T) {
	d := newDirectory(false)
	r := rand.New(rand.NewPCG(3, 4))
	name := func(prefix string) string {
		if n := r.IntN(4); n > 0 {
			return fmt.Sprintf("%s%d", prefix, n)
		}
		return ""
	}
	var rows []*relay.Subscription
	for i := range 200 {
		rows = append(rows, &relay.Subscription{
			ID: fmt.Sprint(i), EventType: "t", Filter: filter(t, `{}`), Active: true,
			Owner: relay.Owner{UserID: name("u"), TenantID: name("t")},
		})
	}
	put(d, rows...)
	for range 2000 {
		e := &relay.Event{Type: "t", Owner: relay.Owner{UserID: name("u"), TenantID: name("t")}, Data: []byte(`{}`)}
		if r.IntN(4) == 0 {
			e.Visibility = relay.VisibleToEveryone
		}
		var want []string
		for _, s := range rows {
			if e.Visibility == relay.VisibleToEveryone || e.Owner.Owns(s.Owner) {
				want = append(want, s.ID)
			}
		}
		slices.Sort(want)
		got, _ := matched(t, d, e, 1)
		require.Equal(t, want, got)

		d.ask = func(s *relay.Subscription, _ *filters.Event) filters.Verdict {
			if _, mayAsk := slices.BinarySearch(want, s.ID); !mayAsk {
				t.Errorf("the filter of %s was shown an event of %v", s.ID, e.Owner)
			}
			return filters.Yes
		}
		requireSameOneByOne(t, d, e, 1)
	}
}

func TestDirectoryEqualsALinearScanThroughARandomLife(t *testing.T) {
	d := newDirectory(false)
	r := rand.New(rand.NewPCG(5, 6))
	all := filter(t, `{}`)
	rows := map[string]*relay.Subscription{}
	for range 3000 {
		var changes []change
		for range 1 + r.IntN(5) {
			id := fmt.Sprint(r.IntN(60))
			if r.IntN(3) == 0 {
				delete(rows, id)
				changes = append(changes, change{ID: id})
				continue
			}
			s := &relay.Subscription{
				ID: id, EventType: fmt.Sprint(r.IntN(3)), Filter: all, Active: true,
				Owner: relay.Owner{UserID: fmt.Sprint(r.IntN(5)), TenantID: []string{"", "t"}[r.IntN(2)]},
			}
			if r.IntN(4) == 0 {
				s.Active, s.Gaps = false, []relay.Gap{{From: uint64(r.IntN(2))}}
			}
			rows[id] = s
			changes = append(changes, change{ID: id, Row: s})
		}
		d.apply(changes)
		require.Equal(t, int64(len(rows)), d.size.Load())
		e := &relay.Event{Type: fmt.Sprint(r.IntN(3)), Data: []byte(`{}`), Owner: relay.Owner{UserID: fmt.Sprint(r.IntN(5))}}
		if r.IntN(2) == 0 {
			e.Owner = relay.Owner{TenantID: "t"}
		}
		e.Visibility = relay.Visibility(r.IntN(2))
		var want []string
		for _, s := range rows {
			if s.Wants(e, 1) {
				want = append(want, s.ID)
			}
		}
		slices.Sort(want)
		got, _ := matched(t, d, e, 1)
		require.Equal(t, want, got)
		requireSameOneByOne(t, d, e, 1)
	}
}

func TestReadersSeeEveryRowOnceWhileItIsReplaced(t *testing.T) {
	d := newDirectory(false)
	same, other := filter(t, `{"a":1}`), filter(t, `{"b":{"$exists":true}}`)
	rows := func(version int) []*relay.Subscription {
		var out []*relay.Subscription
		for i := range 50 {
			s := &relay.Subscription{ID: fmt.Sprint(i), EventType: "t", Filter: same, Active: true, Owner: relay.Owner{UserID: "u"}}
			switch i % 5 { // the others never change
			case 0:
				s.Filter = []*filters.Filter{same, other}[version%2]
			case 1:
				s.Owner.TenantID = []string{"", "t"}[version%2]
			case 2:
				s.MaxRetries = version
			}
			out = append(out, s)
		}
		return out
	}
	put(d, rows(0)...)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		defer close(stop)
		for i := range 300 {
			put(d, rows(i)...)
		}
	})
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprint(i))
	}
	slices.Sort(want)
	public := &relay.Event{Type: "t", Visibility: relay.VisibleToEveryone, Data: []byte(`{"a":1,"b":null}`)}
	owned := &relay.Event{Type: "t", Owner: relay.Owner{UserID: "u"}, Data: public.Data}
	for reading := true; reading; {
		select {
		case <-stop:
			reading = false
		default:
		}
		for _, e := range []*relay.Event{public, owned} {
			yes, _ := matched(t, d, e, 1)
			require.Equal(t, want, yes)
		}
	}
	wg.Wait()
}

func TestOnlyTheRowThatPanickedIsQuarantined(t *testing.T) {
	d := newDirectory(false)
	row := func(id string) *relay.Subscription {
		return &relay.Subscription{ID: id, EventType: "t", Filter: filter(t, `{}`), Active: true, Owner: relay.Owner{UserID: "u"}}
	}
	old, mended := row("a"), row("a")
	put(d, old, row("b"))
	e := &relay.Event{Type: "t", Owner: relay.Owner{UserID: "u"}, Data: []byte(`{}`)}

	put(d, mended)
	d.quarantine(old, &relay.FilterError{Code: "panicked"})
	yes, _ := matched(t, d, e, 1)
	require.Equal(t, []string{"a", "b"}, yes, "it was changed meanwhile")

	d.quarantine(mended, &relay.FilterError{Code: "panicked"})
	yes, _ = matched(t, d, e, 1)
	require.Equal(t, []string{"b"}, yes)
	require.Equal(t, [3]int64{2, 1, 1}, [3]int64{d.size.Load(), d.broken.Load(), d.quarantined.Load()})
	require.EqualError(t, d.get("a").Broken, "filter cannot be used: panicked")
	put(d, mended)
	requireSameOneByOne(t, d, e, 1)
	require.Zero(t, d.broken.Load())
}

func TestAnEventThatDoesNotListItsColumnsDecidesNoFilterOnThem(t *testing.T) {
	d := newDirectory(false)
	row := func(filterText string) *relay.Subscription {
		return &relay.Subscription{ID: filterText, EventType: "t", Filter: filter(t, filterText), Active: true}
	}
	put(d, row(`{}`), row(`{"id":1}`), row(`{"id":2}`), row(`{"a":1}`), row(`{"id":2,"a":1}`), row(`{"a":{"$exists":false}}`), row(`{"a":{"$exists":true}}`),
		row(`{"$op":"update"}`), row(`{"$changed":["id"]}`), row(`{"$changed":["a"]}`), row(`{"$changed":{"outside":["b"]}}`), row(`{"$before":{"id":1}}`))
	e := relay.Event{Type: "t", Visibility: relay.VisibleToEveryone}
	require.NoError(t, e.ReadBody([]byte(`{"source":{"op":"update"},"data":{"id":1},"previous":{},"oversize":true}`)))
	var m matches
	require.Empty(t, d.matchEach(&m, &e, 1))
	require.Equal(t, []string{`{"$op":"update"}`, `{"id":1}`, `{}`}, ids(m.Yes))
	require.Equal(t, []string{
		`{"$before":{"id":1}}`, `{"$changed":["a"]}`, `{"$changed":["id"]}`, `{"$changed":{"outside":["b"]}}`,
		`{"a":1}`, `{"a":{"$exists":false}}`, `{"a":{"$exists":true}}`, `{"id":2,"a":1}`,
	}, ids(m.Unknown))
}

func TestManySubscriptionsLoadFastAndOneChangeCopiesLittle(t *testing.T) {
	const n = 30_000
	all := filter(t, `{}`)
	for _, owners := range []int{1, n} {
		d := newDirectory(false)
		changes := make([]change, n)
		for i := range changes {
			id := fmt.Sprint(i)
			changes[i] = change{ID: id, Row: &relay.Subscription{
				ID: id, EventType: fmt.Sprint("type", i%12), Filter: all, Active: true, Owner: relay.Owner{UserID: fmt.Sprint(i % owners)},
			}}
		}
		started := time.Now()
		d.apply(changes)
		require.Less(t, time.Since(started), 30*time.Second, "each costs as much as the first")

		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		put(d, changes[7].Row)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(200<<10))
		require.Equal(t, n, d.index.Len())
	}
}

func TestTheCostOfAnEventIsNotThatOfAllSubscriptions(t *testing.T) {
	cost := func(n int) time.Duration {
		d, e := crowd(t, n)
		e.Visibility = relay.VisibleToEveryone
		var m matches
		best := time.Hour
		for range 20 { // the best of several: other processes are on this machine
			began := time.Now()
			for range 100 {
				d.match(&m, e, 1)
			}
			best = min(best, time.Since(began))
		}
		require.Len(t, m.Yes, 4)
		return best
	}
	few, many := cost(200), cost(20_000)
	require.Less(t, many, 20*few, "a hundred times as many")
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		d, e := crowd(b, n)
		for name, visibility := range map[string]relay.Visibility{"everyone": relay.VisibleToEveryone, "owner": relay.VisibleToOwner} {
			e.Visibility = visibility
			b.Run(fmt.Sprintf("%s-%d", name, n), func(b *testing.B) {
				var m matches
				b.ReportAllocs()
				for b.Loop() {
					d.match(&m, e, 1)
				}
				require.Len(b, m.Yes, 4)
			})
		}
		e.Visibility = relay.VisibleToEveryone
		b.Run(fmt.Sprintf("one-by-one-%d", n), func(b *testing.B) {
			var m matches
			for b.Loop() {
				d.matchEach(&m, e, 1)
			}
			require.Len(b, m.Yes, 4)
		})
	}
}

// crowd is a directory of n subscriptions to one type, and an event that four of them
// want, whether it is for everyone or for its owner.
func crowd(t testing.TB, n int) (*directory, *relay.Event) {
	d := newDirectory(false)
	var rows []*relay.Subscription
	for i := range n {
		text := fmt.Sprintf(`{"ns":"n%d","count":{"$gte":%d}}`, i/4, i%4)
		rows = append(rows, &relay.Subscription{
			ID: fmt.Sprint(i), EventType: "t", Filter: filter(t, text), Active: true, Owner: relay.Owner{UserID: fmt.Sprint(i / 100)},
		})
	}
	put(d, rows...)
	var e relay.Event
	body := `{"source":{"op":"insert"},"data":{"id":"x","ns":"n7","title":"a title of some length","count":12}}`
	require.NoError(t, e.ReadBody([]byte(body)))
	e.Type, e.Owner = "t", relay.Owner{UserID: "0"}
	return d, &e
}

func TestManyUndecidedSubscriptionsAreLoggedOnceEach(t *testing.T) {
	const n = 12_000
	lines := 0
	e := &Engine{
		log: slog.New(slog.NewTextHandler(lineCounter{&lines}, nil)), observer: &Observer{}, dir: newDirectory(false),
		undecided: map[string]*relay.Subscription{},
	}
	rows := make([]*relay.Subscription, n)
	for i := range rows {
		rows[i] = &relay.Subscription{ID: fmt.Sprint(i), EventType: "t", Active: true}
	}
	put(e.dir, rows...)
	for range 3 {
		e.reportUndecided(&relay.Event{ID: "evt_1"}, rows)
	}
	require.Equal(t, n, lines)

	// What is no row any more is forgotten.
	for i := range rows {
		again := *rows[i]
		again.ID = "again " + again.ID
		e.dir.apply([]change{{ID: rows[i].ID}, {ID: again.ID, Row: &again}})
		rows[i] = &again
	}
	for range 3 {
		e.reportUndecided(&relay.Event{ID: "evt_2"}, rows)
	}
	require.Equal(t, 2*n, lines)
	require.LessOrEqual(t, len(e.undecided), 2*n)
	e.reportUndecided(&relay.Event{ID: "evt_3"}, rows[:1])
	require.Len(t, e.undecided, n)
}

// lineCounter counts what a log handler writes.
type lineCounter struct{ n *int }

func (c lineCounter) Write(line []byte) (int, error) { *c.n++; return len(line), nil }
