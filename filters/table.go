package filters

import (
	"math/bits"
	"sync/atomic"
)

// table finds things by a hash of 64 bits. One goroutine at a time changes it, while any
// number of others search it without waiting: they see a change or they do not. The
// searcher compares what it is given, as two things may share a hash.
//
// It grows by parts, so that no change is ever a long one: a directory leads from the
// upper bits of a hash to a segment, and a segment that is full is split in two. Inside a
// segment eight places make a group, whose tags (eight bits of the hash, never 0 or 1)
// are compared all at once.
type table[E any] struct {
	dir   atomic.Pointer[directory[E]]
	count int
}

type directory[E any] struct {
	depth    uint // bits of the hash that count
	segments []atomic.Pointer[segment[E]]
}

type segment[E any] struct {
	depth int // bits of the hash that its things share
	used  int // places that are not free; those of things that are gone count
	live  int
	tags  []atomic.Uint64 // a group's, one byte a place
	items []atomic.Pointer[E]
}

const (
	tagFree  = 0
	tagGone  = 1
	groupMax = 8 // groups of a segment before it is split
)

func newSegment[E any](depth, groups int) *segment[E] {
	return &segment[E]{depth: depth, tags: make([]atomic.Uint64, groups), items: make([]atomic.Pointer[E], 8*groups)}
}

func tagOf(hash uint64) uint64 {
	if tag := hash >> 8 & 0xff; tag > tagGone {
		return tag
	}
	return hash>>8&0xff + 2
}

// search is one walk over the things with a hash.
type search[E any] struct {
	segment *segment[E]
	tag     uint64 // in every byte
	group   uint64
	left    int
	hits    uint64
	last    bool
}

// find begins a search: call next until it returns nil.
func (t *table[E]) find(hash uint64) search[E] {
	d := t.dir.Load()
	if d == nil {
		return search[E]{}
	}
	s := d.segments[hash>>1>>(63-d.depth)].Load()
	q := search[E]{segment: s, tag: tagOf(hash) * ones, group: hash & uint64(len(s.tags)-1), left: len(s.tags)}
	q.load()
	return q
}

func (q *search[E]) load() {
	word := q.segment.tags[q.group].Load()
	same := word ^ q.tag
	q.hits = (same - ones) &^ same & highs
	q.last = (word-ones)&^word&highs != 0 // a free place: nothing was put further on
}

// next returns the next thing that may have the hash.
func (q *search[E]) next() *E {
	for q.segment != nil {
		for q.hits != 0 {
			at := 8*q.group + uint64(bits.TrailingZeros64(q.hits)/8) //nolint:gosec // 0 to 7
			q.hits &= q.hits - 1
			if e := q.segment.items[at].Load(); e != nil {
				return e
			}
		}
		if q.left--; q.last || q.left == 0 {
			return nil
		}
		q.group = (q.group + 1) & uint64(len(q.segment.tags)-1)
		q.load()
	}
	return nil
}

// put adds a thing, whose hash is hashOf it, as are those of the others.
func (t *table[E]) put(e *E, hashOf func(*E) uint64) {
	hash := hashOf(e)
	d := t.dir.Load()
	if d == nil {
		d = &directory[E]{segments: make([]atomic.Pointer[segment[E]], 1)}
		d.segments[0].Store(newSegment[E](0, 1))
		t.dir.Store(d)
	}
	for {
		s := d.segments[hash>>1>>(63-d.depth)].Load()
		if s.put(e, hash) {
			t.count++
			return
		}
		d = t.makeRoom(d, s, hash, hashOf)
	}
}

