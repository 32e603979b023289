package filters

import (
	"slices"
	"unsafe"
)

// contents are the subscribers of a plain filter, and other filters of the same route. They
// never change but for others and many: a spot gets new ones. Few subscribers lie behind
// them, in any order.
type contents[T comparable] struct {
	others *others[T]
	many   *bag[T] // when they are too many to lie here
	few    int
}

// mostBehind is how many subscribers lie behind contents at most.
const mostBehind = 32

// contentsOf makes contents of other filters and a few subscribers.
func contentsOf[T comparable](o *others[T], few []T) *contents[T] {
	c := contentsFor[T](len(few))
	c.others, c.few = o, len(few)
	copy(c.list(), few)
	return c
}

// list returns the few subscribers.
func (c *contents[T]) list() []T {
	if c.few == 0 {
		return nil
	}
	behind := unsafe.Add(unsafe.Pointer(c), unsafe.Sizeof(*c)) //nolint:gosec // contentsFor left room for them
	return unsafe.Slice((*T)(behind), c.few)                   //nolint:gosec // the same
}

// all appends the subscribers of the plain filter.
func (c *contents[T]) all(dst []T) []T {
	if c.many != nil {
		return c.many.all(dst)
	}
	return append(dst, c.list()...)
}

func (c *contents[T]) plainEmpty() bool { return c.few == 0 && (c.many == nil || c.many.size == 0) }
func (c *contents[T]) empty() bool      { return c.plainEmpty() && c.others == nil }

func (c *contents[T]) has(v T) bool {
	if c.many != nil {
		return c.many.has(v)
	}
	return slices.Contains(c.list(), v)
}

// with returns the contents with one subscriber more, and whether it was missing.
func (c *contents[T]) with(v T) (next *contents[T], missing bool) {
	switch {
	case c.many != nil:
		return c, c.many.put(v)
	case slices.Contains(c.list(), v):
		return c, false
	case c.few == mostBehind:
		next = contentsOf(c.others, []T(nil))
		next.many = &bag[T]{}
		for _, other := range c.list() {
			next.many.put(other)
		}
		next.many.put(v)
		return next, true
	default:
		next = contentsFor[T](c.few + 1)
		next.others, next.few = c.others, c.few+1
		copy(next.list(), c.list())
		next.list()[c.few] = v
		return next, true
	}
}

// without returns the contents with one subscriber less, and whether it was there.
func (c *contents[T]) without(v T) (next *contents[T], found bool) {
	if c.many != nil {
		return c, c.many.drop(v)
	}
	i := slices.Index(c.list(), v)
	if i < 0 {
		return c, false
	}
	next = contentsFor[T](c.few - 1)
	next.others, next.few = c.others, c.few-1
	copy(next.list(), c.list()[:i])
	copy(next.list()[i:], c.list()[i+1:])
	return next, true
}

// having returns the contents with other filters, or none.
func (c *contents[T]) having(o *others[T]) *contents[T] {
	next := contentsOf(o, c.list())
	next.many = c.many
	return next
}

// contentsFor makes contents with room behind them.
func contentsFor[T comparable](few int) *contents[T] {
	switch {
	case few == 0:
		return &contents[T]{}
	case few <= 2:
		return &(&struct {
			contents[T]
			_ [2]T
		}{}).contents
	case few <= 6:
		return &(&struct {
			contents[T]
			_ [6]T
		}{}).contents
	case few <= 10:
		return &(&struct {
			contents[T]
			_ [10]T
		}{}).contents
	case few <= 14:
		return &(&struct {
			contents[T]
			_ [14]T
		}{}).contents
	case few <= 22:
		return &(&struct {
			contents[T]
			_ [22]T
		}{}).contents
	default:
		return &(&struct {
			contents[T]
			_ [mostBehind]T
		}{}).contents
	}
}
