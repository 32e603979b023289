package filters

import "sync/atomic"

// signs are a set of bits, one for each of some hashes: a hash without its bit is not among
// them. They are close together in memory, as rows have many hashes that are not there.
type signs struct {
	bits  atomic.Pointer[[]atomic.Uint64]
	count int // hashes that were added since the bits were made
	gone  int // of those
}

// signsEach is how many bits there are at least for each hash.
const signsEach = 4

// may reports whether the hash may be there.
func (s *signs) may(hash uint64) bool {
	bits := s.bits.Load()
	if bits == nil {
		return false
	}
	at := hash >> 32 & (uint64(len(*bits))*64 - 1)
	return (*bits)[at/64].Load()>>(at%64)&1 == 1
}

// add reports whether there was room; if not, the bits must be filled anew.
func (s *signs) add(hash uint64) bool {
	bits := s.bits.Load()
	if s.count++; bits == nil || signsEach*s.count > 64*len(*bits) {
		return false
	}
	s.set(*bits, hash)
	return true
}

func (s *signs) set(bits []atomic.Uint64, hash uint64) {
	at := hash >> 32 & (uint64(len(bits))*64 - 1)
	bits[at/64].Store(bits[at/64].Load() | 1<<(at%64))
}

// sub notes that a hash is gone, and reports whether the bits are still good: not most of
// them are of hashes that are gone.
func (s *signs) sub() bool {
	s.gone++
	return s.gone <= s.count/2+64
}

// fill makes the bits anew, with room for as many more hashes as there are.
func (s *signs) fill(count int, each func(func(hash uint64))) {
	words := 1
	for 64*words < 2*signsEach*count {
		words *= 2
	}
	bits := make([]atomic.Uint64, words)
	each(func(hash uint64) { s.set(bits, hash) })
	s.bits.Store(&bits)
	s.count, s.gone = count, 0
}
