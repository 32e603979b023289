package webhook

import (
	"errors"
	"fmt"
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

func matched(d *directory, e *relay.Event, seq uint64) (yes, unknown []string) {
	var at *relay.Subscription
	y, u := d.match(e, seq, nil, nil, &at)
	for _, s := range y {
		yes = append(yes, s.ID)
	}
	for _, s := range u {
		unknown = append(unknown, s.ID)
	}
	slices.Sort(yes)
	slices.Sort(unknown)
	return yes, unknown
}

func TestOnlyASureMatchOfAUsableRowDelivers(t *testing.T) {
	all := filter(t, `{}`)
	d := newDirectory()
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
	yes, unknown := matched(d, e, 10)
	require.Equal(t, []string{"all", "hit", "paused"}, yes)
	require.Equal(t, []string{"unknown"}, unknown)
	yes, _ = matched(d, e, 11)
	require.Equal(t, []string{"all", "hit", "late"}, yes)
	require.NotNil(t, all)
}

func TestNoFilterOfAStrangerEverSeesAnOwnersEvent(t *testing.T) {
	d := newDirectory()
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
	d.verdict = nil
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
		d.verdict = func(s *relay.Subscription, _ filters.Doc) filters.Verdict {
			require.Contains(t, want, s.ID)
			return filters.Yes
		}
		got, _ := matched(d, e, 1)
		require.Equal(t, want, got)
	}
}

func TestDirectoryEqualsALinearScanThroughARandomLife(t *testing.T) {
	d := newDirectory()
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
		got, _ := matched(d, e, 1)
		require.Equal(t, want, got)
	}
}

func TestReadersSeeWholeUpdatesWhileWritersWork(t *testing.T) {
	d := newDirectory()
	all := filter(t, `{}`)
	rows := func(owner string) []*relay.Subscription {
		var out []*relay.Subscription
		for i := range 50 {
			out = append(out, &relay.Subscription{ID: fmt.Sprint(i), EventType: "t", Filter: all, Active: true, Owner: relay.Owner{UserID: owner}})
		}
		return out
	}
	put(d, rows("a")...)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := range 300 {
			put(d, rows([]string{"a", "b"}[i%2])...)
		}
		close(stop)
	})
	var seen []int
	wg.Go(func() {
		e := &relay.Event{Type: "t", Visibility: relay.VisibleToEveryone, Data: []byte(`{}`)}
		for {
			select {
			case <-stop:
				return
			default:
				yes, _ := matched(d, e, 1)
				seen = append(seen, len(yes))
			}
		}
	})
	wg.Wait()
	for _, n := range seen {
		require.Equal(t, 50, n)
	}
}

func TestManySubscriptionsLoadFastAndOneChangeCopiesLittle(t *testing.T) {
	const n = 100_000
	all := filter(t, `{}`)
	for _, owners := range []int{1, n} {
		d := newDirectory()
		changes := make([]change, n)
		for i := range changes {
			id := fmt.Sprint(i)
			changes[i] = change{ID: id, Row: &relay.Subscription{
				ID: id, EventType: fmt.Sprint("type", i%12), Filter: all, Active: true, Owner: relay.Owner{UserID: fmt.Sprint(i % owners)},
			}}
		}
		started := time.Now()
		d.apply(changes)
		require.Less(t, time.Since(started), 5*time.Second)

		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		put(d, changes[7].Row)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(200<<10))
	}
}

func BenchmarkMatch(b *testing.B) {
	d := newDirectory()
	var rows []*relay.Subscription
	for i := range 10_000 {
		rows = append(rows, &relay.Subscription{
			ID: fmt.Sprint(i), EventType: "t", Filter: filter(b, fmt.Sprintf(`{"ns":"n%d"}`, i%1000)), Active: true, Owner: relay.Owner{UserID: fmt.Sprint(i % 1000)},
		})
	}
	put(d, rows...)
	e := &relay.Event{Type: "t", Data: []byte(`{"id":"x","ns":"n7","title":"a title of some length","count":12}`), Owner: relay.Owner{UserID: "7"}}
	var at *relay.Subscription
	for name, visibility := range map[string]relay.Visibility{"everyone-10k": relay.VisibleToEveryone, "owner-10": relay.VisibleToOwner} {
		e.Visibility = visibility
		b.Run(name, func(b *testing.B) {
			var yes []*relay.Subscription
			for b.Loop() {
				yes, _ = d.match(e, 1, yes[:0], nil, &at)
			}
			require.NotEmpty(b, yes)
		})
	}
}
