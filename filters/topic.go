package filters

import (
	"strings"
	"sync/atomic"
)

// topic is what an index knows of one event type.
//
// Matches and changes run at the same time, so the order of steps matters. A change makes
// fields first, then takes a stamp for what will use them, then publishes it; it takes
// away in the opposite order. A match notes the stamp first, then reads the row, then
// looks for filters, and passes by what is newer than its stamp: its slots may be new or
// have another meaning now.
type topic[T comparable] struct {
	name   string
	stamp  *atomic.Uint64
	newest atomic.Uint64 // stamp of what was made last: shapes and bound filters
	data   tree
	old    tree

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
	told      bool    // the route says everything but the ends of its range, not and rest
	not       string  // encoded: scalars that values must not equal, see excludes
	rest      []int32 // parts of the filter, which must all hold
	gone      atomic.Bool
	dear      atomic.Bool // it needed more than quick work the last time
}

// hashID is the hash of a shape among shapes.
func hashID(s *shape) uint64 { return mix(uint64(s.id), 1<<59) }

// shapeByID returns a shape, nil for one that is gone.
func (t *topic[T]) shapeByID(id uint32) *shape {
	q := t.byID.find(mix(uint64(id), 1<<59))
	for s := q.next(); s != nil; s = q.next() {
		if s.id == id {
			return s
		}
	}
	return nil
}

// newShape makes a shape, which holds its fields from now on.
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
		s.base += presence(f.slot)
	}
	s.fields = append(s.fields, present...)
	if ranged != nil {
		s.ranged = ranged.slot
		s.base += inRange(s.ranged, order)
		s.fields = append(s.fields, ranged)
	}
	for _, f := range s.fields {
		f.retain()
	}
	s.born = t.made()
	t.shapes[s.key] = s
	t.byID.put(s, hashID)
	return s
}

// made returns a stamp for something that is about to be published.
func (t *topic[T]) made() uint64 {
	stamp := t.stamp.Add(1)
	t.newest.Store(stamp)
	return stamp
}

// dropShape lets go of a shape that nobody uses.
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
		b.told = b.routes[0].tells(&p.root, b) || b.exclude(&p.root)
	}
	if !b.several && p.root.op == condAll {
		b.told = true
		for i := range p.root.subs {
			c := &p.root.subs[i]
			if b.routes[0].tells(c, b) || b.exclude(c) {
				continue
			}
			b.rest = append(b.rest, int32(i))
		}
	}
	b.born = t.made()
	t.bounds[f.text] = b
	return b
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
