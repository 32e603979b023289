package filters

import (
	"math"
	"sync/atomic"
)

// shelf is the filters of one event type, or those of one owner among them, arranged so
// that a row leads to those that may match it.
//
// A route is found by a hash of its shape and values. The few shapes that have many
// filters are direct: each row is looked up once for each. The routes of all other shapes
// are filed besides under one of their values (or under a value that must be there), the
// one that has the fewest, so that a row meets only shapes that share such a value with it.
type shelf[T comparable] struct {
	topic   *topic[T]
	uses    map[*shape]*use
	direct  atomic.Pointer[[]*use]
	spots   table[spot[T]]
	access  table[access]
	filed   atomic.Int64 // routes under access
	members map[*bound]*listed[T]
	loose   bag[*listed[T]] // filters that say nothing of a row by which to find them
}

// use is a shape on a shelf.
type use struct {
	shape *shape
	count int           // routes
	since atomic.Uint64 // stamp from which it is direct; 0 for never, becoming while it is made so
}

const (
	directMin = 256 // routes that make a shape direct
	directMax = 16  // shapes that are direct, at most
	becoming  = math.MaxUint64
)

// spot is what a route leads to. When more is nil, it is the one subscriber of a plain
// filter.
type spot[T comparable] struct {
	values string // one byte that says where it is filed, then those of the route
	one    T
	more   atomic.Pointer[contents[T]]
}

// contents are the subscribers of a plain filter, or other filters with their ranges.
type contents[T comparable] struct {
	subscribers bag[T]
	members     bag[*listed[T]]
	ranges      atomic.Pointer[interval[listed[T]]]
}

// listed is a filter that is not plain, with its subscribers.
type listed[T comparable] struct {
	*bound
	subscribers bag[T]
}

// access is where routes are filed that share a value.
type access struct {
	hash  uint64
	count int
	uses  atomic.Pointer[[]*filed]
}

// filed is the routes of one shape at an access. The bits of mask tell of hashes that are
// not there.
type filed struct {
	use   *use
	mask  atomic.Uint64
	count int
}

// Where a route is filed: the index of a probe, or this and the index of a slot that must
// have a value.
const (
	filedNowhere = 255
	filedPresent = 128
	filedSlots   = 100 // of each sort, that are looked at
)

func (s *shelf[T]) hashOf(e *spot[T]) uint64 {
	values := e.values[1:]
	return s.topic.shapeOf(values).hash(values)
}

func hashAccess(a *access) uint64 { return a.hash }

// spot returns the spot of a route, nil when there is none.
func (s *shelf[T]) spot(r *route, hash uint64) *spot[T] {
	q := s.spots.find(hash)
	for e := q.next(); e != nil; e = q.next() {
		if e.values[1:] == r.values {
			return e
		}
	}
	return nil
}

// addPlain adds a subscriber of a plain filter and reports whether it was missing.
func (s *shelf[T]) addPlain(r route, v T) bool {
	hash := r.shape.hash(r.values)
	e := s.spot(&r, hash)
	if e == nil {
		s.putSpot(&r, hash, &spot[T]{one: v})
		return true
	}
	c := e.more.Load()
	if c == nil {
		c = &contents[T]{}
		if e.one == v {
			return false
		}
		c.subscribers.put(e.one)
		c.subscribers.put(v)
		e.more.Store(c)
		return true
	}
	return c.subscribers.put(v)
}

func (s *shelf[T]) putSpot(r *route, hash uint64, e *spot[T]) {
	u := s.uses[r.shape]
	if u == nil {
		if s.uses == nil {
			s.uses = map[*shape]*use{}
		}
		u = &use{shape: r.shape}
		s.uses[r.shape] = u
		r.shape.refs++
	}
	u.count++
	where := s.file(u, r.values, hash)
	e.values = string(append(append(make([]byte, 0, 64), where), r.values...))
	s.spots.put(e, s.hashOf)
	if where != filedNowhere && u.count >= directMin {
		s.makeDirect(u)
	}
}

