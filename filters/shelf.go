package filters

import (
	"sync/atomic"
)

// shelf is the filters of one event type, or those of one owner among them, arranged so
// that a row leads to those that may match it.
//
// A route is found by a hash of all its legs if its shape is direct: each row is looked
// up once for each of those shapes. The routes of all others are filed besides, so that a
// row meets only those with which it has two legs in common: see access.go.
type shelf[T comparable] struct {
	topic   *topic[T]
	uses    map[*shape]*use[T]
	shapes  bag[*use[T]] // the same for who reads
	direct  atomic.Pointer[[]*use[T]]
	spots   table[spot[T]]
	access  table[spot[T]] // by the legs they are filed under
	signs   signs          // of access
	guides  guides
	weights weights
	filed   atomic.Int64 // routes under access whose shape is not direct
	members map[*bound]*listed[T]
	loose   bag[*listed[T]] // filters that say nothing of a row by which to find them
}

// use is a shape on a shelf.
type use[T comparable] struct {
	shape  *shape
	count  int // routes
	direct atomic.Bool
	mixed  atomic.Bool   // it is direct, but some of its routes are filed: they were there before
	spots  bag[*spot[T]] // of the routes that are filed
}

const (
	directMin  = 32 // routes that make a shape direct
	directMost = 4  // shapes that are direct for that
	crowd      = 16 // routes at one access that make a shape direct besides
	crowdMost  = 64 // shapes that are direct, at most
)

// others are the filters of a route that are not plain: those of a range by it.
type others[T comparable] struct {
	members bag[*listed[T]]
	ranges  ranges[listed[T]]
}

// listed is a filter that is not plain, with its subscribers.
type listed[T comparable] struct {
	subscribers subscribers[T]
	bound       *bound
	born        uint64
	several     bool // as in bound
	told        bool // its route says everything but the ends of its range, and not
	hasNot      bool // there is a not; if it is for one slot and for two scalars at most:
	nots        uint8
	notAt       int32     // the slot
	not         [2]uint32 // parts of the scalars' hashes
}

// newListed makes one for the first subscriber.
func newListed[T comparable](b *bound, v T) *listed[T] {
	l := &listed[T]{bound: b, born: b.born, several: b.several, told: b.told && len(b.rest) == 0, hasNot: b.not != ""}
	l.subscribers.one = v
	l.notAt, l.not, l.nots = b.notHashes()
	return l
}

func hashSpot[T comparable](e *spot[T]) uint64 { return e.route().hash() }

// spot returns the spot of a route, nil when there is none.
func (s *shelf[T]) spot(r *route, hash uint64) *spot[T] {
	q := s.spots.find(hash)
	for e := q.next(); e != nil; e = q.next() {
		if e.route() == r.legs {
			return e
		}
	}
	return nil
}

// addPlain adds a subscriber of a plain filter and reports whether it was missing.
func (s *shelf[T]) addPlain(r route, v T) bool {
	e := s.spot(&r, r.legs.hash())
	if e == nil {
		s.putSpot(&r, v, nil)
		return true
	}
	c := e.more.Load()
	if c == nil {
		if e.one == v {
			return false
		}
		c = contentsOf(nil, []T{e.one})
	}
	next, missing := c.with(v)
	e.more.Store(next)
	return missing
}

func (s *shelf[T]) putSpot(r *route, one T, c *contents[T]) {
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
	where, by := filing{filedNowhere, filedNowhere}, [2]filedLeg{}
	if !u.direct.Load() {
		where, by = s.choose(r.legs)
	}
	e := newSpot(one, r.shape, where, r.legs)
	if c != nil {
		e.more.Store(c)
	}
	s.spots.put(e, hashSpot[T])
	if !where.filed() {
		return
	}
	s.filed.Add(1)
	u.spots.put(e)
	crowded := s.file(e, by)
	direct := 0
	if list := s.direct.Load(); list != nil {
		direct = len(*list)
	}
	if u.count >= directMin && (direct < directMost || crowded && direct < crowdMost) {
		s.makeDirect(u)
	}
}

// makeDirect lets each row be looked up for the shape. What was filed before stays so; who
// meets it passes by.
func (s *shelf[T]) makeDirect(u *use[T]) {
	var next []*use[T]
	if old := s.direct.Load(); old != nil {
		next = append(next, *old...)
	}
	next = append(next, u)
	u.mixed.Store(true)
	s.direct.Store(&next)
	u.direct.Store(true)
	s.filed.Add(-int64(u.spots.size))
}

// dropSpot takes away a spot that leads to nothing.
func (s *shelf[T]) dropSpot(e *spot[T], r *route, hash uint64) {
	s.spots.drop(e, hash)
	u := s.uses[r.shape]
	if e.where.filed() {
		u.spots.drop(e)
		s.unfile(e)
		if !u.direct.Load() {
			s.filed.Add(-1)
		}
	}
	if u.count--; u.count > 0 {
		return
	}
	delete(s.uses, r.shape)
	s.shapes.drop(u)
	if u.direct.Load() {
		next := make([]*use[T], 0, crowdMost)
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
	hash := r.legs.hash()
	e := s.spot(&r, hash)
	if e == nil {
		return false
	}
	c := e.more.Load()
	if c == nil {
		if e.one != v {
			return false
		}
		s.dropSpot(e, &r, hash)
		return true
	}
	next, found := c.without(v)
	switch {
	case !found:
	case next.empty():
		s.dropSpot(e, &r, hash)
	default:
		e.more.Store(next)
	}
	return found
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
	m = newListed(b, v)
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
	e := s.spot(r, r.legs.hash())
	if e == nil {
		var nobody T
		o := &others[T]{}
		o.put(r, m)
		s.putSpot(r, nobody, contentsOf(o, []T(nil)))
		return
	}
	c := e.more.Load()
	if c != nil && c.others != nil {
		c.others.put(r, m)
		return
	}
	o := &others[T]{}
	o.put(r, m)
	if c == nil { // a plain filter has the same route
		c = contentsOf(nil, []T{e.one})
	}
	e.more.Store(c.having(o))
}

// open reports whether the shape asks for nothing, so that every row has it.
func (s *shape) open() bool { return len(s.probes) == 0 && len(s.present) == 0 && s.ranged < 0 }

func (o *others[T]) put(r *route, m *listed[T]) {
	if r.shape.ranged < 0 {
		o.members.put(m)
		return
	}
	o.ranges.put(r.low, r.high, m)
}

func (o *others[T]) empty() bool { return o.members.size == 0 && o.ranges.empty() }

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
	hash := r.legs.hash()
	e := s.spot(r, hash)
	if e == nil {
		return // two routes of one filter may be the same
	}
	c := e.more.Load()
	if c == nil || c.others == nil {
		return
	}
	o := c.others
	if r.shape.ranged < 0 {
		o.members.drop(m)
	} else {
		o.ranges.drop(r.low, m)
	}
	if !o.empty() {
		return
	}
	if c = c.having(nil); c.empty() {
		s.dropSpot(e, r, hash)
		return
	}
	e.more.Store(c)
}

func (s *shelf[T]) empty() bool { return s.spots.count == 0 && s.loose.size == 0 }

// hasPlain and has report whether a subscriber is there.
func (s *shelf[T]) hasPlain(r route, v T) bool {
	e := s.spot(&r, r.legs.hash())
	if e == nil {
		return false
	}
	if c := e.more.Load(); c != nil {
		return c.has(v)
	}
	return e.one == v
}

func (s *shelf[T]) has(b *bound, v T) bool {
	m := s.members[b]
	return m != nil && m.subscribers.has(v)
}
