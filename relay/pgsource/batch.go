package pgsource

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/dot-do/relay/relay"
)

const valueSize = int(unsafe.Sizeof(relay.Value{}))

// batch is a relay.Batch with the memory that its values point into. It fills up
// in the reader, is read by the consumer, and comes back through the pool.
type batch struct {
	relay.Batch
	maxChanges, maxBytes int

	bytes  slab[byte]
	values slab[relay.Value]
	size   int         // bytes held by rows
	out    atomic.Bool // in the hands of the consumer
}

func (b *batch) full() bool { return len(b.Changes) >= b.maxChanges || b.size >= b.maxBytes }

// keep copies data into the batch's memory.
func (b *batch) keep(data []byte) []byte {
	kept := b.bytes.take(len(data), b.maxBytes)
	copy(kept, data)
	b.size += len(data)
	return kept
}

// tuple returns room for n values.
func (b *batch) tuple(n int) relay.Tuple {
	b.size += n * valueSize
	return b.values.take(n, b.maxBytes/valueSize)
}

// reset empties the batch. What a large row had needed is left to the collector.
func (b *batch) reset() {
	clear(b.Changes)
	b.Changes = b.Changes[:0]
	b.Commit, b.Open, b.More, b.size = 0, false, false, 0
	b.bytes.reset(b.maxBytes)
	b.values.reset(b.maxBytes / valueSize)
}

// slab hands out slices of larger chunks. They never move, because changes point
// to them.
type slab[T any] struct {
	chunk []T
}

const firstChunk = 1 << 10 // items

// take returns n zeroed or stale items. Chunks double up to limit.
func (s *slab[T]) take(n, limit int) []T {
	if n > cap(s.chunk)-len(s.chunk) {
		s.chunk = make([]T, 0, max(n, firstChunk, min(2*cap(s.chunk), limit)))
	}
	start := len(s.chunk)
	s.chunk = s.chunk[:start+n]
	return s.chunk[start : start+n : start+n]
}

// reset makes the last chunk free again, which was the largest unless a single
// take was larger than limit.
func (s *slab[T]) reset(limit int) {
	if cap(s.chunk) > max(limit, firstChunk) {
		s.chunk = nil
		return
	}
	clear(s.chunk)
	s.chunk = s.chunk[:0]
}

// pool keeps a few batches for reuse.
type pool struct {
	maxChanges, maxBytes int

	mu   sync.Mutex
	free []*batch
}

// get returns an empty batch.
func (p *pool) get() *batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		return b
	}
	b := &batch{maxChanges: p.maxChanges, maxBytes: p.maxBytes}
	b.Recycle = func(*relay.Batch) {
		if b.out.Swap(false) { // a second Release must not hand the batch out twice
			b.reset()
			p.put(b)
		}
	}
	return b
}

func (p *pool) put(b *batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) <= queueDepth {
		p.free = append(p.free, b)
	}
}
