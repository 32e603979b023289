package filters

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync/atomic"
)

// bag is a set of values. One goroutine at a time changes it, while any number of others
// read it without waiting. The values are in the order of their hashes; when they are
// many, in chunks: a change copies one chunk, and now and then the list of the chunks.
type bag[T comparable] struct {
	few  atomic.Pointer[[]T] // nil when there are none, or many
	many atomic.Pointer[[]atomic.Pointer[[]T]]
	size int
}

const chunkMax = 64

func hashValue[T comparable](v T) uint64 { return maphash.Comparable(hashSeed, v) }

// all appends the values to dst.
func (b *bag[T]) all(dst []T) []T {
	many := b.many.Load()
	if many == nil {
		if few := b.few.Load(); few != nil {
			return append(dst, *few...)
		}
		if many = b.many.Load(); many == nil { // they may have become many just now
			return dst
		}
	}
	for i := range *many {
		dst = append(dst, *(*many)[i].Load()...)
	}
	return dst
}

// find returns the index of a value in a chunk, or where it belongs.
func find[T comparable](chunk []T, v T, h uint64) (index int, found bool) {
	index, _ = slices.BinarySearchFunc(chunk, h, func(x T, h uint64) int { return cmp.Compare(hashValue(x), h) })
	for i := index; i < len(chunk) && hashValue(chunk[i]) == h; i++ {
		if chunk[i] == v {
			return i, true
		}
	}
	return index, false
}

// whereabouts returns the chunk where v belongs and its index there.
func whereabouts[T comparable](chunks []atomic.Pointer[[]T], v T) (at, index int, found bool) {
	h := hashValue(v)
	low, high := 0, len(chunks)-1
	for low < high {
		mid := (low + high + 1) / 2
		if hashValue((*chunks[mid].Load())[0]) <= h {
			low = mid
		} else {
			high = mid - 1
		}
	}
	// Values of one hash are never parted: see put.
	index, found = find(*chunks[low].Load(), v, h)
	return low, index, found
}

// put adds a value and reports whether it was missing.
func (b *bag[T]) put(v T) bool {
	many := b.many.Load()
	if many == nil {
		return b.putFew(v)
	}
	at, index, found := whereabouts(*many, v)
	if found {
		return false
	}
	b.size++
	grown := slices.Insert(slices.Clone(*(*many)[at].Load()), index, v)
	half := len(grown) / 2
	if len(grown) <= chunkMax || hashValue(grown[half-1]) == hashValue(grown[half]) {
		(*many)[at].Store(&grown)
		return true
	}
	low, high := slices.Clone(grown[:half]), slices.Clone(grown[half:])
	list := make([]atomic.Pointer[[]T], len(*many)+1)
	for i := range *many {
		to := i
		if i > at {
			to++
		}
		list[to].Store((*many)[i].Load())
	}
	list[at].Store(&low)
	list[at+1].Store(&high)
	b.many.Store(&list)
	return true
}

func (b *bag[T]) putFew(v T) bool {
	var old []T
	if few := b.few.Load(); few != nil {
		old = *few
	}
	index, found := find(old, v, hashValue(v))
	if found {
		return false
	}
	b.size++
	grown := append(append(append(make([]T, 0, len(old)+1), old[:index]...), v), old[index:]...)
	if len(grown) <= chunkMax {
		b.few.Store(&grown)
		return true
	}
	list := make([]atomic.Pointer[[]T], 1)
	list[0].Store(&grown)
	b.many.Store(&list)
	b.few.Store(nil)
	return true
}

// drop takes a value away and reports whether it was there.
func (b *bag[T]) drop(v T) bool {
	many := b.many.Load()
	if many == nil {
		return b.dropFew(v)
	}
	at, index, found := whereabouts(*many, v)
	if !found {
		return false
	}
	b.size--
	if old := *(*many)[at].Load(); len(old) > 1 {
		shrunk := slices.Delete(slices.Clone(old), index, index+1)
		(*many)[at].Store(&shrunk)
		return true
	}
	if len(*many) == 1 {
		b.many.Store(nil)
		return true
	}
	list := make([]atomic.Pointer[[]T], len(*many)-1)
	for i := range list {
		from := i
		if i >= at {
			from++
		}
		list[i].Store((*many)[from].Load())
	}
	b.many.Store(&list)
	return true
}

func (b *bag[T]) dropFew(v T) bool {
	few := b.few.Load()
	if few == nil {
		return false
	}
	index, found := find(*few, v, hashValue(v))
	if !found {
		return false
	}
	if b.size--; b.size == 0 {
		b.few.Store(nil)
		return true
	}
	shrunk := append(append(make([]T, 0, len(*few)-1), (*few)[:index]...), (*few)[index+1:]...)
	b.few.Store(&shrunk)
	return true
}

// has reports whether the value is there; for who changes the bag.
func (b *bag[T]) has(v T) bool {
	if many := b.many.Load(); many != nil {
		_, _, found := whereabouts(*many, v)
		return found
	}
	few := b.few.Load()
	if few == nil {
		return false
	}
	_, found := find(*few, v, hashValue(v))
	return found
}

// subscribers are the values that stand for one filter, one at least. Most filters have
// but one.
type subscribers[T comparable] struct {
	one  T // never changes
	more atomic.Pointer[bag[T]]
}

func (s *subscribers[T]) all(dst []T) []T {
	if more := s.more.Load(); more != nil {
		return more.all(dst)
	}
	return append(dst, s.one)
}

func (s *subscribers[T]) put(v T) bool {
	more := s.more.Load()
	if more != nil {
		return more.put(v)
	}
	if s.one == v {
		return false
	}
	more = &bag[T]{}
	more.put(s.one)
	more.put(v)
	s.more.Store(more)
	return true
}

// drop reports whether the value was there and whether it was the last.
func (s *subscribers[T]) drop(v T) (found, last bool) {
	if more := s.more.Load(); more != nil {
		found = more.drop(v)
		return found, more.size == 0
	}
	return s.one == v, s.one == v
}

func (s *subscribers[T]) has(v T) bool {
	if more := s.more.Load(); more != nil {
		return more.has(v)
	}
	return s.one == v
}
