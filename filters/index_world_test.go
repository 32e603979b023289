package filters_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dot-do/relay/filters"
)

// world makes filters and events that have to do with each other: the filters are about
// a few events, and the events are like those.
type world struct {
	*generator
	bases []happening
	texts []string // filters that were made, to make equal ones

	asked, yes, unknown int
}

func newWorld(seed uint64) *world {
	w := &world{generator: newGenerator(seed, 5)}
	for range 6 {
		w.bases = append(w.bases, w.happening())
	}
	for range 2 {
		w.bases = append(w.bases, w.wideEvent())
	}
	return w
}

// wideEvent has a row of many columns with few values each.
func (w *world) wideEvent() happening {
	e := happening{op: w.op()}
	for i := range 16 {
		e.data = append(e.data, pair{fmt.Sprintf("f%d", i), w.fieldValue(i)})
	}
	e.before = w.changeRow(e.data)
	return e
}

func (w *world) fieldValue(i int) any {
	if i%4 == 3 {
		return decimalText{digits: fmt.Sprint(1 + w.IntN(40))}
	}
	return fmt.Sprintf("%s%d", strings.Repeat("v", i%3), w.IntN(1+i))
}

// wideFilter asks for one to four columns: an equality as a rule, else a prefix, a range or
// several, a list or absence. There are thousands of combinations.
func (w *world) wideFilter() members {
	var f members
	for range 1 + w.IntN(4) {
		i := w.IntN(16)
		name := fmt.Sprintf("f%d", i)
		if f.has(name) {
			continue
		}
		value := w.fieldValue(i)
		switch text, isText := value.(string); {
		case w.chance(60):
		case w.chance(10):
			value = members{{"$exists", w.chance(70)}}
		case w.chance(25): // several ways to one filter
			list := make([]any, 2+w.IntN(2))
			for j := range list {
				list[j] = w.bounds(w.fieldValue(i), w.fieldValue(i))
			}
			value = members{{"$or", list}}
		case w.chance(20):
			value = members{{pick(w.generator, []string{"$in", "$nin"}), []any{value, w.fieldValue(i)}}}
		case w.chance(10):
			value = members{{"$ne", value}}
		case isText:
			value = members{{"$prefix", text[:1+w.IntN(len(text))]}}
		default:
			value = w.bounds(value, w.fieldValue(i))
		}
		f = append(f, pair{name, value})
	}
	return f
}

// bounds asks for a range, open at one end or closed, sometimes for one value.
func (w *world) bounds(low, high any) members {
	switch w.IntN(5) {
	case 0:
		return members{{"$lt", high}}
	case 1:
		return members{{"$gt", low}}
	case 2:
		return members{{"$eq", low}}
	default:
		return members{{"$gte", low}, {"$lte", high}}
	}
}

// filter returns a compiled filter: a new one, or one that equals an earlier one.
func (w *world) filter(t testing.TB) *filters.Filter {
	if len(w.texts) > 0 && w.chance(20) {
		return compile(t, pick(w.generator, w.texts))
	}
	var text string
	switch n := w.IntN(100); {
	case n < 2:
		text = `{}`
	case n < 40:
		text = write(w.wideFilter(), w.Uint64(), false)
	default:
		text = write(w.inquiry(pick(w.generator, w.bases)), w.Uint64(), false)
		w.known = nil
	}
	w.texts = append(w.texts, text)
	return compile(t, text)
}

func (w *world) entry(t testing.TB, id int) entry {
	owners := slices.Clone(someOwners[:w.IntN(3)])
	if w.chance(50) {
		owners = []string{pick(w.generator, someOwners)}
	}
	return entry{filters.Key{Type: pick(w.generator, someTypes), Owners: owners}, w.filter(t), id}
}

var (
	someTypes  = []string{"thing.created", "thing.updated", "a"}
	someOwners = []string{"u:1", "u:2", "t:1", "u:1 "}
)

// event is one of the events in any of the forms they come in.
func (w *world) event(t testing.TB) filters.Event {
	base := pick(w.generator, w.bases)
	if w.chance(80) {
		base = w.like(base)
	}
	tr := base.trial(w.Uint64())
	if w.chance(40) {
		if part, ok := base.partial(w.generator, tr, tr.slow(t)); ok {
			return part
		}
	}
	e := tr.event()
	switch n := w.IntN(100); {
	case n < 3:
		e.Data = filters.Doc{}
	case n < 6:
		e.Data = filters.NewDoc([]byte(tr.data+pick(w.generator, []string{"x", "}", ","})), tr.unsent)
	case n < 8:
		e.Data = filters.NewDoc([]byte("["+tr.data+"]"), nil)
	case n < 14:
		e.Before = filters.Doc{}
	}
	return e
}
