package filters

import (
	"math"
	"slices"
	"sync/atomic"
)

// access is where routes are filed by values that they look for: under two values if they
// have as many, else under one, else under a place that must have a value. Of several
// values those count that have the fewest routes so far. A row looks under each of its
// values, and for pairs of values only where partners says that there may be one.
type access[T comparable] struct {
	hash     uint64
	count    int                      // routes filed here, or here and at a partner
	uses     atomic.Pointer[filed[T]] // the first
	partners atomic.Pointer[partners]
}

// filed is the routes of one shape at an access. A bit of mask is for hashes of routes.
type filed[T comparable] struct {
	use   *use[T]
	mask  atomic.Uint64
	next  atomic.Pointer[filed[T]]
	count int
}

// partners are the second values of routes: their slots, and a set of bits that says which
// hashes are not there. It only grows, but is made anew when most of it is out of date.
type partners struct {
	slots  []int32
	shift  uint // a hash without so many lower bits is the index of its bit
	bits   []atomic.Uint64
	hashes []uint64 // for who changes it
	gone   int
}

// filing says where a route is filed: by the index of a probe and of a second one, or by
// filedPresent and the index of an anchor.
type filing [2]byte

const (
	filedNowhere = 255
	filedPresent = 128
	filedMost    = 100 // of the probes or anchors of a shape are looked at
)

func (f filing) filed() bool { return f[0] != filedNowhere }

func hashAccess[T comparable](a *access[T]) uint64 { return a.hash }

// pairHash is the hash of two leaves, the first of which has the second as its partner.
func pairHash(first, second uint64) uint64 { return mix(first, 1<<58) + second }

// has reports whether there may be a partner with the hash.
func (p *partners) has(leaf uint64) bool {
	at := leaf >> p.shift
	return p.bits[at/64].Load()>>(at%64)&1 == 1
}

// bitsEach keeps few hashes that are not there from being looked for.
const bitsEach = 16

// with returns partners that have one more: the same when there is room.
func (p *partners) with(slot int32, leaf uint64) *partners {
	if p != nil && slices.Contains(p.slots, slot) && bitsEach*len(p.hashes) < 64*len(p.bits) {
		p.hashes = append(p.hashes, leaf)
		p.set(leaf)
		return p
	}
	next := &partners{}
	if p != nil {
		next.slots, next.hashes = slices.Clone(p.slots), p.hashes
	}
	if !slices.Contains(next.slots, slot) {
		next.slots = append(next.slots, slot)
	}
	next.hashes = append(next.hashes, leaf)
	next.fill()
	return next
}

// fill makes the bits, with room for as many more.
func (p *partners) fill() {
	words, log := 1, uint(6)
	for 64*words < 2*bitsEach*len(p.hashes) {
		words, log = 2*words, log+1
	}
	p.bits, p.shift = make([]atomic.Uint64, words), 64-log
	for _, h := range p.hashes {
		p.set(h)
	}
}

func (p *partners) set(leaf uint64) {
	at := leaf >> p.shift
	p.bits[at/64].Store(p.bits[at/64].Load() | 1<<(at%64))
}

// without takes one partner away. Its bit stays until the bits are made anew, which is when
// most of them are out of date.
func (p *partners) without(leaf uint64) *partners {
	i := slices.Index(p.hashes, leaf)
	p.hashes[i] = p.hashes[len(p.hashes)-1]
	p.hashes = p.hashes[:len(p.hashes)-1]
	if p.gone++; p.gone <= len(p.hashes)+64 {
		return p
	}
	next := &partners{slots: p.slots, hashes: p.hashes}
	next.fill()
	return next
}

func (s *shelf[T]) accessOf(hash uint64) *access[T] { return s.access.seek(hash, hashAccess[T]) }

// leaves calls fn with the hash of each probe of a route that it may be filed by.
func (s *shape) leaves(values string, fn func(probe int, leaf uint64)) {
	values = values[4:]
	for i := range s.probes[:min(len(s.probes), filedMost)] {
		var leaf uint64
		leaf, values = s.leaf(i, values)
		if s.probes[i].prefix == 0 {
			fn(i, leaf)
		}
	}
}

