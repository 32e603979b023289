package main

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"

	"github.com/tidwall/gjson"

	"github.com/dot-do/relay/filters"
)

// compiled compiles a filter that must be right.
func compiled(src string) (*filters.Filter, error) {
	f, err := filters.Compile([]byte(src))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src, err)
	}
	return f, nil
}

// fill adds the filters, numbered from first: that is who wants them.
func fill(x *filters.Index[int32], subs []subscription, first int) error {
	for i := range subs {
		f, err := compiled(subs[i].filter)
		if err != nil {
			return err
		}
		x.Add(subs[i].key(), f, int32(first+i))
	}
	return nil
}

// pool is the events of one measurement with the index that is asked.
type pool struct {
	index  *filters.Index[int32]
	events []event
	found  filters.Matches[int32]
	asked  filters.Event
}

// pooled leaves out events when matching is so slow that going through all would take
// long.
func (b *bench) pooled(index *filters.Index[int32], events []event) *pool {
	const few = 256
	p := &pool{index: index, events: events[:few]}
	begin := cpuTime()
	p.askAll()
	each := (cpuTime() - begin) / few
	p.events = events[:max(few, min(len(events), int(10*b.sample/max(1, each))))]
	return p
}

// ask asks the index about one event.
func (p *pool) ask(e *event) {
	p.asked = e.asFilter()
	p.index.Match(&p.found, e.kind, e.owner, &p.asked)
}

func (p *pool) askAll() {
	for i := range p.events {
		p.ask(&p.events[i])
	}
}

// matches returns how many filters match an event, on average and at most.
func (p *pool) matches() (mean float64, most int) {
	sum := 0
	for i := range p.events {
		p.ask(&p.events[i])
		sum += len(p.found.Yes)
		most = max(most, len(p.found.Yes))
	}
	return float64(sum) / float64(len(p.events)), most
}

// allocations returns how many objects one match allocates.
func (p *pool) allocations() float64 {
	p.askAll()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const rounds = 4
	for range rounds {
		p.askAll()
	}
	runtime.ReadMemStats(&after)
	return math.Floor(float64(after.Mallocs-before.Mallocs)/float64(rounds*len(p.events))*100) / 100
}

// linear asks every filter of one event type.
type linear struct {
	list   []*filters.Filter
	number []int32
	events []event
	found  []int32
}

// newLinear takes the event type whose share of the filters is nearest to what an
// event meets on average, so that few events can stand for all: as many as make the
// given number of questions, but one at least.
func newLinear(subs []subscription, events []event, asks int) (*linear, error) {
	count := map[string]int{}
	for i := range subs {
		count[subs[i].kind]++
	}
	mean := 0.0
	for _, n := range count {
		mean += float64(n) * float64(n) / float64(len(subs))
	}
	kind, off := "", math.Inf(1)
	for k, n := range count {
		if d := math.Abs(float64(n) - mean); d < off || d == off && k < kind {
			kind, off = k, d
		}
	}
	l := &linear{}
	for i := range subs {
		if subs[i].kind == kind {
			f, err := compiled(subs[i].filter)
			if err != nil {
				return nil, err
			}
			l.list, l.number = append(l.list, f), append(l.number, int32(i))
		}
	}
	for i := range events {
		if events[i].kind == kind && (len(l.events)+1)*len(l.list) <= max(asks, len(l.list)) {
			l.events = append(l.events, events[i])
		}
	}
	return l, nil
}

func (l *linear) ask(e *event) {
	f := e.asFilter()
	l.found = l.found[:0]
	for i := range l.list {
		if l.list[i].MatchEvent(&f) == filters.Yes {
			l.found = append(l.found, l.number[i])
		}
	}
}

func (l *linear) askAll() {
	for i := range l.events {
		l.ask(&l.events[i])
	}
}

// agrees compares the answers of an index with those of asking each filter.
func (l *linear) agrees(p *pool, subs []subscription) error {
	for i := range l.events {
		e := &l.events[i]
		l.ask(e)
		p.ask(e)
		var indexed []int32
		for _, n := range p.found.Yes {
			if e.owner == "" || slices.Contains(subs[n].owners, e.owner) {
				indexed = append(indexed, n)
			}
		}
		plain := slices.DeleteFunc(slices.Clone(l.found), func(n int32) bool {
			return e.owner != "" && !slices.Contains(subs[n].owners, e.owner)
		})
		slices.Sort(indexed)
		if len(indexed) != len(p.found.Yes) || !slices.Equal(indexed, plain) {
			return fmt.Errorf("the index finds %d filters for an event, the plain matcher %d", len(p.found.Yes), len(plain))
		}
	}
	return nil
}

