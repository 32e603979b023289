package filters_test

import (
	"runtime"
	"testing"

	"github.com/dot-do/relay/filters"
)

// compiled are filters of the kinds that people write.
var compiled = []struct{ name, src string }{
	{"one scalar", `{"type":"Function"}`},
	{"two scalars", `{"ns":"onet","type":"Function"}`},
	{"two scalars, as jsonb writes them", `{"ns": "onet", "type": "Function"}`},
	{"four scalars", `{"ns":"onet","type":"Function","count":12.0,"deleted_at":null}`},
	{"nested object", `{"ns":"onet","data":{"owner":{"plan":"pro","seats":25}}}`},
	{"arrays", `{"tags":["software","computing"],"data":{"links":[{"rel":"next"}],"scores":[2.50]}}`},
	{"range", `{"ns":"onet","price":{"$gte":10,"$lt":20}}`},
	{"prefix", `{"ns":"onet","id":{"$prefix":"15-"}}`},
	{"list", `{"ns":"onet","type":{"$in":["Function","Skill","Task"]}}`},
	{"logic", `{"ns":"onet","$or":[{"type":"Function"},{"price":{"$gt":5}}],"$not":{"id":{"$exists":false}}}`},
	{"change", `{"$op":"update","$changed":["title","data.owner.plan"],"status":{"$from":"pending","$to":"approved"}}`},
}

// BenchmarkCompile measures how long a filter takes to compile, and how many bytes it
// keeps.
func BenchmarkCompile(b *testing.B) {
	for _, c := range compiled {
		b.Run(c.name, func(b *testing.B) {
			src := []byte(c.src)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := filters.Compile(src); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(kept(src), "kept-B/op")
		})
	}
}

// kept returns how many bytes of memory a compiled filter takes.
func kept(src []byte) float64 {
	const times = 1000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	held := make([]*filters.Filter, times)
	before := heap()
	for i := range held {
		held[i], _ = filters.Compile(src)
	}
	after := heap()
	runtime.KeepAlive(held)
	return float64(int64(after)-int64(before)) / times
}
