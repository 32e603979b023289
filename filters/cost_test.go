package filters_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/dot-do/relay/filters"
)

// thing is an ordinary row of about 1 KB as it is published.
const thing = `{"id": "15-1252.00", "ns": "onet", "type": "Function", "count": 12, "price": 19.90, "active": true, "deleted_at": null,
 "created_at": "2026-11-23T10:00:00.123456Z", "tenant_id": "7b6c1c1e-3a60-4f5e-9d0a-2f0f6a1b7c11", "visibility": "public",
 "title": "Software developers research, design and develop computer and network software or specialised utility programs",
 "content": "They analyse user needs and develop software solutions, applying principles and techniques of computer science, engineering and mathematical analysis. They update software or enhance existing software capabilities.",
 "tags": ["engineering", "software", "computing", "analysis"],
 "data": {"owner": {"plan": "pro", "seats": 25, "since": "2020-01-01"}, "scores": [1, 2.5, 3], "links": [{"rel": "self", "href": "/things/1"}, {"rel": "next", "href": "/things/2"}]},
 "updated_at": "2026-11-23T10:00:01.654321Z"}`

var thingFilters = map[string]string{
	"one column":    `{"type":"Function"}`,
	"four columns":  `{"ns":"onet","type":"Function","count":12.0,"deleted_at":null}`,
	"nested object": `{"ns":"onet","data":{"owner":{"plan":"pro","seats":25}}}`,
	"arrays":        `{"tags":["software","computing"],"data":{"links":[{"rel":"next"}],"scores":[2.50]}}`,
}

func TestMatchingAnOrdinaryRowAllocatesNothing(t *testing.T) {
	doc := []byte(thing)
	for name, src := range thingFilters {
		f := compile(t, src)
		require.Equal(t, filters.Yes, f.Match(doc), name)
		require.LessOrEqual(t, testing.AllocsPerRun(100, func() { f.Match(doc) }), float64(mayAllocate), name)
	}
	f := compile(t, `{"content":"x","ns":"onet"}`)
	unavailable := []string{"content"}
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { f.MatchDoc(filters.NewDoc(doc, unavailable)) }), float64(mayAllocate))
}

func TestAMatchThatWouldTakeTooLongIsUnknown(t *testing.T) {
	elements := func(n int, format string) string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf(format, i)
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	doc := []byte(`{"v":` + elements(100_000, `{"x":1,"k":%d}`) + `}`)
	many := compile(t, `{"v":`+elements(200, `{"k":-%d}`)+`}`)
	require.Equal(t, filters.Unknown, many.Match(doc))
	require.Equal(t, filters.Yes, compile(t, `{"v":`+elements(5, `{"x":1,"k":9999%d}`)+`}`).Match(doc))
	require.Equal(t, filters.No, compile(t, `{"v":`+elements(2, `{"x":2,"k":%d}`)+`}`).Match(doc))
	// Scalars are looked up, so their number does not matter.
	numbers := []byte(`{"v":` + elements(100_000, `%d`) + `}`)
	require.Equal(t, filters.Yes, compile(t, `{"v":`+elements(256, `99%03d.0`)+`}`).Match(numbers))
	require.Equal(t, filters.No, compile(t, `{"v":`+elements(256, `-%d.5`)+`}`).Match(numbers))
}

