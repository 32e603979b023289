package main

import (
	"fmt"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/dot-do/relay/filters"
)

// BenchmarkMatch matches one event after the other, as the command does; "valid" only
// checks their JSON.
func BenchmarkMatch(b *testing.B) {
	const n = 1000
	for _, w := range workloads() {
		index := filters.NewIndex[int32]()
		if err := fill(index, w.subscriptions(n, false), 0); err != nil {
			b.Fatal(err)
		}
		p := &pool{index: index, events: w.events(n, smallEvent, 4<<20)}
		b.Run(fmt.Sprint(w.name, "/1k"), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				p.ask(&p.events[i%len(p.events)])
			}
		})
		b.Run(w.name+"/valid", func(b *testing.B) {
			for i := range b.N {
				if !gjson.ValidBytes(p.events[i%len(p.events)].data) {
					b.Fatal("not JSON")
				}
			}
		})
	}
}
