package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/dot-do/relay/filters"
)

// subscription is one filter with the event type it is for.
type subscription struct {
	kind   string
	owners []string
	filter string
}

func (s *subscription) key() filters.Key { return filters.Key{Type: s.kind, Owners: s.owners} }

// workload draws filters and events from the same distributions. How many values
// there are grows with the number of filters, so that the matches of an event do not.
type workload struct {
	name  string
	about string
	// world fixes the distributions for n filters.
	world func(n int) world
	most  int // filters, 0 for no limit
}

// sizes leaves out the sizes that are too much for a workload.
func (w workload) sizes(all []int) []int {
	return slices.DeleteFunc(slices.Clone(all), func(n int) bool { return w.most > 0 && n > w.most })
}

// world draws filters and events.
type world interface {
	subscription(r *rand.Rand) subscription
	// event draws the event type, who it is for, and the row.
	event(r *rand.Rand) (kind, owner string, v row)
}

func workloads() []workload {
	return []workload{
		{name: "W0", about: "one column of many values; five filters for each value", world: func(n int) world { return &oneField{values: n / 5} }},
		{name: "W1", about: "event type, ns and type, Zipf values", world: func(n int) world { return newThings(n) }},
		{name: "W2", about: "70 % W1, 10 % prefix, 10 % range, 5 % exists, 5 % anything-but, all with ns", world: func(n int) world { return &mixed{newThings(n)} }},
		{name: "W3", about: "1 to 4 of 16 fields at random, five event types", world: func(n int) world { return newFields(n, 5, 0) }},
		{name: "W3p", about: "1 to 4 of 16 fields at random, one event type, one condition in four a prefix", world: func(n int) world { return newFields(n, 1, 0.25) }, most: 100_000},
		{name: "owners", about: "W1, each filter of a user and a tenant; the events are for one tenant", world: func(n int) world { return &owned{newThings(n), max(1, n/10), max(1, n/1000)} }},
	}
}

// byName returns the workload of that name.
func byName(name string) workload {
	all := workloads()
	return all[slices.IndexFunc(all, func(w workload) bool { return w.name == name })]
}

// subscriptions draws n filters, distinct ones if asked: then no two with the same text
// are for the same event type.
func (w workload) subscriptions(n int, distinct bool) []subscription {
	world, r := w.world(n), random(1, uint64(n))
	subs := make([]subscription, 0, n)
	seen := map[string]bool{}
	for len(subs) < n {
		s := world.subscription(r)
		if distinct {
			if seen[s.kind+s.filter] {
				continue
			}
			seen[s.kind+s.filter] = true
		}
		subs = append(subs, s)
	}
	return subs
}

// events draws events for n filters until their data has the given number of bytes;
// at least 256.
func (w workload) events(n, size, bytes int) []event {
	world, r := w.world(n), random(2, uint64(n), uint64(size))
	events := make([]event, max(256, bytes/size))
	for i := range events {
		kind, owner, v := world.event(r)
		e := event{kind: kind, owner: owner, op: filters.OpInsert}
		e.data = appendRow(make([]byte, 0, size+64), r, v, size)
		if i%5 == 4 {
			e.op = filters.OpUpdate
			e.before = append(appendTime(fmt.Appendf(nil, `{"count":%d,"updated_at":"`, v.count+1), r), `"}`...)
		}
		events[i] = e
	}
	return events
}

// zipf draws ranks from 0 with a probability proportional to (rank+1)^-s.
type zipf []float64 // cumulated

func newZipf(values int, s float64) zipf {
	z := make(zipf, values)
	sum := 0.0
	for i := range z {
		sum += math.Pow(float64(i+1), -s)
		z[i] = sum
	}
	for i := range z {
		z[i] /= sum
	}
	return z
}

func (z zipf) draw(r *rand.Rand) int {
	i, _ := slices.BinarySearch(z, r.Float64())
	return min(i, len(z)-1)
}

// meet is the probability that two draws are equal.
func (z zipf) meet() float64 {
	sum, before := 0.0, 0.0
	for _, c := range z {
		sum += (c - before) * (c - before)
		before = c
	}
	return sum
}

// oneField is W0.
type oneField struct{ values int }

func (w *oneField) subscription(r *rand.Rand) subscription {
	return subscription{kind: "thing.created", filter: fmt.Sprintf(`{"id":"15-%07d"}`, r.IntN(w.values))}
}

func (w *oneField) event(r *rand.Rand) (string, string, row) {
	v := drawRow(r)
	v.id = fmt.Sprintf("15-%07d", r.IntN(w.values))
	return "thing.created", "", v
}

func drawRow(r *rand.Rand) row {
	return row{
		ns: "onet", id: fmt.Sprintf("%02d-%04d.%02d", r.IntN(100), r.IntN(1e4), r.IntN(100)), kind: "Function",
		count: r.IntN(10_000), cents: r.IntN(100_000), optional: uint16(r.Uint32() & r.Uint32() & r.Uint32()),
	}
}

// things is W1.
type things struct{ kinds, spaces, types zipf }

// newThings has twenty event types, and so many namespaces and types that four of n
// filters are expected to match an event.
func newThings(n int) *things {
	const skew, namespacesPerType = 0.7, 3
	w := &things{kinds: newZipf(20, 1)}
	want := 4 / (float64(n) * w.kinds.meet())
	for types := 1; ; types += 1 + types/50 {
		w.types, w.spaces = newZipf(types, skew), newZipf(namespacesPerType*types, skew)
		if w.types.meet()*w.spaces.meet() <= want {
			return w
		}
	}
}