// matching measures one workload at every size.
func (b *bench) matching(ctx context.Context, w workload) error {
	var probes []probe
	var pools []*pool // small and large events of the largest size last
	sizes := w.sizes(b.sizes)
	for _, n := range sizes {
		subs := w.subscriptions(n, false)
		index, err := b.filled(w, subs)
		if err != nil {
			return err
		}
		for _, size := range []int{smallEvent, largeEvent} {
			p := b.pooled(index, w.events(n, size, b.pool))
			pools = append(pools, p)
			probes = append(probes, probe{label(n, size), len(p.events), p.askAll})
		}
		small := pools[len(pools)-2]
		l, err := newLinear(subs, small.events, b.asks)
		if err != nil {
			return err
		}
		if err := l.agrees(small, subs); err != nil {
			return err
		}
		if n < 1_000_000 || w.name == "W1" { // it takes seconds to ask a million
			probes = append(probes, probe{fmt.Sprint("linear ", short(n)), len(l.events), l.askAll})
		}
		b.report.matches(w, n, small)
	}
	for i, size := range []int{smallEvent, largeEvent} {
		p := pools[len(pools)-2+i]
		probes = append(probes,
			probe{"valid " + bytesOf(size), len(p.events), func() { validAll(p.events) }},
			probe{"walk " + bytesOf(size), len(p.events), func() { walkAll(p.events) }})
	}
	taken := b.measure(ctx, probes)
	b.report.timings(w, probes, taken)
	b.judgeMatching(w, sizes, taken, pools[len(pools)-2])
	b.report.Goal("G8", w.name+": allocations per match", samples{pools[len(pools)-2].allocations()}, "0", 0, 0)
	return nil
}

// filled returns an index of the filters. Of the largest one it notes what it took.
func (b *bench) filled(w workload, subs []subscription) (*filters.Index[int32], error) {
	index := filters.NewIndex[int32]()
	if len(subs) < slices.Max(w.sizes(b.sizes)) {
		return index, fill(index, subs, 0)
	}
	before, begin := heap(), cpuTime()
	if err := fill(index, subs, 0); err != nil {
		return nil, err
	}
	name, n := w.name+" at "+short(len(subs)), float64(len(subs))
	b.report.Figure(name+": compile and add, from 0", "ns/filter", samples{float64(cpuTime()-begin) / n})
	b.report.Figure(fmt.Sprintf("%s: bytes, ids included, %.0f %% of the filters distinct", name, 100*float64(distinct(subs))/n), "B/filter", samples{(heap() - before) / n})
	if _, many := w.world(len(subs)).(*fields); many {
		b.report.Note(name+": different sets of fields and operators", float64(shapes(subs)))
	}
	return index, nil
}

// judgeMatching compares the timings of a workload with its goals.
func (b *bench) judgeMatching(w workload, sizes []int, taken map[string]samples, p *pool) {
	last, nextToLast := sizes[len(sizes)-1], sizes[len(sizes)-2]
	most := taken[label(last, smallEvent)]
	large := taken[label(last, largeEvent)]
	least := taken[label(sizes[0], smallEvent)]
	middle := taken[label(nextToLast, smallEvent)]
	mean, _ := p.matches()
	at := short(last)
	switch w.name {
	case "W1":
		b.report.Goal("G2", "W1 at "+at+" / gjson.ValidBytes, 1 KB", most.Over(taken["valid "+bytesOf(smallEvent)]), "≤ 1.0 (must 1.3)", 1, 1.3)
		b.report.Goal("G2", "W1 at "+at+" / gjson.ValidBytes, 8.5 KB", large.Over(taken["valid "+bytesOf(largeEvent)]), "≤ 1.0 (must 1.3)", 1, 1.3)
		b.report.Goal("G2", "W1 at "+at+" / full gjson walk, 1 KB", most.Over(taken["walk "+bytesOf(smallEvent)]), "≤ 0.5 (must 0.7)", 0.5, 0.7)
		b.report.Goal("G3", "W1 at "+at+" / at "+short(sizes[0]), most.Over(least), "≤ 1.5", 1.5, 0)
		b.report.Goal("G3", "W1 at "+short(nextToLast)+" / at "+short(sizes[0]), middle.Over(least), "≤ 1.3", 1.3, 0)
	case "W2":
		limit := 1000 + 100*mean
		b.report.Goal("G5", fmt.Sprintf("W2 at %s, %.1f matches / (1 µs + 100 ns each)", at, mean), most.Each(func(v float64) float64 { return v / limit }), "≤ 1.0", 1, 0)
	case "W3", "W3p":
		limit := 5000 + 100*mean
		b.report.Goal("G6", fmt.Sprintf("%s at %s, %.1f matches / (5 µs + 100 ns each)", w.name, at, mean), most.Each(func(v float64) float64 { return v / limit }), "≤ 1.0", 1, 0)
	}
}

func validAll(events []event) {
	for i := range events {
		if !gjson.ValidBytes(events[i].data) {
			panic("an event is not JSON")
		}
	}
}

func walkAll(events []event) {
	for i := range events {
		walk(gjson.ParseBytes(events[i].data))
	}
}

// walk reads everything in a value.
func walk(v gjson.Result) {
	v.ForEach(func(_, value gjson.Result) bool {
		if value.Type == gjson.JSON {
			walk(value)
		}
		return true
	})
}

func label(n, size int) string { return short(n) + " " + bytesOf(size) }

func bytesOf(size int) string {
	if size == smallEvent {
		return "1KB"
	}
	return "8.5KB"
}

// short writes a number as people say it.
func short(n int) string {
	switch {
	case n >= 1_000_000 && n%100_000 == 0:
		return fmt.Sprintf("%gM", float64(n)/1e6)
	case n >= 1000 && n%1000 == 0:
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprint(n)
}
