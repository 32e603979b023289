package filters

import (
	"slices"
	"sync/atomic"
)

// ranges finds the filters whose range holds a value. One goroutine at a time changes it,
// while any number of others read it. Few of them are a list, to be read in one go; more
// are a tree.
type ranges[E any] struct {
	few  atomic.Pointer[[]span[E]] // nil when they are in the tree
	tree atomic.Pointer[interval[E]]
}

// span is the range of a filter; both ends belong to it.
type span[E any] struct {
	low, high uint64
	of        *E
}

// fewRanges is how long the list gets.
const fewRanges = 64

func (r *ranges[E]) put(low, high uint64, of *E) {
	if tree := r.tree.Load(); tree != nil {
		r.tree.Store(tree.put(low, high, of))
		return
	}
	var list []span[E]
	if few := r.few.Load(); few != nil {
		list = *few
	}
	if len(list) < fewRanges {
		next := append(append(make([]span[E], 0, len(list)+1), list...), span[E]{low, high, of})
		r.few.Store(&next)
		return
	}
	var tree *interval[E]
	for _, s := range list {
		tree = tree.put(s.low, s.high, s.of)
	}
	r.tree.Store(tree.put(low, high, of)) // first: who finds no list looks here
	r.few.Store(nil)
}

// drop takes away the range of a filter that begins at low.
func (r *ranges[E]) drop(low uint64, of *E) {
	if tree := r.tree.Load(); tree != nil {
		tree, _ = tree.drop(low, of)
		r.tree.Store(tree)
		return
	}
	few := r.few.Load()
	if few == nil {
		return
	}
	i := slices.IndexFunc(*few, func(s span[E]) bool { return s.of == of && s.low == low })
	switch {
	case i < 0:
	case len(*few) == 1:
		r.few.Store(nil)
	default:
		next := slices.Delete(slices.Clone(*few), i, i+1)
		r.few.Store(&next)
	}
}

func (r *ranges[E]) empty() bool { return r.few.Load() == nil && r.tree.Load() == nil }

// holding appends to inside the filters whose range holds the point, and to edge those of
// which it is an end: as points stand for more than one value, these may not hold it.
func (r *ranges[E]) holding(point uint64, inside, edge []*E) (i, e []*E) {
	few := r.few.Load()
	if few == nil {
		return r.tree.Load().holding(point, inside, edge)
	}
	for _, s := range *few {
		switch {
		case point < s.low || point > s.high:
		case s.low < point && point < s.high:
			inside = append(inside, s.of)
		default:
			edge = append(edge, s.of)
		}
	}
	return inside, edge
}

// all appends every filter.
func (r *ranges[E]) all(dst []*E) []*E {
	few := r.few.Load()
	if few == nil {
		return r.tree.Load().all(dst)
	}
	for _, s := range *few {
		dst = append(dst, s.of)
	}
	return dst
}
