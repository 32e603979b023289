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
// upper bits of a hash to a segment, and a segment that is full is split in two.
type table[E any] struct {
	dir   atomic.Pointer[directory[E]]
	count int
}

type directory[E any] struct {
	depth    uint // bits of the hash that count
	segments []atomic.Pointer[segment[E]]
}

// segment is 512 bytes: eight lines of memory. Each but the first is a group, so that a
// search reads one as a rule.
type segment[E any] struct {
	next  atomic.Pointer[segment[E]]
	depth uint8 // bits of the hash that its things share
	used  uint8 // places that are not free; those of things that are gone count
	live  uint8
	_     [53]byte

	groups [groups]group[E]
}

// group is a few places. Their tags (eight bits of the hash, never 0 or 1) are compared all
// at once.
type group[E any] struct {
	tags  atomic.Uint64 // a byte for each place; the last one is idle
	items [places]atomic.Pointer[E]
}

const (
	tagFree = 0
	tagGone = 1
	groups  = 7
	places  = 7       // of a group
	fullAt  = 6 * 7   // places in use; some stay free, to end a search
	idle    = 1 << 63 // never a place's mark
)

func tagOf(hash uint64) uint64 {
	if tag := hash >> 8 & 0xff; tag > tagGone {
		return tag
	}
	return hash>>8&0xff + 2
}

// groupOf returns where the things with a hash begin.
func groupOf(hash uint64) int { return int(hash & 0xff * groups >> 8) }

// marks has the top bit of a byte set where a place has the tag, and maybe in bytes above
// such a one.
func marks(tags, tag uint64) uint64 {
	same := tags ^ tag
	return (same - ones) &^ same & highs &^ idle
}

// search is one walk over the things with a hash.
type search[E any] struct {
	segment *segment[E]
	tag     uint64 // in every byte
	start   int
	group   int
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
	at := groupOf(hash)
	q := search[E]{segment: d.of(hash).Load(), tag: tagOf(hash) * ones, start: at, group: at, left: groups}
	q.load()
	return q
}

// of returns the place of the segment for a hash.
func (d *directory[E]) of(hash uint64) *atomic.Pointer[segment[E]] {
	return &d.segments[hash>>1>>(63-d.depth)]
}

func (q *search[E]) load() {
	tags := q.segment.groups[q.group].tags.Load()
	q.hits = marks(tags, q.tag)
	q.last = marks(tags, tagFree*ones) != 0 // a free place: nothing was put further on
}

// next returns the next thing that may have the hash.
func (q *search[E]) next() *E {
	for q.segment != nil {
		for q.hits != 0 {
			at := bits.TrailingZeros64(q.hits) / 8
			q.hits &= q.hits - 1
			if e := q.segment.groups[q.group].items[at].Load(); e != nil {
				return e
			}
		}
		if q.left--; q.left > 0 && !q.last {
			if q.group++; q.group == groups {
				q.group = 0
			}
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
	for at, left := groupOf(hash), groups; left > 0; at, left = (at+1)%groups, left-1 {
		g := &s.groups[at]
		tags := g.tags.Load()
		for i := range places {
			tag := tags >> (8 * i) & 0xff
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
			g.tags.Store(tags&^(0xff<<(8*i)) | tagOf(hash)<<(8*i))
			g.items[i].Store(e)
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
		for at, left := groupOf(hash), groups; left > 0; at, left = (at+1)%groups, left-1 {
			if s.groups[at].drop(e) {
				s.live--
				t.count--
				return
			}
		}
	}
}

func (g *group[E]) drop(e *E) bool {
	for i := range g.items {
		if g.items[i].Load() == e {
			g.tags.Store(g.tags.Load()&^(0xff<<(8*i)) | tagGone<<(8*i))
			g.items[i].Store(nil)
			return true
		}
	}
	return false
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
		for i := range groups * places {
			if e := s.groups[i/places].items[i%places].Load(); e != nil {
				fn(e)
			}
		}
	}
}
