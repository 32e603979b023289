package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dot-do/relay/filters"
)

// change is one filter, ready to be added and removed.
type change struct {
	key    filters.Key
	filter *filters.Filter
	value  int32
}

// live is an index at its largest size, with filters that come and go.
type live struct {
	pool
	changes []change
}

func (b *bench) live(w workload) (*live, error) {
	n := b.last()
	extra := min(100_000, n/10)
	subs := w.subscriptions(n+extra, false) // for values as of n+extra filters
	l := &live{pool: pool{index: filters.NewIndex[int32](), events: w.events(n+extra, smallEvent, b.pool)}}
	if err := fill(l.index, subs[:n], 0); err != nil {
		return nil, err
	}
	for i, s := range subs[n:] {
		f, err := compiled(s.filter)
		if err != nil {
			return nil, err
		}
		l.changes = append(l.changes, change{s.key(), f, int32(n + i)})
	}
	return l, nil
}

func (l *live) add(c *change) { l.index.Add(c.key, c.filter, c.value) }

var errNotRemoved = errors.New("the index does not know a filter that was added")

func (l *live) remove(c *change) error {
	if !l.index.Remove(c.key, c.filter, c.value) {
		return errNotRemoved
	}
	return nil
}

// changes measures adding and removing filters in a large index: what they cost, how
// long one may take, and whether matching waits for them.
func (b *bench) changes(ctx context.Context) error {
	l, err := b.live(byName("W1"))
	if err != nil {
		return err
	}
	var adds, removes, worstAdds, worstRemoves samples
	n := float64(len(l.changes))
	for range b.rounds {
		begin := cpuTime()
		for i := range l.changes {
			l.add(&l.changes[i])
		}
		added := cpuTime()
		for i := range l.changes {
			if err := l.remove(&l.changes[i]); err != nil {
				return err
			}
		}
		adds, removes = append(adds, float64(added-begin)/n), append(removes, float64(cpuTime()-added)/n)
		add, remove, err := l.timed()
		if err != nil {
			return err
		}
		worstAdds, worstRemoves = append(worstAdds, percentile(add, 99)), append(worstRemoves, percentile(remove, 99))
	}
	at := ", W1 at " + short(b.last())
	b.report.Goal("G8", "add a filter"+at+", µs", adds.Each(perThousand), "≤ 1.5", 1.5, 0)
	b.report.Goal("G8", "remove a filter"+at+", µs", removes.Each(perThousand), "≤ 0.2", 0.2, 0)
	b.report.Goal("G8", "99 % of adds"+at+", within µs", worstAdds.Each(perThousand), "≤ 50", 50, 0)
	b.report.Goal("G8", "99 % of removes"+at+", within µs", worstRemoves.Each(perThousand), "≤ 50", 50, 0)
	return b.undisturbed(ctx, l)
}

// timed adds and removes every filter with a clock beside it.
func (l *live) timed() (adds, removes []time.Duration, err error) {
	adds, removes = make([]time.Duration, len(l.changes)), make([]time.Duration, len(l.changes))
	last := time.Now()
	for i := range l.changes {
		l.add(&l.changes[i])
		now := time.Now()
		adds[i], last = now.Sub(last), now
	}
	last = time.Now()
	for i := range l.changes {
		if err := l.remove(&l.changes[i]); err != nil {
			return nil, nil, err
		}
		now := time.Now()
		removes[i], last = now.Sub(last), now
	}
	return adds, removes, nil
}

// undisturbed measures how long matches take on one core while the other core does
// nothing but change filters, and while it does something else.
func (b *bench) undisturbed(ctx context.Context, l *live) error {
	b.cores.spread(ctx, 2)
	defer b.cores.pinAgain(ctx)
	for _, other := range []struct {
		name string
		work func(stop *atomic.Bool) error
	}{
		{"while the other core reads JSON", func(stop *atomic.Bool) error {
			for !stop.Load() {
				validAll(l.events[:16])
			}
			return nil
		}},
		{"while the other core adds and removes filters", func(stop *atomic.Bool) error {
			for !stop.Load() {
				for i := range l.changes[:1000] {
					l.add(&l.changes[i])
				}
				for i := range l.changes[:1000] {
					if err := l.remove(&l.changes[i]); err != nil {
						return err
					}
				}
			}
			return nil
		}},
	} {
		var stop atomic.Bool
		done := make(chan error, 1)
		go func() { done <- other.work(&stop) }()
		var took []time.Duration
		for begin := time.Now(); time.Since(begin) < 20*b.sample; {
			for i := range l.events {
				at := time.Now()
				l.ask(&l.events[i])
				took = append(took, time.Since(at))
			}
		}
		stop.Store(true)
		if err := <-done; err != nil {
			return err
		}
		for _, p := range []float64{50, 99, 99.9} {
			b.report.Figure(fmt.Sprintf("%g %% of matches %s, W1 at %s, within", p, other.name, short(b.last())), "ns", samples{percentile(took, p)})
		}
	}
	return nil
}

// percentile returns what p per cent of the durations do not exceed, in ns.
func percentile(d []time.Duration, p float64) float64 {
	slices.Sort(d)
	return float64(d[min(len(d)-1, int(float64(len(d))*p/100))])
}

func perThousand(v float64) float64 { return v / 1000 }
