package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/dot-do/relay/filters"
)

// attack is an event made to be slow, and filters that look at it.
type attack struct {
	name    string
	filters []string
	data    string
}

func attacks(scale int) []attack {
	list := func(n int, format string) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(parts, ",")
	}
	plain := []string{`{"a":1}`, `{"a":{"b":[1]}}`, `{"b":"x"}`, `{"n":{"$gt":5}}`, `{"n":1}`, `{"$not":{"a":1}}`, `{"s":{"$prefix":"x"}}`}
	const kb = 1 << 10
	return []attack{
		{"12 MB of [", plain, strings.Repeat("[", 12*kb*scale)},
		{"a column with 12 MB of [", plain, `{"b":"x","a":` + strings.Repeat("[", 12*kb*scale)},
		{"2 MB of nested objects", plain, strings.Repeat(`{"a":`, 400*scale)},
		{"a key of 1 MB", plain, `{"` + strings.Repeat("k", kb*scale) + `":1,"a":1}`},
		{"an escaped key of 1 MB", plain, `{"` + strings.Repeat(`\u006b`, kb*scale/6) + `":1,"a":1}`},
		{"100,000 duplicate keys", plain, `{` + strings.Repeat(`"a":{"b":[1]},`, 100*scale) + `"a":{"b":[1]}}`},
		{"100,000 different keys", plain, `{` + list(100*scale, `"k%d":1`) + `,"a":1}`},
		{"a number of 1,000,000 digits", plain, `{"n":1` + strings.Repeat("0", 1000*scale) + `}`},
		{"a string of 1 MB of escapes", plain, `{"s":"` + strings.Repeat(`\\`, kb*scale/2) + `"}`},
		{"array × array, numbers", []string{`{"v":[` + list(256, "-%d") + `]}`}, `{"v":[` + list(100*scale, "%d") + `]}`},
		{"array × array, arrays", []string{`{"v":[` + list(256, "[-%d]") + `]}`}, `{"v":[` + list(100*scale, "[%d]") + `]}`},
		{"array × array, objects", []string{`{"v":[` + list(256, `{"k":-%d}`) + `]}`}, `{"v":[` + list(100*scale, `{"k":%d}`) + `]}`},
		{"array × array, prefixes", []string{`{"v":[` + list(256, `{"$prefix":"y%d"}`) + `]}`}, `{"v":[` + list(100*scale, `"x%d"`) + `]}`},
	}
}

// hostile measures what the worst events cost, against reading their columns, and the
// elements and members of these, with gjson: two passes over the bytes. The cost against
// one pass, which only finds the columns, is noted besides.
func (b *bench) hostile() error {
	scale := 1000
	if b.short {
		scale = 20
	}
	for _, a := range attacks(scale) {
		index := filters.NewIndex[int32]()
		for i, src := range a.filters {
			f, err := compiled(src)
			if err != nil {
				return err
			}
			index.Add(filters.Key{Type: "thing.created"}, f, int32(i))
		}
		p := &pool{index: index, events: []event{{kind: "thing.created", op: filters.OpInsert, data: []byte(a.data)}}}
		var ratio, pass, took samples
		for range min(b.rounds, 5) {
			skim := once(func() { read(gjson.Parse(a.data), 1) })
			scan := once(func() { read(gjson.Parse(a.data), 2) })
			match := once(p.askAll)
			took = append(took, float64(match))
			ratio, pass = append(ratio, float64(match)/float64(scan)), append(pass, float64(match)/float64(skim))
		}
		b.report.Figure("hostile: "+a.name, "ns/event", took)
		b.report.Figure("hostile: "+a.name+" / finding its columns", "ratio", pass)
		b.report.Goal("G11", a.name+" / reading it", ratio, "≤ 10", 10, 0)
	}
	return nil
}

// once returns the least processor time of three runs.
func once(f func()) time.Duration {
	least := time.Hour
	for range 3 {
		begin := cpuTime()
		f()
		least = min(least, cpuTime()-begin)
	}
	return max(least, time.Microsecond)
}

// read has gjson read the outer levels of a value: each takes a pass over the bytes,
// whatever is nested in them.
func read(v gjson.Result, levels int) {
	v.ForEach(func(_, value gjson.Result) bool {
		if value.Type == gjson.JSON && levels > 1 {
			read(value, levels-1)
		}
		return true
	})
}
