package filters

import "slices"

// reading is what one scan found. It is used again for the next document.
type reading struct {
	slots    []found // by slot; those of an older scan have another round
	round    uint32
	taken    []int32  // slots in the order of the text, to take back what a repeated key replaces
	more     []found  // further values of fields that have many; found.next leads through them
	met      []uint64 // scratch of thin
	prefixes [64]prefixLeaf
	nonASCII bool
	escaped  int // where the last escape began that was read, -1 for none
}

// found is a value that a scan came by.
type found struct {
	round    uint32
	next     int32 // of a field that has many values: 1 + index into more, 0 for the last
	from, to int32 // of taken, the values below this one
	slot     int32
	hashed   uint8 // whether sum is known: see hash
	sum      uint64
	raw      string
}

// keptMore is for how many further values the memory is kept from one row to the next.
const keptMore = 16 << 10

const (
	notHashed = iota
	isHashed
	noHash
)

// hash makes sum the hash of the value. It is false for a value that no scalar of a filter
// equals.
func (v *found) hash() bool {
	if v.hashed == notHashed {
		v.hashed = noHash
		if sum, ok := hashRaw(v.raw); ok {
			v.hashed, v.sum = isHashed, sum
		}
	}
	return v.hashed == isHashed
}

// after returns the next of several values, nil when there is none.
func (r *reading) after(v *found) *found {
	if v.next == 0 {
		return nil
	}
	return &r.more[v.next-1]
}

// thin leaves of many values of a field one of each hash, and none without a hash but the
// first, so that what an array repeats is looked up once.
func (r *reading) thin() {
	if len(r.more) == 0 {
		return
	}
	for i, slot := range r.taken {
		if v := &r.slots[slot]; v.next != 0 && v.round == r.round && int(v.from) == i+1 {
			r.thinField(v)
		}
	}
}

func (r *reading) thinField(first *found) {
	size := 16
	for n, v := 0, first; v != nil; n, v = n+1, r.after(v) {
		for size < 2*n+4 {
			size *= 2
		}
	}
	r.met = slices.Grow(r.met[:0], size)[:size]
	clear(r.met)
	if first.hash() {
		r.meet(first.sum)
	}
	last := first
	for v := r.after(first); v != nil; v = r.after(v) {
		if v.hash() && r.meet(v.sum) {
			last = v
		} else {
			last.next = v.next
		}
	}
}

// meet reports whether a hash is met for the first time.
func (r *reading) meet(sum uint64) bool {
	sum = max(sum, 1) // 0 is a free place
	mask := uint64(len(r.met) - 1)
	for at := mix(sum, 1<<57) & mask; ; at = (at + 1) & mask {
		switch r.met[at] {
		case sum:
			return false
		case 0:
			r.met[at] = sum
			return true
		}
	}
}

// size makes room for the values of n slots.
func (r *reading) size(n int) {
	if n > len(r.slots) {
		r.slots = append(r.slots, make([]found, n-len(r.slots))...)
	}
}

func (r *reading) begin() {
	if cap(r.more) > keptMore { // one row of very many elements
		r.more, r.met = nil, nil
	}
	r.round++
	if r.round == 0 { // after 4 billion documents
		clear(r.slots)
		clear(r.prefixes[:])
		r.round = 1
	}
	r.taken, r.more, r.nonASCII, r.escaped = r.taken[:0], r.more[:0], false, -1
}

// take notes that a value of f begins. Of a repeated key the last value counts, and
// what was below the earlier one is gone.
func (r *reading) take(f *field) {
	if f.many || int(f.slot) >= len(r.slots) {
		return
	}
	if v := &r.slots[f.slot]; v.round == r.round {
		for _, slot := range r.taken[v.from:v.to] {
			r.slots[slot].round = 0
		}
		v.round = 0
	}
	r.taken = append(r.taken, f.slot)
}

// put keeps the value of f. A slot made after the reading was sized has no room, and
// nobody who may look for it.
func (r *reading) put(f *field, raw string, mark int) {
	if int(f.slot) >= len(r.slots) {
		return
	}
	v := &r.slots[f.slot]
	if f.many && v.round == r.round {
		r.more = append(r.more, found{slot: f.slot, raw: raw, next: v.next})
		v.next = int32(len(r.more))
		return
	}
	if f.many {
		r.taken = append(r.taken, f.slot)
		mark = len(r.taken) - 1
	}
	*v = found{round: r.round, slot: f.slot, raw: raw, from: int32(mark) + 1, to: int32(len(r.taken))}
}

// at returns what was found for the slot, nil when it is missing.
func (r *reading) at(slot int32) *found {
	if int(slot) < len(r.slots) {
		if v := &r.slots[slot]; v.round == r.round {
			return v
		}
	}
	return nil
}

// value returns the value of the slot, "" when it is missing.
func (r *reading) value(slot int32) string {
	if v := &r.slots[slot]; v.round == r.round {
		return v.raw
	}
	return ""
}
