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

// segment keeps tags and things in one piece of memory: a search reads few lines of it.
type segment[E any] struct {
	tags  [groups]atomic.Uint64 // a group's, one byte a place
	next  atomic.Pointer[segment[E]]
	depth uint8 // bits of the hash that its things share
	used  uint8 // places that are not free; those of things that are gone count
	live  uint8
	items [8 * groups]atomic.Pointer[E]
}

const (
	tagFree = 0
	tagGone = 1
	groups  = 8
	fullAt  = 7 * groups // places in use; some stay free, to end a search
)

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
	start   uint64
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
	q := search[E]{segment: d.of(hash).Load(), tag: tagOf(hash) * ones, start: hash % groups, group: hash % groups, left: groups}
	q.load()
	return q
}

// of returns the place of the segment for a hash.
func (d *directory[E]) of(hash uint64) *atomic.Pointer[segment[E]] {
	return &d.segments[hash>>1>>(63-d.depth)]
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
			at := 8*q.group + uint64(bits.TrailingZeros64(q.hits)/8)
			q.hits &= q.hits - 1
			if e := q.segment.items[at].Load(); e != nil {
				return e
			}
		}
		if q.left--; q.left > 0 && !q.last {
			q.group = (q.group + 1) % groups
		} else {
			if q.segment = q.segment.next.Load(); q.segment == nil {
				return nil
			}
			q.group, q.left = q.start, groups
		}
		q.load()
	}
	return nil
}

// seek returns a thing of exactly this hash, nil when there is none.
func (t *table[E]) seek(hash uint64, hashOf func(*E) uint64) *E {
	d := t.dir.Load()
	if d == nil {
		return nil
	}
	tag := tagOf(hash) * ones
	for s := d.of(hash).Load(); s != nil; s = s.next.Load() {
		for group, left := hash%groups, groups; left > 0; group, left = (group+1)%groups, left-1 {
			word := s.tags[group].Load()
			same := word ^ tag
			for hits := (same - ones) &^ same & highs; hits != 0; hits &= hits - 1 {
				e := s.items[8*group+uint64(bits.TrailingZeros64(hits)/8)].Load()
				if e != nil && hashOf(e) == hash {
					return e
				}
			}
			if (word-ones)&^word&highs != 0 {
				break
			}
		}
	}
	return nil
}

// put adds a thing, whose hash is hashOf it, as are those of the others.
func (t *table[E]) put(e *E, hashOf func(*E) uint64) {
	hash := hashOf(e)
	d := t.dir.Load()
	if d == nil {
		d = &directory[E]{segments: make([]atomic.Pointer[segment[E]], 1)}
		d.segments[0].Store(&segment[E]{})
		t.dir.Store(d)
	}
	for !d.of(hash).Load().put(e, hash) {
		d = t.makeRoom(d, hash, hashOf)
	}
	t.count++
}

// put reports whether there was room in the segment; those behind it are for things that
// cannot be told apart.
func (s *segment[E]) put(e *E, hash uint64) bool {
	for group, left := hash%groups, groups; left > 0; group, left = (group+1)%groups, left-1 {
		word := s.tags[group].Load()
		for at := range 8 {
			tag := word >> (8 * at) & 0xff
			if tag > tagGone {
				continue
			}
			if tag == tagFree {
				if s.used >= fullAt {
					return false
				}
				s.used++
			}
			// The tag first: whoever sees it without the thing passes by.
			s.tags[group].Store(word&^(0xff<<(8*at)) | tagOf(hash)<<(8*at))
			s.items[8*int(group)+at].Store(e)
			s.live++
			return true
		}
	}
	return false
}

// makeRoom cleans a segment that is full, splits it in two, or, where the hashes do not
// differ, puts another one before it.
func (t *table[E]) makeRoom(d *directory[E], hash uint64, hashOf func(*E) uint64) *directory[E] {
	s := d.of(hash).Load()
	depth := uint(s.depth)
	if s.next.Load() == nil && s.live < fullAt/2 {
		next := &segment[E]{depth: s.depth}
		s.each(func(e *E) { next.put(e, hashOf(e)) })
		d.replace(depth, hash, next)
		return d
	}
	// A directory is not made longer than the things are many.
	if s.next.Load() != nil || depth+3 > uint(bits.Len(uint(t.count))) {
		before := &segment[E]{depth: s.depth}
		before.next.Store(s)
		d.replace(depth, hash, before)
		return d
	}
	if depth == d.depth {
		d = d.doubled()
		t.dir.Store(d)
	}
	depth++
	bit := uint64(1) << (64 - depth)
	low, high := &segment[E]{depth: uint8(depth)}, &segment[E]{depth: uint8(depth)}
	s.each(func(e *E) {
		if h := hashOf(e); h&bit == 0 {
			low.put(e, h)
		} else {
			high.put(e, h)
		}
	})
	d.replace(depth, hash|bit, high) // first: see each
	d.replace(depth, hash&^bit, low)
	return d
}

// replace puts a segment in the place of the hashes that share depth bits with hash.
func (d *directory[E]) replace(depth uint, hash uint64, s *segment[E]) {
	width := uint64(1) << (d.depth - depth)
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
	for s := t.dir.Load().of(hash).Load(); s != nil; s = s.next.Load() {
		for i := range 8 * groups {
			place := (8*int(hash%groups) + i) % (8 * groups)
			if s.items[place].Load() != e {
				continue
			}
			at := place % 8
			word := s.tags[place/8].Load()
			s.tags[place/8].Store(word&^(0xff<<(8*at)) | tagGone<<(8*at))
			s.items[place].Store(nil)
			s.live--
			t.count--
			return
		}
	}
}

// each calls fn for everything in the table, once even while it grows: who comes to the
// first place of a segment has what belongs to all its places, and passes them by.
func (t *table[E]) each(fn func(*E)) {
	d := t.dir.Load()
	if d == nil {
		return
	}
	for i := 0; i < len(d.segments); {
		s := d.segments[i].Load()
		s.each(fn)
		i += 1 << (d.depth - uint(s.depth))
	}
}

func (s *segment[E]) each(fn func(*E)) {
	for ; s != nil; s = s.next.Load() {
		for i := range s.items {
			if e := s.items[i].Load(); e != nil {
				fn(e)
			}
		}
	}
}
