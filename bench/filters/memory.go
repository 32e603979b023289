package main

import (
	"runtime"

	"github.com/dot-do/relay/filters"
)

// idBytes is what the value of a filter takes here; it belongs to who adds it.
const idBytes = 4

// heap is what is reachable.
func heap() float64 {
	runtime.GC()
	runtime.GC() // what the first one finalized
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// memory measures what filters take in the index, without the ids of who wants them.
func (b *bench) memory() error {
	subs := byName("W1").subscriptions(b.last(), true)
	before := heap()
	index := filters.NewIndex[int32]()
	if err := fill(index, subs, 0); err != nil {
		return err
	}
	bytes := (heap()-before)/float64(len(subs)) - idBytes
	runtime.KeepAlive(index)
	runtime.KeepAlive(subs)
	b.waiting()
	b.report.Goal("G7", "bytes per distinct filter of W1 at "+short(b.last())+", ids excluded", samples{bytes}, "≤ 64", 64, 0)
	return b.shared()
}

// distinct counts the different filters, those of each event type by themselves.
func distinct(subs []subscription) int {
	texts := make(map[string]struct{}, len(subs))
	for i := range subs {
		texts[subs[i].kind+subs[i].filter] = struct{}{}
	}
	return len(texts)
}

// shared measures what a further subscription with an equal filter takes.
func (b *bench) shared() error {
	const times = 10
	n := b.last() / times
	subs := byName("W1").subscriptions(n, true)
	before := heap()
	index := filters.NewIndex[int32]()
	if err := fill(index, subs, 0); err != nil {
		return err
	}
	once := heap() - before
	for i := range times - 1 {
		if err := fill(index, subs, (i+1)*n); err != nil {
			return err
		}
	}
	all := heap() - before
	runtime.KeepAlive(index)
	runtime.KeepAlive(subs)
	further := (all-once)/float64((times-1)*n) - idBytes
	b.report.Goal("G7", "bytes per further subscription of an equal filter, ids excluded", samples{further}, "≤ 8", 8, 0)
	return nil
}
