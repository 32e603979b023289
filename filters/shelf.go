package filters

import (
	"math"
	"sync/atomic"
	"unsafe"
)

// shelf is the filters of one event type, or those of one owner among them, arranged so
// that a row leads to those that may match it.
//
// A route is found by a hash of its shape and values. The few shapes that have many
// filters are direct: each row is looked up once for each. The routes of all other shapes
// are filed besides, so that a row meets only shapes that share values with it: see access.
type shelf[T comparable] struct {
	topic  *topic[T]
	uses   map[*shape]*use[T]
	shapes bag[*use[T]] // the same for who reads
	direct atomic.Pointer[[]*use[T]]
	spots  table[spot[T]]
	access table[access[T]]
	filed  atomic.Int64 // routes under access whose shape is not direct
	// anchored is how many routes are filed under a place and not under a value.
	anchored atomic.Int64
	members  map[*bound]*listed[T]
	loose    bag[*listed[T]] // filters that say nothing of a row by which to find them
}

// use is a shape on a shelf.
type use[T comparable] struct {
	shape *shape
	count int           // routes
	since atomic.Uint64 // stamp from which it is direct; 0 for never, becoming while it is made so
	spots bag[*spot[T]] // of the routes that are filed
}

const (
	directMin = 32 // routes that make a shape direct
	directMax = 16 // shapes that are direct, at most
	becoming  = math.MaxUint64
)

// spot is what a route leads to. When more is nil, it is the one subscriber of a plain
// filter.
type spot[T comparable] struct {
	values string // where it is filed, then those of the route
	one    T
	more   atomic.Pointer[contents[T]]
}

// contents are the subscribers of a plain filter, and other filters of the same route.
type contents[T comparable] struct {
	subscribers bag[T]
	others      atomic.Pointer[others[T]]
}

// others are the filters of a route that are not plain: those of a range by it.
type others[T comparable] struct {
	members bag[*listed[T]]
	ranges  atomic.Pointer[interval[listed[T]]]
}

// listed is a filter that is not plain, with its subscribers.
type listed[T comparable] struct {
	subscribers subscribers[T]
	bound       *bound
	born        uint64
	several     bool // as in bound
	told        bool // its route says everything but the ends of its range, and not
	not         string
}

// newSpot makes a spot whose values lie behind it, in the same line of memory if they are
// short.
func newSpot[T comparable](one T, where filing, values string) *spot[T] {
	var room struct {
		s *spot[T]
		b []byte
	}
	switch n := len(where) + len(values); {
	case n <= 16:
		made := &struct {
			spot[T]
			bytes [16]byte
		}{}
		room.s, room.b = &made.spot, made.bytes[:0]
	case n <= 32:
		made := &struct {
			spot[T]
			bytes [32]byte
		}{}
		room.s, room.b = &made.spot, made.bytes[:0]
	default:
		room.s, room.b = &spot[T]{}, make([]byte, 0, n)
	}
	b := append(append(room.b, where[:]...), values...)
	room.s.one, room.s.values = one, unsafe.String(&b[0], len(b)) //nolint:gosec // nobody writes to b any more
	return room.s
}

// route returns the values of the spot's route.
func (e *spot[T]) route() string { return e.values[len(filing{}):] }

func (e *spot[T]) where() filing { return filing{e.values[0], e.values[1]} }

func (s *shelf[T]) hashOf(e *spot[T]) uint64 {
	values := e.route()
	return s.topic.shapeOf(values).hash(values)
}

// spot returns the spot of a route, nil when there is none.
func (s *shelf[T]) spot(r *route, hash uint64) *spot[T] {
	q := s.spots.find(hash)
	for e := q.next(); e != nil; e = q.next() {
		if e.route() == r.values {
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
		s.putSpot(&r, hash, v, nil)
		return true
	}
	c := e.more.Load()
	if c != nil {
		return c.subscribers.put(v)
	}
	if e.one == v {
		return false
	}
	c = &contents[T]{}
	c.subscribers.put(e.one)
	c.subscribers.put(v)
	e.more.Store(c)
	return true
}

func (s *shelf[T]) putSpot(r *route, hash uint64, one T, c *contents[T]) {
	u := s.uses[r.shape]
	if u == nil {
		if s.uses == nil {
			s.uses = map[*shape]*use[T]{}
		}
		u = &use[T]{shape: r.shape}
		s.uses[r.shape] = u
		s.shapes.put(u)
		r.shape.refs++
	}
	u.count++
	where := s.file(u, r.values, hash)
	e := newSpot(one, where, r.values)
	if c != nil {
		e.more.Store(c)
	}
	s.spots.put(e, s.hashOf)
	if !where.filed() {
		return
	}
	u.spots.put(e)
	if u.count >= directMin {
		s.makeDirect(u)
	}
}

// makeDirect lets each row be looked up for the shape, if there is room for one more.
// What was filed before stays so; who meets it passes by.
func (s *shelf[T]) makeDirect(u *use[T]) {
	var list []*use[T]
	if old := s.direct.Load(); old != nil {
		list = *old
	}
	if len(list) >= directMax || u.since.Load() != 0 {
		return
	}
	next := append(append(make([]*use[T], 0, len(list)+1), list...), u)
	u.since.Store(becoming)
	s.direct.Store(&next)
	u.since.Store(s.topic.stamp.Add(1))
	s.filed.Add(-int64(u.spots.size))
}

// dropSpot takes away a spot that leads to nothing.
func (s *shelf[T]) dropSpot(e *spot[T], r *route, hash uint64) {
	s.spots.drop(e, hash)
	u := s.uses[r.shape]
	if where := e.where(); where.filed() {
		u.spots.drop(e)
		s.unfile(u, where, r.values)
	}
	if u.count--; u.count > 0 {
		return
	}
	delete(s.uses, r.shape)
	s.shapes.drop(u)
	if u.since.Load() != 0 {
		next := make([]*use[T], 0, directMax)
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

func (c *contents[T]) empty() bool { return c.subscribers.size == 0 && c.others.Load() == nil }

// add adds a subscriber of a filter that is not plain.
func (s *shelf[T]) add(b *bound, v T) bool {
	m := s.members[b]
	if m != nil {
		return m.subscribers.put(v)
	}
	if s.members == nil {
		s.members = map[*bound]*listed[T]{}
	}
	m = &listed[T]{bound: b, born: b.born, several: b.several, told: b.told && len(b.rest) == 0, not: b.not}
	m.subscribers.one = v
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
		var nobody T
		c := &contents[T]{}
		c.put(r, m)
		s.putSpot(r, hash, nobody, c)
		return
	}
	c := e.more.Load()
	if c == nil { // a plain filter has the same route
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
	o := c.others.Load()
	if o == nil {
		o = &others[T]{}
		defer c.others.Store(o)
	}
	if r.shape.ranged < 0 {
		o.members.put(m)
		return
	}
	o.ranges.Store(o.ranges.Load().put(r.low, r.high, m))
}

// drop takes away a subscriber of a filter that is not plain.
func (s *shelf[T]) drop(b *bound, v T) bool {
	m := s.members[b]
	if m == nil {
		return false
	}
	found, last := m.subscribers.drop(v)
	if !found || !last {
		return found
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
	if c == nil || c.others.Load() == nil {
		return
	}
	o := c.others.Load()
	if r.shape.ranged < 0 {
		o.members.drop(m)
	} else if rest, found := o.ranges.Load().drop(r.low, m); found {
		o.ranges.Store(rest)
	}
	if o.members.size == 0 && o.ranges.Load() == nil {
		c.others.Store(nil)
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