func (w *things) kind(r *rand.Rand) string {
	i := w.kinds.draw(r)
	return [...]string{"thing", "function", "agent", "workflow", "relationship"}[i%5] + [...]string{".created", ".updated", ".deleted", ".changed"}[i/5]
}
func (w *things) space(r *rand.Rand) string { return fmt.Sprintf("space-%d", w.spaces.draw(r)) }
func (w *things) typ(r *rand.Rand) string   { return fmt.Sprintf("Type%d", w.types.draw(r)) }

func (w *things) subscription(r *rand.Rand) subscription {
	return subscription{kind: w.kind(r), filter: fmt.Sprintf(`{"ns":%q,"type":%q}`, w.space(r), w.typ(r))}
}

func (w *things) event(r *rand.Rand) (string, string, row) {
	v := drawRow(r)
	v.ns, v.kind = w.space(r), w.typ(r)
	return w.kind(r), "", v
}

// mixed is W2.
type mixed struct{ *things }

func (w *mixed) subscription(r *rand.Rand) subscription {
	s := subscription{kind: w.kind(r)}
	other := ""
	switch p := r.IntN(100); {
	case p < 70:
		other = fmt.Sprintf(`"type":%q`, w.typ(r))
	case p < 80:
		other = fmt.Sprintf(`"id":{"$prefix":%q}`, drawRow(r).id[:1+r.IntN(7)])
	case p < 85:
		low := r.IntN(10_000)
		other = fmt.Sprintf(`"count":{"$gte":%d,"$lt":%d}`, low, low+1+r.IntN(500))
	case p < 90:
		low := r.IntN(1000)
		other = fmt.Sprintf(`"price":{"$gt":%d.5,"$lte":%d}`, low, low+1+r.IntN(50))
	case p < 95:
		other = fmt.Sprintf(`"data":{%q:{"$exists":true}}`, optionalKey(r.IntN(16)))
	case p < 97:
		other = fmt.Sprintf(`"type":{"$ne":%q}`, w.typ(r))
	default:
		other = fmt.Sprintf(`"type":{"$nin":[%q,%q]}`, w.typ(r), w.typ(r))
	}
	s.filter = fmt.Sprintf(`{"ns":%q,%s}`, w.space(r), other)
	return s
}

// owned is W1 with owners: whoever asks for a tenant sees only that tenant's filters.
type owned struct {
	*things
	users, tenants int
}

func (w *owned) subscription(r *rand.Rand) subscription {
	s := w.things.subscription(r)
	user := r.IntN(w.users)
	s.owners = []string{fmt.Sprint("u:user_", user), fmt.Sprint("t:tenant_", user%w.tenants)}
	return s
}

func (w *owned) event(r *rand.Rand) (string, string, row) {
	kind, _, v := w.things.event(r)
	return kind, fmt.Sprint("t:tenant_", r.IntN(w.tenants)), v
}

// fields is W3: whatever is the most selective field of a filter, others share its
// value, and the filters of one event have thousands of different sets of fields.
type fields struct {
	kinds  int
	prefix float64 // share of conditions that are a prefix
	least  int     // a filter is not drawn if its fields have fewer combinations
}

// newFields keeps the matches of an event bounded: filters that most events would
// match are not drawn.
func newFields(n, kinds int, prefix float64) *fields {
	return &fields{kinds: kinds, prefix: prefix, least: max(40, n/500)}
}

// values is how many values field i has: a few, more, and many.
func (w *fields) values(i int) int {
	switch i % 3 {
	case 0:
		return 16
	case 1:
		return 256
	default:
		return 2048
	}
}

// fieldValue has as many hexadecimal digits as the field needs, so that a prefix one
// digit shorter stands for 16 values.
func (w *fields) value(i int, r *rand.Rand) string {
	v := r.IntN(w.values(i))
	return fmt.Sprintf("%0*x", len(fmt.Sprintf("%x", w.values(i)-1)), v)
}

func (w *fields) subscription(r *rand.Rand) subscription {
	for {
		chosen := r.Perm(16)[:1+r.IntN(4)]
		slices.Sort(chosen)
		combinations := 1.0
		var columns, inside []string
		for _, i := range chosen {
			combinations *= float64(w.values(i))
			v := w.value(i, r)
			condition := fmt.Sprintf("%q:%q", fieldName(i), v)
			if r.Float64() < w.prefix && len(v) > 1 {
				condition = fmt.Sprintf(`%q:{"$prefix":%q}`, fieldName(i), v[:len(v)-1])
				combinations /= 16
			}
			if i < 8 {
				columns = append(columns, condition)
			} else {
				inside = append(inside, condition)
			}
		}
		if combinations < float64(w.least) {
			continue
		}
		if inside != nil {
			columns = append(columns, `"data":{`+strings.Join(inside, ",")+`}`)
		}
		return subscription{kind: w.kindName(r), filter: "{" + strings.Join(columns, ",") + "}"}
	}
}

func (w *fields) kindName(r *rand.Rand) string { return fmt.Sprintf("sample.kind%d", r.IntN(w.kinds)) }

func (w *fields) event(r *rand.Rand) (string, string, row) {
	v := drawRow(r)
	v.fields = make([]string, 16)
	for i := range v.fields {
		v.fields[i] = w.value(i, r)
	}
	return w.kindName(r), "", v
}

// shapes counts the different sets of fields, with the operator on each, that the
// filters of one event type ask for, added up over the types.
func shapes(subs []subscription) int {
	seen := map[string]bool{}
	var shape []byte
	for _, s := range subs {
		shape = append(shape[:0], s.kind...)
		for i, part := range strings.Split(s.filter, `"`) {
			if i%2 == 1 && (strings.HasPrefix(part, "f") && len(part) == 3 || strings.HasPrefix(part, "$")) {
				shape = append(append(shape, ' '), part...)
			}
		}
		seen[string(shape)] = true
	}
	return len(seen)
}
