package filters

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync/atomic"
)

// tree is the fields that the filters of one event type read of a row.
type tree struct {
	root  *field
	slots slots
	size  atomic.Int32 // slots made so far, for those who read rows
}

func (t *tree) init() {
	t.root = &field{}
	t.slots.made = 1
	t.size.Store(1)
}

// keep returns the field at the end of a path, and of the paths from its elements on, with
// one user more.
func (t *tree) keep(keys path, below []path) *field {
	f := t.root
	for _, key := range keys {
		f = f.kid(key, &t.slots)
	}
	for _, keys := range below {
		f = f.element(&t.slots)
		for _, key := range keys {
			f = f.kid(key, &t.slots)
		}
	}
	f.retain()
	t.size.Store(t.slots.made)
	return f
}

func (t *tree) release(fields []*field) {
	for _, f := range fields {
		f.release(&t.slots)
	}
}

// find returns the field of a path, nil when there is none.
func (t *tree) find(keys path) *field {
	f := t.root
	for _, key := range keys {
		kids := f.kids.Load()
		if kids == nil {
			return nil
		}
		if f = kids.get(key); f == nil {
			return nil
		}
	}
	return f
}

// topic is what an index knows of one event type.
//
// Matches and changes run at the same time, so the order of steps matters. A change makes
// fields first, then takes a stamp for what will use them, then publishes it; it takes
// away in the opposite order. A match notes the stamp first, then reads the row, then
// looks for filters, and passes by what is newer than its stamp: its slots may be new or
// have another meaning now.
type topic[T comparable] struct {
	name  string
	stamp *atomic.Uint64
	data  tree
	old   tree

	shapes map[string]*shape
	byID   table[shape]
	lastID uint32
	bounds map[string]*bound // by the text of the filter
	wide   shelf[T]          // all filters of the type
	owners table[corner[T]]  // the same by owner
}

func newTopic[T comparable](name string, stamp *atomic.Uint64) *topic[T] {
	t := &topic[T]{name: strings.Clone(name), stamp: stamp, shapes: map[string]*shape{}, bounds: map[string]*bound{}}
	t.data.init()
	t.old.init()
	t.wide.topic = t
	return t
}

// route is one way to a filter: what is looked up, and the values that are looked for.
type route struct {
	shape     *shape
	values    string // encoded: the shape, then a value for each probe
	low, high uint64 // of a ranged shape
}

// bound is a filter with its places in the slots of a topic. One that asks for scalars only
// needs none: its route says everything.
type bound struct {
	filter    *Filter
	born      uint64 // stamp
	refs      int
	data, old []int32
	fields    []*field // of data, to be released
	oldFields []*field
	routes    []route
	several   bool    // more than one way may lead to it in one row
	told      bool    // the route says everything but the ends of its range, and rest
	rest      []int32 // parts of the filter, which must all hold
	gone      atomic.Bool
}

func hashID(s *shape) uint64 { return mix(uint64(s.id), 1<<59) }

func (t *topic[T]) shapeOf(values string) *shape {
	return t.shapeByID(binary.LittleEndian.Uint32([]byte(values[:4])))
}

func (t *topic[T]) shapeByID(id uint32) *shape {
	q := t.byID.find(mix(uint64(id), 1<<59))
	for s := q.next(); s != nil; s = q.next() {
		if s.id == id {
			return s
		}
	}
	return nil
}

// plain returns the route of a filter that asks for scalars only. With make it makes what
// is missing, else it returns nil for a filter that cannot be there.
func (t *topic[T]) plain(p *program, conds []cond, make bool) (route, bool) {
	var room [8]wanted
	list := room[:0]
	for i := range conds {
		f := t.data.find(p.data[conds[i].at])
		if f == nil && !make {
			return route{}, false
		}
		if f == nil {
			return t.route(p, p.ways()[0]), true
		}
		list = append(list, wanted{probe: probe{slot: f.slot}, field: f, with: &conds[i].with})
	}
	sortWanted(list)
	var key [64]byte
	s := t.shapes[string(appendShapeKey(key[:0], list, nil, nil, invalid))]
	if s == nil {
		if !make {
			return route{}, false
		}
		s = t.newShape(list, nil, nil, invalid)
	}
	return route{shape: s, values: encodeValues(s, list)}, true
}

// route makes a way to a filter.
func (t *topic[T]) route(p *program, way []need) route {
	var list []wanted
	var prefix, many *need
	var present []*field
	var ranged *field
	order := invalid
	r := route{high: allPoints}
	hold := func(n *need) *field { return t.data.keep(p.data[n.at], n.below) }
	var kept []*field
	taken := func(slot int32) bool {
		return slices.ContainsFunc(list, func(w wanted) bool { return w.slot == slot })
	}
	for i := range way {
		n := &way[i]
		switch {
		case n.op == needEqual && n.below != nil && many == nil:
			many = n
		case n.op == needEqual && n.below == nil:
			f := hold(n)
			kept = append(kept, f)
			if !taken(f.slot) {
				list = append(list, wanted{probe: probe{slot: f.slot}, field: f, with: n.with})
			}
		case n.op == needPrefix && (prefix == nil || len(n.with.text) > len(prefix.with.text)):
			prefix = n
		}
	}
	if many != nil {
		f := hold(many)
		kept = append(kept, f)
		list = append(list, wanted{probe: probe{slot: f.slot, many: true}, field: f, with: many.with})
	}
	if prefix != nil {
		f := hold(prefix)
		kept = append(kept, f)
		if !taken(f.slot) {
			list = append(list, wanted{probe: probe{slot: f.slot, prefix: int32(len(prefix.with.text))}, field: f, with: prefix.with}) //nolint:gosec // a filter is short
		}
	}
	if n := bestRange(way); n != nil {
		f := hold(n)
		kept = append(kept, f)
		if !taken(f.slot) {
			ranged, order, r.low, r.high = f, n.order, n.low, n.high
		}
	}
	for i := range way {
		if n := &way[i]; n.below == nil {
			f := hold(n)
			kept = append(kept, f)
			if !taken(f.slot) && f != ranged {
				present = append(present, f)
			}
		}
	}
	sortWanted(list)
	slices.SortFunc(present, func(a, b *field) int { return int(a.slot) - int(b.slot) })
	present = slices.Compact(present)
	r.shape = t.shapes[string(appendShapeKey(nil, list, present, ranged, order))]
	if r.shape == nil {
		r.shape = t.newShape(list, present, ranged, order)
	}
	r.values = encodeValues(r.shape, list)
	t.data.release(kept) // the shape holds them now
	return r
}