// TestHostileInputCostsNoMoreThanReadingIt bounds the time in units of what gjson needs to
// read the same bytes. Goal and limit are far apart because other work shares the machine.
func TestHostileInputCostsNoMoreThanReadingIt(t *testing.T) {
	const size = 2 << 20
	repeat := func(before, unit, after string) []byte {
		return []byte(before + strings.Repeat(unit, size/len(unit)) + after)
	}
	filter := func(before, format, after string, n int) *filters.Filter {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf(format, i)
		}
		return compile(t, before+strings.Join(list, ",")+after)
	}
	for name, c := range map[string]struct {
		filter *filters.Filter
		doc    []byte
		want   filters.Verdict
	}{
		"opening brackets":  {compile(t, `{"a":1}`), []byte(strings.Repeat("[", 12<<20)), filters.No},
		"opening objects":   {compile(t, `{"a":1}`), repeat("", `{"a":`, ""), filters.No},
		"one long key":      {compile(t, `{"a":1}`), repeat(`{"`, "k", `":1,"a":1}`), filters.Yes},
		"one long escape":   {compile(t, `{"a":"\\"}`), repeat(`{"a":"`, `\\`, `"}`), filters.No},
		"duplicate keys":    {compile(t, `{"a":{"b":[1]}}`), repeat(`{`, `"a":{"b":[1]},`, `"a":{"b":[1]}}`), filters.Yes},
		"escaped keys":      {filter("{", `"a%d":1`, "}", 256), repeat(`{`, `"\u0061":1,`, `"a":1}`), filters.No},
		"short keys":        {filter("{", `"a%d":1`, "}", 256), repeat(`{`, `"a1":1,`, `"a":1}`), filters.No},
		"one long number":   {compile(t, `{"a":1}`), repeat(`{"a":1`, "0", `}`), filters.No},
		"one long fraction": {compile(t, `{"a":1}`), repeat(`{"a":1.`, "0", `}`), filters.Yes},
		"many numbers":      {filter(`{"a":[`, "1%d", "]}", 256), repeat(`{"a":[`, "1e0,", `1]}`), filters.No},
		"many strings":      {filter(`{"a":[`, `"x%d"`, "]}", 256), repeat(`{"a":[`, `"x",`, `1]}`), filters.No},
		"many objects":      {filter(`{"a":[`, `{"x":%d}`, "]}", 256), repeat(`{"a":[`, `{"x":-1},`, `1]}`), filters.Unknown},
		"empty objects":     {filter(`{"a":[`, `{"x":%d}`, "]}", 256), repeat(`{"a":[`, `{},`, `1]}`), filters.Unknown},
		"array of arrays":   {filter(`{"a":[`, `[%d]`, "]}", 256), repeat(`{"a":[`, `[-1],`, `1]}`), filters.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			// Other work on the machine can spoil a measurement, but not every one of five.
			for rounds := 5; ; rounds-- {
				reading := fastest(func() { gjsonRead(c.doc) })
				matching := fastest(func() { require.Equal(t, c.want, c.filter.Match(c.doc)) })
				t.Logf("%.1f × reading (%v)", float64(matching)/float64(reading), matching)
				if matching < 20*reading {
					return
				}
				require.NotEqual(t, 1, rounds, "at least 20 × reading in every round")
			}
		})
	}
}

// fastest returns the shortest of three runs.
func fastest(f func()) time.Duration {
	best := time.Hour
	for range 3 {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	return best
}

// gjsonRead walks a text with gjson, four levels deep at most, because each level is
// read again from its beginning.
func gjsonRead(doc []byte) {
	var walk func(v gjson.Result, levels int)
	walk = func(v gjson.Result, levels int) {
		v.ForEach(func(_, value gjson.Result) bool {
			if value.Type == gjson.JSON && levels > 1 {
				walk(value, levels-1)
			}
			return true
		})
	}
	walk(gjson.ParseBytes(doc), 4)
}

func BenchmarkMatch(b *testing.B) {
	doc := []byte(thing)
	for name, src := range thingFilters {
		f := compile(b, src)
		b.Run("check and match/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				f.Match(doc)
			}
		})
		b.Run("match/"+name, func(b *testing.B) {
			ready := filters.NewDoc(doc, nil)
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				f.MatchDoc(ready)
			}
		})
	}
	b.Run("anchor/gjson.ValidBytes", func(b *testing.B) {
		b.SetBytes(int64(len(doc)))
		for b.Loop() {
			gjson.ValidBytes(doc)
		}
	})
	b.Run("anchor/gjson walk", func(b *testing.B) {
		b.SetBytes(int64(len(doc)))
		for b.Loop() {
			gjsonRead(doc)
		}
	})
	b.Run("anchor/encoding json", func(b *testing.B) {
		b.SetBytes(int64(len(doc)))
		b.ReportAllocs()
		for b.Loop() {
			dec := json.NewDecoder(bytes.NewReader(doc))
			dec.UseNumber()
			var v any
			require.NoError(b, dec.Decode(&v))
		}
	})
}

func BenchmarkNewDoc(b *testing.B) {
	doc := []byte(thing)
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		filters.NewDoc(doc, nil)
	}
}