// makeDirect lets each row be looked up for the shape, if there is room for one more.
// What was filed before stays so; who meets it passes by.
func (s *shelf[T]) makeDirect(u *use) {
	var list []*use
	if old := s.direct.Load(); old != nil {
		list = *old
	}
	if len(list) >= directMax || u.since.Load() != 0 {
		return
	}
	next := append(append(make([]*use, 0, len(list)+1), list...), u)
	u.since.Store(becoming)
	s.direct.Store(&next)
	u.since.Store(s.topic.stamp.Add(1))
}

// file puts a route where it is found by one of its values, and returns where.
func (s *shelf[T]) file(u *use, values string, hash uint64) byte {
	if u.since.Load() != 0 {
		return filedNowhere
	}
	where, best := byte(filedNowhere), uint64(0)
	fewest := math.MaxInt
	consider := func(at byte, leaf uint64) {
		count := 0
		if a := s.accessOf(leaf); a != nil {
			count = a.count
		}
		if count < fewest {
			where, best, fewest = at, leaf, count
		}
	}
	values = values[4:]
	for i := range u.shape.probes {
		var leaf uint64
		leaf, values = u.shape.leaf(i, values)
		if i < filedSlots && u.shape.probes[i].prefix == 0 {
			consider(byte(i), leaf)
		}
	}
	if where == filedNowhere { // no value to be found by, only places that have one
		for i, slot := range u.shape.anchors {
			if i < filedSlots {
				consider(filedPresent+byte(i), presence(slot))
			}
		}
	}
	if where != filedNowhere {
		s.fileUnder(best, u, hash)
	}
	return where
}

func (s *shelf[T]) accessOf(hash uint64) *access {
	q := s.access.find(hash)
	for a := q.next(); a != nil; a = q.next() {
		if a.hash == hash {
			return a
		}
	}
	return nil
}

func (s *shelf[T]) fileUnder(leaf uint64, u *use, hash uint64) {
	s.filed.Add(1)
	a := s.accessOf(leaf)
	if a == nil {
		a = &access{hash: leaf}
		a.uses.Store(&[]*filed{})
		s.access.put(a, hashAccess)
	}
	a.count++
	uses := *a.uses.Load()
	for _, f := range uses {
		if f.use == u {
			f.count++
			f.mask.Store(f.mask.Load() | 1<<(hash>>58))
			return
		}
	}
	f := &filed{use: u, count: 1}
	f.mask.Store(1 << (hash >> 58))
	next := append(append(make([]*filed, 0, len(uses)+1), uses...), f)
	a.uses.Store(&next)
}

// dropSpot takes away a spot that leads to nothing.
func (s *shelf[T]) dropSpot(e *spot[T], r *route, hash uint64) {
	s.spots.drop(e, hash)
	u := s.uses[r.shape]
	if where := e.values[0]; where != filedNowhere {
		s.unfile(u, where, r.values)
	}
	if u.count--; u.count > 0 {
		return
	}
	delete(s.uses, r.shape)
	if u.since.Load() != 0 {
		next := make([]*use, 0, directMax)
		for _, other := range *s.direct.Load() {
			if other != u {
				next = append(next, other)
			}
		}
		s.direct.Store(&next)
	}
	r.shape.refs--
	s.topic.dropShape(r.shape)
}

func (s *shelf[T]) unfile(u *use, where byte, values string) {
	var leaf uint64
	if where >= filedPresent {
		leaf = presence(u.shape.anchors[where-filedPresent])
	} else {
		values = values[4:]
		for i := range int(where) + 1 {
			leaf, values = u.shape.leaf(i, values)
		}
	}
	s.filed.Add(-1)
	a := s.accessOf(leaf)
	if a.count--; a.count == 0 {
		s.access.drop(a, leaf)
		return
	}
	uses := *a.uses.Load()
	for i, f := range uses {
		if f.use != u {
			continue
		}
		if f.count--; f.count == 0 {
			next := append(append(make([]*filed, 0, len(uses)), uses[:i]...), uses[i+1:]...)
			a.uses.Store(&next)
		}
		return
	}
}