// fewest keeps the two of several accesses with the fewest routes.
type fewest struct {
	at    filing
	leaf  [2]uint64
	count [2]int
}

func (f *fewest) consider(at byte, leaf uint64, count int) {
	switch {
	case count < f.count[0]:
		f.at, f.leaf, f.count = filing{at, f.at[0]}, [2]uint64{leaf, f.leaf[0]}, [2]int{count, f.count[0]}
	case count < f.count[1]:
		f.at[1], f.leaf[1], f.count[1] = at, leaf, count
	}
}

// file puts a route where it is found by its values, and returns where.
func (s *shelf[T]) file(u *use[T], values string, hash uint64) filing {
	f := fewest{at: filing{filedNowhere, filedNowhere}, count: [2]int{math.MaxInt, math.MaxInt}}
	if u.since.Load() != 0 {
		return f.at
	}
	u.shape.leaves(values, func(probe int, leaf uint64) { f.consider(byte(probe), leaf, s.routesAt(leaf)) })
	if !f.at.filed() { // no value to be found by, only places that have one
		for i, slot := range u.shape.anchors[:min(len(u.shape.anchors), filedMost)] {
			leaf := presence(slot)
			f.consider(byte(filedPresent+i), leaf, s.routesAt(leaf))
		}
		if f.at[1] = filedNowhere; f.at.filed() {
			s.anchored.Add(1)
		}
	}
	if !f.at.filed() {
		return f.at
	}
	s.filed.Add(1)
	first := s.accessFor(f.leaf[0])
	if f.at[1] == filedNowhere {
		first.put(u, hash)
		return f.at
	}
	s.accessFor(pairHash(f.leaf[0], f.leaf[1])).put(u, hash)
	first.count++
	// Only now: who finds the partner finds the route.
	first.partners.Store(first.partners.Load().with(u.shape.probes[f.at[1]].slot, f.leaf[1]))
	return f.at
}

// routesAt returns how many routes are filed at an access, there or at a partner.
func (s *shelf[T]) routesAt(leaf uint64) int {
	if a := s.accessOf(leaf); a != nil {
		return a.count
	}
	return 0
}

// accessFor returns the access of a hash, made when there is none.
func (s *shelf[T]) accessFor(hash uint64) *access[T] {
	a := s.accessOf(hash)
	if a == nil {
		a = &access[T]{hash: hash}
		s.access.put(a, hashAccess[T])
	}
	return a
}

func (a *access[T]) put(u *use[T], hash uint64) {
	a.count++
	bit := uint64(1) << (hash >> 58)
	for f := a.uses.Load(); f != nil; f = f.next.Load() {
		if f.use == u {
			f.count++
			f.mask.Store(f.mask.Load() | bit)
			return
		}
	}
	f := &filed[T]{use: u, count: 1}
	f.mask.Store(bit)
	f.next.Store(a.uses.Load())
	a.uses.Store(f)
}

// unfile takes a route from where it is filed.
func (s *shelf[T]) unfile(u *use[T], where filing, values string) {
	if u.since.Load() == 0 {
		s.filed.Add(-1)
	}
	if where[0] >= filedPresent {
		s.anchored.Add(-1)
		s.leave(presence(u.shape.anchors[where[0]-filedPresent]), u)
		return
	}
	var leaf [2]uint64
	u.shape.leaves(values, func(probe int, hash uint64) {
		for i := range where {
			if probe == int(where[i]) {
				leaf[i] = hash
			}
		}
	})
	if where[1] == filedNowhere {
		s.leave(leaf[0], u)
		return
	}
	s.leave(pairHash(leaf[0], leaf[1]), u)
	first := s.accessOf(leaf[0])
	if first.count--; first.count == 0 {
		s.access.drop(first, leaf[0])
		return
	}
	first.partners.Store(first.partners.Load().without(leaf[1]))
}

// leave takes a route of a shape from an access.
func (s *shelf[T]) leave(hash uint64, u *use[T]) {
	a := s.accessOf(hash)
	if a.count--; a.count == 0 {
		s.access.drop(a, hash)
		return
	}
	at := &a.uses
	for at.Load().use != u {
		at = &at.Load().next
	}
	if f := at.Load(); f.count > 1 {
		f.count--
	} else {
		at.Store(f.next.Load())
	}
}