// bestRange joins the bounds of each value and returns the narrowest kind of them: both
// ends rather than one.
func bestRange(way []need) *need {
	var best *need
	for i := range way {
		n := way[i]
		if n.op != needRange {
			continue
		}
		for j := range way {
			if m := &way[j]; m.op == needRange && m.at == n.at && m.order == n.order {
				n.low, n.high = max(n.low, m.low), min(n.high, m.high)
			}
		}
		if best == nil || n.low > 0 && n.high < allPoints {
			best = &n
		}
	}
	return best
}

func (t *topic[T]) newShape(list []wanted, present []*field, ranged *field, order kind) *shape {
	for t.lastID++; t.shapeByID(t.lastID) != nil; t.lastID++ { // after 4 billion shapes
	}
	s := &shape{id: t.lastID, key: string(appendShapeKey(nil, list, present, ranged, order)), ranged: -1, order: order}
	for _, w := range list {
		s.probes = append(s.probes, w.probe)
		s.fields = append(s.fields, w.field)
	}
	for _, f := range present {
		s.present = append(s.present, f.slot)
	}
	s.fields = append(s.fields, present...)
	if ranged != nil {
		s.ranged = ranged.slot
		s.fields = append(s.fields, ranged)
	}
	for _, f := range s.fields {
		f.retain()
		s.anchors = append(s.anchors, f.slot)
	}
	s.born = t.stamp.Add(1)
	t.shapes[s.key] = s
	t.byID.put(s, hashID)
	return s
}

// drop lets go of a shape that nobody uses.
func (t *topic[T]) dropShape(s *shape) {
	if s.refs > 0 {
		return
	}
	delete(t.shapes, s.key)
	t.byID.drop(s, hashID(s))
	t.data.release(s.fields)
}

// bind returns the bound form of a filter, made when there is none.
func (t *topic[T]) bind(f *Filter) *bound {
	if b := t.bounds[f.text]; b != nil {
		return b
	}
	p := &f.program
	b := &bound{filter: f}
	for i := range p.data {
		keys, _ := scanned(p.data[i], i < len(p.dataIndexes) && p.dataIndexes[i])
		b.fields = append(b.fields, t.data.keep(keys, nil))
		b.data = append(b.data, b.fields[i].slot)
	}
	for i := range p.old {
		keys, _ := scanned(p.old[i], i < len(p.oldIndexes) && p.oldIndexes[i])
		b.oldFields = append(b.oldFields, t.old.keep(keys, nil))
		b.old = append(b.old, b.oldFields[i].slot)
	}
	for _, way := range p.ways() {
		r := t.route(p, way)
		r.shape.refs++
		b.routes = append(b.routes, r)
		b.several = b.several || len(r.shape.probes) > 0 && r.shape.probes[0].many
	}
	b.several = b.several || len(b.routes) > 1
	if !b.several && p.root.op != condAll {
		b.told = b.routes[0].tells(&p.root, b)
	}
	if !b.several && p.root.op == condAll {
		b.told = true
		for i := range p.root.subs {
			if !b.routes[0].tells(&p.root.subs[i], b) {
				b.rest = append(b.rest, int32(i)) //nolint:gosec // few
			}
		}
	}
	b.born = t.stamp.Add(1)
	t.bounds[f.text] = b
	return b
}

// tells reports whether the route of a filter says what one of its parts does.
func (r *route) tells(c *cond, b *bound) bool {
	switch c.op {
	case condEqual, condPrefix, condPresent, condAbove, condAtLeast, condBelow, condAtMost:
	default:
		return false
	}
	if c.old {
		return false
	}
	slot, values := b.data[c.at], r.values[4:]
	for _, p := range r.shape.probes {
		var rest string
		switch {
		case p.slot != slot:
		case c.op == condPresent:
			return true
		case c.op == condEqual && p.prefix == 0, c.op == condPrefix && p.prefix > 0:
			return strings.HasPrefix(values, string(c.with.encode(nil)))
		}
		_, rest = hashEncoded(values)
		values = rest
	}
	switch c.op {
	case condPresent:
		return slot == r.shape.ranged || slices.Contains(r.shape.present, slot)
	case condAbove, condAtLeast, condBelow, condAtMost:
		return slot == r.shape.ranged && c.with.kind == r.shape.order
	default:
		return false
	}
}

// unbind lets go of a bound filter that nobody uses.
func (t *topic[T]) unbind(b *bound) {
	if b.refs > 0 {
		return
	}
	delete(t.bounds, b.filter.text)
	b.gone.Store(true) // before its slots have another meaning
	for _, r := range b.routes {
		r.shape.refs--
		t.dropShape(r.shape)
	}
	t.data.release(b.fields)
	t.old.release(b.oldFields)
}