// put reports whether there was room.
func (s *segment[E]) put(e *E, hash uint64) bool {
	group := hash & uint64(len(s.tags)-1)
	for range s.tags {
		word := s.tags[group].Load()
		for at := range 8 {
			tag := word >> (8 * at) & 0xff
			if tag > tagGone {
				continue
			}
			if tag == tagFree {
				if 8*s.used >= 7*len(s.items) {
					return false
				}
				s.used++
			}
			// The tag first: whoever sees it without the thing passes by.
			s.tags[group].Store(word&^(0xff<<(8*at)) | tagOf(hash)<<(8*at))
			s.items[8*int(group)+at].Store(e) //nolint:gosec // few groups
			s.live++
			return true
		}
		group = (group + 1) & uint64(len(s.tags)-1)
	}
	return false
}

// makeRoom replaces a segment that is full by a clean or larger one, or by two.
func (t *table[E]) makeRoom(d *directory[E], s *segment[E], hash uint64, hashOf func(*E) uint64) *directory[E] {
	// Hashes that do not differ cannot be told apart by a longer directory.
	deepest := bits.Len(uint(t.count)) - 3
	groups := len(s.tags)
	if 2*s.live > len(s.items) {
		groups *= 2
	}
	if groups <= groupMax || s.depth >= deepest {
		next := newSegment[E](s.depth, groups)
		s.each(func(e *E) { next.put(e, hashOf(e)) })
		d.replace(s.depth, hash, next)
		return d
	}
	if s.depth == int(d.depth) { //nolint:gosec // at most deepest
		d = d.doubled()
		t.dir.Store(d)
	}
	depth := s.depth + 1
	bit := uint64(1) << (64 - depth)
	above := 0
	s.each(func(e *E) {
		if hashOf(e)&bit != 0 {
			above++
		}
	})
	low, high := newSegment[E](depth, groupsFor(s.live-above)), newSegment[E](depth, groupsFor(above))
	s.each(func(e *E) {
		if h := hashOf(e); h&bit == 0 {
			low.put(e, h)
		} else {
			high.put(e, h)
		}
	})
	d.replace(depth, hash&^bit, low)
	d.replace(depth, hash|bit, high)
	return d
}

// groupsFor returns how many groups hold n things with room for one more.
func groupsFor(n int) int {
	groups := groupMax
	for 7*groups <= n {
		groups *= 2
	}
	return groups
}

// replace puts a segment in the place of the hashes that share depth bits with hash.
func (d *directory[E]) replace(depth int, hash uint64, s *segment[E]) {
	width := uint64(1) << (int(d.depth) - depth) //nolint:gosec // at most 2^40
	first := hash >> 1 >> (63 - d.depth) &^ (width - 1)
	for at := first; at < first+width; at++ {
		d.segments[at].Store(s)
	}
}

func (d *directory[E]) doubled() *directory[E] {
	next := &directory[E]{depth: d.depth + 1, segments: make([]atomic.Pointer[segment[E]], 2*len(d.segments))}
	for i := range d.segments {
		s := d.segments[i].Load()
		next.segments[2*i].Store(s)
		next.segments[2*i+1].Store(s)
	}
	return next
}

// drop takes a thing away.
func (t *table[E]) drop(e *E, hash uint64) {
	d := t.dir.Load()
	s := d.segments[hash>>1>>(63-d.depth)].Load()
	group := hash & uint64(len(s.tags)-1)
	for range s.tags {
		for at := range 8 {
			place := 8*int(group) + at //nolint:gosec // few groups
			if s.items[place].Load() != e {
				continue
			}
			word := s.tags[group].Load()
			s.tags[group].Store(word&^(0xff<<(8*at)) | tagGone<<(8*at))
			s.items[place].Store(nil)
			s.live--
			t.count--
			return
		}
		group = (group + 1) & uint64(len(s.tags)-1)
	}
}

// each calls fn for everything in the table.
func (t *table[E]) each(fn func(*E)) {
	d := t.dir.Load()
	if d == nil {
		return
	}
	var before *segment[E]
	for i := range d.segments {
		if s := d.segments[i].Load(); s != before {
			s.each(fn)
			before = s
		}
	}
}

func (s *segment[E]) each(fn func(*E)) {
	for i := range s.items {
		if e := s.items[i].Load(); e != nil {
			fn(e)
		}
	}
}
