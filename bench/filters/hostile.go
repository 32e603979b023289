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

// hostile measures what the worst events cost, against reading them once.
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
		var ratio, took samples
		for range min(b.rounds, 5) {
			read := once(func() { readOnce(a.data) })
			match := once(p.askAll)
			ratio, took = append(ratio, float64(match)/float64(read)), append(took, float64(match))
		}
		b.report.figure("hostile: "+a.name, "ns/event", took)
		b.report.goal(goal{"G11", a.name + " / reading it once", ratio, "≤ 10", 10, 0})
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

// readOnce has gjson find the members of the outermost value, which passes every byte
// once, whatever is nested in it.
func readOnce(data string) {
	gjson.Parse(data).ForEach(func(_, _ gjson.Result) bool { return true })
}