// dropPlain takes away a subscriber of a plain filter and reports whether it was there.
func (s *shelf[T]) dropPlain(r route, v T) bool {
	hash := r.shape.hash(r.values)
	e := s.spot(&r, hash)
	if e == nil {
		return false
	}
	c := e.more.Load()
	switch {
	case c == nil && e.one != v:
		return false
	case c != nil && !c.subscribers.drop(v):
		return false
	case c == nil || c.empty():
		s.dropSpot(e, &r, hash)
	}
	return true
}

func (c *contents[T]) empty() bool {
	return c.subscribers.size == 0 && c.members.size == 0 && c.ranges.Load() == nil
}

// add adds a subscriber of a filter that is not plain.
func (s *shelf[T]) add(b *bound, v T) bool {
	m := s.members[b]
	if m != nil {
		return m.subscribers.put(v)
	}
	if s.members == nil {
		s.members = map[*bound]*listed[T]{}
	}
	m = &listed[T]{bound: b}
	m.subscribers.put(v)
	s.members[b] = m
	b.refs++
	for i := range b.routes {
		s.addRoute(&b.routes[i], m)
	}
	return true
}

func (s *shelf[T]) addRoute(r *route, m *listed[T]) {
	if r.shape.open() {
		s.loose.put(m)
		return
	}
	hash := r.shape.hash(r.values)
	e := s.spot(r, hash)
	if e == nil {
		e = &spot[T]{}
		c := &contents[T]{}
		c.put(r, m)
		e.more.Store(c)
		s.putSpot(r, hash, e)
		return
	}
	c := e.more.Load()
	if c == nil { // of the same shape and values as a plain filter, and more besides
		c = &contents[T]{}
		c.subscribers.put(e.one)
		c.put(r, m)
		e.more.Store(c)
		return
	}
	c.put(r, m)
}

// open reports whether the shape asks for nothing, so that every row has it.
func (s *shape) open() bool { return len(s.probes) == 0 && len(s.present) == 0 && s.ranged < 0 }

func (c *contents[T]) put(r *route, m *listed[T]) {
	if r.shape.ranged < 0 {
		c.members.put(m)
		return
	}
	c.ranges.Store(c.ranges.Load().put(r.low, r.high, m))
}

// drop takes away a subscriber of a filter that is not plain.
func (s *shelf[T]) drop(b *bound, v T) bool {
	m := s.members[b]
	if m == nil || !m.subscribers.drop(v) {
		return false
	}
	if m.subscribers.size > 0 {
		return true
	}
	delete(s.members, b)
	for i := range b.routes {
		s.dropRoute(&b.routes[i], m)
	}
	b.refs--
	s.topic.unbind(b)
	return true
}

func (s *shelf[T]) dropRoute(r *route, m *listed[T]) {
	if r.shape.open() {
		s.loose.drop(m)
		return
	}
	hash := r.shape.hash(r.values)
	e := s.spot(r, hash)
	if e == nil {
		return // two routes of one filter may be the same
	}
	c := e.more.Load()
	if r.shape.ranged < 0 {
		c.members.drop(m)
	} else if rest, found := c.ranges.Load().drop(r.low, m); found {
		c.ranges.Store(rest)
	}
	if c.empty() {
		s.dropSpot(e, r, hash)
	}
}

func (s *shelf[T]) empty() bool { return s.spots.count == 0 && s.loose.size == 0 }

// hasPlain and has report whether a subscriber is there.
func (s *shelf[T]) hasPlain(r route, v T) bool {
	e := s.spot(&r, r.shape.hash(r.values))
	if e == nil {
		return false
	}
	if c := e.more.Load(); c != nil {
		return c.subscribers.has(v)
	}
	return e.one == v
}

func (s *shelf[T]) has(b *bound, v T) bool {
	m := s.members[b]
	return m != nil && m.subscribers.has(v)
}
