package filters

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync/atomic"
)

// bag is a set of values. One goroutine at a time changes it, while any number of others
// read it without waiting. The values are in the order of their hashes, in chunks: a
// change copies one chunk, and now and then the list of the chunks.
type bag[T comparable] struct {
	chunks atomic.Pointer[[]atomic.Pointer[[]T]]
	size   int
}

const chunkMax = 64

func hashValue[T comparable](v T) uint64 { return maphash.Comparable(hashSeed, v) }

// all appends the values to dst.
func (b *bag[T]) all(dst []T) []T {
	chunks := b.chunks.Load()
	if chunks == nil {
		return dst
	}
	for i := range *chunks {
		dst = append(dst, *(*chunks)[i].Load()...)
	}
	return dst
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
	// Values of one hash may reach back into the chunk before; there is no such pair of
	// values in practice, and put keeps them together.
	chunk := *chunks[low].Load()
	index, _ = slices.BinarySearchFunc(chunk, h, func(x T, h uint64) int { return cmp.Compare(hashValue(x), h) })
	for i := index; i < len(chunk) && hashValue(chunk[i]) == h; i++ {
		if chunk[i] == v {
			return low, i, true
		}
	}
	return low, index, false
}

// put adds a value and reports whether it was missing.
func (b *bag[T]) put(v T) bool {
	chunks := b.chunks.Load()
	if chunks == nil {
		list := make([]atomic.Pointer[[]T], 1)
		list[0].Store(&[]T{v})
		b.chunks.Store(&list)
		b.size = 1
		return true
	}
	at, index, found := whereabouts(*chunks, v)
	if found {
		return false
	}
	b.size++
	old := *(*chunks)[at].Load()
	grown := make([]T, len(old)+1)
	copy(grown, old[:index])
	grown[index] = v
	copy(grown[index+1:], old[index:])
	half := len(grown) / 2
	if len(grown) <= chunkMax || hashValue(grown[half-1]) == hashValue(grown[half]) {
		(*chunks)[at].Store(&grown)
		return true
	}
	low, high := slices.Clone(grown[:half]), slices.Clone(grown[half:])
	list := make([]atomic.Pointer[[]T], len(*chunks)+1)
	for i := range *chunks {
		to := i
		if i > at {
			to++
		}
		list[to].Store((*chunks)[i].Load())
	}
	list[at].Store(&low)
	list[at+1].Store(&high)
	b.chunks.Store(&list)
	return true
}

// drop takes a value away and reports whether it was there.
func (b *bag[T]) drop(v T) bool {
	chunks := b.chunks.Load()
	if chunks == nil {
		return false
	}
	at, index, found := whereabouts(*chunks, v)
	if !found {
		return false
	}
	b.size--
	old := *(*chunks)[at].Load()
	if len(old) > 1 {
		shrunk := slices.Concat(old[:index], old[index+1:])
		(*chunks)[at].Store(&shrunk)
		return true
	}
	if len(*chunks) == 1 {
		b.chunks.Store(nil)
		return true
	}
	list := make([]atomic.Pointer[[]T], 0, len(*chunks)-1)
	list = list[:len(*chunks)-1]
	for i, to := 0, 0; i < len(*chunks); i++ {
		if i != at {
			list[to].Store((*chunks)[i].Load())
			to++
		}
	}
	b.chunks.Store(&list)
	return true
}

// has reports whether the value is there.
func (b *bag[T]) has(v T) bool {
	chunks := b.chunks.Load()
	if chunks == nil {
		return false
	}
	_, _, found := whereabouts(*chunks, v)
	return found
}
