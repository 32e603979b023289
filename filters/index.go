package filters

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// Key says where an index keeps a filter.
type Key struct {
	Type string // of the events that are matched
	// Owners are the names by which Match can ask for this filter among those of one
	// owner. A filter without any is found for events that are for everybody.
	Owners []string
}

// Index finds, among very many filters, those that match an event. A filter is kept with a
// value of the caller's that stands for its subscriber; many may share one filter. All
// methods may be called from any goroutine. Match never waits: it answers for the filters
// as they are or as they were a moment ago, and each answer is that of Filter.MatchEvent;
// only where MatchEvent would reach its work limit may it be No, by a value that the row
// lacks, or Unknown, when others need as much work.
type Index[T comparable] struct {
	changes sync.Mutex
	topics  table[topic[T]]
	stamp   atomic.Uint64
	size    atomic.Int64
}

// NewIndex returns an empty index.
func NewIndex[T comparable]() *Index[T] {
	return &Index[T]{}
}

// topic returns what is known of an event type, nil when there is nothing.
func (x *Index[T]) topic(name string) *topic[T] {
	q := x.topics.find(hashName(name))
	for t := q.next(); t != nil; t = q.next() {
		if t.name == name {
			return t
		}
	}
	return nil
}

// Len returns how many filters there are; one with several subscribers counts for each.
func (x *Index[T]) Len() int { return int(x.size.Load()) }

// Add keeps the filter f for the subscriber v. What is there already is not added again. A
// nil filter matches nothing and is not kept.
func (x *Index[T]) Add(k Key, f *Filter, v T) {
	if f == nil || f.text == "" {
		return
	}
	x.changes.Lock()
	defer x.changes.Unlock()
	t := x.topic(k.Type)
	if t == nil {
		t = newTopic[T](k.Type, &x.stamp)
		x.topics.put(t, func(t *topic[T]) uint64 { return hashName(t.name) })
	}
	if t.add(k.Owners, f, v) {
		x.size.Add(1)
	}
}

// Remove takes away what Add was given with the same arguments, and reports whether it was
// there.
func (x *Index[T]) Remove(k Key, f *Filter, v T) bool {
	if f == nil || f.text == "" {
		return false
	}
	x.changes.Lock()
	defer x.changes.Unlock()
	t := x.topic(k.Type)
	if t == nil || !t.remove(k.Owners, f, v) {
		return false
	}
	x.size.Add(-1)
	if t.wide.empty() {
		x.topics.drop(t, hashName(k.Type))
	}
	return true
}

func (t *topic[T]) add(owners []string, f *Filter, v T) (added bool) {
	if conds := f.program.plain(); conds != nil {
		r, _ := t.plain(&f.program, conds, true)
		if added = t.wide.addPlain(r, v); added {
			t.putOwners(owners, held[T]{route: r, v: v})
		}
		return added
	}
	b := t.bind(f)
	if added = t.wide.add(b, v); added {
		t.putOwners(owners, held[T]{bound: b, v: v})
	}
	return added
}

func (t *topic[T]) remove(owners []string, f *Filter, v T) (removed bool) {
	if conds := f.program.plain(); conds != nil {
		r, known := t.plain(&f.program, conds, false)
		if !known {
			return false
		}
		if len(owners) > 0 && t.wide.hasPlain(r, v) { // first: the shape is gone with the last route
			t.dropOwners(owners, held[T]{route: r, v: v})
		}
		return t.wide.dropPlain(r, v)
	}
	b := t.bounds[f.text]
	if b == nil || !t.wide.has(b, v) {
		return false
	}
	t.dropOwners(owners, held[T]{bound: b, v: v})
	return t.wide.drop(b, v)
}

// corner is the filters of one owner: a list, and a shelf when there are many.
type corner[T comparable] struct {
	owner string
	list  atomic.Pointer[[]held[T]]
	shelf atomic.Pointer[shelf[T]]
	count int
}

// held is a filter of one subscriber: the route of a plain one, or a bound one.
type held[T comparable] struct {
	route route
	bound *bound
	v     T
}

// cornerList is how many filters of one owner are asked one by one.
const cornerList = 32

func hashName(name string) uint64 { return maphash.String(hashSeed, name) }

func (t *topic[T]) corner(owner string) *corner[T] {
	q := t.owners.find(hashName(owner))
	for c := q.next(); c != nil; c = q.next() {
		if c.owner == owner {
			return c
		}
	}
	return nil
}

func (t *topic[T]) putOwners(owners []string, h held[T]) {
	for _, owner := range owners {
		c := t.corner(owner)
		if c == nil {
			c = &corner[T]{owner: owner}
			c.list.Store(&[]held[T]{h})
			c.count = 1
			t.owners.put(c, func(c *corner[T]) uint64 { return hashName(c.owner) })
			continue
		}
		c.put(t, h)
	}
}

func (c *corner[T]) put(t *topic[T], h held[T]) {
	if s := c.shelf.Load(); s != nil {
		if s.hold(h) {
			c.count++
		}
		return
	}
	list := *c.list.Load()
	for _, other := range list {
		if other.same(h) {
			return // an owner named twice
		}
	}
	c.count++
	if len(list) < cornerList {
		next := append(append(make([]held[T], 0, len(list)+1), list...), h)
		c.list.Store(&next)
		return
	}
	s := &shelf[T]{topic: t}
	for _, other := range list {
		s.hold(other)
	}
	s.hold(h)
	c.shelf.Store(s)
	c.list.Store(nil)
}

func (t *topic[T]) dropOwners(owners []string, h held[T]) {
	for _, owner := range owners {
		c := t.corner(owner)
		if c == nil {
			continue
		}
		c.drop(h)
		if c.count == 0 {
			t.owners.drop(c, hashName(owner))
		}
	}
}

func (c *corner[T]) drop(h held[T]) {
	if s := c.shelf.Load(); s != nil {
		if s.release(h) {
			c.count--
		}
		return
	}
	list := *c.list.Load()
	for i := range list {
		if list[i].same(h) {
			next := append(append(make([]held[T], 0, len(list)), list[:i]...), list[i+1:]...)
			c.list.Store(&next)
			c.count--
			return
		}
	}
}

func (h *held[T]) same(other held[T]) bool {
	return h.v == other.v && h.bound == other.bound && h.route.legs == other.route.legs
}

// hold adds what an owner holds to a shelf, release takes it away.
func (s *shelf[T]) hold(h held[T]) bool {
	if h.bound != nil {
		return s.add(h.bound, h.v)
	}
	return s.addPlain(h.route, h.v)
}

func (s *shelf[T]) release(h held[T]) bool {
	if h.bound != nil {
		return s.drop(h.bound, h.v)
	}
	return s.dropPlain(h.route, h.v)
}
