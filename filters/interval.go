package filters

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// interval is a node of a tree that finds the filters whose range holds a value: a treap
// by low end and, as many filters have the same, by the filter; each node knowing the highest end below it. Nodes never change; a change
// makes a new path from the root.
type interval[E any] struct {
	low, high   uint64 // both ends belong to it
	highest     uint64 // of the node and those below
	tie         uint64 // of the filter, to order those with one low end
	priority    uint64
	of          *E
	left, right *interval[E]
}

func (n *interval[E]) with(left, right *interval[E]) *interval[E] {
	next := *n
	next.left, next.right, next.highest = left, right, n.high
	if left != nil {
		next.highest = max(next.highest, left.highest)
	}
	if right != nil {
		next.highest = max(next.highest, right.highest)
	}
	return &next
}

func (n *interval[E]) put(low, high uint64, of *E) *interval[E] {
	return n.insert(&interval[E]{low: low, high: high, highest: high, tie: hashValue(of), priority: rand.Uint64(), of: of}) //nolint:gosec // balance, not secrecy
}

func (n *interval[E]) insert(made *interval[E]) *interval[E] {
	switch {
	case n == nil:
		return made
	case made.priority > n.priority:
		return made.with(n.split(made.low, made.tie))
	case made.low < n.low || made.low == n.low && made.tie < n.tie:
		return n.with(n.left.insert(made), n.right)
	default:
		return n.with(n.left, n.right.insert(made))
	}
}

// split returns what is in front of a low end and a tie, and the rest.
func (n *interval[E]) split(low, tie uint64) (below, rest *interval[E]) {
	switch {
	case n == nil:
		return nil, nil
	case n.low < low || n.low == low && n.tie < tie:
		below, rest = n.right.split(low, tie)
		return n.with(n.left, below), rest
	default:
		below, rest = n.left.split(low, tie)
		return below, n.with(rest, n.right)
	}
}

// drop takes away the interval of a filter that begins at low.
func (n *interval[E]) drop(low uint64, of *E) (*interval[E], bool) {
	return n.remove(low, hashValue(of), of)
}

func (n *interval[E]) remove(low, tie uint64, of *E) (*interval[E], bool) {
	if n == nil {
		return nil, false
	}
	if n.of == of && n.low == low { // a filter may have several
		return merge(n.left, n.right), true
	}
	order := cmp.Or(cmp.Compare(low, n.low), cmp.Compare(tie, n.tie))
	if order <= 0 { // equal ones may be on both sides
		if left, ok := n.left.remove(low, tie, of); ok {
			return n.with(left, n.right), true
		}
	}
	if order >= 0 {
		if right, ok := n.right.remove(low, tie, of); ok {
			return n.with(n.left, right), true
		}
	}
	return n, false
}

func merge[E any](a, b *interval[E]) *interval[E] {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.priority > b.priority:
		return a.with(a.left, merge(a.right, b))
	default:
		return b.with(merge(a, b.left), b.right)
	}
}

// holding appends to inside the filters whose interval holds the point, and to edge those
// of which it is an end: as points stand for more than one value, these may not hold it.
func (n *interval[E]) holding(point uint64, inside, edge []*E) (i, e []*E) {
	for n != nil && n.highest >= point {
		inside, edge = n.left.holding(point, inside, edge)
		switch {
		case n.low > point:
			return inside, edge
		case n.low < point && n.high > point:
			inside = append(inside, n.of)
		case n.high >= point:
			edge = append(edge, n.of)
		}
		n = n.right
	}
	return inside, edge
}

// all appends every filter.
func (n *interval[E]) all(dst []*E) []*E {
	if n == nil {
		return dst
	}
	dst = append(n.left.all(dst), n.of)
	return n.right.all(dst)
}

// numberPoint maps numbers to points in the same order; numbers that are nearly equal
// share one.
func numberPoint(raw string) uint64 {
	f, _ := strconv.ParseFloat(raw, 64) // out of range: infinite, or zero
	b := math.Float64bits(f + 0)        // no negative zero
	if b>>63 == 1 {
		return ^b
	}
	return b | 1<<63
}

// textPoint maps strings to points in the same order; strings with the same beginning
// share one.
func textPoint(s string) uint64 {
	var b [8]byte
	copy(b[:], s)
	return binary.BigEndian.Uint64(b[:])
}

// point returns the point of a number or string of a document.
func point(k kind, raw string) (p uint64, ok bool) {
	switch k {
	case number:
		return numberPoint(raw), true
	case text:
		if strings.IndexByte(raw, '\\') < 0 {
			return textPoint(raw[1 : len(raw)-1]), true
		}
		s, storable := decodeString(raw)
		return textPoint(s), storable
	default:
		return 0, false
	}
}
