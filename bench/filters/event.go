package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/dot-do/relay/filters"
)

// The sizes of an event's data in bytes.
const (
	smallEvent = 983
	largeEvent = 8470
)

// event is one event as the index is asked about it.
type event struct {
	kind   string // event type
	owner  string
	op     filters.Op
	data   []byte
	before []byte // of an update: the columns that changed
}

// row is what the filters of the workloads look at; the rest of an event is drawn.
type row struct {
	ns, id, kind string
	count, cents int
	optional     uint16   // which of the 16 optional keys are in data
	fields       []string // the 16 fields of W3: the first half are columns, the others in data
}

// random is a source that gives the same numbers in every run.
func random(seed ...uint64) *rand.Rand {
	var s uint64
	for _, part := range seed {
		s = s*1_000_003 + part
	}
	return rand.New(rand.NewPCG(s, 17)) //nolint:gosec // every run must draw the same
}

// appendRow writes a row of about size bytes the way the relay renders one: columns
// without blanks, values of jsonb columns as Postgres prints them.
func appendRow(b []byte, r *rand.Rand, v row, size int) []byte {
	from := len(b)
	b = append(b, `{"ns":"`+v.ns+`","id":"`+v.id+`","type":"`+v.kind+`","code":null,"count":`...)
	b = strconv.AppendInt(b, int64(v.count), 10)
	b = fmt.Appendf(b, `,"price":%d.%02d`, v.cents/100, v.cents%100)
	for i := range len(v.fields) / 2 {
		b = fmt.Appendf(b, `,%q:%q`, fieldName(i), v.fields[i])
	}
	b = fmt.Appendf(b, `,"visibility":"public","user_id":"user_%06d","tenant_id":"%08x-%04x-4%03x-9%03x-%012x"`,
		r.IntN(1e6), r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Uint64()&(1<<48-1))
	b = appendTime(append(b, `,"created_at":"`...), r)
	b = appendTime(append(b, `","updated_at":"`...), r)
	b = append(b, `","data":`...)
	const tail = 180 // about what data takes beyond its links
	rest := size - (len(b) - from) - tail - len(v.fields)*8
	b = appendData(b, r, v, rest/4)
	b = append(b, `,"content":"`...)
	b = appendProse(b, r, size-(len(b)-from)-2)
	return append(b, '"', '}')
}

// appendData writes a jsonb value: keys by length and then by bytes.
func appendData(b []byte, r *rand.Rand, v row, links int) []byte {
	b = append(b, '{')
	for i := len(v.fields) / 2; i < len(v.fields); i++ {
		b = fmt.Appendf(b, `%q: %q, `, fieldName(i), v.fields[i])
	}
	for i := range 16 {
		if v.optional>>i&1 == 1 {
			b = fmt.Appendf(b, `%q: %d, `, optionalKey(i), r.IntN(100))
		}
	}
	b = fmt.Appendf(b, `"tags": ["%s", "%s", "%s"], "links": [`, word(r), word(r), word(r))
	for from := len(b); len(b)-from < links; {
		if len(b) > from {
			b = append(b, ", "...)
		}
		b = fmt.Appendf(b, `{"rel": "%s", "href": "/things/%d", "size": %d.%d0}`, word(r), r.IntN(1e6), r.IntN(500), r.IntN(10))
	}
	b = fmt.Appendf(b, `], "owner": {"plan": "%s", "seats": %d, "active": %t}, "title": "`, word(r), r.IntN(500), r.IntN(2) == 0)
	b = appendProse(b, r, 40)
	return fmt.Appendf(b, `", "scores": [%d, %d.5, null], "status": "%s"}`, r.IntN(10), r.IntN(10), word(r))
}

func appendTime(b []byte, r *rand.Rand) []byte {
	return fmt.Appendf(b, "2026-%02d-%02dT%02d:%02d:%02d.%06dZ", 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1e6))
}

// appendProse writes about n bytes of text: words, and now and then what must be escaped.
func appendProse(b []byte, r *rand.Rand, n int) []byte {
	end := len(b) + n
	for len(b) < end-12 {
		switch r.IntN(24) {
		case 0:
			b = append(b, `\n`...)
		case 1:
			b = append(b, `\"so\" `...)
		case 2:
			b = append(b, "café "...)
		default:
			b = append(append(b, word(r)...), ' ')
		}
	}
	for len(b) < end {
		b = append(b, '.')
	}
	return b
}

func word(r *rand.Rand) string {
	return [...]string{
		"software", "developers", "research", "design", "and", "of", "the", "network", "systems", "analysis",
		"engineering", "user", "needs", "apply", "principles", "to", "a", "program", "update", "principal",
	}[r.IntN(20)]
}

func fieldName(i int) string   { return fmt.Sprintf("f%02d", i) }
func optionalKey(i int) string { return fmt.Sprintf("k%02d", i) }

// asFilter is the event as the index takes it. Making it belongs to what is measured.
func (e *event) asFilter() filters.Event {
	f := filters.Event{Op: e.op, Data: filters.NewDoc(e.data, nil)}
	if e.op == filters.OpUpdate {
		f.Before, f.Partial = filters.NewDoc(e.before, nil), true
	}
	return f
}
