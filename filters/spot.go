package filters

import (
	"sync/atomic"
	"unsafe"
)

// spot is what a route leads to. When more is nil, it is the one subscriber of a plain
// filter. The legs of the route lie behind it, as a rule in the same line of memory.
type spot[T comparable] struct {
	more  atomic.Pointer[contents[T]]
	shape uint32 // its id
	size  uint16 // bytes of the legs; longLegs when they are elsewhere
	where filing
	one   T
}

const (
	longLegs = 1<<16 - 1
	nearLegs = 72 // bytes at most of legs that lie behind the spot
)

// newSpot makes a spot for the legs of a route.
func newSpot[T comparable](one T, sh *shape, where filing, route legs) *spot[T] {
	s := spotFor[T](len(route))
	s.shape, s.where, s.one = sh.id, where, one
	if len(route) > nearLegs {
		s.size = longLegs
		(*longSpot[T])(unsafe.Pointer(s)).route = route //nolint:gosec // spotFor made it so
		return s
	}
	s.size = uint16(len(route))
	copy(unsafe.Slice(s.behind(), len(route)), route) //nolint:gosec // spotFor left room for it
	return s
}

// behind is where the legs are.
func (s *spot[T]) behind() *byte {
	return (*byte)(unsafe.Add(unsafe.Pointer(s), unsafe.Sizeof(*s))) //nolint:gosec // within what spotFor made
}

// route returns the legs of the spot's route.
func (s *spot[T]) route() legs {
	if s.size == longLegs {
		return (*longSpot[T])(unsafe.Pointer(s)).route //nolint:gosec // newSpot made it so
	}
	return legs(unsafe.String(s.behind(), int(s.size))) //nolint:gosec // nobody writes there any more
}

// longSpot is a spot whose legs are elsewhere.
type longSpot[T comparable] struct {
	spot[T]
	route legs
}

// spotFor makes a spot with room behind it for legs of a size: the rooms are such that
// nothing of what is allocated stays idle.
func spotFor[T comparable](size int) *spot[T] {
	switch {
	case size <= 8:
		return &(&struct {
			spot[T]
			_ [8]byte
		}{}).spot
	case size <= 24:
		return &(&struct {
			spot[T]
			_ [24]byte
		}{}).spot
	case size <= 40:
		return &(&struct {
			spot[T]
			_ [40]byte
		}{}).spot
	case size <= nearLegs:
		return &(&struct {
			spot[T]
			_ [nearLegs]byte
		}{}).spot
	default:
		return &(&longSpot[T]{}).spot
	}
}
